"""A moving average of the weights, which often generalises better than the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pentatonic.errors import WeightsError


class WeightAverage:
    """An exponential moving average of the trainable parameters of a module; its buffers are not averaged.

    In step t it keeps ``min(decay, (1 + t) / (10 + t))`` of itself, so that the first weights are soon forgotten.

    Args:
        module: Its parameters of now are the first average. They must stay on their device.
        decay: Share of the average that a step keeps, in (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after so many steps."""
        kept = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self._average[name].lerp_(parameter, 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[Mapping[str, Tensor]]:
        """Put the average into the module; yields the trained parameters by name, which come back afterwards."""
        self._exchange()
        try:
            yield self._average
        finally:
            self._exchange()

    @torch.no_grad()
    def resume(self, trained: Mapping[str, Tensor] | None) -> None:
        """Go on from a checkpoint whose averages have been loaded into the module.

        Args:
            trained: The trained parameters that belong to them, as :meth:`in_place` gave them; ``None`` where the
                checkpoint was made without an average, which then begins at its weights.

        Raises:
            WeightsError: They are not those of this module.
        """
        for name, parameter in self._parameters.items():
            self._average[name].copy_(parameter)
        if trained is not None:
            load_trained(self._parameters, trained)

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            trained = parameter.detach().clone()
            parameter.copy_(self._average[name])
            self._average[name].copy_(trained)


@torch.no_grad()
def load_trained(parameters: Mapping[str, nn.Parameter], trained: Mapping[str, Tensor]) -> None:
    """Copy trained parameters into those of a module.

    Raises:
        WeightsError: Their names or shapes differ.
    """
    differing = parameters.keys() ^ trained.keys()
    differing |= {
        name for name in parameters.keys() & trained.keys() if parameters[name].shape != trained[name].shape
    }
    if differing:
        raise WeightsError(
            f"the trained parameters of the checkpoint do not fit the module: {sorted(differing)}"
        )
    for name, parameter in parameters.items():
        parameter.copy_(trained[name])
