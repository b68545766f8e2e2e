"""From a file's bytes to lines in named sections."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cm3p.beatmap.errors import FormatError, NotABeatmap
from cm3p.beatmap.objects import ReadWarning

LATEST_VERSION = 14  # of the stable client; what is read where the version line has no number
HEADER_SECTIONS = ("General", "Editor", "Metadata", "Difficulty")
_MAP_SECTIONS = frozenset((*HEADER_SECTIONS, "TimingPoints", "HitObjects"))
_SECTIONS = _MAP_SECTIONS | {"Events", "Colours"}  # these two are those of a storyboard, too
_VERSION = re.compile(r"osu file format v(\d+)$")
_LOOSE_VERSION = re.compile(r"osu file format v\s*(\d{0,9})")
_TEXT_IN_WARNINGS = 200
MOST_BYTES = 64 << 20  # of a file; storyboards inside maps have tens of megabytes


def read_content(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        FormatError: It cannot be opened, or is too large for a map.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise FormatError(
                f"{size} bytes are too many for a map; at most {MOST_BYTES} are allowed", path=path
            )
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=path) from error


@dataclass(slots=True)
class Section:
    """Lines of one section.

    Args:
        numbers: 1-based line numbers in the file.
        texts: Lines without surrounding space.
    """

    numbers: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class Source:
    """The text of a map and the place where problems are reported.

    Args:
        content: A file, the bytes of one, or its text.
        strict: Raise at the first problem, where the original's reader fails; else collect warnings.
        name: What messages call the source; the path if it is a file.

    Attributes:
        name: The same.
        strict: The same.
        lines: All lines of the text, as they are.
        version: Of the file format.
        sections: By name; a later section of the same name replaces an earlier one.
        warnings: What was skipped or repaired so far.

    Raises:
        NotABeatmap: The content is something else.
        FormatError: The file cannot be opened; or, if strict, it does not start with a version line.
    """

    def __init__(self, content: Path | str | bytes, *, strict: bool, name: str) -> None:
        self.name = name or (str(content) if isinstance(content, Path) else "")
        self.strict = strict
        self.warnings: list[ReadWarning] = []
        self.lines: list[str] = []
        text = self._text(content)
        self.lines = text.splitlines()
        first = next((index for index, line in enumerate(self.lines) if line.strip()), 0)
        self.lines[first : first + 1] = [line.lstrip() for line in self.lines[first : first + 1]]
        self.version, start = self._version(first)
        self.sections = self._split(start)

    def problem(self, line: int, message: str, column: int = 1) -> None:
        """Report a problem: raise if strict, else keep a warning.

        Args:
            line: 1-based; 0 for the whole file.
            message: What is wrong, and what is done about it.
            column: 1-based.

        Raises:
            FormatError: In strict mode.
        """
        if self.strict:
            raise self.error(line, message, column)
        self.warn(line, message, column)

    def warn(self, line: int, message: str, column: int = 1) -> None:
        """Keep a warning."""
        text = self.lines[line - 1][:_TEXT_IN_WARNINGS] if 0 < line <= len(self.lines) else ""
        self.warnings.append(ReadWarning(self.name, line, column if line else 0, text, message))

    def error(
        self, line: int, message: str, column: int = 1, kind: Callable[..., FormatError] = FormatError
    ) -> FormatError:
        """Return an error that names file, line and column."""
        place = {"line": line, "column": column} if line else {}
        text = self.lines[line - 1][:_TEXT_IN_WARNINGS] if 0 < line <= len(self.lines) else None
        reason = message if text is None else f"{message}: {text!r}"
        return kind(reason, path=self.name or None, **place)

    def _text(self, content: Path | str | bytes) -> str:
        if isinstance(content, str):
            if content.startswith("\ufeff"):
                self.problem(1, "a text starts with a byte order mark, which only a file may have; ignored")
                return content[1:]
            return content
        if isinstance(content, Path):
            content = read_content(content)
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self.problem(0, "the file is UTF-16; UTF-8 is expected")
            return content.decode("utf-16", errors="replace")
        content = content.removeprefix(codecs.BOM_UTF8)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            column = error.start - content.rfind(b"\n", 0, error.start)
            self.lines = content.decode(errors="surrogateescape").splitlines()
            self.problem(line, "bytes that are not UTF-8; kept as they are", column)
            return content.decode(errors="surrogateescape")

    def _version(self, at: int) -> tuple[int, int]:
        """Return the version and the index of the line after the version line."""
        first = self.lines[at] if at < len(self.lines) else ""
        if match := _VERSION.match(first):
            try:
                return int(match[1]), at + 1
            except ValueError:  # thousands of digits
                pass
        if match := _LOOSE_VERSION.search(first):
            version = int(match[1]) if match[1] else LATEST_VERSION
            self.problem(at + 1, f"the version line is garbled; read as version {version}")
            return version, at + 1
        stripped = first.strip()
        if _is_section(stripped) and stripped[1:-1].strip() in _MAP_SECTIONS:
            self.problem(at + 1, f"there is no version line; read as version {LATEST_VERSION}")
            return LATEST_VERSION, at
        what = f"it starts with {first[:60]!r}" if first else "it is empty"
        raise self.error(0, f"not a beatmap: {what}; 'osu file format v14' is expected", kind=NotABeatmap)

    def _split(self, start: int) -> dict[str, Section]:
        sections: dict[str, Section] = {}
        # Lines before the first section belong to it.
        carried = section = Section()
        for number, line in enumerate(self.lines[start:], start + 1):
            text = line.strip()
            if not text or text.startswith("//"):
                continue
            if text[0] == "[" and text[-1] == "]":
                name = text[1:-1]
                if name in sections:
                    self.warn(number, "a second section of this name replaces the first")
                elif carried.numbers and not sections:
                    self.warn(
                        carried.numbers[0], f"lines before the first section are read as part of [{name}]"
                    )
                section = sections[name] = carried if not sections else Section()
                continue
            section.numbers.append(number)
            section.texts.append(text)
        if not self.strict:
            _accept_spaces(sections)
        if not sections.keys() & _SECTIONS:
            raise self.error(0, "not a beatmap: it has none of a map's sections", kind=NotABeatmap)
        return sections


def _is_section(text: str) -> bool:
    return len(text) > 1 and text[0] == "[" and text[-1] == "]"


def _accept_spaces(sections: dict[str, Section]) -> None:
    """Take ``[ HitObjects ]`` for a section that is missing, as the game does."""
    for name in [name for name in sections if name != name.strip()]:
        if name.strip() in _SECTIONS and name.strip() not in sections:
            sections[name.strip()] = sections.pop(name)
