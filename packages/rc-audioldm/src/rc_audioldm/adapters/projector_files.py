"""Loading and saving projectors: ours, and all layouts of the original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pentatonic.checkpoint import read_legacy
from pentatonic.errors import CheckpointError, ConfigError, FormatError, UsageError, WeightsError
from pentatonic.untrusted.config import read_fields
from rc_audioldm.adapters.adapter_files import (
    PICKLES,
    AdapterInfo,
    adapter_path,
    read_adapter,
    require_clap,
    write_adapter,
)
from rc_audioldm.adapters.projector import Projector, ProjectorConfig, untrained_projector
from rc_audioldm.adapters.projector_layouts import Layout, detect_layout, projector_from
from rc_audioldm.adapters.strict_loading import with_weights
from rc_audioldm.clap.header import ClapHeader

PROJECTOR = "projector"
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class LoadedProjector:
    """A projector and what is known of it.

    Args:
        projector: In evaluation mode, without gradients.
        info: Its training, its CLAP, and the layout of its file.
    """

    projector: Projector
    info: AdapterInfo


def save_projector(path: str | Path, projector: Projector, info: AdapterInfo) -> None:
    """Write a projector as safetensors, with its configuration in the header.

    Args:
        path: The file.
        projector: The projector.
        info: What is known of it; ``trained_steps`` 0 marks random weights.

    Raises:
        CheckpointError: It cannot be written.
    """
    write_adapter(Path(path), PROJECTOR, projector, projector.config, info)


def load_projector(
    path: str | Path | None,
    *,
    legacy_mlp: bool = False,
    layout: Layout | None = None,
    allow_untrained: bool = False,
    clap: ClapHeader | None = None,
) -> LoadedProjector:
    """Load a projector.

    Args:
        path: File of ours; file of the original as safetensors, or as ``.pt``, of which only tensors and plain values
            are read; a folder with an adapter, or a run folder. None: none, which is a random projector.
        legacy_mlp: Run ``net.0 net.3 ln`` without residual, as the original does when it generates.
        layout: Layout of a file of the original; by default what its tensors say.
        allow_untrained: Take a projector of random weights, which maps styles to anywhere.
        clap: How the vectors that go in are made.

    Raises:
        UsageError: The projector is random and that is not allowed, or an option does not fit the file.
        CheckpointError, WeightsError: The file cannot be read, or is no projector.
        IncompatibleVectors: It was trained on vectors of another kind.
    """
    if path is None:
        if not allow_untrained:
            raise UsageError("no projector is given, and a random one has to be asked for: allow_untrained")
        return LoadedProjector(
            untrained_projector(ProjectorConfig(residual=False, layer_norm=True)).requires_grad_(False),
            AdapterInfo(trained_steps=0),
        )
    file = adapter_path(path)
    try:
        loaded = _read(file, legacy_mlp, layout)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    if loaded.info.trained_steps == 0 and not allow_untrained:
        raise UsageError(f"{file}: its weights are random, which has to be asked for: allow_untrained")
    require_clap(loaded.info, clap, file)
    loaded.projector.requires_grad_(False)
    return loaded


def _read(file: Path, legacy_mlp: bool, layout: Layout | None) -> LoadedProjector:
    if file.suffix in PICKLES:
        tensors, values, info = read_legacy(file, max_bytes=_MOST_BYTES), None, AdapterInfo()
    elif file.suffix == ".safetensors":
        tensors, values, info = read_adapter(file, PROJECTOR)
    else:
        raise CheckpointError(f"{file}: allowed: .safetensors, or {' '.join(PICKLES)} of the original")
    if values is None:
        layout = layout or detect_layout(tensors, legacy_mlp=legacy_mlp)
        if legacy_mlp and layout == "mlp-trained":
            layout = "mlp-audioldm2"
        return LoadedProjector(projector_from(tensors, layout), AdapterInfo(layout=layout))
    if legacy_mlp or layout is not None:
        raise UsageError(
            f"{file}: says what it computes; legacy_mlp and layout are for files of the original"
        )
    try:
        config = read_fields(ProjectorConfig, values, "projector")
    except ConfigError as error:
        raise FormatError(str(error), path=file) from error
    return LoadedProjector(with_weights(lambda: Projector(config), tensors), info)
