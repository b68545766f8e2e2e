"""A bag of melodic and rhythmic n-grams of a piece: an encoder that needs no model and no training.

Which steps in the scale, and which lengths, follow each other. It knows neither key nor harmony, and order only as far
as an n-gram reaches, across barlines too. Each family of n-grams has the same weight; counts enter by their root, so
that a common turn does not hide the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notagen.clamp2.embedder import EmbedOptions, EncodedFile, Encoder, Output
from notagen.clamp2.patches import is_mtf
from notagen.evaluation.novelty import voice_notes
from pentatonic.errors import FormatError, UsageError
from pentatonic.search import VectorHeader

NGRAMS = "ngrams"
"""Name of this encoder, and of the judge that it is."""

WIDTH = 8192
"""Number of counters, into which n-grams are hashed."""

SIZES = (2, 3, 4)


def ngrams(text: str, width: int = WIDTH) -> NDArray[np.int64]:
    """Return the n-grams of the voices of a tune.

    Args:
        text: A tune in any layout.
        width: Number of counters.

    Returns:
        ``(n, 2)``: the number of its family, and its counter from 1, of each.

    Raises:
        FormatError: The text is not a tune.
    """
    found: list[tuple[int, int]] = []

    def add(family: int, name: str, ngram: tuple) -> None:
        place = zlib.crc32(f"{name} {ngram}".encode()) % (width - 1)
        found.append((family, 1 + place))

    for notes in voice_notes(text):
        steps = [step for step, _, _ in notes[1:]]
        lengths = [(above, below) for _, above, below in notes]
        for number, n in enumerate(SIZES):
            for i in range(len(notes) - n + 1):
                add(2 * number, f"rhythm {n}", tuple(lengths[i : i + n]))
                add(2 * number + 1, f"melody {n}", tuple(steps[i : i + n - 1]))
    return np.array(found, np.int64).reshape(-1, 2)


def ngram_vector(found: NDArray[np.int64], width: int = WIDTH) -> NDArray[np.float64]:
    """Return the ``(width,)`` vector of length 1 for the n-grams of :func:`ngrams`."""
    vector = np.zeros(width)
    for family in np.unique(found[:, 0]):
        counts = np.bincount(found[found[:, 0] == family, 1], minlength=width)
        vector += np.sqrt(counts / counts.sum())
    if not vector.any():
        vector[0] = 1  # pieces without a melody are like each other, and like no other
    return vector / np.linalg.norm(vector)


class NgramEncoder(Encoder):
    """N-grams in place of a model, for files of ABC and MusicXML.

    Args:
        options: How files become the text that is read.
    """

    def __init__(self, options: EmbedOptions = EmbedOptions()) -> None:  # noqa: B008
        if options.drop_unit_length:
            raise UsageError("n-grams are of lengths: leave --drop-unit-length out")
        super().__init__(
            NGRAMS,
            options,
            VectorHeader(
                model_hash=f"{NGRAMS} {SIZES} {WIDTH}",
                frontend=options.frontend(NGRAMS),
                windows="whole pieces",
                pooling="families of equal weight, roots of shares",
                dimension=WIDTH,
            ),
            outputs=("features",),
        )

    def encode_music(self, text: str) -> Tensor:
        """Return the n-grams of a text, ``(n, 2)`` int64.

        Raises:
            FormatError: It is not a tune, or has no notes.
        """
        if is_mtf(text):
            raise FormatError("MIDI has no steps in a scale; allowed for n-grams: ABC and MusicXML")
        found = ngrams(text)
        if not len(found):
            raise FormatError("no voice has two notes, of which n-grams are made")
        return torch.from_numpy(found)

    def compute(self, files: Sequence[EncodedFile], output: Output) -> list[list[np.ndarray]]:
        """Vector of each piece of each file, ``(1, width)`` float32.

        Raises:
            UsageError: Frames are wanted.
        """
        self.require(output)
        return [
            [ngram_vector(piece.ids.numpy())[None].astype(np.float32) for piece in file.pieces]
            for file in files
        ]
