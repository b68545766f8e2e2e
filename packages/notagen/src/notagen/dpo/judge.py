"""Judges: what turns a piece into a vector whose cosine to the references says how good it is.

A judge that is optimised should be one of :mod:`notagen.clamp2`; the other kind, a bag of n-grams, is of another
architecture and needs no training, so that it can say whether music became better or only the score.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from notagen.clamp2.features import music_features
from notagen.clamp2.model import Clamp
from notagen.clamp2.patches import encode
from notagen.clamp2.weights import from_pretrained
from notagen.evaluation.novelty import Notes, voice_notes
from notagen.notation.rests import complete_rests
from pentatonic.errors import FormatError
from pentatonic.folder_run import fingerprint

NGRAMS = "ngrams"
"""Name of the judge that needs no model."""


class Judge(Protocol):
    """A judge of music.

    Attributes:
        name: What reports call it.
        fingerprint: Changes whenever its vectors may change.
    """

    name: str
    fingerprint: str

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return a vector of each piece.

        Args:
            texts: Pieces as :func:`judged_text` gives them, at least one.

        Returns:
            ``(pieces, d)``, finite and not zero; only their directions count for scores of single pieces.
        """
        ...


class ModelJudge:
    """CLaMP 2 or 3, or a small scorer.

    Args:
        model: In evaluation mode.
        name: What reports call it.
    """

    def __init__(self, model: Clamp, name: str) -> None:
        self.model, self.name = model, name
        self.fingerprint = fingerprint(model.config, model.state_dict())

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the features of pieces, ``(pieces, d)``."""
        clamp3 = self.model.config.family == "clamp3"
        patches = [encode(text, special=True, drop_unit_length=clamp3) for text in texts]
        features = music_features(self.model, [torch.from_numpy(each).long() for each in patches])
        return features.double().numpy()


class NgramJudge:
    """A bag of melodic and rhythmic n-grams: which steps in the scale, and which lengths, follow each other.

    It knows neither key nor harmony, and order only as far as an n-gram reaches, across barlines too. Each family of
    n-grams has the same weight; counts enter by their root, so that a common turn does not hide the others.

    Args:
        width: Number of counters, into which n-grams are hashed.
    """

    name = NGRAMS
    _SIZES = (2, 3, 4)

    def __init__(self, width: int = 8192) -> None:
        self.width = width
        self.fingerprint = f"{NGRAMS} {self._SIZES} {width}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the vectors of pieces, ``(pieces, width)``, of length 1."""
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float64]:
        families: dict[str, Counter[int]] = {}
        try:
            voices = voice_notes(text)
        except FormatError:
            voices = []
        for notes in voices:
            for family, ngram in self._ngrams(notes):
                place = zlib.crc32(f"{family} {ngram}".encode()) % (self.width - 1)
                families.setdefault(family, Counter())[1 + place] += 1
        vector = np.zeros(self.width)
        for counts in families.values():
            places = np.fromiter(counts, int)
            vector[places] += np.sqrt(np.fromiter(counts.values(), float) / counts.total())
        if not vector.any():
            vector[0] = 1  # pieces without a melody are like each other, and like no other
        return vector / np.linalg.norm(vector)

    def _ngrams(self, notes: Notes) -> Iterator[tuple[str, tuple]]:
        steps = [step for step, _, _ in notes[1:]]
        lengths = [(above, below) for _, above, below in notes]
        for n in self._SIZES:
            for i in range(len(notes) - n + 1):
                yield f"rhythm {n}", tuple(lengths[i : i + n])
                yield f"melody {n}", tuple(steps[i : i + n - 1])


def judged_text(text: str) -> str:
    """Return the text of a piece as it is judged: without prompt and countdown tags, and with all rests.

    Args:
        text: Interleaved, as a policy writes it or as training data have it.
    """
    lines = complete_rests(text).text.splitlines(keepends=True)
    kept = [line for line in lines if line.startswith("%%") or not line.startswith("%")]
    return "".join(kept) or "X:1\n"


def load_judge(name: str | Path) -> Judge:
    """Return a judge by its name.

    Args:
        name: :data:`NGRAMS`, or whatever :func:`notagen.clamp2.weights.from_pretrained` loads.

    Raises:
        HubError, CheckpointError, ConfigError, WeightsError: There is no usable model of this name.
    """
    if str(name) == NGRAMS:
        return NgramJudge()
    return ModelJudge(from_pretrained(name, music_only=True), Path(name).name)
