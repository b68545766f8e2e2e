"""Reads ABC text into a score."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import cast

from notagen.abc.clefs import changes_key, read_clef
from notagen.abc.duration import Key, default_unit_length, parse_key, parse_unit_length
from notagen.abc.parser import parse_tune
from notagen.abc.syntax import Barline, Comment, Field, Header
from notagen.notation.layout import is_interleaved
from notagen.score.events import OpenMeasure, Propagation, VoiceReader
from notagen.score.layout import (
    Declaration,
    read_declaration,
    read_layout,
    read_octave,
    read_part_order,
    read_tempo,
    read_time,
)
from notagen.score.losses import lost
from notagen.score.model import (
    Clef,
    Group,
    Measure,
    Part,
    Score,
    Syllable,
    TimeSignature,
    Voice,
    parts_of,
)
from notagen.score.passages import Passage, collect
from notagen.score.slurs import connect_slurs
from notagen.score.ties import connect_ties
from pentatonic.errors import FormatError

_PROPAGATION = re.compile(r"%%propagate-accidentals\s+(not|octave|pitch)\b")
_PROGRAMME = re.compile(r"%%MIDI\s+program\s+(?:\d{1,2}\s+)?(\d{1,3})\s*(?:%.*)?$")
_VOLTA = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?(?!\d)")
_ENDS_ENDING = frozenset(("||", "|]", "[|"))
_READ_FIELDS = frozenset("XTCZPVKMLQ")
_NO_KEY = Key("", "", 0)
#: Roles that a ``Z:`` field may start with; ABC has no fields for them.
_CREDIT = re.compile(r"(lyricist|poet|arranger|translator|transcriber|rights): *(.+)")


def read_score(text: str) -> Score:
    """Read a piece in any layout: standard, interleaved, or as a model writes it.

    In interleaved layout, voices that are not on a line rest as long as the bars of the others, with ``z`` or, in all
    but the first voice of a ``( )`` of ``%%score``, with ``x``. Countdown tags, prompts and other comments
    are left out. The last bar needs no barline. Music without any ``V:`` is voice 1.

    Accidentals hold for the same letter in the same octave up to the barline or a change of key, and beyond that on
    tied notes; ``%%propagate-accidentals`` is obeyed. Where it is missing, and the default of other programs, the same
    letter in all octaves, would alter notes otherwise, :attr:`Score.notes` says so. A tie or slur goes on in another
    voice of the part where its own has no such note or no end. Ties and slurs without a start or end are left out.

    Args:
        text: One tune in ABC.

    Returns:
        The piece; all voices have the same number of measures.

    Raises:
        FormatError: The text is not a tune; with line and column where they are known, and with voice and bar in the
            message where the error is in a bar.
    """
    tune = parse_tune(text)
    header = _HeaderReader(tune.header)
    passages = collect(tune, interleaved=is_interleaved(text))
    declarations = {name: read_declaration(passage.declaration) for name, passage in passages.items()}
    layout = read_layout(header.score, {name: bool(item.full_name) for name, item in declarations.items()})
    later = {name for part in parts_of(layout) for staff in part.staves for name in staff[1:]}
    staves = _staves(layout)
    readers = {name: header.reader(name, declarations[name], staves[name]) for name in passages}
    rows = _open_measures(passages, readers, later)
    for part in parts_of(layout):
        of_part = [rows[name] for name in part.voices], [readers[name].lines for name in part.voices]
        connect_ties(*of_part)
        connect_slurs(*of_part)
    titles, credits = header.texts("T"), header.credits()
    return Score(
        {name: header.voice(name, passages[name], declarations[name], rows[name]) for name in passages},
        layout,
        titles[0] if titles else "",
        next((name for role, name in credits if role == "composer"), ""),
        read_tempo(header.first("Q", ""), header.unit_length),
        header.unit_length,
        header.part_order,
        _notes_on_accidentals(sum(reader.doubtful for reader in readers.values())),
        titles[1] if len(titles) > 1 else "",
        credits,
    )


def _notes_on_accidentals(doubtful: int) -> tuple[str, ...]:
    if not doubtful:
        return ()
    notes = "1 note" if doubtful == 1 else f"{doubtful} notes"
    return (
        f"accidentals hold in the same octave only; if they held in all octaves, {notes} would be altered otherwise "
        "(%%propagate-accidentals octave or pitch says which)",
    )


def _staves(layout: Sequence[Part | Group]) -> dict[str, tuple[int, int]]:
    """Return for each voice the first and last staff of its part, as staves below the one of the voice."""
    return {
        name: (-index, len(part.staves) - 1 - index)
        for part in parts_of(layout)
        for index, names in enumerate(part.staves)
        for name in names
    }


class _HeaderReader:
    """Reads the header: fields for all voices, and the ``K:`` fields of single voices."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.score = ""
        self.keys: dict[str, Key] = {}
        self.programmes: dict[str, int] = {}
        self.clef = ""
        self.octave = 0
        self.part_order: tuple[str, ...] = ()
        self.propagation: Propagation | None = None
        voice = ""
        key: Key | None = None
        for line in header.lines:
            if isinstance(line, Comment):
                if line.text.startswith(("%%score", "%%staves")) and not self.score:
                    self.score = line.text[8:]
                elif match := _PROPAGATION.match(line.text):
                    self.propagation = cast(Propagation, match[1])
                elif (match := _PROGRAMME.match(line.text)) and int(match[1]) < 128:
                    self.programmes[voice] = int(match[1])
                elif line.text.startswith("%%") and line.text[2:].strip():
                    lost(f"instruction %%{line.text[2:].split()[0][:20]}")
            elif line.name == "P" and key is None:
                self.part_order = read_part_order(line.value.partition("%")[0])
            elif line.name == "V":
                voice = (line.value.split() or [""])[0]
            elif line.name == "K" and key is None:
                key = parse_key(line.value, line=line.line, column=3)
                self.clef = read_clef(line.value)
                self.octave = read_octave(line.value) or 0
            elif line.name == "K" and changes_key(line.value):
                self.keys[voice] = parse_key(line.value, line=line.line, column=3)
            elif line.name not in _READ_FIELDS:
                lost(f"field {line.name}: of the header")
        lost("title beyond the second", max(len(self.texts("T")) - 2, 0))
        self.key = key or _NO_KEY
        meter = self.field("M")
        self.time = read_time(meter.value, line=meter.line, column=3) if meter else TimeSignature(None)
        unit = self.field("L")
        self.unit_length = (
            parse_unit_length(unit.value, line=unit.line, column=3)
            if unit
            else default_unit_length(self.time.meter)
        )

    def field(self, name: str) -> Field | None:
        return next(self.header.fields(name), None)

    def first(self, name: str, default: str) -> str:
        found = self.field(name)
        return found.value if found else default

    def texts(self, name: str) -> list[str]:
        """Return the values of the fields with this letter that are not empty."""
        values = (field.value.partition("%")[0].strip() for field in self.header.fields(name))
        return [value for value in values if value]

    def credits(self) -> tuple[tuple[str, str], ...]:
        """Return the composers (``C:``) and, from fields such as ``Z:lyricist: name``, other roles and names."""
        found = [("composer", name) for name in self.texts("C")]
        for value in self.texts("Z"):
            match = _CREDIT.fullmatch(value)
            found.append((match[1], match[2]) if match else ("transcriber", value))
        return tuple(found)

    def percussion(self, name: str, declaration: Declaration) -> bool:
        own = self.keys.get(name)
        return declaration.clef.startswith("perc") or (own is not None and not own.tonic)

    def reader(self, name: str, declaration: Declaration, staves: tuple[int, int]) -> VoiceReader:
        key = _NO_KEY if self.percussion(name, declaration) else self.keys.get(name, self.key)
        clef = Clef(declaration.clef or self.clef or "treble")
        octave = self.octave if declaration.octave is None else declaration.octave
        start = key, self.time, clef, self.unit_length, declaration.transpose, staves
        return VoiceReader(*start, octave=octave, propagation=self.propagation)

    def voice(
        self, name: str, passage: Passage, declaration: Declaration, rows: Sequence[OpenMeasure]
    ) -> Voice:
        return Voice(
            name,
            _closed(rows, passage.barlines),
            declaration.full_name,
            declaration.abbreviation,
            declaration.transpose,
            declaration.staff_lines,
            self.percussion(name, declaration),
            self.programmes.get(name, self.programmes.get("")),
        )


def _open_measures(
    passages: dict[str, Passage], readers: dict[str, VoiceReader], later: set[str]
) -> dict[str, list[OpenMeasure]]:
    """Read all voices bar by bar, so that voices left out rest as long as the bars of the others."""
    rows: dict[str, list[OpenMeasure]] = {name: [] for name in passages}
    lyrics: dict[str, dict[int, dict[int, list[Syllable | None]]]] = {name: {} for name in passages}
    for name, passage in passages.items():
        for (bar, note), verses in passage.lyrics.items():
            lyrics[name].setdefault(bar, {})[note] = verses
    length = Fraction(1)
    for index in range(len(next(iter(passages.values())).bars)):
        for name, passage in passages.items():
            bar = passage.bars[index]
            if bar is not None:
                try:
                    rows[name].append(readers[name].bar(bar, lyrics[name].get(index)))
                except FormatError as error:
                    reason = f"voice {name}, bar {index + 1}: {error.reason}"
                    raise FormatError(reason, line=error.line or bar.line, column=error.column) from None
        # The most frequent length; of equally frequent ones the first.
        lengths = Counter(row[index].duration for row in rows.values() if len(row) > index)
        length = max(lengths, key=lengths.__getitem__, default=length)
        for name, row in rows.items():
            if len(row) == index:
                row.append(readers[name].rest(length, name in later))
    return rows


def _closed(rows: Sequence[OpenMeasure], barlines: Sequence[Barline | None]) -> tuple[Measure, ...]:
    """Add barlines and endings to the measures."""
    measures: list[Measure] = []
    ending: tuple[int, ...] = ()
    for row, before, after in zip(rows, barlines, barlines[1:], strict=False):
        measure = row.close(before.sign if before else "", after.sign if after else "")
        starts = bool(before and before.volta)
        if before and starts:
            ending = _numbers(before.volta)
        if ending:
            last = len(measures) == len(rows) - 1
            sign = measure.right
            stops = last or ":" in sign or sign in _ENDS_ENDING or bool(after and after.volta)
            measure = replace(measure, ending=ending, ending_starts=starts, ending_stops=stops)
            if stops:
                ending = ()
        measures.append(measure)
    return tuple(measures)


def _numbers(volta: str) -> tuple[int, ...]:
    """Return the numbers of an ending such as ``1,3`` or ``1-3``."""
    numbers: list[int] = []
    for first, last in _VOLTA.findall(volta):
        numbers += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(numbers)) or (1,)
