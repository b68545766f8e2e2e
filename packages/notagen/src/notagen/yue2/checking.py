"""Reads and judges text in the dialect. The first error is the one at which the dialect's own checker stops."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from notagen.yue2.song import (
    CHORD,
    KEYS,
    LENGTHS,
    MAX_GROUP_BARS,
    MAX_UNIT,
    NATURALS,
    VOICE_HEADERS,
    VOICES,
    DialectError,
    Note,
    Song,
    VoiceMusic,
    signature,
)

_MAX_DIGITS = 9
_HEADER_LINES, _LEAST_LINES = 8, 12
_NUMBER = rf"[1-9][0-9]{{0,{_MAX_DIGITS - 1}}}"
_METER = re.compile(rf"({_NUMBER})/({_NUMBER})")
_UNIT = re.compile(rf"L:1/({_NUMBER})")
_TEMPO = re.compile(rf"Q:1/4=({_NUMBER})")
_BAR_RESTS = re.compile(r"Z([234]?)")
TOKEN = re.compile(r"\"([^\"]*)\"|\[K:([^\]]+)\]|(\^\^|__|\^|_|=)?([A-Ga-gz])([,']*)([0-9]*)(-?)")
_ALTERATIONS = {"__": -2, "_": -1, "=": 0, "^": 1, "^^": 2}


def read_song(text: str) -> Song:
    """Read a text in the dialect.

    Raises:
        DialectError: The text is not in the dialect; the first error.
    """
    song, errors = check(text)
    if errors or song is None:
        raise errors[0]
    return song


def check(text: str) -> tuple[Song | None, list[DialectError]]:
    """Judge a text.

    Args:
        text: Any text.

    Returns:
        The song, None if there are errors; and the errors that can be found. After an error in the header or in the
        order of lines nothing more is read, after an error in a bar the next bar is.
    """
    reader = _read(text)
    if reader.errors:
        return None, reader.errors
    return Song(reader.bpm, reader.unit / 4, reader.music()), []


def read_music(text: str) -> dict[str, VoiceMusic]:
    """Return the music of both voices, also of a text with errors: what could be read up to each of them."""
    return _read(text).music()


def _read(text: str) -> _Reader:
    reader = _Reader(text.splitlines())
    try:
        reader.header()
        if not reader.errors:
            reader.body()
            if not reader.errors:
                reader.whole()
    except DialectError as error:
        reader.errors.append(error)
    return reader


def parse_meter(value: str) -> tuple[int, int]:
    """Read the value of ``M:``.

    Raises:
        DialectError: It is not ``n/d`` with d a power of two up to 1024.
    """
    match = _METER.fullmatch(value)
    if match is None:
        raise DialectError(
            "meter_syntax", f"meter {value[:40]!r} is not n/d with numbers without leading zeros"
        )
    if not _is_unit(int(match[2])):
        raise DialectError(
            "meter_denominator", f"meter {value[:40]!r}: the unit must be a power of two up to {MAX_UNIT}"
        )
    return int(match[1]), int(match[2])


def parse_key(value: str) -> str:
    """Read the value of ``K:``.

    Raises:
        DialectError: It is not one of :data:`notagen.yue2.song.KEYS`.
    """
    if value not in KEYS:
        raise DialectError("key_unsupported", f"key {value[:40]!r} is not one of {' '.join(KEYS)}")
    return value


def _is_unit(number: int) -> bool:
    return number.bit_count() == 1 and number <= MAX_UNIT


@dataclass
class _Tie:
    """An open tie: its pitch, and the letter and octave as written."""

    pitch: int
    place: tuple[str, int]


@dataclass
class _VoiceState:
    music: VoiceMusic = field(default_factory=VoiceMusic)
    meter: tuple[int, int] = (4, 4)
    key: str = "C"
    time: Fraction = Fraction(0)
    tie: _Tie | None = None
    line: int = 0


class _Reader:
    """Reads the lines of a text, and collects errors.

    Attributes:
        unit: Unit note length in quarters.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.errors: list[DialectError] = []
        self.bpm, self.unit = 1, Fraction(1)
        self.voices = {name: _VoiceState() for name in VOICES}

    def music(self) -> dict[str, VoiceMusic]:
        """Return what was read of the voices."""
        return {name: state.music for name, state in self.voices.items()}

    def header(self) -> None:
        lines = self.lines
        if len(lines) < _LEAST_LINES:
            raise DialectError("too_short", f"{len(lines)} lines; a header and one group are {_LEAST_LINES}")
        for place, wanted in enumerate(("X:1", "T:")):
            if lines[place] != wanted:
                self._fail("header_xt", f"the line is not {wanted!r}", place + 1)
                break
        meter, key = (4, 4), "C"
        if not lines[2].startswith("M:"):
            self._fail("header_meter_missing", "line 3 does not begin with M:", 3)
        else:
            meter = self._value(parse_meter, lines[2], 3) or meter
        unit = _UNIT.fullmatch(lines[3])
        if unit is None:
            self._fail("unit_syntax", "line 4 is not L:1/u, u without leading zeros", 4)
        elif not _is_unit(int(unit[1])):
            self._fail("unit_denominator", f"the unit of L: must be a power of two up to {MAX_UNIT}", 4)
        tempo = _TEMPO.fullmatch(lines[4])
        if tempo is None:
            self._fail("tempo", f"line 5 is not Q:1/4=b, b with at most {_MAX_DIGITS} digits", 5)
        for place, wanted in enumerate(VOICE_HEADERS, 5):
            if lines[place] != wanted:
                self._fail("header_voices", f"the line is not {wanted!r}", place + 1)
                break
        if not lines[7].startswith("K:"):
            self._fail("header_key_missing", "line 8 does not begin with K:", 8)
        else:
            key = self._value(parse_key, lines[7], 8) or key
        if unit and tempo:
            self.unit, self.bpm = Fraction(4, int(unit[1])), int(tempo[1])
        for state in self.voices.values():
            state.meter, state.key = meter, key
            state.music.keys.append((Fraction(0), key))

    def _value(self, parse, line: str, number: int):
        try:
            return parse(line[2:])
        except DialectError as error:
            self._fail(error.kind, error.reason, number)
            return None

    def _fail(self, kind: str, reason: str, line: int, **place) -> None:
        self.errors.append(DialectError(kind, reason, line=line, **place))

    def body(self) -> None:
        at, group = _HEADER_LINES, 0
        while at < len(self.lines):
            labelled = False
            while at < len(self.lines) and self.lines[at].startswith("% "):
                at, labelled = at + 1, True
            if at == len(self.lines):
                if labelled:
                    raise DialectError("dangling_label", "a label without a group after it", line=at)
                return
            group += 1
            counts = []
            for name in VOICES:
                at, count = self._voice_block(at, group, name)
                counts.append(count)
            if counts[0] != counts[1] and None not in counts:
                reason = (
                    f"{counts[0]} bars of Vocal, {counts[1]} of Ins; a group has as many bars in both voices"
                )
                self._fail("group_count_mismatch", reason, at, group=group)

    def _voice_block(self, at: int, group: int, name: str) -> tuple[int, int | None]:
        """Read a voice line, its fields and its music; return the index after it, and the number of bars."""
        lines, state, place = self.lines, self.voices[name], {"group": group, "voice": name}
        if at == len(lines) or lines[at] != f"V: {name}":
            raise DialectError("voice_line_expected", f"the line is not 'V: {name}'", line=at + 1, **place)
        at += 1
        seen: set[str] = set()
        while at < len(lines) and lines[at].startswith(("M:", "K:")):
            field_name = lines[at][0]
            if field_name in seen:
                raise DialectError(
                    "duplicate_field", f"a second {field_name}: in the voice", line=at + 1, **place
                )
            seen.add(field_name)
            try:
                if field_name == "M":
                    state.meter = parse_meter(lines[at][2:])
                else:
                    self._set_key(state, parse_key(lines[at][2:]))
            except DialectError as error:
                self._fail(error.kind, error.reason, at + 1, **place)
            at += 1
        if at == len(lines):
            raise DialectError(
                "music_line_missing", "the text ends before the music of the voice", line=at, **place
            )
        return at + 1, self._music(lines[at], at + 1, state, place)

    def _set_key(self, state: _VoiceState, key: str) -> None:
        state.key = key
        state.music.keys.append((state.time, key))

    def _music(self, line: str, number: int, state: _VoiceState, place: dict) -> int | None:
        state.line = number
        if not line.endswith("|"):
            self._fail("line_end", "a line of music ends with | and nothing after it", number, **place)
            return None
        column, bars = 1, []
        for piece in line[:-1].split("|"):
            content = piece.strip()
            start = column + len(piece) - len(piece.lstrip())
            column += len(piece) + 1
            if not content:
                self._fail("empty_bar", "an empty bar; a bar of rest is Z", number, **place)
                return None
            rests = _BAR_RESTS.fullmatch(content)
            bars += [("Z", start)] * int(rests[1] or 1) if rests else [(content, start)]
        if len(bars) > MAX_GROUP_BARS:
            self._fail(
                "bar_count",
                f"{len(bars)} bars on the line; allowed are 1 to {MAX_GROUP_BARS}",
                number,
                **place,
            )
            return None
        for content, start in bars:
            self._bar(content, number, start, state, place)
        return len(bars)

    def _bar(self, content: str, line: int, column: int, state: _VoiceState, place: dict) -> None:
        length = Fraction(4 * state.meter[0], state.meter[1])
        bar = len(state.music.bars) + 1
        state.music.bars.append((state.time, length, state.meter))
        end = state.time + length
        try:
            if content == "Z":
                if state.tie:
                    raise DialectError("tie_into_bar_rest", "a tie into a bar of rest", column=column)
            else:
                self._tokens(content, column, end, state)
        except DialectError as error:
            self._fail(error.kind, error.reason, line, column=error.column, **place, bar=bar)
            state.tie = None
        state.time = end

    def _tokens(self, content: str, column: int, end: Fraction, state: _VoiceState) -> None:
        accidentals: dict[str, int] = {}
        at = 0
        while at < len(content):
            if content[at].isspace():
                at += 1
                continue
            match = TOKEN.match(content, at)
            if match is None:
                reason = (
                    f"{content[at : at + 20]!r} is not a note, a rest, a chord symbol or a key in brackets"
                )
                raise DialectError("token", reason, column=column + at)
            try:
                self._token(match, end, state, accidentals)
            except DialectError as error:
                raise DialectError(error.kind, error.reason, column=column + at) from None
            at = match.end()
        if state.time != end:
            missing = end - state.time
            raise DialectError("bar_underfull", f"the bar lacks {missing} quarters", column=column)

    def _token(
        self, match: re.Match[str], end: Fraction, state: _VoiceState, accidentals: dict[str, int]
    ) -> None:
        chord, key, accidental, letter, marks, number, tie = match.groups()
        if state.time >= end:
            raise DialectError("event_after_bar_end", "the bar is full already; write this in the next bar")
        if chord is not None:
            if not CHORD.fullmatch(chord):
                raise DialectError("chord_symbol", f"chord symbol {chord[:40]!r} is not in the vocabulary")
            state.music.chords.append((state.time, chord))
            return
        if key is not None:
            self._set_key(state, parse_key(key))
            accidentals.clear()
            return
        if len(number) > _MAX_DIGITS or (length := int(number or 1)) not in LENGTHS:
            allowed = " ".join(map(str, reversed(LENGTHS)))
            raise DialectError("duration_value", f"length {number[:20]} is not one of {allowed}")
        duration = length * self.unit
        if state.time + duration > end:
            raise DialectError("bar_overflow", "the note or rest is longer than what is left of the bar")
        if "," in marks and "'" in marks:
            raise DialectError("octave_mixed", "octave marks mix , and '")
        if letter == "z":
            if accidental or marks or tie:
                raise DialectError("rest_marks", "a rest has no accidental, octave mark or tie")
            if state.tie:
                raise DialectError("tie_into_rest", "a tie into a rest")
        else:
            self._note(letter, accidental, marks, duration, bool(tie), state, accidentals)
        state.time += duration

    def _note(
        self,
        letter: str,
        accidental: str | None,
        marks: str,
        duration: Fraction,
        tie: bool,
        state: _VoiceState,
        accidentals: dict[str, int],
    ) -> None:
        step = letter.upper()
        octave = 5 + letter.islower() + marks.count("'") - marks.count(",")
        if state.tie and not accidental and state.tie.place == (step, octave):
            pitch = state.tie.pitch
        else:
            if accidental:
                accidentals[step] = _ALTERATIONS[accidental]
            alteration = accidentals.get(step, signature(state.key)[step])
            pitch = 12 * octave + NATURALS[step] + alteration
            if state.tie and pitch != state.tie.pitch:
                raise DialectError("tie_pitch", "the note after a tie has another pitch")
        notes = state.music.notes
        if state.tie:
            notes[-1] = Note(notes[-1].onset, notes[-1].duration + duration, pitch)
        elif not 0 <= pitch <= 127:
            raise DialectError("pitch_range", f"the note is MIDI {pitch}; allowed are 0 to 127")
        else:
            notes.append(Note(state.time, duration, pitch))
        state.tie = _Tie(pitch, (step, octave)) if tie else None

    def whole(self) -> None:
        """Check what concerns the whole text."""
        vocal, ins = (self.voices[name] for name in VOICES)
        for name, state in self.voices.items():
            if state.tie:
                self._fail("tie_unresolved", "a tie is open at the end", state.line, voice=name)
        if ins.music.chords:
            self._fail("chord_in_ins", "chord symbols stand in Vocal only", ins.line)
        if vocal.music.bars != ins.music.bars:
            self._fail("grid_mismatch", "the voices have bars of different meters", ins.line)
        if vocal.music.keys != ins.music.keys:
            self._fail("key_timeline_mismatch", "the voices change their keys differently", ins.line)
