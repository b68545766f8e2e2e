"""Measures of single pieces, and the shares over many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from notagen.evaluation.measures.sounding import Sound, sounds_of
from notagen.evaluation.measures.voices import count_voices
from notagen.notation.lines import is_music
from notagen.score.model import Measure, Score
from notagen.score.reader import read_score
from notagen.vocabulary import Vocabulary, words_of
from pentatonic.errors import FormatError

_TONICS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True)
class Share:
    """How many of some things have a property."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The share; None where there are none of these things."""
        return self.count / self.of if self.of else None


@dataclass(frozen=True)
class PieceMeasures:
    """Measures of one piece, or of several together.

    Args:
        invented_text: Words between quotes in the music that are not in the vocabulary, of all; None: any are allowed.
        lengths_off_grid: Lengths of notes and rests that are not in the vocabulary, of all; None: any are allowed.
        silent_bars: Bars of a voice without a note, of all.
        repeated_bars: Bars of a voice with the notes of the bar before, of all after a bar with notes.
        last_on_tonic: Pieces whose last sound has the tonic as its lowest note, of those in a key.
        no_chords: Sonorities of at least three notes that are not in a triad or seventh chord, of all. This and the
            next are of pieces with several voices.
        parallels: Parallel fifths and octaves, of the steps in which both voices of a pair move.
        crossings: Moments at which a voice is above the voice before it, of those at which both sound.
        voice_range: Semitones from the lowest to the highest note, summed over voices, of voices: its value is the
            mean.
        unreadable: Pieces that are not a tune, of all; they count in nothing but text and lengths.
    """

    invented_text: Share | None
    lengths_off_grid: Share | None
    silent_bars: Share
    repeated_bars: Share
    last_on_tonic: Share
    no_chords: Share
    parallels: Share
    crossings: Share
    voice_range: Share
    unreadable: Share

    def to_dict(self) -> dict[str, Any]:
        """Return count, total and value of each share as plain values for JSON."""
        shares = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: None if share is None else asdict(share) | {"value": share.value}
            for name, share in shares.items()
        }


def measure(text: str, vocabulary: Vocabulary) -> PieceMeasures:
    """Measure a piece.

    Args:
        text: A piece in interleaved layout, with or without countdown tags and silent voices.
        vocabulary: That of the model.
    """
    words = [word for line in text.split("\n") if is_music(line.strip()) for word in words_of(line)]
    invented = _outside(words, {"texts": vocabulary.texts})
    off_grid = _outside(words, {"lengths": vocabulary.lengths, "rests": vocabulary.rests})
    none = Share(0, 0)
    try:
        score = read_score(text)
    except FormatError:
        return PieceMeasures(invented, off_grid, none, none, none, none, none, none, none, Share(1, 1))
    pitched = [voice for voice in score.voices.values() if not voice.percussion]
    bars = [[_notes(measure) for measure in voice.measures] for voice in pitched]
    after_notes = [(before, bar) for row in bars for before, bar in pairwise(row) if before]
    voices = sounds_of(score)
    chords, parallels, crossings = none, none, none
    counts = count_voices(voices)
    if len(voices) > 1:
        chords = Share(counts.no_chords, counts.sonorities)
        parallels = Share(counts.parallels, counts.motions)
        crossings = Share(counts.crossings, counts.pairs)
    return PieceMeasures(
        invented,
        off_grid,
        Share(sum(not bar for row in bars for bar in row), sum(map(len, bars))),
        Share(sum(before == bar for before, bar in after_notes), len(after_notes)),
        _last_on_tonic(score, voices),
        chords,
        parallels,
        crossings,
        Share(sum(counts.ranges), len(counts.ranges)),
        Share(0, 1),
    )


def pooled(measures: Sequence[PieceMeasures]) -> PieceMeasures:
    """Return the measures of several pieces together: sums of counts and totals."""
    sums: dict[str, Share | None] = {}
    for item in fields(PieceMeasures):
        shares = [getattr(each, item.name) for each in measures]
        known = [share for share in shares if share is not None]
        total = Share(sum(share.count for share in known), sum(share.of for share in known))
        sums[item.name] = total if known else None
    return PieceMeasures(**sums)  # pyright: ignore[reportArgumentType]


def _outside(words: Iterable[tuple[str, str]], allowed: dict[str, tuple[str, ...] | None]) -> Share | None:
    """Return how many words of these kinds are not among the allowed ones; None where any word of a kind is."""
    sets = {kind: set(known) for kind, known in allowed.items() if known is not None}
    if len(sets) < len(allowed):
        return None
    of_kinds = [(kind, word) for kind, word in words if kind in sets]
    return Share(sum(word not in sets[kind] for kind, word in of_kinds), len(of_kinds))


def _notes(measure: Measure) -> tuple[Any, ...]:
    """Return onset, duration and pitches of the notes of a bar; empty for silence."""
    return tuple(
        (event.onset, event.duration, tuple(head.pitch.midi for head in event.heads))
        for layer in measure.layers
        for event in layer.events
        if event.heads
    )


def _last_on_tonic(score: Score, voices: Sequence[Sequence[Sound]]) -> Share:
    """Compare the lowest note that sounds at the end with the tonic of the last key."""
    lasts = [sounds[-1] for sounds in voices if sounds]
    if not lasts:
        return Share(0, 0)
    voice = next(voice for voice in score.voices.values() if not voice.percussion)
    key = voice.measures[-1].key
    if not key.tonic:
        return Share(0, 0)
    end = max(sound.end for sound in lasts)
    lowest = min(sound.pitches[0] for sound in lasts if sound.end == end)
    tonic = _TONICS[key.tonic[0].upper()] + key.tonic.count("#") - key.tonic.count("b")
    return Share(int((lowest - tonic - voice.transpose) % 12 == 0), 1)
