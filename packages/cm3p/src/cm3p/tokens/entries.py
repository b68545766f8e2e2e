"""Entries of metadata on their way to the model: dropout, variations, encoding.

Shapes: M entries, V variations of each, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cm3p.tokens.encoding import Encoding, empty_encoding
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from cm3p.tokens.variations import ORIGINAL
from pentatonic.errors import UsageError


def drop_fields(entries: Sequence[Mapping[str, Any]], probability: float) -> list[Mapping[str, Any]]:
    """Return copies in which each known field is unknown with a probability.

    Args:
        entries: Dictionaries, which are not changed.
        probability: From 0 to 1. One number is drawn from numpy's global generator for each field that is not None.

    Raises:
        UsageError: The probability is out of range.
    """
    if not 0 <= probability <= 1:
        raise UsageError(f"metadata_dropout_prob is {probability}; allowed: 0 to 1")
    if not probability:
        return list(entries)
    return [
        {
            name: None if value is not None and np.random.rand() < probability else value
            for name, value in entry.items()
        }
        for entry in entries
    ]


def encode_entries(
    tokenizer: CM3PMetadataTokenizer,
    entries: Sequence[Mapping[str, Any]],
    variations: int = 1,
    *,
    return_tensors: str | None = None,
    **options: Any,
) -> Encoding:
    """Encode entries of metadata, each followed by its variations.

    Args:
        tokenizer: The tokenizer.
        entries: M dictionaries.
        variations: V, the entry itself included.
        return_tensors: ``"pt"`` or None.
        options: ``padding``, ``truncation``, ``max_length``.

    Returns:
        ``input_ids`` and ``attention_mask``: (M, L), or (M, V, L) with ``metadata_variation_classes`` (M, V) if V is
        above 1.

    Raises:
        UsageError: ``variations`` is below 1, or an option is unknown.
        InputError: A value is of the wrong type.
    """
    if variations < 1:
        raise UsageError(f"metadata_variations is {variations}; allowed: 1 or more")
    counts = (len(entries),) if variations == 1 else (len(entries), variations)
    classes: list[list[int]] = []
    if entries:
        varied: list[Mapping[str, Any]] = []
        for entry in entries:
            pairs = [(entry, ORIGINAL), *tokenizer.metadata_variations(entry, variations - 1)]
            varied += [variant for variant, _ in pairs]
            classes.append([kind for _, kind in pairs])
        encoding = tokenizer(varied, return_tensors=return_tensors, **options)
    else:
        length = options.get("max_length") or 0
        encoding = empty_encoding(0, length, return_tensors=return_tensors)
    if variations == 1:
        return encoding
    if return_tensors is None:
        for name, rows in encoding.items():
            encoding[name] = [rows[start : start + variations] for start in range(0, len(rows), variations)]
        encoding["metadata_variation_classes"] = classes
        return encoding
    import torch

    for name, rows in encoding.items():
        encoding[name] = rows.reshape(*counts, rows.shape[-1])
    encoding["metadata_variation_classes"] = torch.tensor(classes, dtype=torch.int64).reshape(counts)
    return encoding
