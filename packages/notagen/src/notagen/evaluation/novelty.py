"""Novelty: how much of a piece occurs in other pieces, such as the training data.

Voices are compared by their notes: the step in the scale from the note before, and the written length. Keys,
accidentals, barlines, rests and marks do not count, so a transposed quotation is recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from notagen.abc import parse_unit_length
from notagen.abc.syntax import length_of
from notagen.notation.bars import read_tune
from pentatonic.errors import FormatError, UsageError

_NOTE = re.compile(r'"[^"\n]*"|![^!\n]*!|\{[^{}\n]*\}|\[[A-Za-z]:[^\[\]\n]*\]|([A-Ga-g])([,\']*)([\d/]*)')
_LETTERS = "CDEFGAB"

Notes = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Novelty:
    """How much of a piece occurs in the known pieces.

    Attributes:
        ngrams: Number of runs of n notes in the voices of the piece.
        known: Number of these that occur in a voice of a known piece.
        longest_known: Number of notes of the longest passage in which all runs of n notes are known; 0 without any.
        copy: Whether all voices of at least n notes are equal to voices of known pieces.
    """

    ngrams: int
    known: int
    longest_known: int
    copy: bool


class KnownMusic:
    """All runs of n notes in a collection of pieces.

    Args:
        texts: Tunes in any layout; texts that are not tunes are skipped.
        n: Number of notes of a run, at least 1.

    Raises:
        UsageError: ``n`` is out of range.
    """

    def __init__(self, texts: Iterable[str], *, n: int = 8) -> None:
        if n < 1:
            raise UsageError(f"n must be at least 1, got {n}")
        self.n = n
        self._ngrams: set[int] = set()
        self._voices: set[int] = set()
        for text in texts:
            try:
                voices = voice_notes(text)
            except FormatError:
                continue
            for notes in voices:
                self._ngrams.update(self._hashes(notes))
                self._voices.add(hash(notes))

    def novelty(self, text: str) -> Novelty:
        """Compare a piece with the collection.

        Args:
            text: A tune in any layout.

        Raises:
            FormatError: The text is not a tune.
        """
        voices = [notes for notes in voice_notes(text) if len(notes) >= self.n]
        ngrams = known = longest = 0
        for notes in voices:
            run = 0
            for each in self._hashes(notes):
                ngrams += 1
                run = run + 1 if each in self._ngrams else 0
                known += run > 0
                longest = max(longest, run + self.n - 1 if run else 0)
        copy = bool(voices) and all(hash(notes) in self._voices for notes in voices)
        return Novelty(ngrams, known, longest, copy)

    def _hashes(self, notes: Notes) -> list[int]:
        # The step to the first note of a run is not part of the run.
        return [
            hash((notes[i][1:], notes[i + 1 : i + self.n])) for i in range(max(0, len(notes) - self.n + 1))
        ]


def voice_notes(text: str) -> list[Notes]:
    """Return the notes of each voice of a tune; notes of chords count one after another.

    Args:
        text: A tune in any layout.

    Returns:
        For each voice and note: the step from the note before (0 for the first), and numerator and denominator of the
        written length as a fraction of a whole note, without the effect of tuplets and broken rhythm.

    Raises:
        FormatError: The text is not a tune, or a length is invalid.
    """
    tune = read_tune(text)
    unit = next((parse_unit_length(line[2:]) for line in tune.header if line.startswith("L:")), None)
    voices = []
    for voice in tune.voices.values():
        notes: list[tuple[int, int, int]] = []
        before = None
        for letter, marks, length in (
            match.groups() for bar in voice.bars for match in _NOTE.finditer(bar) if match[1]
        ):
            octave = letter.islower() + marks.count("'") - marks.count(",")
            place = 7 * octave + _LETTERS.index(letter.upper())
            part = length_of(length) * (unit or 1)
            notes.append((0 if before is None else place - before, *part.as_integer_ratio()))
            before = place
        voices.append(tuple(notes))
    return voices
