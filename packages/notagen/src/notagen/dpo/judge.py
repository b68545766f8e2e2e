"""Judges: what turns a piece into a vector whose cosine to the references says how good it is.

A judge that is optimised should be one of :mod:`notagen.clamp2`; the other kind, a bag of n-grams, is of another
architecture and needs no training, so that it can say whether music became better or only the score.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from notagen.clamp2.features import music_features
from notagen.clamp2.model import Clamp
from notagen.clamp2.ngrams import NGRAMS, SIZES, WIDTH, ngram_vector, ngrams
from notagen.clamp2.patches import encode
from notagen.clamp2.weights import from_pretrained
from notagen.notation.rests import complete_rests
from pentatonic.errors import FormatError
from pentatonic.folder_run import fingerprint


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
    """A bag of melodic and rhythmic n-grams; see :mod:`notagen.clamp2.ngrams`.

    Args:
        width: Number of counters, into which n-grams are hashed.
    """

    name = NGRAMS

    def __init__(self, width: int = WIDTH) -> None:
        self.width = width
        self.fingerprint = f"{NGRAMS} {SIZES} {width}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the vectors of pieces, ``(pieces, width)``, of length 1; that of no melody for what is no tune."""
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float64]:
        found = np.zeros((0, 2), np.int64)
        with contextlib.suppress(FormatError):
            found = ngrams(text, self.width)
        return ngram_vector(found, self.width)


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
