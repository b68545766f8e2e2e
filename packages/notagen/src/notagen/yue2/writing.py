"""Writes text in the dialect from bars, notes and chord symbols, in the style of the model's own training text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, groupby, pairwise

from notagen.yue2.song import (
    KEYS,
    LENGTHS,
    MAX_GROUP_BARS,
    MAX_UNIT,
    NATURALS,
    VOICE_HEADERS,
    VOICES,
    Bar,
    DialectError,
    Note,
    signature,
)

_SIGNS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
_LETTERS = "ABCDEFG"

Chord = tuple[Fraction, str]


def write_song(
    bpm: int,
    bars: Sequence[Bar],
    notes: Mapping[str, Sequence[Note]],
    chords: Sequence[Chord] = (),
    *,
    least_unit: int = 16,
) -> str:
    """Write a song.

    Args:
        bpm: Quarter notes a minute, 1 or more.
        bars: The bars of both voices, at least one.
        notes: ``Vocal`` and ``Ins`` -> notes in the order of time, without overlaps, inside the bars.
        chords: (onset in quarters, symbol of the vocabulary) in the order of time.
        least_unit: Smallest denominator of the unit note length; a larger one is taken where the times need it.

    Returns:
        Text that the checker accepts, with these notes and chords. The symbol that holds is written again at every bar
        start. A group of lines has up to four bars of equal meter, key and label.

    Raises:
        DialectError: The times need a finer unit than 1/1024, such as triplets (``grid``).
    """
    starts = list(accumulate((bar.length for bar in bars), initial=Fraction(0)))
    times = [time for music in notes.values() for note in music for time in (note.onset, note.duration)]
    unit = _unit([*times, *(onset for onset, _ in chords), *starts], least_unit)
    lines = {
        name: _Line(list(notes.get(name, ())), list(chords) if name == "Vocal" else [], unit)
        for name in VOICES
    }
    texts = [
        [lines[name].bar(bar, start) for name in VOICES] for bar, start in zip(bars, starts, strict=False)
    ]
    out = [
        "X:1",
        "T:",
        f"M:{_meter(bars[0])}",
        f"L:1/{unit}",
        f"Q:1/4={bpm}",
        *VOICE_HEADERS,
        f"K:{bars[0].key}",
    ]
    before = Bar(bars[0].meter, bars[0].key)
    for indices in _groups(bars):
        bar = bars[indices[0]]
        if bar.label != before.label and bar.label:
            out.append(f"% {bar.label}")
        fields = [f"M:{_meter(bar)}"] * (bar.meter != before.meter) + [f"K:{bar.key}"] * (
            bar.key != before.key
        )
        for place, name in enumerate(VOICES):
            out += [f"V: {name}", *fields, _with_bar_rests(texts[index][place] for index in indices)]
        before = bar
    return "".join(f"{line}\n" for line in out)


def spelling(pitch: int, key: str) -> tuple[str, int]:
    """Return letter and alteration of a pitch in a key.

    Of the spellings with at most one sign the best has, in this order, the alteration of the signature, a smaller
    alteration, no flat in keys with sharps or without signs and no sharp in keys with flats, the first letter.
    """
    signs = signature(key)
    avoided = 1 if KEYS[key] < 0 else -1
    found = [
        (signs[letter] != alteration, abs(alteration), alteration == avoided, letter, alteration)
        for letter in _LETTERS
        for alteration in (-1, 0, 1)
        if (NATURALS[letter] + alteration - pitch) % 12 == 0
    ]
    *_, letter, alteration = min(found)
    return letter, alteration


def split_length(length: int) -> list[int]:
    """Split a length in units into the allowed ones, the largest first."""
    parts: list[int] = []
    for allowed in LENGTHS:
        parts += [allowed] * (length // allowed)
        length %= allowed
    return parts


def _unit(times: Iterable[Fraction], least: int) -> int:
    unit = max([least, *((time / 4).denominator for time in times)])
    if unit > MAX_UNIT or unit.bit_count() > 1 or any(((t / 4) * unit).denominator > 1 for t in times):
        wrong = next((t for t in times if (t / 4 * MAX_UNIT).denominator != 1), None)
        raise DialectError(
            "grid",
            f"the time of {wrong} quarters is not on a grid of halves down to 1/{MAX_UNIT}, such as a triplet",
        )
    return unit


def _meter(bar: Bar) -> str:
    return f"{bar.meter[0]}/{bar.meter[1]}"


def _groups(bars: Sequence[Bar]) -> Iterator[list[int]]:
    for _, indices in groupby(range(len(bars)), key=lambda index: bars[index]):
        run = list(indices)
        for start in range(0, len(run), MAX_GROUP_BARS):
            yield run[start : start + MAX_GROUP_BARS]


def _with_bar_rests(texts: Iterable[str]) -> str:
    """Return a line of music, with neighbouring bars of rest in one."""
    out = ""
    for text, run in groupby(texts):
        count = len(list(run))
        rests = text == "Z"
        out += f"Z{count if count > 1 else ''}|" if rests else f"{text}|" * count
    return out


class _Line:
    """Writes the bars of one voice in order."""

    def __init__(self, notes: list[Note], chords: list[Chord], unit: int) -> None:
        self.notes, self.chords, self.unit = notes, chords, unit
        self.chord = ""  # the symbol that holds

    def bar(self, bar: Bar, start: Fraction) -> str:
        """Return the text of a bar; ``Z`` for one without notes and chord symbols."""
        end = start + bar.length
        symbols = {start: self.chord} if self.chord else {}
        while self.chords and self.chords[0][0] < end:
            onset, self.chord = self.chords.pop(0)
            symbols[onset] = self.chord
        inside = [note for note in self.notes if note.onset < end and note.end > start]
        self.notes = [note for note in self.notes if note.end > end or note.onset >= end]
        if not inside and not symbols:
            return "Z"
        cuts = {start, end, *symbols}
        cuts |= {time for note in inside for time in (note.onset, note.end) if start <= time <= end}
        times = sorted(cuts)
        out, held = "", dict(signature(bar.key))
        for time, following in pairwise(times):
            if time in symbols:
                out += f'"{symbols[time]}"'
            note = next((note for note in inside if note.onset <= time < note.end), None)
            lengths = split_length(int((following - time) / 4 * self.unit))
            for place, length in enumerate(lengths):
                last = place == len(lengths) - 1
                tie = note is not None and not (last and following == note.end)
                out += (
                    f"{_pitch(note, bar.key, held) if note else 'z'}{length if length > 1 else ''}{'-' * tie}"
                )
        return out


def _pitch(note: Note, key: str, held: dict[str, int]) -> str:
    """Return a pitch as written, with its accidental where ``held``, letter -> alteration, does not have it."""
    letter, alteration = note.spelling or spelling(note.pitch, key)
    octave = (note.pitch - alteration - NATURALS[letter]) // 12
    sign = "" if held[letter] == alteration else _SIGNS[alteration]
    held[letter] = alteration
    name = letter.lower() + "'" * (octave - 6) if octave > 5 else letter + "," * (5 - octave)
    return sign + name
