"""A lead sheet in ABC: bars, meter, tempo, key and chord symbols over invisible rests.

Every bar has the length of its meter. Only a first bar that begins after its first beat, a pickup, is shorter. A bar of
fewer beats within the piece, where the beats slip or pause, has a meter of its own. Chords begin on beats; each line of
bars has a comment with its first bar and second.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from omar_rq.annotations.events import Beats, Meter, Score, Span
from omar_rq.annotations.pitch_names import split_chord, split_key
from pentatonic.errors import InputError

_BARS_OF_A_LINE = 4
_TEMPO_CHANGE = 0.05  # smallest change of the tempo that is written, in shares of it
_PAUSE = 1.75  # beats
_LONGEST_TITLE = 200
_SHARPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLATS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_FLAT_MAJORS = {5, 10, 3, 8, 1}
_SUFFIXES = {"maj": "", "min": "m", "min7": "m7", "hdim7": "m7b5", "dim7": "dim7"}


@dataclass
class _Bar:
    """Beats of one bar, as indices; ``length`` beats are written."""

    beats: list[int] = field(default_factory=list)
    length: int = 0


def lead_sheet(
    beats: Beats,
    chords: Sequence[Span],
    *,
    title: str,
    key: Sequence[Score] = (),
    keys: Sequence[Span] = (),
    notes: Sequence[str] = (),
) -> str:
    """Write a lead sheet.

    Args:
        beats: Beats with their places in bars.
        chords: Chords, one after the other, in the syntax of mir_eval.
        title: For the head.
        key: Keys of the whole piece, the likeliest first; empty: not known, which is written as C with a comment.
        keys: Keys over time, in place of ``key``: a change is written at the next bar.
        notes: Written as comments in the head.

    Returns:
        ABC text.

    Raises:
        InputError: There are fewer than two beats, so that there is no bar.
    """
    if beats.meter is None or len(beats.beats) < 2:
        raise InputError(
            f"a lead sheet needs beats, and {len(beats.beats)} were found; allowed: music with a beat"
        )
    bars = _bars(beats)
    writer = _Writer(beats, chords, keys, key[0].label if key else None)
    return writer.text(bars, title, notes)


def key_field(label: str | None) -> str:
    """Spell a key for the field ``K:``, with as few signs as possible: ``Bbm`` for ``A# minor``; C for none."""
    parts = split_key(label or "")
    if parts is None:
        return "C"
    tonic, mode = parts
    return f"{_names(label)[tonic]}{'m' if mode == 'minor' else ''}"


def chord_symbol(label: str, key: str | None = None) -> str:
    """Spell a chord as a symbol: ``Bbm`` for ``A#:min`` in a key with flats; ``N.C.`` for none."""
    parts = split_chord(label)
    if parts is None:
        return "N.C."
    root, quality = parts
    return _names(key)[root] + _SUFFIXES.get(quality, quality)


def _names(key: str | None) -> tuple[str, ...]:
    parts = split_key(key or "")
    if parts is None:
        return _SHARPS
    relative_major = (parts[0] + 3) % 12 if parts[1] == "minor" else parts[0]
    return _FLATS if relative_major in _FLAT_MAJORS else _SHARPS


def _bars(beats: Beats) -> list[_Bar]:
    assert beats.meter is not None
    bars: list[_Bar] = []
    before = 0
    for index, beat in enumerate(beats.beats):
        if not bars or beat.position != before + 1:
            bars.append(_Bar())
        bars[-1].beats.append(index)
        before = beat.position
    for bar in bars:
        bar.length = len(bar.beats)
    last = bars[-1]
    if len(bars) > 1 or beats.beats[0].position == 1:
        last.length = beats.meter.beats  # rests fill the last bar
    return bars


class _Writer:
    """Writes bars, and remembers what is in force: meter, tempo, key and chord."""

    def __init__(self, beats: Beats, chords: Sequence[Span], keys: Sequence[Span], key: str | None) -> None:
        assert beats.meter is not None
        self._beats, self._meter = beats, beats.meter
        self._chords, self._keys = chords, keys
        self._key = self._key_at(beats.beats[0].time) or key
        self._in_force = self._meter
        self._tempo = self._beats.bpm or 120.0
        self._chord: str | None = None

    def text(self, bars: Sequence[_Bar], title: str, notes: Sequence[str]) -> str:
        self._tempo = self._tempo_of(bars[0])
        head = ["X:1", f"T:{_plain(title) or 'untitled'}", *(f"% {_plain(note)}" for note in notes)]
        if self._key is None:
            head.append("% the key is not known")
        head += [f"L:1/{self._meter.unit}", f"Q:1/{self._meter.unit}={self._tempo:.0f}", f"M:{self._meter}"]
        lines = [*head, f"K:{key_field(self._key)}"]
        for first in range(0, len(bars), _BARS_OF_A_LINE):
            part = bars[first : first + _BARS_OF_A_LINE]
            lines.append(f"% bar {first + 1}, {self._beats.beats[part[0].beats[0]].time:.2f} s")
            words = [
                self._bar(bar, pickup=first + i == 0 and self._beats.beats[0].position > 1)
                for i, bar in enumerate(part)
            ]
            end = "|]" if part[-1] is bars[-1] else "|"
            lines.append(f"{' | '.join(words)} {end}")
        return "\n".join(lines) + "\n"

    def _bar(self, bar: _Bar, *, pickup: bool) -> str:
        text = "" if pickup else self._meter_change(Meter(bar.length, self._meter.unit))
        text += self._tempo_change(bar) + self._key_change(bar.beats[0])
        words: list[str] = []
        length = 0
        for index in bar.beats:
            marks = self._pause_before(index) + self._chord_change(index)
            if marks and length:
                words.append(_rest(length))
                length = 0
            if marks:
                words.append(marks)
            length += 1
        words.append(_rest(length + bar.length - len(bar.beats)))
        return text + "".join(f"{word} " if word.startswith("x") else word for word in words).strip()

    def _meter_change(self, meter: Meter) -> str:
        changed, self._in_force = meter != self._in_force, meter
        return f"[M:{meter}]" if changed else ""

    def _tempo_change(self, bar: _Bar) -> str:
        tempo = self._tempo_of(bar)
        if abs(tempo / self._tempo - 1) < _TEMPO_CHANGE:
            return ""
        self._tempo = tempo
        return f"[Q:1/{self._meter.unit}={tempo:.0f}]"

    def _tempo_of(self, bar: _Bar) -> float:
        """Mean over its beats."""
        known = [tempo for index in bar.beats if (tempo := self._beats.beats[index].bpm)]
        return sum(known) / len(known) if known else self._tempo

    def _key_change(self, index: int) -> str:
        key = self._key_at(self._beats.beats[index].time) or self._key
        if key == self._key:
            return ""
        self._key = key
        return f"[K:{key_field(key)}]"

    def _key_at(self, time: float) -> str | None:
        found = next((span.label for span in self._keys if span.start <= time < span.end), None)
        return found or (self._keys[0].label if self._keys else None)

    def _pause_before(self, index: int) -> str:
        if not index:
            return ""
        before, beat = self._beats.beats[index - 1], self._beats.beats[index]
        gap = beat.time - before.time
        return f'"^pause of {gap:.1f} s"' if before.bpm and gap > _PAUSE * 60 / before.bpm else ""

    def _chord_change(self, index: int) -> str:
        beats = self._beats.beats
        start = beats[index].time
        end = beats[index + 1].time if index + 1 < len(beats) else start + 60 / (beats[index].bpm or 120)
        shares = {
            chord.label: min(chord.end, end) - max(chord.start, start)
            for chord in self._chords
            if chord.start < end and chord.end > start
        }
        if not shares:
            return ""
        chord = max(shares, key=lambda label: shares[label])
        if chord == self._chord:
            return ""
        self._chord = chord
        return f'"{chord_symbol(chord, self._key)}"'


def _rest(beats: int) -> str:
    return "x" if beats == 1 else f"x{beats}"


def _plain(text: str) -> str:
    """Text for a line of ABC: no line ends, control characters, comments or escapes."""
    kept = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text)
    return " ".join(kept.replace("%", " ").replace("\\", " ").split())[:_LONGEST_TITLE]
