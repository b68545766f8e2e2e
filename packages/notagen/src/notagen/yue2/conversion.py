"""Converts a piece to the dialect: exact sounding notes, and a list of everything that the dialect cannot hold."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction

from notagen.abc.duration import Key
from notagen.score import Measure, Score, Tempo, Voice, read_score
from notagen.sound.play_order import order_of
from notagen.yue2.checking import read_song
from notagen.yue2.grid import Grid
from notagen.yue2.song import CHORD, KEYS, MAX_UNIT, VOICES, Bar, DialectError, Note
from notagen.yue2.writing import write_song
from pentatonic.errors import FormatError, UsageError

MAX_BARS = 10_000
_SUNG = re.compile(r"voc|voice|sing|sang|sopran|alt|tenor|bariton|chant|canto|melody", re.IGNORECASE)
_MINOR_MODES = ("min", "aeo", "dor", "phr", "loc")
_DEFAULT_BPM = 120
_ROOT = re.compile(r"([A-G](?:bb|##|b|#)?)([^/]*)(?:/([A-G](?:bb|##|b|#)?))?")
# Other spellings of the qualities in the vocabulary.
_QUALITIES = {
    "maj": "", "M": "", "min": "m", "-": "m", "o": "dim", "°": "dim", "+": "aug", "M7": "maj7", "Maj7": "maj7",
    "ma7": "maj7", "min7": "m7", "-7": "m7", "o7": "dim7", "°7": "dim7", "m7(b5)": "m7b5", "min7b5": "m7b5",
    "-7b5": "m7b5", "ø": "m7b5", "ø7": "m7b5", "h7": "m7b5", "sus": "sus4", "7sus": "7sus4", "min6": "m6", "-6": "m6",
    "mmaj7": "m(maj7)", "mM7": "m(maj7)", "minmaj7": "m(maj7)", "m(M7)": "m(maj7)", "maj6": "6", "dom7": "7",
}  # fmt: skip


#: In place of a voice: none.
NO_VOICE = "none"


@dataclass(frozen=True)
class Choice:
    """What becomes of a piece. A voice is named as in ``V:``, or by the name of its instrument or part.

    Args:
        vocal: Voice of the melody of Vocal, or ``none``; None: the first voice whose name says that it is sung.
        ins: The same for Ins; None: the first other voice that sounds.
        chords: Voice with the chord symbols, or ``none``; None: those of Vocal and Ins, else of the first voice that
            has any.
        grid: Power of two, 4 to 1024: times go to the nearest 1/``grid`` of a whole note. None: times stay, and those
            that the dialect cannot write are refused.

    Raises:
        UsageError: The grid is out of range.
    """

    vocal: str | None = None
    ins: str | None = None
    chords: str | None = None
    grid: int | None = None

    def __post_init__(self) -> None:
        if self.grid is not None and (self.grid.bit_count() != 1 or not 4 <= self.grid <= MAX_UNIT):
            raise UsageError(f"grid is {self.grid}; allowed are powers of two, 4 to {MAX_UNIT}")


@dataclass(frozen=True)
class Conversion:
    """A piece in the dialect.

    Args:
        text: Text that the checker accepts.
        losses: What the dialect cannot hold, or holds in another form -> how often it occurs.
    """

    text: str
    losses: dict[str, int]


_AS_IT_COMES = Choice()


def convert_to_yue2(text: str, choice: Choice = _AS_IT_COMES) -> Conversion:
    """Convert a piece to the dialect, with its repeats played out.

    Of a chord the highest note is taken, of an overlay the first layer. A short first bar is filled with rests in
    front, a short last one behind; other bars that differ from their meter get a meter of their own.

    Args:
        text: One tune in ABC.
        choice: The voices that are taken, and the grid of the times.

    Raises:
        FormatError: It is not a tune, lacks a voice of ``choice``, or has times that the dialect cannot write, such as
            triplets, and there is no grid.
        InputError: It has more than ``MAX_BARS`` bars with its repeats.
    """
    score = read_score(text)
    losses: Counter[str] = Counter()
    chosen = _voices(score, choice, losses)
    order = order_of(score, limit=MAX_BARS)
    if len(order) > score.measure_count:
        losses["repeats and jumps, written out"] += 1
    if re.search(r"^[wW]:", text, re.MULTILINE):
        losses["lines of lyrics"] += len(re.findall(r"^[wW]:", text, re.MULTILINE))
    first = next(iter(chosen.values()), next(iter(score.voices.values())))
    bars, starts = _bars(score, order, first, losses)
    notes = {name: _notes(voice, order, starts, losses) for name, voice in chosen.items()}
    chords = _chords(_with_chords(score, choice, chosen, losses), order, starts, losses)
    if choice.grid is not None:
        grid = Grid(choice.grid, bars)
        notes = {name: grid.notes(music, losses) for name, music in notes.items()}
        chords = grid.chords(chords, losses)
    try:
        written = write_song(_bpm(score, losses), bars, notes, chords)
    except DialectError as error:
        if error.kind != "grid":
            raise
        advice = "a grid (--grid 16) moves times to the nearest sixteenth"
        raise DialectError("grid", f"{error.reason}; {advice}") from None
    read_song(written)
    return Conversion(written, {what: count for what, count in losses.items() if count})


def _voices(score: Score, choice: Choice, losses: Counter[str]) -> dict[str, Voice]:
    """Return the voices that become Vocal and Ins, or one of them."""
    pitched = [voice for voice in score.voices.values() if not voice.percussion]
    names = _names(score)
    wanted = (choice.vocal, choice.ins)
    found = [None if name is None else _named(score, name) for name in wanted]
    if found[0] is not None and found[0] is found[1]:
        raise FormatError(f"Vocal and Ins are both the voice {found[0].name}; they must differ")
    if choice.vocal is None:
        sung = (voice for voice in pitched if _SUNG.search(names[voice.name]) and voice is not found[1])
        found[0] = next(sung, None)
    if choice.ins is None:
        found[1] = next((voice for voice in pitched if voice is not found[0] and _sounds(voice)), None)
    chosen = {name: voice for name, voice in zip(VOICES, found, strict=True) if voice is not None}
    if not chosen and wanted == (None, None):
        raise FormatError("the piece has no voice with pitches")
    losses.update(
        "voices that are left out" for v in score.voices.values() if v not in chosen.values() and _sounds(v)
    )
    return chosen


def _names(score: Score) -> dict[str, str]:
    """Voice -> name of its instrument, else of its part; may be empty."""
    of_parts = {name: score.voices[part.voices[0]].full_name for part in score.parts for name in part.voices}
    return {name: voice.full_name or of_parts[name] for name, voice in score.voices.items()}


def _named(score: Score, name: str) -> Voice | None:
    """Return the voice of a name, of several of one instrument the first; None for ``none``.

    Raises:
        FormatError: There is none, or it is percussion.
    """
    names = _names(score)
    wanted = name.strip().casefold()
    fitting = [voice for voice in score.voices if voice.casefold() == wanted]
    fitting += [voice for voice, said in names.items() if said.casefold() == wanted]
    if not fitting:
        if wanted == NO_VOICE:
            return None
        there = ", ".join(f"{voice} ({names[voice][:40]})" if names[voice] else voice for voice in names)
        raise FormatError(f"the piece has no voice {name[:40]!r}; allowed are {there[:400]}, and {NO_VOICE}")
    voice = score.voices[fitting[0]]
    if voice.percussion:
        raise FormatError(f"the voice {name[:40]!r} is percussion, which has no pitches")
    return voice


def _with_chords(score: Score, choice: Choice, chosen: dict[str, Voice], losses: Counter[str]) -> list[Voice]:
    """Return the voices whose chord symbols are taken; those of others are counted."""
    voices = list(chosen.values())
    if choice.chords is not None:
        named = _named(score, choice.chords)
        voices = [] if named is None else [named]
    elif not any(map(_symbols, voices)):
        voices = [voice for voice in score.voices.values() if _symbols(voice)][:1]
    for voice in score.voices.values():
        if voice not in voices and (count := _symbols(voice)):
            losses["chord symbols of other voices"] += count
    return voices


def _symbols(voice: Voice) -> int:
    layers = (layer for measure in voice.measures for layer in measure.layers)
    return sum(len(event.marks.chord_symbols) for layer in layers for event in layer.events)


def _sounds(voice: Voice) -> bool:
    return any(
        event.heads for measure in voice.measures for layer in measure.layers for event in layer.events
    )


def _bpm(score: Score, losses: Counter[str]) -> int:
    rate = score.tempo.whole_note_s if score.tempo else None
    changes = [
        change.value
        for voice in score.voices.values()
        for measure in voice.measures
        for change in measure.changes
        if isinstance(change.value, Tempo) and change.value.whole_note_s
    ]
    if rate is None and changes:
        rate = changes[0].whole_note_s
    losses["changes of tempo"] += len({change.whole_note_s for change in changes} - {rate})
    if rate is None:
        losses[f"no tempo, written as {_DEFAULT_BPM} quarters a minute"] += 1
        rate = 240 / _DEFAULT_BPM
    bpm = max(round(240 / rate), 1)
    if abs(bpm - 240 / rate) > 1e-6:
        losses["tempo rounded to whole quarters a minute"] += 1
    for name in [name for name, count in losses.items() if not count]:
        del losses[name]
    return bpm


def _bars(
    score: Score, order: list[int], voice: Voice, losses: Counter[str]
) -> tuple[list[Bar], list[Fraction]]:
    """Return the bars, and for each played measure its start in quarters."""
    bars: list[Bar] = []
    starts: list[Fraction] = []
    time, label = Fraction(0), ""
    for place, index in enumerate(order):
        measure = voice.measures[index]
        length = max(v.measures[index].duration for v in score.voices.values()) * 4
        labels = [
            c.value
            for v in score.voices.values()
            for c in v.measures[index].changes
            if isinstance(c.value, str)
        ]
        label = " ".join(labels[0].split()) if labels else label
        bar = Bar(_meter(measure, length), _key(measure.key, voice.transpose, losses), label)
        nominal = measure.nominal_duration
        full = None if nominal is None else replace(bar, meter=_meter(measure, nominal * 4))
        if full and length < full.length and place in (0, len(order) - 1):
            losses["a short first or last bar, filled with rests"] += 1
            starts.append(time + (full.length - length if place == 0 else 0))
            bar = full
        else:
            starts.append(time)
            losses["bars of another length than their meter, with a meter of their own"] += full not in (
                None,
                bar,
            )
        losses["changes of key inside a bar, left out"] += sum(
            isinstance(c.value, Key) for c in measure.changes
        )
        bars.append(bar)
        time += bar.length
    return bars, starts


def _meter(measure: Measure, length: Fraction) -> tuple[int, int]:
    """Return the meter of a bar of this length in quarters: that of the measure where it fits."""
    meter = measure.time.meter
    if (
        meter is not None
        and meter.length * 4 == length
        and meter.unit.bit_count() == 1
        and meter.unit <= MAX_UNIT
    ):
        return meter.beats, meter.unit
    unit = max((length / 4).denominator, 4)
    if unit.bit_count() > 1 or unit > MAX_UNIT:
        raise FormatError(f"a bar of {length} quarters has no meter with a power of two", line=measure.line)
    return int(length / 4 * unit), unit


def _key(key: Key, transpose: int, losses: Counter[str]) -> str:
    """Return the key of the vocabulary with the signature of a key, at sounding pitch."""
    minor = key.mode in _MINOR_MODES
    if key.mode not in ("", "maj", "ion", "min", "aeo"):
        losses[f"mode {key.mode}, written as the {'minor' if minor else 'major'} key of its signature"] += 1
    if key.accidentals:
        losses["accidentals of the key, written at the notes"] += 1
    fifths = key.fifths + 7 * transpose
    fifths = fifths if -7 <= fifths <= 7 else (fifths + 5) % 12 - 5
    return next(name for name, count in KEYS.items() if count == fifths and name.endswith("m") == minor)


def _notes(voice: Voice, order: list[int], starts: list[Fraction], losses: Counter[str]) -> list[Note]:
    notes: list[Note] = []
    tied = False
    for start, index in zip(starts, order, strict=True):
        measure = voice.measures[index]
        losses["further layers of a voice"] += len(measure.layers) - 1
        for event in measure.layers[0].events:
            marks = event.marks
            losses["grace notes"] += len(marks.grace)
            losses["decorations and dynamics"] += len(marks.decorations)
            losses["texts"] += len(marks.annotations)
            losses["slurs"] += sum(slur.starts for slur in event.slurs)
            losses["lower notes of chords"] += max(len(event.heads) - 1, 0)
            if not event.heads:
                tied = False
                continue
            head = max(event.heads, key=lambda head: head.pitch.midi)
            pitch, onset = head.pitch.midi + voice.transpose, start + event.onset * 4
            if not 0 <= pitch <= 127:
                raise FormatError(f"a note of MIDI {pitch}; allowed are 0 to 127", line=measure.line)
            before = notes[-1] if notes else None
            if tied and head.tie_stop and before and (before.end, before.pitch) == (onset, pitch):
                notes[-1] = replace(before, duration=before.duration + event.duration * 4)
            else:
                alter = head.pitch.alter
                losses["quarter tones"] += alter != int(alter)
                keeps = voice.transpose % 12 == 0 and abs(alter) <= 2
                spelled = (head.pitch.step, int(alter)) if keeps else None
                notes.append(Note(onset, event.duration * 4, pitch, spelled))
            tied = head.tie_start
    return notes


def _chords(
    voices: list[Voice], order: list[int], starts: list[Fraction], losses: Counter[str]
) -> list[tuple[Fraction, str]]:
    """Return the chord symbols of the voices in the vocabulary; of several at one time the first."""
    chords: dict[Fraction, str] = {}
    for voice in voices:
        for start, index in zip(starts, order, strict=True):
            for layer in voice.measures[index].layers:
                for event in layer.events:
                    for symbol in event.marks.chord_symbols:
                        known = chord_symbol(symbol)
                        if known is None:
                            losses[f"chord symbol {symbol[:20]}, not in the vocabulary"] += 1
                        elif voice.transpose % 12:
                            losses["chord symbols of a transposing instrument"] += 1
                        else:
                            at = start + event.onset * 4
                            losses["chord symbols at the time of another one"] += (
                                chords.get(at, known) != known
                            )
                            chords.setdefault(at, known)
    return sorted(chords.items())


def chord_symbol(symbol: str) -> str | None:
    """Return a chord symbol in the spelling of the vocabulary; None where that has none of the same notes."""
    match = _ROOT.fullmatch("".join(symbol.split()))
    if match is None:
        return None
    root, quality, bass = match.groups()
    written = root + _QUALITIES.get(quality, quality) + (f"/{bass}" if bass else "")
    return written if CHORD.fullmatch(written) else None
