"""The original's prompts with style words, which it finds as parts of the paths of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pentatonic.errors import UsageError

Version = Literal[1, 2]

_FALLBACK = ["instrumental", "clean recording"]
_INSTRUMENTS = (
    "piano violin cello flute clarinet trumpet guitar harp marimba sax drum timpani strings orchestra"
)
_MOODS = (
    "ambient pad noise gliss etude concerto suite nocturne baroque romantic classical jazz club hall chamber studio "
    "intimate bright warm dry lush"
)
_WORDS: dict[Version, list[str]] = {
    1: [*_INSTRUMENTS.split(), *_MOODS.split()],
    2: [*_INSTRUMENTS.split(), "bass", "pad", *_MOODS.split(), "minimal", "meditative", "expressive"],
}
_MOST_PER_PATH: dict[Version, int] = {1: 5, 2: 6}
_MOST = 6
_SUFFIX = "high quality, natural timbre"


def path_words(path: str | None, version: Version) -> list[str]:
    """Return the style words that occur anywhere in a path, in the order of the original's list.

    Args:
        path: Path of a clip.
        version: 1 of ``exp2_audioldm1_retrieval.py``, 2 of ``exp2_audioldm2_retrieval_augment.py``.
    """
    lower = (path or "").lower()
    found = list(dict.fromkeys(word for word in _words(version) if word in lower))
    return found[: _MOST_PER_PATH[version]] or list(_FALLBACK)


def augmented_prompt(
    prompt: str,
    paths: Sequence[str | None],
    version: Version,
    *,
    neighbours: int = 5,
    text_prior: str = "",
) -> str:
    """Return a prompt with the words of its neighbours.

    Args:
        prompt: The prompt.
        paths: Paths of its neighbours, the nearest first; without any, no words are added.
        version: As for :func:`path_words`; 1 always ends with ``high quality, natural timbre``.
        neighbours: How many count; the original's ``style_top_m``.
        text_prior: Added at the end by version 2.
    """
    words = list(dict.fromkeys(word for path in paths[:neighbours] for word in path_words(path, version)))
    suffix = _SUFFIX if version == 1 else text_prior
    return ", ".join(part for part in (prompt, ", ".join(words[:_MOST]), suffix) if part)


def _words(version: Version) -> list[str]:
    if version not in _WORDS:
        raise UsageError(f"the version is {version!r}; allowed: 1, 2")
    return _WORDS[version]
