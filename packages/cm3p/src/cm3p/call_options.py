"""Options of a call of the processor, in groups as the original has them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from cm3p.windows import MAX_WINDOWS
from pentatonic.errors import UsageError

Options = dict[str, dict[str, Any]]
"""Group to name to value."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "beatmap_kwargs": {
        "max_length": 8000,
        "padding": "longest",
        "truncation": "longest_first",
        "window_length_sec": 30.0,
        "window_stride_sec": 30.0,
        "min_window_length_sec": 1.0,
        "max_windows": MAX_WINDOWS,
    },
    "metadata_kwargs": {"max_length": 128, "padding": "longest", "truncation": "longest_first"},
    "audio_kwargs": {
        "sampling_rate": 16000,
        "padding": True,
        "truncation": False,
        "pad_to_multiple_of": 480000,
        "max_source_positions": 3000,
        "hop_length": 160,
        "window_size": 400,
        "audio_length_per_tok": 8,
        "device": "cpu",
    },
    "common_kwargs": {"return_tensors": "pt"},
}
"""Defaults of the class; those of a trained processor are in its configuration."""

_ACCEPTED = {"audio_kwargs": {"max_length"}}


def with_defaults(options: Mapping[str, Any] | None) -> Options:
    """Fill groups of options from :data:`DEFAULTS`.

    Raises:
        UsageError: There is another group.
    """
    options = options or {}
    for group in options:
        if group not in DEFAULTS:
            raise UsageError(f"{group} is not a group of options; allowed: {', '.join(DEFAULTS)}")
    return {group: {**defaults, **(options.get(group) or {})} for group, defaults in DEFAULTS.items()}


def stored_options(options: Mapping[str, Mapping[str, Any]]) -> Options:
    """Return options as they are written to files: without those that the original lacks, at their defaults."""
    stored = {group: dict(values) for group, values in options.items()}
    if stored["beatmap_kwargs"]["max_windows"] == MAX_WINDOWS:
        del stored["beatmap_kwargs"]["max_windows"]
    return stored


def merge_options(defaults: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> Options:
    """Merge the options of a call into the defaults of a processor.

    Args:
        defaults: Options by group.
        given: Groups, such as ``beatmap_kwargs``, or single options, which go to every group that has them. A warning
            names options that no group has.

    Returns:
        Options by group.

    Raises:
        UsageError: An option is given in a group and on its own.
    """
    merged = {group: dict(options) for group, options in defaults.items()}
    nested = {group: dict(given[group] or {}) for group in merged if group in given}
    for group, options in nested.items():
        merged[group].update(options)
    for name, value in given.items():
        if name in merged:
            continue
        known = False
        for group, options in merged.items():
            if name not in DEFAULTS[group] and name not in _ACCEPTED.get(group, ()):
                continue
            if name in nested.get(group, {}):
                raise UsageError(f"{name} is given in {group} and on its own; allowed: one of both")
            options[name] = value
            known = True
        if not known:
            warnings.warn(f"the processor has no option {name}; it is ignored", stacklevel=3)
    return merged
