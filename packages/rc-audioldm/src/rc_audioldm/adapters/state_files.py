"""Loading and saving adapters from style vectors to the states of the language model."""

from __future__ import annotations

from pathlib import Path

from pentatonic.errors import CheckpointError, ConfigError, FormatError, UsageError, WeightsError
from pentatonic.untrusted.config import read_fields
from rc_audioldm.adapters.adapter_files import (
    AdapterInfo,
    adapter_path,
    read_adapter,
    require_clap,
    write_adapter,
)
from rc_audioldm.adapters.strict_loading import with_weights
from rc_audioldm.adapters.style_to_states import StateAdapterConfig, StyleToStates
from rc_audioldm.clap.header import ClapHeader

STATES = "style-to-states"


def save_state_adapter(path: str | Path, adapter: StyleToStates, info: AdapterInfo) -> None:
    """Write an adapter as safetensors, with its configuration in the header.

    Raises:
        CheckpointError: It cannot be written.
    """
    write_adapter(Path(path), STATES, adapter, adapter.config, info)


def load_state_adapter(
    path: str | Path, *, allow_untrained: bool = False, clap: ClapHeader | None = None
) -> tuple[StyleToStates, AdapterInfo]:
    """Load an adapter, in evaluation mode and without gradients.

    Args:
        path: A file, a folder with an adapter, or a run folder.
        allow_untrained: Take random weights.
        clap: How the vectors that go in are made.

    Raises:
        CheckpointError, FormatError, WeightsError: The file cannot be read, or is no such adapter.
        UsageError: The weights are random and that is not allowed.
        IncompatibleVectors: It was trained on vectors of another kind.
    """
    file = adapter_path(path)
    tensors, values, info = read_adapter(file, STATES)
    if values is None:
        raise CheckpointError(f"{file}: is no adapter of this package; its header does not say so")
    try:
        config = read_fields(StateAdapterConfig, values, "state_adapter")
        adapter = with_weights(lambda: StyleToStates(config), tensors)
    except ConfigError as error:
        raise FormatError(str(error), path=file) from error
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    if info.trained_steps == 0 and not allow_untrained:
        raise UsageError(f"{file}: its weights are random, which has to be asked for: allow_untrained")
    require_clap(info, clap, file)
    return adapter.requires_grad_(False), info
