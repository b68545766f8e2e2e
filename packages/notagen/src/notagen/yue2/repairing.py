"""Repairs text that is nearly in the dialect, with few and named changes; what is in the dialect is never touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from notagen.yue2.bar_text import inserted, is_rest, length_of, of_length, rests, tokens
from notagen.yue2.checking import TOKEN, check, parse_meter, read_music
from notagen.yue2.song import LENGTHS, MAX_GROUP_BARS, VOICE_HEADERS, VOICES, DialectError

_TEMPO = re.compile(r"Q:\s*(\d{1,3})/(\d{1,3})\s*=\s*(\d{1,6}(?:\.\d{1,3})?)\s*")
_UNIT = re.compile(r"L:1/(\d{1,4})")
_BAR_RESTS = re.compile(r"Z(\d{0,4})")
_HEADER = 8
_MOST_UNITS = 10_000
# Each one that is missing costs a reading of the text.
_MOST_KEYS = 64


@dataclass
class Yue2Repair:
    """A text after its repair.

    Attributes:
        text: Text that the checker accepts; the given text itself where that was accepted.
        changes: Descriptions of the changes; empty for accepted text.
    """

    text: str
    changes: list[str] = field(default_factory=list)


@dataclass
class _Block:
    """A voice of a group: its fields, its line of music with its number, its bars and their length in quarters."""

    fields: list[str] = field(default_factory=list)
    music: str = ""
    line: int = 0
    bars: list[str] = field(default_factory=list)
    length: Fraction = Fraction(4)

    def value(self, name: str) -> str | None:
        """Return the value of a field, such as ``M:``."""
        return next((line[2:] for line in self.fields if line.startswith(name)), None)


class _Group(dict[str, _Block]):
    """Voice -> its block."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[str] = []

    def pairs(self) -> Iterator[tuple[_Block, _Block, str]]:
        """Yield each block with the one of the other voice, and the name of that."""
        first, second = VOICES
        yield self[first], self[second], second
        yield self[second], self[first], first


def repair_yue2(text: str, *, cut: bool = False) -> Yue2Repair:
    """Bring a text into the dialect without a change of what sounds.

    Repaired are: the fixed lines of the header, a tempo in other beats, blank lines and blanks at line ends, labels
    without a blank after ``%``, ``||`` and ``|]``, ``Z1`` and rests of more than four bars, groups of more than four
    bars, lengths that the dialect lacks, bars that are too short, a chord symbol at the end of a bar, and ties that
    end nowhere; chord symbols of Ins, which move to Vocal where that has none; a meter or key that only one voice
    changes, if the bars or the notes of the other one agree with it, also within bars of rest.

    Args:
        text: Any text.
        cut: Also cut notes and rests that are longer than what is left of their bar, and drop those after its end.

    Raises:
        DialectError: The text cannot be repaired; the first error that is left.
    """
    if not check(text)[1]:
        return Yue2Repair(text)
    work = _Work(text, cut)
    work.lines_()
    work.groups()
    repaired = "".join(f"{line}\n" for line in work.lines)
    errors = check(repaired)[1]
    if errors:
        raise errors[0]
    return Yue2Repair(repaired, work.changes)


class _Work:
    def __init__(self, text: str, cut: bool) -> None:
        self.cut = cut
        self.lines = text.removeprefix("\ufeff").splitlines()
        self.changes: list[str] = []
        self.unit = 16
        self.meters: dict[str, tuple[int, int]] = dict.fromkeys(VOICES, (4, 4))

    def _become(self, index: int, line: str, change: str) -> None:
        if self.lines[index] != line:
            self.lines[index] = line
            self.changes.append(f"line {index + 1}: {change}")

    def lines_(self) -> None:
        """Repair blank lines, blanks at line ends, labels, and the header."""
        if any(not line.strip() for line in self.lines):
            self.changes.append("blank lines were dropped")
            self.lines = [line for line in self.lines if line.strip()]
        for index in range(len(self.lines)):
            self._become(index, self.lines[index].rstrip(), "blanks at the line end were dropped")
            line = self.lines[index]
            if line.startswith("%") and not line.startswith(("% ", "%%")):
                self._become(index, f"% {line[1:]}", "a blank after % was added")
        for index, wanted in ((0, "X:1"), (1, "T:"), (5, VOICE_HEADERS[0]), (6, VOICE_HEADERS[1])):
            if index < len(self.lines) and self.lines[index][:2] == wanted[:2]:
                self._become(index, wanted, f"became {wanted!r}")
        if len(self.lines) > 4 and (match := _TEMPO.fullmatch(self.lines[4])) and int(match[2]):
            quarters = Fraction(match[3]) * Fraction(int(match[1]), int(match[2])) * 4
            self._become(4, f"Q:1/4={max(round(quarters), 1)}", "the tempo was written in quarters")
        if len(self.lines) > 3 and (match := _UNIT.fullmatch(self.lines[3])):
            self.unit = int(match[1]) or 16
        self.meters = dict.fromkeys(
            VOICES, self._meter(self.lines[2][2:], (4, 4)) if len(self.lines) > 2 else (4, 4)
        )

    def _meter(self, value: str, before: tuple[int, int]) -> tuple[int, int]:
        try:
            return parse_meter(value)
        except DialectError:
            return before

    def groups(self) -> None:
        """Repair the music: each bar alone, then what stands in one voice and is missing in the other."""
        groups, rest = self._read_groups()
        total = len(groups)
        for number, group in enumerate(groups, 1):
            self._copy_meter(group)
            for name, block in group.items():
                if (meter := block.value("M:")) is not None:
                    self.meters[name] = self._meter(meter, self.meters[name])
                block.length = Fraction(4 * self.meters[name][0], self.meters[name][1])
                block.bars = self._bars(block, name, last=number == total and not rest)
            self._move_chords(group)
        self.lines = [*self.lines[:_HEADER], *self._written(groups), *rest]
        if not rest:
            self._copy_keys(groups)
        long = [max(len(block.bars) for block in group.values()) for group in groups]
        self.changes += [f"a group of {length} bars was split" for length in long if length > MAX_GROUP_BARS]

    def _read_groups(self) -> tuple[list[_Group], list[str]]:
        """Return the groups, and the lines after them that are none."""
        groups: list[_Group] = []
        at, lines = _HEADER, self.lines
        while at < len(lines):
            start, group = at, _Group()
            while at < len(lines) and lines[at].startswith("%"):
                group.labels.append(lines[at])
                at += 1
            for name in VOICES:
                if at >= len(lines) or lines[at] != f"V: {name}":
                    return groups, lines[start:]
                block = group[name] = _Block()
                at += 1
                while at < len(lines) and lines[at].startswith(("M:", "K:")):
                    block.fields.append(lines[at])
                    at += 1
                block.music = lines[at] if at < len(lines) else ""
                at += 1
                block.line = at
            groups.append(group)
        return groups, []

    def _written(self, groups: list[_Group]) -> list[str]:
        """Return the lines of groups; those of more than four bars are split."""
        out: list[str] = []
        for group in groups:
            out += group.labels
            length = max(len(block.bars) for block in group.values())
            for start in range(0, max(length, 1), MAX_GROUP_BARS):
                for name, block in group.items():
                    fields = block.fields if start == 0 else []
                    out += [f"V: {name}", *fields, _joined(block.bars[start : start + MAX_GROUP_BARS])]
        return out

    def _copy_meter(self, group: _Group) -> None:
        """Copy ``M:`` to the voice that lacks it, if its bars have this length."""
        for block, other, name in group.pairs():
            meter = block.value("M:")
            if meter is None or other.value("M:") is not None:
                continue
            beats, unit = self._meter(meter, (0, 1))
            pieces = [piece for piece in other.music.rstrip("|]").split("|") if piece.strip()]
            units = [
                None if (found := tokens(piece)) is None else sum(length_of(match) for _, match in found)
                for piece in pieces
                if not _BAR_RESTS.fullmatch(piece.strip())
            ]
            if beats and all(length is not None and length * unit == beats * self.unit for length in units):
                other.fields.insert(0, f"M:{meter}")
                self.changes.append(f"line {other.line}, {name}: M:{meter} was copied from the other voice")

    def _move_chords(self, group: _Group) -> None:
        """Move the chord symbols of Ins to Vocal, where that has none at the same time."""
        vocal, ins = (group[name] for name in VOICES)
        length = self._units(vocal.length)
        if length is None or vocal.length != ins.length:
            return
        for index in range(min(len(vocal.bars), len(ins.bars))):
            above, below, moved = _with_chords(vocal.bars[index], ins.bars[index], length)
            vocal.bars[index], ins.bars[index] = above, below
            where = f"line {ins.line}, Ins, bar {index + 1}"
            self.changes += [f"{where}: the chord symbol {symbol} moved to Vocal" for symbol in moved]

    def _copy_keys(self, groups: list[_Group]) -> None:
        """Copy key changes to the voice that lacks them, if that leaves its notes; the last ones first."""
        music = read_music("\n".join(self.lines))
        for name, other in zip(VOICES, reversed(VOICES), strict=True):
            missing = [*(Counter(music[other].keys) - Counter(music[name].keys)).elements()]
            for time, key in sorted(missing, reverse=True)[:_MOST_KEYS]:
                place = _place(groups, name, music[name].bars, time)
                before = self.lines
                if place is None:
                    continue
                block, index, units = place[0], place[1], self._units(time - place[2])
                kept = [*block.fields], [*block.bars]
                if index == 0 and units == 0 and block.value("K:") is None:
                    block.fields.append(f"K:{key}")
                else:
                    bar = inserted(
                        block.bars[index], units or 0, f"[K:{key}]", self._units(block.length) or 0
                    )
                    block.bars[index] = block.bars[index] if bar is None or units is None else bar
                self.lines = [*before[:_HEADER], *self._written(groups)]
                after = read_music("\n".join(self.lines))
                if after[name].notes == music[name].notes and after[name].keys != music[name].keys:
                    self.changes.append(f"line {block.line}, {name}: K:{key} was copied from the other voice")
                    music = after
                else:
                    (block.fields, block.bars), self.lines = kept, before

    def _units(self, quarters: Fraction) -> int | None:
        """Return a length in units; None where it is no whole number of them."""
        units = quarters / 4 * self.unit
        return int(units) if units.denominator == 1 and units < _MOST_UNITS else None

    def _bars(self, block: _Block, name: str, *, last: bool) -> list[str]:
        """Return the bars of a line of music, repaired; each bar of rest is ``Z``."""
        where, music = f"line {block.line}, {name}", block.music
        cleaned = re.sub(r"\|\]|\|\|", "|", music)
        if cleaned != music:
            self.changes.append(f"{where}: || and |] became |")
        if not cleaned.endswith("|"):
            self.changes.append(f"{where}: the last barline was added")
            cleaned += "|"
        bars: list[str] = []
        for piece in cleaned[:-1].split("|"):
            found = _BAR_RESTS.fullmatch(piece.strip())
            if found and found[1] not in ("", "2", "3", "4"):
                self.changes.append(f"{where}: {piece.strip()} was written in other rests")
            bars += ["Z"] * min(int(found[1] or 1), 9999) if found else [piece]
        moved = ""
        for index, given in enumerate(bars):
            bar = given
            if moved:
                bar = moved + (f"z{int(block.length / 4 * self.unit)}" if bar == "Z" else bar)
            bars[index], moved = self._bar(bar, block.length, f"{where}, bar {index + 1}")
        if moved:
            self.changes.append(f"{where}: a chord symbol or key at the end was dropped")
        if last and bars and (end := bars[-1].rstrip()).endswith("-"):
            self.changes.append(f"{where}: a tie that is open at the end was dropped")
            bars[-1] = end[:-1]
        return bars

    def _bar(self, bar: str, total: Fraction, where: str) -> tuple[str, str]:
        """Return a bar with allowed lengths and full, and the chord symbols at its end for the next bar."""
        if bar == "Z":
            return bar, ""
        out, at, moved = "", 0, ""
        end, time = total / 4 * self.unit, 0  # in units
        while at < len(bar):
            match = TOKEN.match(bar, at)
            if match is None:
                out, at = out + bar[at], at + 1
                continue
            at = match.end()
            if match[4] is None:
                if time >= end:
                    self.changes.append(f"{where}: what stands at the bar end moved to the next bar")
                    moved += match[0]
                else:
                    out += match[0]
                continue
            length = length_of(match)
            if self.cut and time + length > end and end.denominator == 1:
                length = int(end) - time
                self.changes.append(
                    f"{where}: {match[0]} was {'cut' if length else 'dropped'} at the bar end"
                )
                out, time = out + (of_length(match, length) if length else ""), int(end)
                continue
            time += length
            if length in LENGTHS or not 0 < length < _MOST_UNITS:
                out += match[0]
                continue
            self.changes.append(f"{where}: the length {length} was split")
            out += of_length(match, length)
        missing = end - time
        if 0 < missing < _MOST_UNITS and missing.denominator == 1 and not out.rstrip().endswith("-"):
            self.changes.append(f"{where}: filled with rests")
            out += rests(int(missing))
        return out, moved


def _with_chords(vocal: str, ins: str, length: int) -> tuple[str, str, list[str]]:
    """Return a bar of both voices with the chord symbols of Ins in Vocal, and the symbols that moved."""
    found, there = tokens(ins), [] if is_rest(vocal) else tokens(vocal)
    if is_rest(ins) or found is None or there is None:
        return vocal, ins, []
    held = {time: match[1] for time, match in there if match[1] is not None}
    moved: list[str] = []
    for time, match in reversed(found):
        symbol = match[1]
        if symbol is None or held.get(time, symbol) != symbol:  # which of two symbols holds is not known
            continue
        placed = vocal if time in held else inserted(vocal, time, match[0], length)
        if placed is not None:
            vocal, ins = placed, ins[: match.start()] + ins[match.end() :]
            held[time] = symbol
            moved.insert(0, symbol)
    return vocal, ins, moved


def _place(
    groups: list[_Group], name: str, bars: list[tuple[Fraction, Fraction, tuple[int, int]]], time: Fraction
) -> tuple[_Block, int, Fraction] | None:
    """Return where a time is in a voice: block, index of the bar in it, and start of the bar."""
    places = [(group[name], index) for group in groups for index in range(len(group[name].bars))]
    for (block, index), (start, length, _) in zip(places, bars, strict=False):
        if start <= time < start + length:
            return block, index, start
    return None


def _joined(bars: list[str]) -> str:
    out, rests = "", 0
    for bar in [*bars, ""]:
        if bar == "Z":
            rests += 1
            continue
        out += f"Z{rests if rests > 1 else ''}|" if rests else ""
        out, rests = out + (f"{bar}|" if bar else ""), 0
    return out
