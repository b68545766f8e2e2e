"""Configurations of components that a stranger may have written: only keys that the classes know, in bounds.

A configuration decides how many layers are built and how large tables are, before any weight is compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pentatonic.errors import ConfigError
from pentatonic.untrusted.files import shortened

MAX_NUMBER = 2**20
"""Largest number of a configuration, in size; vocabularies are the largest."""
MAX_LAYERS = 128
"""Largest number of layers, and of entries of a list."""
MAX_POSITIONS = 16_384
"""Most positions of a text or bins of a spectrogram."""
MAX_WINDOW = 128
"""Largest window of attention of CLAP's audio tower, whose tables grow with its fourth power."""
MAX_CHARACTERS = 200
"""Longest text."""

_LIMITS: dict[str, int] = {
    **dict.fromkeys(
        (
            *(
                "num_layers",
                "num_decoder_layers",
                "num_hidden_layers",
                "n_layer",
                "layers_per_block",
                "depths",
            ),
            *("transformer_layers_per_block", "reverse_transformer_layers_per_block"),
            *("fusion_num_hidden_layers", "projection_hidden_layers"),
        ),
        MAX_LAYERS,
    ),
    **dict.fromkeys(
        ("n_positions", "n_ctx", "max_position_embeddings", "spec_size", "relative_attention_num_buckets"),
        MAX_POSITIONS,
    ),
    **dict.fromkeys(("window_size", "patch_size", "patch_stride"), MAX_WINDOW),
}
_MAX_DEPTH = 4
# What a configuration must not decide: code to run, the type of numbers, how attention is computed.
_IGNORED = frozenset(
    (
        *("auto_map", "architectures", "transformers_version", "quantization_config", "dtype", "torch_dtype"),
        *(
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_internal",
            "experts_implementation",
        ),
    )
)


def bounded(values: Any, known: Iterable[str], where: str | Path) -> dict[str, Any]:
    """Return the entries of a configuration that its class knows.

    Args:
        values: As JSON gives them.
        known: Names of the entries of the class.
        where: The file, for messages.

    Raises:
        ConfigError: It is not a mapping, or a value is out of bounds; the message names it.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: holds {shortened(values)}; allowed: a mapping of keys")
    if values.get("auto_map"):
        raise ConfigError(f"{where}: auto_map names code to run; only the classes of the libraries are used")
    kept = {key: values[key] for key in known if key in values and key not in _IGNORED}
    for key, value in kept.items():
        _check(value, key, where, _LIMITS.get(key, MAX_NUMBER), _MAX_DEPTH)
    return kept


def _check(value: Any, key: str, where: str | Path, limit: int, depth: int) -> None:
    wrong = ""
    if isinstance(value, str):
        wrong = f"at most {MAX_CHARACTERS} characters" if len(value) > MAX_CHARACTERS else ""
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # A scheduler has one number that is infinite: it bounds nothing.
        is_fine = abs(value) <= limit or (
            isinstance(value, float) and math.isinf(value) and key == "lambda_min_clipped"
        )
        wrong = "" if is_fine else f"numbers of {limit} at most, in size"
    elif isinstance(value, list | tuple | Mapping):
        wrong = (
            ""
            if depth and len(value) <= MAX_LAYERS
            else f"lists of {MAX_LAYERS} entries at most, not nested deeply"
        )
        if not wrong:
            for name, item in (
                value.items() if isinstance(value, Mapping) else ((key, item) for item in value)
            ):
                _check(item, str(name), where, _LIMITS.get(str(name), limit), depth - 1)
    if wrong:
        raise ConfigError(f"{where}: {key} is {shortened(value)}; allowed: {wrong}")
