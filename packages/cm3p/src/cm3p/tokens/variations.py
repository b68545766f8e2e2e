"""Variants of metadata that differ from the original in one field: the wrong answers of contrastive training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from cm3p.metadata import is_null

if TYPE_CHECKING:
    from cm3p.tokens.metadata import CM3PMetadataTokenizer

PADDING, ORIGINAL, YEAR, STATUS, TAGS, MAPPER = range(-1, 5)
"""Classes of variations: what differs from the original."""

VARIED_FIELDS = ("year", "status", "tags", "mapper")
_FIRST_YEAR = 2007  # the game was released in September of that year


def metadata_variations(
    tokenizer: CM3PMetadataTokenizer, metadata: Mapping[str, Any], count: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield variants of metadata, each with the class of the field that differs.

    In turn another year, another status, other tags, another mapper, as long as there are any; then empty metadata of
    the class -1. A field that is unknown is not varied. Random choices come from numpy's global generator, drawn when
    a variant is taken.

    Args:
        tokenizer: Tokenizer that knows the years, statuses, tags and mappers.
        metadata: The original, which is not changed.
        count: Number of variants.

    Yields:
        Variant, and 1 (year), 2 (status), 3 (tags), 4 (mapper) or -1 (padding).
    """
    generators: list[tuple[str, int, Iterator[Any]]] = [
        ("year", YEAR, _years(tokenizer, metadata)),
        ("status", STATUS, _statuses(tokenizer, metadata)),
        ("tags", TAGS, _tags(tokenizer, metadata)),
        ("mapper", MAPPER, _mappers(tokenizer, metadata)),
    ]
    return islice(_in_turn(metadata, generators), count)


def _in_turn(
    metadata: Mapping[str, Any], generators: list[tuple[str, int, Iterator[Any]]]
) -> Iterator[tuple[dict[str, Any], int]]:
    while generators:
        left = []
        for field, kind, values in generators:
            for value in islice(values, 1):
                left.append((field, kind, values))
                yield {**metadata, field: value}, kind
        generators = left
    while True:
        yield {}, PADDING


def _years(tokenizer: CM3PMetadataTokenizer, metadata: Mapping[str, Any]) -> Iterator[int]:
    year, first = metadata.get("year"), max(_FIRST_YEAR, tokenizer.min_year)
    if year is None or is_null(year) or not first <= year <= tokenizer.max_year:
        return
    yield from (other for other in range(first, tokenizer.max_year + 1) if other != year)


def _statuses(tokenizer: CM3PMetadataTokenizer, metadata: Mapping[str, Any]) -> Iterator[str]:
    status = tokenizer.known_status(metadata)
    if status is not None:
        yield from (name for key, name in tokenizer.statuses.items() if key != status)


def _tags(tokenizer: CM3PMetadataTokenizer, metadata: Mapping[str, Any]) -> Iterator[list[int | str]]:
    """Every absent tag in the place of a random one, then inserted at a random place; then each tag left out."""
    present = tokenizer.known_tags(metadata)
    if not present:
        return
    tags = list(metadata.get("tags") or [])
    names = [str(tokenizer.tags[key]["name"]) for key in present]
    absent: list[int | str]
    if tokenizer.unique_tag_ids:
        absent = [key for key in tokenizer.tags if key not in present]
    else:
        absent = [str(tag["name"]) for tag in tokenizer.tags.values() if tag["name"] not in names]
    for tag in absent:
        place = np.random.randint(len(tags))
        yield [*tags[:place], tag, *tags[place + 1 :]]
    for tag in absent:
        place = np.random.randint(len(tags) + 1)
        yield [*tags[:place], tag, *tags[place:]]
    if len(present) >= 2:
        kept: list[int | str] = [*present] if tokenizer.unique_tag_ids else [*names]
        yield from (kept[:place] + kept[place + 1 :] for place in range(len(kept)))


def _mappers(tokenizer: CM3PMetadataTokenizer, metadata: Mapping[str, Any]) -> Iterator[int]:
    mapper = tokenizer.known_mapper(metadata)
    if mapper is None:
        return
    others = [key for key in tokenizer.mappers if key != mapper]
    np.random.shuffle(others)
    yield from others
