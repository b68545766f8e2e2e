"""Optimizers: AdamW with layer-wise learning rates, and Muon with its parameter grouping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from pentatonic.errors import UsageError

__all__ = ["Muon", "adamw", "layerwise_groups", "muon", "muon_groups", "orthogonalise"]

Group = dict[str, Any]

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_MUON_MAX_ROWS = 10_000  # taller matrices are taken for token tables


def adamw(
    module: nn.Module,
    lr: float,
    weight_decay: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    groups: Iterable[Group] | None = None,
) -> AdamW:
    """AdamW (Loshchilov and Hutter, 2019) over the trainable parameters of a module.

    Weight decay applies to every parameter, norms and biases included.

    Args:
        module: Its parameters that require gradients are trained.
        lr: Learning rate; a schedule may overwrite it.
        weight_decay: Decoupled decay, in units of the learning rate.
        betas: Decay of the running mean and of the running square.
        eps: Added to the root of the running square.
        groups: Parameter groups to use in place of one group, as from :func:`layerwise_groups`.

    Returns:
        The optimizer. A group's ``"lr_scale"`` multiplies its rate.
    """
    if groups is None:
        groups = [{"params": [p for p in module.parameters() if p.requires_grad]}]
    groups = [{**group, "lr": lr * group.get("lr_scale", 1.0)} for group in groups]
    return AdamW(groups, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps)


def layerwise_groups(module: nn.Module, layer_of: Callable[[str], int], decay: float) -> list[Group]:
    """Parameter groups whose learning rate decreases towards the input, layer by layer (Clark et al., ELECTRA, 2020).

    Args:
        module: Its parameters that require gradients are grouped.
        layer_of: Layer of a parameter by its name, such as 0 for the embedding, 1 + i for block i and one more
            for the head.
        decay: Factor from a layer to the one below, in (0, 1].

    Returns:
        One group for each layer, from the lowest, with ``lr_scale = decay ** (highest - layer)``.

    Raises:
        UsageError: If ``decay`` is out of its range.
    """
    if not 0 < decay <= 1:
        raise UsageError(f"layer-wise decay is {decay}, but must be above 0 and at most 1")
    layers: dict[int, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            layers.setdefault(layer_of(name), []).append(parameter)
    highest = max(layers, default=0)
    return [{"params": layers[layer], "lr_scale": decay ** (highest - layer)} for layer in sorted(layers)]


def muon_groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Splits trainable parameters as CM3P does.

    AdamW gets every parameter with ``embed`` or ``proj_out`` in its name (in any case), every vector and scalar, and
    every tensor of at least 10 000 rows. Muon gets the rest: matrices and convolutions, decoders and classifiers.

    Args:
        module: The module to train.

    Returns:
        The parameters for Muon, and those for AdamW.
    """
    for_muon: list[nn.Parameter] = []
    for_adamw: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        named_for_adamw = any(word in name.lower() for word in ("embed", "proj_out"))
        if named_for_adamw or parameter.ndim <= 1 or parameter.shape[0] >= _MUON_MAX_ROWS:
            for_adamw.append(parameter)
        else:
            for_muon.append(parameter)
    return for_muon, for_adamw


def muon(
    module: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    *,
    reproduce_full_lr: bool = True,
    **settings: Any,
) -> Muon:
    """Muon over the matrices of a module and AdamW over the rest, split by :func:`muon_groups`.

    Args:
        module: Its parameters that require gradients are trained.
        lr: Learning rate; a schedule may overwrite it.
        weight_decay: Decoupled decay of the AdamW parameters.
        reproduce_full_lr: See :class:`Muon`.
        **settings: Further arguments of :class:`Muon`.

    Returns:
        The optimizer.
    """
    for_muon, for_adamw = muon_groups(module)
    return Muon(
        for_muon, for_adamw, lr, weight_decay=weight_decay, reproduce_full_lr=reproduce_full_lr, **settings
    )


def orthogonalise(gradient: Tensor, steps: int = 6) -> Tensor:
    """Approximates the nearest semi-orthogonal matrix by a quintic Newton-Schulz iteration in bfloat16.

    The order of the operations matters at this precision: the cast comes before the normalisation, and the last
    coefficient scales the Gram matrix before it is squared.

    Args:
        gradient: (rows, columns), float.
        steps: Iterations.

    Returns:
        (rows, columns) bfloat16, with singular values near 1.
    """
    a, b, c = _NEWTON_SCHULZ
    x = gradient.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + (c * gram) @ gram) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """Momentum whose update is orthogonalised, for matrices; AdamW for the other parameters.

    Method: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, with the settings of
    CM3P. Tensors of more than two dimensions are flattened to (first dimension, rest). The Muon branch has no weight
    decay.

    Args:
        for_muon: Parameters with at least two dimensions.
        for_adamw: The other parameters.
        lr: Learning rate of both; a schedule may overwrite it in each group.
        momentum: Share of the last momentum buffer that is kept; Nesterov's form.
        steps: Newton-Schulz iterations.
        adamw_lr_ratio: Learning rate of the AdamW branch, as a share of ``lr``.
        betas: Of the AdamW branch.
        eps: Of the AdamW branch.
        weight_decay: Of the AdamW branch, in units of its learning rate.
        reproduce_full_lr: As in the original training, let ``adamw_lr_ratio`` apply to the decay only and take the
            AdamW step itself at the full ``lr``. False applies the ratio to both.

    Raises:
        UsageError: If a parameter for Muon is a vector or scalar.
    """

    def __init__(
        self,
        for_muon: Iterable[nn.Parameter],
        for_adamw: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        steps: int = 6,
        adamw_lr_ratio: float = 0.25,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        reproduce_full_lr: bool = True,
    ) -> None:
        muon_parameters, adamw_parameters = list(for_muon), list(for_adamw)
        if any(parameter.ndim < 2 for parameter in muon_parameters):
            raise UsageError("Muon takes matrices and higher tensors; give vectors and scalars to AdamW")
        muon_group = {"params": muon_parameters, "kind": "muon", "momentum": momentum, "steps": steps}
        adamw_group = {
            "params": adamw_parameters,
            "kind": "adamw",
            "adamw_lr_ratio": adamw_lr_ratio,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "reproduce_full_lr": reproduce_full_lr,
        }
        super().__init__([group for group in (muon_group, adamw_group) if group["params"]], {"lr": lr})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates every parameter that has a gradient.

        Args:
            closure: Evaluates the loss again, with gradients.

        Returns:
            The loss of the closure, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon_update if group["kind"] == "muon" else self._adamw_update
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, self.state[parameter], group)
        return loss

    @staticmethod
    def _muon_update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Group) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
        direction = gradient.add(momentum, alpha=group["momentum"])
        # Of a sharded gradient the whole matrix is orthogonalised, in the order of operations of one process.
        sharded: Any = direction if hasattr(direction, "full_tensor") else None
        whole = direction if sharded is None else sharded.full_tensor()
        matrix = whole.flatten(1)
        rows, columns = matrix.shape
        update = orthogonalise(matrix, group["steps"]) * math.sqrt(max(1.0, rows / columns))
        update = update.to(parameter.dtype).view_as(whole)
        if sharded is not None:
            from torch.distributed.tensor import distribute_tensor  # takes seconds to import

            update = distribute_tensor(update, sharded.device_mesh, sharded.placements, src_data_rank=None)
        parameter.sub_(update, alpha=group["lr"])

    @staticmethod
    def _adamw_update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Group) -> None:
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        (beta1, beta2), step = group["betas"], state["step"]
        mean = state["mean"].lerp_(gradient, 1 - beta1)
        square = state["square"].lerp_(gradient.square(), 1 - beta2)
        own_lr = group["lr"] * group["adamw_lr_ratio"]
        step_lr = group["lr"] if group["reproduce_full_lr"] else own_lr
        bias = (1 - beta1**step) / math.sqrt(1 - beta2**step)
        parameter.mul_(1 - own_lr * group["weight_decay"])
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-step_lr / bias)
