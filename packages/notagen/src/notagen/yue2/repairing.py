"""Repairs text that is nearly in the dialect, with few and named changes; what is in the dialect is never touched."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from notagen.yue2.checking import TOKEN, check, parse_meter
from notagen.yue2.song import LENGTHS, MAX_GROUP_BARS, VOICE_HEADERS, VOICES, DialectError
from notagen.yue2.writing import split_length

_TEMPO = re.compile(r"Q:\s*(\d{1,3})/(\d{1,3})\s*=\s*(\d{1,6}(?:\.\d{1,3})?)\s*")
_UNIT = re.compile(r"L:1/(\d{1,4})")
_BAR_RESTS = re.compile(r"Z(\d{0,4})")
_HEADER = 8


@dataclass
class Yue2Repair:
    """A text after its repair.

    Attributes:
        text: Text that the checker accepts; the given text itself where that was accepted.
        changes: Descriptions of the changes; empty for accepted text.
    """

    text: str
    changes: list[str] = field(default_factory=list)


def repair_yue2(text: str) -> Yue2Repair:
    """Bring a text into the dialect without a change of what sounds.

    Repaired are: the fixed lines of the header, a tempo in other beats, blank lines and blanks at line ends, labels
    without a blank after ``%``, ``||`` and ``|]``, ``Z1`` and rests of more than four bars, groups of more than four
    bars, lengths that the dialect lacks, bars that are too short, a chord symbol at the end of a bar, and ties that
    end nowhere.

    Raises:
        DialectError: The text cannot be repaired; the first error that is left.
    """
    if not check(text)[1]:
        return Yue2Repair(text)
    work = _Work(text)
    work.lines_()
    work.groups()
    repaired = "".join(f"{line}\n" for line in work.lines)
    errors = check(repaired)[1]
    if errors:
        raise errors[0]
    return Yue2Repair(repaired, work.changes)


class _Work:
    def __init__(self, text: str) -> None:
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
        """Repair the music, and split groups of more than four bars."""
        out, at = self.lines[:_HEADER], _HEADER
        while at < len(self.lines):
            labels, blocks = [], []
            while at < len(self.lines) and self.lines[at].startswith("%"):
                labels.append(self.lines[at])
                at += 1
            for name in VOICES:
                if at >= len(self.lines) or self.lines[at] != f"V: {name}":
                    self.lines = [*out, *labels, *(x for b in blocks for x in b[0]), *self.lines[at:]]
                    return
                fields = [self.lines[at]]
                at += 1
                while at < len(self.lines) and self.lines[at].startswith(("M:", "K:")):
                    fields.append(self.lines[at])
                    if self.lines[at].startswith("M:"):
                        self.meters[name] = self._meter(self.lines[at][2:], self.meters[name])
                    at += 1
                music = self.lines[at] if at < len(self.lines) else ""
                at += 1
                last = not any(line == f"V: {name}" for line in self.lines[at:])
                blocks.append((fields, self._bars(music, name, at, last)))
            out += labels
            length = max(len(bars) for _, bars in blocks)
            if length > MAX_GROUP_BARS:
                self.changes.append(f"a group of {length} bars was split")
            for start in range(0, max(length, 1), MAX_GROUP_BARS):
                for fields, bars in blocks:
                    out += [
                        *(fields if start == 0 else fields[:1]),
                        _joined(bars[start : start + MAX_GROUP_BARS]),
                    ]
        self.lines = out

    def _bars(self, music: str, name: str, line: int, last: bool) -> list[str]:
        """Return the bars of a line of music, repaired; each bar of rest is ``Z``."""
        where = f"line {line}, {name}"
        cleaned = re.sub(r"\|\]|\|\|", "|", music)
        if cleaned != music:
            self.changes.append(f"{where}: || and |] became |")
        if not cleaned.endswith("|"):
            self.changes.append(f"{where}: the last barline was added")
            cleaned += "|"
        bars: list[str] = []
        for piece in cleaned[:-1].split("|"):
            rests = _BAR_RESTS.fullmatch(piece.strip())
            if rests and rests[1] not in ("", "2", "3", "4"):
                self.changes.append(f"{where}: {piece.strip()} was written in other rests")
            bars += ["Z"] * min(int(rests[1] or 1), 9999) if rests else [piece]
        total = Fraction(4 * self.meters[name][0], self.meters[name][1])
        moved = ""
        for index, given in enumerate(bars):
            bar = given
            if moved:
                bar = moved + (f"z{int(total / 4 * self.unit)}" if bar == "Z" else bar)
            bars[index], moved = self._bar(bar, total, f"{where}, bar {index + 1}")
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
        out, time, at, moved = "", Fraction(0), 0, ""
        while at < len(bar):
            match = TOKEN.match(bar, at)
            if match is None:
                out, at = out + bar[at], at + 1
                continue
            at = match.end()
            if match[4] is None:
                if time >= total:
                    self.changes.append(f"{where}: what stands at the bar end moved to the next bar")
                    moved += match[0]
                else:
                    out += match[0]
                continue
            length = int(match[6][:9] or 1)
            time += Fraction(4 * length, self.unit)
            if length in LENGTHS or not 0 < length < 10_000:
                out += match[0]
                continue
            self.changes.append(f"{where}: the length {length} was split")
            pitch = f"{match[3] or ''}{match[4]}{match[5]}"
            join = "" if match[4] == "z" else "-"
            out += join.join(f"{pitch}{part if part > 1 else ''}" for part in split_length(length)) + match[7]
        missing = (total - time) / 4 * self.unit
        if missing > 0 and missing.denominator == 1 and missing < 10_000 and not out.rstrip().endswith("-"):
            self.changes.append(f"{where}: filled with rests")
            out += "".join(f"z{part if part > 1 else ''}" for part in split_length(int(missing)))
        return out, moved


def _joined(bars: list[str]) -> str:
    out, rests = "", 0
    for bar in [*bars, ""]:
        if bar == "Z":
            rests += 1
            continue
        out += f"Z{rests if rests > 1 else ''}|" if rests else ""
        out, rests = out + (f"{bar}|" if bar else ""), 0
    return out
