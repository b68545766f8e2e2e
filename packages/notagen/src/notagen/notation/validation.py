"""Validation of a piece in interleaved layout, bar by bar, with the place of each error.

The text may be the output of a model, with countdown tags and without silent voices. Each bar of each voice is parsed
separately: a bar that cannot be parsed is one issue, and the other bars are still checked. Each issue names the level
that it breaks: legal ABC, bars that add up, or the dialect of the models (:data:`LEVELS`).
:func:`notagen.files.check.check` judges text in any layout in the same terms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Literal

from notagen.abc.duration import durations
from notagen.abc.parser import MAX_TUNE_CHARACTERS, parse_tune
from notagen.notation.bars import declared_voice, is_field
from notagen.notation.countdown import COUNTDOWN, countdown_tag, read_countdown, without_countdown
from notagen.notation.dialect import without_foreign_notation
from notagen.notation.lines import FIELD_PARSERS, InterleavedReader, VoiceOnLine, is_music, keyless_voices
from notagen.notation.repeats import sign_of, unbalanced_repeats
from pentatonic.errors import FormatError

#: Kinds of issues that leave a piece valid.
WARNINGS = frozenset({"tag"})

Level = Literal["abc", "bars", "dialect"]

#: Levels of validity, each of which includes those before it -> what a piece is that reaches them.
LEVELS: dict[Level, str] = {
    "abc": "legal ABC",
    "bars": "legal ABC, bars add up",
    "dialect": "in the models' dialect",
}

_LEVEL_OF_KIND: dict[str, Level] = {
    "size": "abc",
    "unparsable": "abc",
    "no-music": "abc",
    "header-field": "abc",
    "stray-text": "abc",
    "duration": "bars",
    "meter": "bars",
}
_CLOSING = {")": "(", "]": "[", "}": "{"}
_SCORE_NAME = re.compile(r"[^\s()\[\]{}|*]+")
_SHOWN_DENOMINATOR = 10**6


@dataclass(frozen=True)
class Issue:
    """One broken rule.

    Args:
        line: Line of the text, from 1; None where something is missing.
        bar: Number of the bar, from 1; None in the header.
        voice: Name of the voice; None where the issue concerns the whole bar or piece.
        kind: ``size``; of the header ``score``, ``score-brackets``, ``score-voices``, ``header-field`` and
            ``voice-declaration``; of the music ``no-music``, ``stray-text``, ``tag``, ``undeclared-voice``,
            ``repeated-voice``, ``voice-order``, ``unparsable``, ``barline``, ``duration``, ``meter``,
            ``change``, ``repeat``, ``foreign`` and ``ending``. In text that the models do not write also ``layout`` and
            ``form``.
        message: Description of the error.
        level: The level that it breaks, of :data:`LEVELS`.
    """

    line: int | None
    bar: int | None
    voice: str | None
    kind: str
    message: str
    level: Level = "dialect"

    @property
    def warning(self) -> bool:
        """Whether a piece with this issue is still valid."""
        return self.kind in WARNINGS


@dataclass(frozen=True)
class Report:
    """Result of :func:`validate`.

    Args:
        issues: Issues in the order of the text.
        bars: Number of lines of music; a bar of all voices counts once.
        unparsable_bars: Number of bars in which a voice cannot be parsed or has no known duration.
        misaligned_bars: Number of bars in which the voices have different barlines or (known) durations.
    """

    issues: tuple[Issue, ...]
    bars: int
    unparsable_bars: int
    misaligned_bars: int

    @property
    def valid(self) -> bool:
        """Whether there are no issues except warnings: the piece is in the dialect of the models."""
        return self.reaches("dialect")

    @property
    def level(self) -> Level | None:
        """The highest level that the piece reaches; None where it is not ABC."""
        return next((level for level in reversed(LEVELS) if self.reaches(level)), None)

    def reaches(self, level: Level) -> bool:
        """Whether no issue except warnings breaks this level or one below it."""
        levels = list(LEVELS)
        return not self.errors(levels[: levels.index(level) + 1])

    def errors(self, levels: Collection[Level] = tuple(LEVELS)) -> list[Issue]:
        """Return the issues that break one of these levels, without warnings."""
        return [issue for issue in self.issues if not issue.warning and issue.level in levels]

    @property
    def unparsable_rate(self) -> float:
        """Share of the bars that are unparsable; 0 without bars."""
        return self.unparsable_bars / max(self.bars, 1)

    @property
    def misaligned_rate(self) -> float:
        """Share of the bars that are misaligned; 0 without bars."""
        return self.misaligned_bars / max(self.bars, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return {
            "valid": self.valid,
            "level": self.level,
            "bars": self.bars,
            "unparsable_bars": self.unparsable_bars,
            "misaligned_bars": self.misaligned_bars,
            "unparsable_rate": self.unparsable_rate,
            "misaligned_rate": self.misaligned_rate,
            "issues": [asdict(issue) | {"warning": issue.warning} for issue in self.issues],
        }


def validate(text: str) -> Report:
    """Check a piece in interleaved layout.

    The first and the last bar, and bars next to a repeat sign, may differ in length from the meter; bars next to a
    double bar may be shorter (pick-ups of sections). The first ``:|`` of a piece needs no ``|:`` before it, nor does
    one in an ending that a ``:|2`` starts. ``[K:] [L:] [M:]`` must be in all declared voices (in the first bar: in all
    voices on the line), except ``[K:]`` in voices declared with ``K:none``. Wrong counts in countdown tags are
    warnings.

    Args:
        text: Any text.

    Returns:
        The report; nothing is raised.
    """
    if len(text) > MAX_TUNE_CHARACTERS:
        reason = f"{len(text)} characters; a piece has at most {MAX_TUNE_CHARACTERS}"
        return Report((Issue(None, None, None, "size", reason, "abc"),), 0, 0, 0)
    lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    start = next((i for i, (_, line) in enumerate(lines) if is_music(line)), len(lines))
    check = _Check()
    check.header(lines[:start])
    for number, line in lines[start:]:
        if line.startswith("%"):
            continue
        if is_music(line):
            check.bar(number, line)
        else:
            reason = "a line of the music without any [V:n]"
            level = "dialect" if is_field(line) else "abc"
            check.issue("stray-text", reason, number, len(check.rows) or None, level=level)
    check.whole()
    issues = sorted(check.issues, key=lambda issue: issue.line or 0)
    unparsable = sum(row.unparsable for row in check.rows)
    return Report(tuple(issues), len(check.rows), unparsable, sum(row.misaligned for row in check.rows))


def line_issues(
    line: str, bar: int, reader: InterleavedReader, voices: Sequence[str], keyless: Collection[str]
) -> list[Issue]:
    """Check a line of music by itself: whether its voices can be read, are in order and agree, and its changes.

    Its length, its barlines and its countdown tag, which depend on other lines, are not judged.

    Args:
        line: A line with at least one ``[V:n]``.
        bar: Number of the bar, from 1.
        reader: Has read the lines before; reads this one.
        voices: The declared voices, in their order.
        keyless: Those declared with ``K:none``.

    Returns:
        The issues, without warnings.
    """
    check = _Check(reader=reader, before=bar - 1, keyless=set(keyless))
    check.voices = {name: place for place, name in enumerate(voices)}
    check.bar(1, line)
    return [issue for issue in check.issues if not issue.warning]


def allows_other_length(barlines: Iterable[str], *, shorter: bool) -> bool:
    """Whether a bar inside a piece may differ from its meter.

    Args:
        barlines: The barlines before the bar (at the end of the bar before, and at its own start) and after it (at its
            end, and at the start of the next bar).
        shorter: Whether the bar is shorter than the meter says.
    """
    signs = [sign_of(barline) for barline in barlines]
    pick_up = shorter and any(sign in ("||", "|]") for sign in signs)
    return pick_up or any(":" in sign for sign in signs)


def common_length(lengths: Mapping[Fraction, int], expected: Fraction | None) -> Fraction | None:
    """Return the duration that a bar of several voices has: the most frequent one.

    Args:
        lengths: Duration -> number of voices.
        expected: Duration by the meter. Of equally frequent durations this one is taken as the right one, else the one
            that comes first.

    Returns:
        One of the durations; None without any.
    """
    return max(lengths, key=lambda item: (lengths[item], item == expected)) if lengths else None


@dataclass(frozen=True)
class _CheckedLine:
    """Checked properties of one line of music.

    Attributes:
        line: Number of the line in the text.
        left: Barline before the bar of the first voice; empty for none.
        right: Barline after the bar, of the first voice with one; empty for none.
        length: Duration of most voices; None where none is known.
        expected: Duration by the meter; None in free meter.
        unparsable: Whether a voice cannot be read or has no known duration.
        misaligned: Whether the voices have different barlines or durations.
    """

    line: int
    left: str
    right: str
    length: Fraction | None
    expected: Fraction | None
    unparsable: bool
    misaligned: bool


@dataclass
class _Check:
    """Collects the issues of a piece, line by line.

    Attributes:
        voices: Name of each declared voice -> its position in the header.
        keyless: Voices declared with ``K:none``.
        reader: Meter and note length in force.
        countdown: Counts in the tag of the line before; None without a tag.
        tagged: Whether a line before had a countdown tag.
        before: Number of bars before the first row.
    """

    issues: list[Issue] = field(default_factory=list)
    rows: list[_CheckedLine] = field(default_factory=list)
    voices: dict[str, int] = field(default_factory=dict)
    keyless: set[str] = field(default_factory=set)
    reader: InterleavedReader = field(default_factory=InterleavedReader)
    countdown: tuple[int, int] | None = None
    tagged: bool = False
    before: int = 0

    def issue(
        self,
        kind: str,
        message: str,
        line: int | None,
        bar: int | None = None,
        voice: str | None = None,
        *,
        level: Level | None = None,
    ) -> None:
        level = level or _LEVEL_OF_KIND.get(kind, "dialect")
        self.issues.append(Issue(line, bar, voice, kind, message, level))

    def header(self, lines: Sequence[tuple[int, str]]) -> None:
        fields: dict[str, Any] = {}
        score: tuple[int, str] | None = None
        for number, line in lines:
            if line.startswith("%%score"):
                score = score or (number, line.removeprefix("%%score"))
            elif line.startswith("V:"):
                self._declare(declared_voice(line), number)
            elif is_field(line) and line[0] in FIELD_PARSERS:
                fields.setdefault(line[0], self._header_value(line[0], line[2:], number))
            elif not line.startswith("%") and not is_field(line):
                self.issue("stray-text", "a line of the header that is neither a field nor a comment", number)
        for name in sorted(FIELD_PARSERS.keys() - fields.keys()):
            # ABC has defaults for the note length and the meter, but a header ends with its key.
            level = "abc" if name == "K" else "dialect"
            self.issue("header-field", f"the header has no {name}:", None, level=level)
        self.keyless = keyless_voices(line for _, line in lines)
        self.reader = InterleavedReader(fields.get("M"), fields.get("L"))
        if score is not None:
            self._score(*score)
        elif len(self.voices) > 1:
            self.issue("score", "the header has no %%score, which several voices need", None)

    def _declare(self, voice: str | None, line: int) -> None:
        if voice is None:
            self.issue("voice-declaration", "V: needs a name of letters and digits", line)
        elif voice in self.voices:
            self.issue("voice-declaration", "the voice is declared twice", line, voice=voice)
        else:
            self.voices[voice] = len(self.voices)

    def _score(self, line: int, score: str) -> None:
        opened: list[str] = []
        for character in score:
            if character in _CLOSING.values():
                opened.append(character)
            elif character in _CLOSING and (not opened or opened.pop() != _CLOSING[character]):
                self.issue("score-brackets", f"{character!r} of %%score closes nothing", line)
                break
        else:
            if opened:
                self.issue("score-brackets", f"%%score does not close {' '.join(opened)}", line)
        names = Counter(_SCORE_NAME.findall(score))
        for problem, wrong in (
            ("without a V: line", [name for name in names if name not in self.voices]),
            ("twice", [name for name, count in names.items() if count > 1]),
        ):
            if wrong:
                self.issue("score-voices", f"%%score has voices {problem}: {' '.join(wrong)}", line)
        if missing := [name for name in self.voices if name not in names]:
            self.issue("score-voices", f"%%score lacks the voices {' '.join(missing)}", line)

    def _header_value(self, name: str, text: str, line: int) -> Any:
        """Return the value of a field; None, with an issue, where it cannot be read."""
        try:
            return FIELD_PARSERS[name](text)
        except FormatError as error:
            self.issue("header-field", f"{name}: {error.reason}", line)
            return None

    def bar(self, line: int, text: str) -> None:
        bar = self.before + len(self.rows) + 1
        self._countdown(line, text, bar)
        content = without_countdown(text).lstrip()
        if not content.startswith("[V:"):
            self.issue("stray-text", "text before the first [V:n]", line, bar)
        voices = self.reader.read(content)
        self._names([voice.name for voice in voices], line, bar)
        self._changes(voices, line, bar)
        for voice in voices:
            self._voice(voice, line, bar)
        expected = self.reader.bar_length
        lengths = Counter(voice.length for voice in voices if voice.length is not None)
        length = common_length(lengths, expected)
        misaligned = self._aligned(voices, length, line, bar)
        right = next((voice.right for voice in voices if voice.right), "")
        unparsable = any(voice.length is None for voice in voices)
        self.rows.append(_CheckedLine(line, voices[0].left, right, length, expected, unparsable, misaligned))

    def _countdown(self, line: int, text: str, bar: int) -> None:
        """Compare the countdown tag with the number of the bar and with the tag before."""
        before, self.countdown = self.countdown, read_countdown(text)
        if self.countdown is None:
            if self.tagged or text.startswith(COUNTDOWN):
                self.issue("tag", "no countdown tag [r:done/left], but other bars have one", line, bar)
        else:
            done, left = self.countdown
            tag = countdown_tag(done, left)
            wanted = before[0] + 1 if before else bar - 1
            if done != wanted:
                self.issue("tag", f"{tag} after {wanted} bars", line, bar)
            if before and done + left != sum(before):
                self.issue("tag", f"{tag} counts {done + left} bars, the tag before {sum(before)}", line, bar)
        self.tagged |= text.startswith(COUNTDOWN)

    def _names(self, names: list[str], line: int, bar: int) -> None:
        seen: set[str] = set()
        last = -1
        for name in names:
            place = self.voices.get(name)
            if name in seen:
                self.issue("repeated-voice", "the voice is on the line already", line, bar, name)
            elif place is None:
                self.issue("undeclared-voice", "the header has no V: line for it", line, bar, name)
            elif place < last:
                self.issue(
                    "voice-order", "the voice comes after a voice that is declared later", line, bar, name
                )
            last = max(last, -1 if place is None else place)
            seen.add(name)

    def _changes(self, voices: list[VoiceOnLine], line: int, bar: int) -> None:
        """Check that changes of key, note length and meter can be read and are in all voices that need them."""
        changes: dict[str, dict[str, tuple[str, ...]]] = {}
        for voice in voices:
            for change in voice.changes:
                if change.name == "K" and bar == 1 and change.leading and not change.error:
                    continue  # the key that the voice starts in, such as that of a transposing instrument
                of_voices = changes.setdefault(change.name, {})
                of_voices[voice.name] = (*of_voices.get(voice.name, ()), change.text)
                if change.error:
                    reason = f"{change.name}: {change.error.reason}"
                    self.issue("change", reason, line, bar, voice.name, level="abc")
        for name, of_voices in changes.items():
            exempt = self.keyless if name == "K" else set()
            # Text without silent voices leaves them out of the first bar even where they have a change there.
            present = {voice.name for voice in voices if voice.name in self.voices}
            needed = len(present - exempt) if bar == 1 else len(self.voices) - len(exempt)
            if name == "K" and all("clef" in text for texts in of_voices.values() for text in texts):
                continue  # a voice may change its clef alone
            if sum(voice in self.voices and voice not in exempt for voice in of_voices) < needed:
                which = " ".join(of_voices)
                self.issue("change", f"[{name}:] is only in voice {which}; {needed} need it", line, bar)
            elif name != "K" and len(set(of_voices.values())) > 1:
                self.issue("change", f"[{name}:] differs between voices", line, bar)

    def _voice(self, voice: VoiceOnLine, line: int, bar: int) -> None:
        """Check that the bar of a voice can be read and ends with a barline."""
        if voice.error:
            reason = f"{voice.error.reason} (column {voice.error.column} of the bar)"
            self.issue("unparsable", reason, line, bar, voice.name, level=self._level_of(voice))
        for kind in without_foreign_notation(voice.text)[1]:
            reason = f"the dialect has no such notation: {kind}"
            self.issue("foreign", reason, line, bar, voice.name)
        if not voice.right:
            self.issue("barline", "no barline at the end of the bar", line, bar, voice.name)

    def _level_of(self, voice: VoiceOnLine) -> Level:
        """Return the level that the bar of a voice without a known duration breaks."""
        try:
            if voice.bar is None:
                parse_tune(f"[V:1]{voice.text}")  # several bars, which other programs read
            else:
                durations(voice.bar, meter=self.reader.meter, bar_length=self.reader.bar_length)
        except FormatError:
            return "abc"
        return "bars"

    def _aligned(self, voices: list[VoiceOnLine], length: Fraction | None, line: int, bar: int) -> bool:
        """Compare barlines with the first voice and durations with the common one; return whether any differ."""
        before = len(self.issues)
        first = voices[0]
        for voice in voices[1:]:
            for side, sign, wanted in (
                ("starts", voice.left, first.left),
                ("ends", voice.right, first.right),
            ):
                if sign != wanted:
                    reason = f"{side} with {sign[:9]!r}, voice {first.name} with {wanted[:9]!r}"
                    self.issue("barline", reason, line, bar, voice.name)
        for voice in voices:
            if voice.length is not None and length is not None and voice.length != length:
                reason = f"lasts {_shown(voice.length)}, but the bar lasts {_shown(length)}"
                self.issue("duration", reason, line, bar, voice.name)
        return len(self.issues) > before

    def whole(self) -> None:
        """Check what concerns several bars."""
        if not self.rows:
            self.issue("no-music", "no line has a [V:n]", None)
            return
        self._fills()
        self._repeats()
        last = self.rows[-1]
        sign = sign_of(last.right)
        if sign != "|]" and (not sign.startswith(":") or sign.endswith(":")):
            reason = f"the piece ends with {sign[:9]!r}, not with '|]' or ':|'"
            self.issue("ending", reason, last.line, len(self.rows))

    def _fills(self) -> None:
        for index, row in enumerate(self.rows[1:-1], 1):
            if row.length is None or row.expected in (None, row.length):
                continue
            around = (self.rows[index - 1].right, row.left, row.right, self.rows[index + 1].left)
            if not allows_other_length(around, shorter=row.length < row.expected):
                reason = f"the bar lasts {_shown(row.length)}, but the meter says {_shown(row.expected)}"
                self.issue("meter", reason, row.line, index + 1)

    def _repeats(self) -> None:
        for sign in unbalanced_repeats([(row.left, row.right) for row in self.rows]):
            row, bar = self.rows[sign.bar], sign.bar + 1
            if sign.end:
                self.issue("repeat", "a :| without a |: before it", row.line, bar)
            elif sign.opened is not None:
                reason = f"a |: in the repeat that starts in bar {sign.opened + 1}"
                self.issue("repeat", reason, row.line, bar)
            else:
                self.issue(
                    "repeat", f"the repeat of bar {bar} has no end", self.rows[-1].line, len(self.rows)
                )


def _shown(length: Fraction) -> str:
    return str(length) if length.denominator < _SHOWN_DENOMINATOR else f"about {float(length):.6f}"
