"""Checkpoints of the original's projectors: four layouts, told apart by the names and shapes of their tensors.

The original loads them with ``strict=False``, so that a projector which was trained with a residual runs without it,
or without its layer norm, and nothing says so. Here a file is loaded whole, as the projector that it was trained as;
``legacy_mlp`` gives the original's behaviour.

============================  ===================================================  =======================
layout                        function                                             keys
============================  ===================================================  =======================
``external``                  ``normalise(LN(W2 silu(W1 x)))``                     ``fc1 fc2 ln``
``mlp-trained``               ``LN(W2 gelu(W1 x) + x)``, not normalised            ``net.0 net.3 ln``
``mlp-audioldm2``             ``normalise(LN(W2 gelu(W1 x)))``                     ``net.0 net.3 ln``
``mlp-audioldm1``             the same                                             ``net.0 net.3 net.4``
``mlp-style2lm``              the same, hidden width equal to the input width      ``fc1 fc2 ln``
============================  ===================================================  =======================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

from pentatonic.errors import UsageError, WeightsError
from pentatonic.untrusted.files import shortened
from rc_audioldm.adapters.projector import Projector, ProjectorConfig
from rc_audioldm.adapters.strict_loading import with_weights

Layout = Literal["external", "mlp-trained", "mlp-audioldm2", "mlp-audioldm1", "mlp-style2lm"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_PARTS = ("first", "second", "norm")
_WRAPPER = "module."  # of torch's DataParallel


@dataclass(frozen=True)
class _Description:
    names: tuple[str, str, str]
    flags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, str]:
        """Name in the file -> name in our projector."""
        pairs = zip(self.names, _PARTS, strict=True)
        return {f"{old}.{kind}": f"{new}.{kind}" for old, new in pairs for kind in ("weight", "bias")}


_NET, _FC = ("net.0", "net.3", "ln"), ("fc1", "fc2", "ln")
_PLAIN_GELU = {"activation": "gelu", "residual": False, "normalise": True}
_DESCRIPTIONS: dict[Layout, _Description] = {
    "external": _Description(_FC, {"activation": "silu", "residual": False, "normalise": True}),
    "mlp-trained": _Description(_NET, {"activation": "gelu", "residual": True, "normalise": False}),
    "mlp-audioldm2": _Description(_NET, _PLAIN_GELU),
    "mlp-audioldm1": _Description(("net.0", "net.3", "net.4"), _PLAIN_GELU),
    "mlp-style2lm": _Description(_FC, _PLAIN_GELU),
}


def detect_layout(tensors: Mapping[str, Tensor], *, legacy_mlp: bool = False) -> Layout:
    """Name the layout of a checkpoint.

    Of the two layouts with ``fc1`` and ``fc2``, ``mlp-style2lm`` is the one whose hidden width equals its input width;
    whoever made an ``external`` projector of that shape names the layout when loading it.

    Args:
        tensors: By the names in the file, also with ``module.`` in front.
        legacy_mlp: Take ``net.0 net.3 ln`` as the projector that the original runs, not as the one that it trains.

    Raises:
        WeightsError: The names belong to no layout.
    """
    names = _unwrapped(tensors)
    if names.keys() == _DESCRIPTIONS["mlp-audioldm1"].keys.keys():
        return "mlp-audioldm1"
    if names.keys() == _DESCRIPTIONS["mlp-trained"].keys.keys():
        return "mlp-audioldm2" if legacy_mlp else "mlp-trained"
    if names.keys() == _DESCRIPTIONS["external"].keys.keys():
        hidden, width = _matrix(names, "fc1.weight")
        return "mlp-style2lm" if hidden == width else "external"
    known = "; ".join(f"{' '.join(each.names)}" for each in _DESCRIPTIONS.values())
    raise WeightsError(
        f"the tensors {', '.join(shortened(name) for name in sorted(names)[:8])} are of no known projector; allowed: "
        f"weight and bias of one of: {known}"
    )


def projector_from(tensors: Mapping[str, Tensor], layout: Layout) -> Projector:
    """Build the projector of a checkpoint, with all of its tensors and no other.

    Args:
        tensors: By the names in the file.
        layout: What it is.

    Returns:
        In evaluation mode.

    Raises:
        UsageError: There is no such layout.
        WeightsError: A tensor is missing, unexpected or of another shape.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"layout is {layout!r}; allowed: {', '.join(LAYOUTS)}")
    names, description = _unwrapped(tensors), _DESCRIPTIONS[layout]
    if wrong := names.keys() ^ description.keys.keys():
        listed = ", ".join(
            f"{shortened(name)} is {'unexpected' if name in names else 'missing'}"
            for name in sorted(wrong)[:8]
        )
        raise WeightsError(f"not a projector of the layout {layout}: {listed}")
    hidden, width = _matrix(names, f"{description.names[0]}.weight")
    out_width = _matrix(names, f"{description.names[1]}.weight")[0]
    if description.flags["residual"] and width != out_width:
        raise WeightsError(
            f"a projector of the layout {layout} has equal widths, not {width} and {out_width}"
        )
    config = ProjectorConfig(width, hidden, out_width, layer_norm=True, **description.flags)
    return with_weights(lambda: Projector(config), {new: names[old] for old, new in description.keys.items()})


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_WRAPPER): value for name, value in tensors.items()}


def _matrix(tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    shape = tuple(tensors[name].shape)
    if len(shape) != 2 or min(shape) < 1:
        raise WeightsError(f"{name} has the shape {shape}; allowed: a matrix")
    return shape[0], shape[1]
