"""The probe of the original project with its tensor names, and how stored embeddings are aggregated for it.

Source: the probes of MTG/omar-rq as its specification describes them: ``Dropout, Linear`` for each layer, an activation
between them, and binary cross entropy with logits for tags and for one-hot classes alike.

Shape legend: L layers, c chunks, N tokens of a chunk, C width, K labels.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from omar_rq.probing.heads import HeadConfig, ProbeHead
from pentatonic.checkpoint import load_tensors, read_legacy
from pentatonic.errors import InputError, UsageError, WeightsError
from pentatonic.hub import load_state

Activation = Literal["relu", "sigmoid", "none"]
LayerAggregation = Literal["mean", "sum", "max", "concat", "none"]
AggregationGranularity = Literal["frame", "chunk", "clip"]
TimeAggregation = Literal["mean", "max"]

_ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class OriginalProbe(nn.Module):
    """The original's probe; its tensors are called ``model.1.weight``, ``model.4.weight`` and so on.

    Args:
        in_features: C.
        num_labels: K.
        hidden_size: Units of the hidden layers.
        num_layers: Linear layers.
        dropout: Before each of them.
        activation: Between them.
    """

    def __init__(
        self,
        in_features: int,
        num_labels: int,
        *,
        hidden_size: int = 512,
        num_layers: int = 2,
        dropout: float = 0.2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        widths = [in_features, *[hidden_size] * (num_layers - 1), num_labels]
        modules: list[nn.Module] = []
        for here, there in itertools.pairwise(widths):
            if modules and activation in _ACTIVATIONS:
                modules.append(_ACTIVATIONS[activation]())
            modules += [nn.Dropout(dropout), nn.Linear(here, there)]
        self.activation = activation
        self.model = nn.Sequential(*modules)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits (..., K) of embeddings (..., C)."""
        return self.model(embeddings)

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, activation: Activation = "relu") -> OriginalProbe:
        """Read a checkpoint of the original, torch-saved or safetensors; tensors beside ``model.*`` are left out.

        Args:
            path: The file.
            activation: What stands between the layers, which the file does not say.

        Returns:
            The probe in evaluation mode.

        Raises:
            CheckpointError: The file is damaged, or holds anything but tensors.
            WeightsError: It does not hold such a probe.
        """
        path = Path(path)
        tensors = load_tensors(path) if path.suffix == ".safetensors" else read_legacy(path)
        kept = {name: value for name, value in tensors.items() if name.startswith("model.")}
        weights = [value for name, value in kept.items() if name.endswith(".weight") and value.ndim == 2]
        if not weights:
            raise WeightsError(f"{path}: no probe of the original; needed: model.1.weight and further layers")
        probe = cls(
            weights[0].shape[1],
            weights[-1].shape[0],
            hidden_size=weights[0].shape[0],
            num_layers=len(weights),
            activation=activation,
        )
        load_state(probe, kept, what=str(path))
        return probe.eval()

    def as_head(self, layer: int) -> ProbeHead:
        """Return a head of ours with the same logits on the mean embedding of a recording.

        Args:
            layer: Block of the encoder that it reads.

        Raises:
            UsageError: It has more than two layers, or another activation than ReLU between them.
        """
        linear = [module for module in self.model if isinstance(module, nn.Linear)]
        if len(linear) > 2 or (len(linear) == 2 and self.activation != "relu"):
            raise UsageError(
                f"a probe of {len(linear)} layers with {self.activation}; allowed: one layer, or two with relu"
            )
        mlp = len(linear) == 2
        first, last = linear[0], linear[-1]
        config = HeadConfig(
            width=first.in_features,
            outputs=last.out_features,
            layers=(layer,),
            model="mlp" if mlp else "linear",
            hidden=first.out_features if mlp else 1,
        )
        head = ProbeHead(config).eval()
        with torch.no_grad():
            head.first.weight.copy_(first.weight[:, :, None])
            head.first.bias.copy_(first.bias)  # type: ignore[union-attr]
            if head.last is not None:
                head.last.load_state_dict(last.state_dict())
        return head


def aggregate_embeddings(
    embeddings: Tensor,
    *,
    layers: LayerAggregation = "mean",
    granularity: AggregationGranularity = "chunk",
    pooling: TimeAggregation = "mean",
    original_rows: bool = False,
) -> Tensor:
    """Aggregate stored embeddings of a recording as the original's probes do.

    Its errors are repaired: ``max`` works over layers and over time, and a frame of ``concat`` keeps its L * C values.

    Args:
        embeddings: (L, c, N, C).
        layers: Over the layers; ``none``: there is one.
        granularity: A row for each token, for each chunk, or for the recording.
        pooling: Over the tokens of a row; without effect on tokens.
        original_rows: ``concat`` of frames as the original gives it: (L * c * N, C), a row for each layer and token.

    Returns:
        (rows, C), or (rows, L * C) with ``concat``.

    Raises:
        UsageError: An option is not allowed.
        InputError: There are not four axes, or several layers with ``none``.
    """
    for name, value, allowed in (
        ("layers", layers, LayerAggregation),
        ("granularity", granularity, AggregationGranularity),
        ("pooling", pooling, TimeAggregation),
    ):
        if value not in get_args(allowed):
            raise UsageError(f"{name} is {value!r}; allowed: {', '.join(get_args(allowed))}")
    if embeddings.ndim != 4 or (layers == "none" and len(embeddings) != 1):
        raise InputError(
            f"embeddings of the shape {tuple(embeddings.shape)} with layers={layers!r}; allowed: (layers, chunks, "
            "tokens, width), with 'none' of one layer"
        )
    n_layers, _, _, width = embeddings.shape
    mixed = {
        "mean": lambda: embeddings.mean(0),
        "sum": lambda: embeddings.sum(0),
        "max": lambda: embeddings.amax(0),
        "concat": lambda: embeddings.movedim(0, 2).flatten(2),
        "none": lambda: embeddings[0],
    }[layers]()
    if granularity == "frame":
        one_row = width if original_rows or layers != "concat" else n_layers * width
        return mixed.reshape(-1, one_row)
    axes = (1,) if granularity == "chunk" else (0, 1)
    rows = mixed.mean(axes) if pooling == "mean" else mixed.amax(axes)
    return rows if granularity == "chunk" else rows[None]
