"""Repair of a whole piece: its lines one by one, then what concerns several bars, such as repeats and lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial

from notagen.abc.duration import Meter, parse_meter, parse_unit_length
from notagen.abc.lexer import kind_of
from notagen.abc.printer import print_elements
from notagen.notation.bars import is_field, split_segment, voice_segments
from notagen.notation.countdown import has_countdown, with_countdown, without_countdown
from notagen.notation.dialect import without_foreign_notation
from notagen.notation.layout import by_number, is_interleaved, one_bar_per_line
from notagen.notation.lines import FieldChange, InterleavedReader, is_music, keyless_voices
from notagen.notation.repair.fitting import can_be_written, fit, silence
from notagen.notation.repair.header import repaired_header
from notagen.notation.repair.voices import EditableVoice, silent_voice, written_voice
from notagen.notation.repeats import repeats_sign, sign_of, unbalanced_repeats
from notagen.notation.rests import rest_letters
from notagen.notation.tunebook import interleaved_tune
from notagen.notation.validation import allows_other_length, common_length, validate
from pentatonic.errors import FormatError

#: Most bars of all voices together; a symphony has some tens of thousands.
MAX_BARS = 200_000


@dataclass(frozen=True)
class Repair:
    """A piece after its repair.

    Args:
        text: A valid piece in interleaved layout, every voice on every line. It has countdown tags if the piece had
            any.
        changes: Descriptions of the changes, in the order in which they were made; empty for a valid piece. Not
            listed are restored rests of silent voices, new counts in countdown tags, comment lines between bars, which
            are dropped, and blanks around barlines.
    """

    text: str
    changes: tuple[str, ...]


@dataclass
class _RepairedLine:
    """One bar of all voices.

    Attributes:
        line: Number of the line in the text.
        voices: All declared voices, in the order of the header.
        left: Barline before the bars.
        right: Barline after the bars.
        length: The length that the bars must have.
        meter: Meter in force; None for free meter.
        expected: Length of a full bar in that meter.
    """

    line: int
    voices: list[EditableVoice]
    left: str
    right: str
    length: Fraction
    meter: Meter | None
    expected: Fraction | None

    def text(self) -> str:
        """Return the line without its countdown tag."""
        texts = (
            print_elements(voice.bar.prefix) + self.left + print_elements(voice.bar.elements) + self.right
            for voice in self.voices
        )
        return "".join(
            f"[V:{voice.name}]{text.lstrip()}" for voice, text in zip(self.voices, texts, strict=True)
        )


def repair(text: str) -> Repair:
    """Make a piece valid.

    An unfinished last line is dropped, and so are voices that are not declared. Bars that cannot be parsed become
    rests. A rest of several bars, and several bars on a line, become one line per bar. A bar whose length differs from
    the other voices, or from the meter where it must fill it, is cut or filled with rests. Barlines become those of
    most voices, repeat signs without a partner become plain barlines, and ``|]`` ends the piece. Repeats are played
    twice, and quarter tones go to the natural. Missing lines of the header are added.

    Args:
        text: A piece in interleaved layout, such as a model writes, or in standard layout; in the latter the lines that
            changes name are those after :func:`notagen.notation.tunebook.interleaved_tune`.

    Returns:
        The piece and what was changed. Repairing it again changes nothing.

    Raises:
        FormatError: There is no music, or the voices have more than ``MAX_BARS`` bars together; or a tune in standard
            layout has no ``K:`` line, or voices with different numbers of bars.
    """
    text = one_bar_per_line(text) if is_interleaved(text) else interleaved_tune(text)
    lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    start = next((i for i, (_, line) in enumerate(lines) if is_music(line)), len(lines))
    piece = _PieceRepair()
    music = piece.music_lines(lines[start:], complete=text.endswith("\n"))
    sounding = sorted({name for _, line in music for name, _ in voice_segments(line)}, key=by_number)
    piece.read_header(repaired_header(lines[:start], sounding, piece.report))
    if len(piece.voices) * len(music) > MAX_BARS:
        raise FormatError(f"{len(piece.voices)} voices with {len(music)} bars are more than {MAX_BARS} bars")
    for number, line in music:
        spelled, foreign = without_foreign_notation(line)
        for kind in foreign:
            piece.report(f"left out what the dialect does not have: {kind}", number)
        piece.add(number, spelled)
    if not piece.rows:
        raise FormatError("there is no music: no complete line has [V:n] with a declared voice")
    piece.finish()
    repaired = piece.text(tagged=any(has_countdown(line) for _, line in music))
    report = validate(repaired)
    if not report.valid:
        issue = next(issue for issue in report.issues if not issue.warning)
        raise FormatError(f"the piece cannot be repaired: {issue.message}", line=issue.line)
    return Repair(repaired, tuple(piece.changes))


@dataclass
class _PieceRepair:
    """The repair of a piece: its lines so far, and the meter and note length after them."""

    changes: list[str] = field(default_factory=list)
    rows: list[_RepairedLine] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    voices: dict[str, str] = field(default_factory=dict)  # name -> letter of its rests
    keyless: set[str] = field(default_factory=set)
    reader: InterleavedReader = field(default_factory=InterleavedReader)

    def report(self, change: str, line: int = 0, bar: int = 0, voice: str = "") -> None:
        where = [
            f"{name} {value}" for name, value in (("line", line), ("bar", bar), ("voice", voice)) if value
        ]
        self.changes.append(f"{', '.join(where)}: {change}" if where else change)

    def music_lines(self, lines: Sequence[tuple[int, str]], *, complete: bool) -> list[tuple[int, str]]:
        """Return the lines with voices, without a last line that is unfinished."""
        music: list[tuple[int, str]] = []
        for number, line in lines:
            if is_music(line):
                music.append((number, line))
            elif not line.startswith("%"):
                self.report("dropped a line without any [V:n]", number)
        if music and music[-1] == lines[-1] and not complete:
            number, line = music[-1]
            if not split_segment(voice_segments(line)[-1][1]).right:
                self.report("dropped the unfinished last line", number)
                music.pop()
        return music

    def read_header(self, header: list[str]) -> None:
        self.header, self.voices = header, rest_letters(header)
        fields = {line[0]: line[2:] for line in reversed(header) if is_field(line)}
        self.keyless = keyless_voices(header)
        unit = parse_unit_length(fields["L"]) if "L" in fields else None
        self.reader = InterleavedReader(parse_meter(fields["M"]), unit)

    def add(self, line: int, text: str) -> None:
        """Read one line of music, and repair what does not depend on other lines."""
        bar = len(self.rows) + 1
        parts = self._voices(line, bar, text)
        written = [part for part in parts if part.written]
        if not written:
            self.report("dropped a line without any declared voice", line)
            return
        self._agree_on_changes(parts, line, bar)
        expected = self.reader.bar_length
        for part in parts:
            part.read(self.reader, partial(self.report, line=line, bar=bar, voice=part.name))
        left = _most_frequent(part.left for part in written)
        right = _most_frequent(part.right for part in written if kind_of(part.right) == "barline") or "|"
        for part in written:
            if (part.left, part.right) != (left, right):
                self.report(
                    f"barlines {part.left!r} and {part.right!r} became {left!r} and {right!r}",
                    line, bar, part.name,
                )  # fmt: skip
        length = self._length([part.length for part in written], expected)
        self.rows.append(_RepairedLine(line, parts, left, right, length, self.reader.meter, expected))
        self.reader.end_line()

    def _voices(self, line: int, bar: int, text: str) -> list[EditableVoice]:
        """Return all declared voices, in the order of the header."""
        parts: dict[str, EditableVoice] = {}
        content = without_countdown(text).lstrip()
        if not content.startswith("[V:"):
            self.report("dropped text before the first [V:n]", line, bar)
        for name, segment in voice_segments(content):
            report = partial(self.report, line=line, bar=bar, voice=name)
            if name not in self.voices:
                report("dropped a voice that is not declared")
            elif name in parts:
                report("dropped a voice that is on the line already")
            else:
                parts[name] = written_voice(name, segment, report)
        order = [name for name in self.voices if name in parts]
        if order != list(parts):
            self.report(f"order of voices changed to {' '.join(order)}", line, bar)
        return [parts.get(name) or silent_voice(name) for name in self.voices]

    def _agree_on_changes(self, parts: Sequence[EditableVoice], line: int, bar: int) -> None:
        """Give all voices the changes of key, note length and meter that some have, and put these in force."""
        in_force: list[FieldChange] = []
        reports = [partial(self.report, line=line, bar=bar, voice=part.name) for part in parts]
        found = [part.take_changes(report) for part, report in zip(parts, reports, strict=True)]
        for name in "MLK":
            of_parts = [[change for change in changes if change.name == name] for changes in found]
            agreed = next((changes for changes in of_parts if changes), [])
            for part, changes, report in zip(parts, of_parts, reports, strict=True):
                if [c.token for c in changes] == [c.token for c in agreed]:
                    continue
                if name == "K" and (changes or part.name in self.keyless):
                    continue  # instruments may be written in other keys
                part.set_changes(name, agreed)
                if part.written:
                    report(f"{name}: became that of the first voice with one")
            in_force += agreed
        self.reader.begin_line([in_force])

    def _length(self, lengths: Sequence[Fraction | None], expected: Fraction | None) -> Fraction:
        """Return the length of a bar: that of most voices, else of the meter, else of the bar before."""
        known = Counter(length for length in lengths if length is not None and _is_writable(length, expected))
        if (length := common_length(known, expected)) is not None:
            return length
        if expected is not None:
            return expected
        before = self.rows[-1].length if self.rows else Fraction(0)
        return before if before and can_be_written(before) else 1 / self.reader.unit

    def finish(self) -> None:
        """Repair what concerns several bars, then give all bars their lengths."""
        self._balance_repeats()
        last = self.rows[-1]
        sign = sign_of(last.right)
        if sign != "|]" and (not sign.startswith(":") or sign.endswith(":")):
            self.report(f"the last barline {last.right!r} became '|]'", last.line, len(self.rows))
            last.right = "|]"
        for index, row in enumerate(self.rows[1:-1], 1):
            before, after = self.rows[index - 1].right, self.rows[index + 1].left
            if row.expected is None or row.length == row.expected:
                continue
            if not allows_other_length(
                (before, row.left, row.right, after), shorter=row.length < row.expected
            ):
                self.report("the bar was made to fill the meter", row.line, index + 1)
                row.length = row.expected
        for index, row in enumerate(self.rows):
            for part in row.voices:
                self._fit(part, row, index + 1)

    def _balance_repeats(self) -> None:
        lines = [(row.left, row.right) for row in self.rows]
        for sign in list(unbalanced_repeats(lines)):
            row = self.rows[sign.bar]
            self.report(f"dropped a {':|' if sign.end else '|:'} without its partner", row.line, sign.bar + 1)
            if sign.left:
                row.left = _without_repeat(row.left, end=sign.end)
                continue
            row.right = _without_repeat(row.right, end=sign.end)
            after = sign.bar + 1
            if (
                after < len(lines)
                and ":" in lines[after][0]
                and repeats_sign(lines[sign.bar][1], lines[after][0])
            ):
                self.rows[after].left = _without_repeat(self.rows[after].left, end=sign.end)

    def _fit(self, part: EditableVoice, row: _RepairedLine, bar: int) -> None:
        if part.length == row.length:
            return
        letter = self.voices[part.name]
        if part.length is None:
            elements = silence(part.bar.elements, letter, row.length, row.expected)
        else:
            change = "cut" if part.length > row.length else "filled with rests"
            self.report(f"the bar was {change}", row.line, bar, part.name)
            elements = fit(part.bar, letter, row.length, meter=row.meter, bar_length=row.expected)
        part.bar = replace(part.bar, elements=elements)

    def text(self, *, tagged: bool) -> str:
        """Return the piece, with countdown tags if it is ``tagged``."""
        lines = [row.text() for row in self.rows]
        lines = [*self.header, *(with_countdown(lines) if tagged else lines)]
        return "".join(f"{line}\n" for line in lines)


def _most_frequent(barlines: Iterable[str]) -> str:
    counts = Counter(barlines)
    return max(counts, key=counts.__getitem__) if counts else ""


def _is_writable(length: Fraction, expected: Fraction | None) -> bool:
    return can_be_written(length) or length == expected


def _without_repeat(barline: str, *, end: bool) -> str:
    """Return a barline without its ``:`` before (``end``) or after."""
    sign = sign_of(barline)
    before = ":" if sign.startswith(":") and not end else ""
    after = ":" if sign.endswith(":") and end else ""
    return f"{before}|{after}{barline.removeprefix(sign)}"
