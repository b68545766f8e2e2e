"""Style words for a prompt, from the labels of its neighbours in a bank.

The original takes its words from the paths of files, see :mod:`rc_audioldm.legacy.augmentation`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pentatonic.errors import UsageError

MAX_WORDS = 6
"""Most labels that are added to a prompt, unless the caller allows more."""

# Labels with one of these words say that a clip is no instrumental music, or that it is a bad recording of it.
_EXCLUDED = (
    "speech speaking voice vocals vocal singing singer rapping rap talking narration conversation choir chant crowd "
    "shout shouting yell scream screaming laughter whispering whisper cough human male female child "
    "noise static hiss hum distortion clipping silence"
)
EXCLUDED_WORDS = frozenset(_EXCLUDED.split())
"""Words that a label must not have to be added to a prompt."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class LabelledNeighbour:
    """A clip near to a prompt.

    Args:
        labels: What it is labelled with, such as ``Bowed_string_instrument``.
        weight: How much it counts, above 0; its share in the style vector, or its similarity.
    """

    labels: Sequence[str]
    weight: float


def style_words(
    prompt: str,
    neighbours: Iterable[LabelledNeighbour],
    *,
    most: int = MAX_WORDS,
    excluded: frozenset[str] = EXCLUDED_WORDS,
) -> list[str]:
    """Return the labels to add to a prompt, those with the most weight first.

    A label has the weight of all neighbours that carry it; equal weights keep the order of appearance. Labels whose
    words all occur in the prompt, or in a label before them, are left out.

    Args:
        prompt: The prompt.
        neighbours: Clips near to it.
        most: Most labels.
        excluded: Words, in lower case, that a label must not have.

    Raises:
        UsageError: ``most`` is negative.
    """
    if most < 0:
        raise UsageError(f"the most style words are {most}; allowed: 0 and more")
    weights: dict[str, float] = {}
    for neighbour in neighbours:
        for label in dict.fromkeys(map(_readable, neighbour.labels)):
            weights[label] = weights.get(label, 0.0) + neighbour.weight
    present, chosen = _words(prompt), []
    for label in sorted(weights, key=lambda label: -weights[label]):  # stable
        words = _words(label)
        if len(chosen) < most and words - present and not words & excluded:
            chosen.append(label)
            present |= words
    return chosen


def augment(prompt: str, words: Sequence[str], fits: Callable[[str], bool] = lambda _: True) -> str:
    """Add words to a prompt, as many as fit.

    Args:
        prompt: The prompt, which is returned as it is when there is nothing to add.
        words: Words or phrases, the most important ones first; those that do not fit are skipped.
        fits: Whether a text is within the budget of tokens.
    """
    for word in words:
        if fits(longer := f"{prompt}, {word}"):
            prompt = longer
    return prompt


def _readable(label: str) -> str:
    return " ".join(re.sub(r"[_()]", " ", label).lower().split())


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
