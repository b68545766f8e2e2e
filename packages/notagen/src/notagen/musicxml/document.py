"""Reads MusicXML files into elements, within limits of size and depth; external entities are never loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import XML, Element, ParseError, TreeBuilder
from xml.parsers import expat

from notagen.score.losses import lost
from pentatonic.archive import Archive
from pentatonic.errors import FormatError

MAX_BYTES = 128 << 20
MAX_DEPTH = 256
MAX_ELEMENTS = 2_000_000
MAX_PARTS = 256
MAX_MEASURES = 20_000
MAX_BARS = 200_000  # measures of all parts, or of all voices

_ZIP_START = b"PK\x03\x04"
_CONTAINER = "META-INF/container.xml"
# Encodings in which each element has a byte "<" of its own.
_COUNTABLE = frozenset({"utf-8", "us-ascii", "iso-8859-1"})
# Layout and playback details are a large part of many files, and are not converted to ABC.
_SKIPPED = frozenset({
    "defaults", "figured-bass", "frame", "listen", "listening", "midi-device", "play", "print",
})  # fmt: skip
#: Elements that ABC has nothing for, and what they are called in the counts of losses.
_LOST = {
    "figured-bass": "figured bass", "frame": "chord diagram", "cue": "cue note",
    "swing": "swing", "staff-size": "size of a staff",
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A MusicXML score.

    Args:
        root: The root element, for the title and the list of parts.
        parts: Identifier of a part -> its measures; all parts have the same number of measures.
    """

    root: Element
    parts: Mapping[str, list[Element]]


def read_document(source: Path | bytes) -> Document:
    """Read a score, plain or compressed, partwise or timewise.

    Args:
        source: A ``.musicxml``, ``.xml`` or ``.mxl`` file, or its content.

    Raises:
        FormatError: The source is not a MusicXML score, is damaged, declares a document type of its own, or exceeds a
            limit.
    """
    path = source if isinstance(source, Path) else None
    try:
        root = parse_xml(_content(source))
        return Document(root, _parts(root))
    except FormatError as error:
        if path is None or error.path is not None:
            raise
        raise FormatError(error.reason, path=path, line=error.line, column=error.column) from None


def parse_xml(data: bytes) -> Element:
    """Parse XML; a document type that it names is not loaded.

    Args:
        data: The file, in the encoding that it declares.

    Raises:
        FormatError: It is not well-formed or exceeds a limit, with line and column.
    """
    if len(data) > MAX_BYTES:
        raise FormatError(f"{len(data)} bytes of XML; at most {MAX_BYTES} are allowed")
    root = _parse_ordinary(data)
    return _parse_counting(data) if root is None else root


class _FirstElement(Exception):
    """The head of a document has been read."""


def _is_ordinary(data: bytes) -> bool:
    """Whether XML has no declarations of its own, and its encoding and length show that it is within the limits."""
    encodings: list[str] = []
    subsets: list[int] = []

    def stop(name: str, attributes: dict[str, str]) -> None:
        raise _FirstElement

    parser = expat.ParserCreate()
    parser.XmlDeclHandler = lambda version, encoding, standalone: encodings.append(encoding or "utf-8")
    parser.StartDoctypeDeclHandler = lambda name, system, public, internal: subsets.append(internal)
    parser.StartElementHandler = stop
    try:
        parser.Parse(data, True)
    except _FirstElement:
        known = all(encoding.lower() in _COUNTABLE for encoding in encodings)
        return known and not any(subsets) and data.count(b"<") <= MAX_ELEMENTS
    except (expat.ExpatError, LookupError, ValueError):
        pass
    return False


def _parse_ordinary(data: bytes) -> Element | None:
    """Parse XML in the usual way, which is the fastest; None where it must be parsed by :func:`_parse_counting`."""
    if not _is_ordinary(data):
        return None
    try:
        root = XML(data)
    except (ParseError, LookupError, ValueError):
        return None
    level, depth = [root], 0
    names: Counter[str] = Counter()
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return None
        names.update([element.tag for element in level])
        level = [child for element in level for child in element]
    for name, kind in _LOST.items():
        lost(kind, names[name])
    return root


def _parse_counting(data: bytes) -> Element:
    """Parse XML, and stop at the first element beyond a limit; errors as of :func:`parse_xml`."""
    builder = _Builder()
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = f"not well-formed XML: {expat.ErrorString(error.code)}"
        raise FormatError(reason, line=error.lineno, column=error.offset + 1) from None
    except (LookupError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"the encoding that the XML declares cannot be read: {error}") from None
    return builder.tree.close()


class _Builder:
    """Builds the tree of elements without those that are skipped, and counts levels and elements."""

    def __init__(self) -> None:
        self.tree = TreeBuilder()
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.depth = self.elements = 0
        self.skipped_from = 0  # depth of the element that is being skipped

    def error(self, reason: str) -> FormatError:
        return FormatError(
            reason, line=self.parser.CurrentLineNumber, column=self.parser.CurrentColumnNumber + 1
        )

    def doctype(self, name: str, system_id: str | None, public_id: str | None, internal: int) -> None:
        if internal:
            raise self.error(
                f"the document type {name[:40]!r} has declarations of its own, which are not allowed"
            )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self.elements += 1
        if self.depth > MAX_DEPTH or self.elements > MAX_ELEMENTS:
            raise self.error(f"more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements of XML")
        if name in _LOST:
            lost(_LOST[name])
        if not self.skipped_from and name in _SKIPPED:
            self.skipped_from = self.depth
        if not self.skipped_from:
            self.tree.start(name, attributes)

    def end(self, name: str) -> None:
        if not self.skipped_from:
            self.tree.end(name)
        elif self.skipped_from == self.depth:
            self.skipped_from = 0
        self.depth -= 1

    def text(self, text: str) -> None:
        if not self.skipped_from:
            self.tree.data(text)


def _content(source: Path | bytes) -> bytes:
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise FormatError(f"cannot be read: {error.strerror or error}", path=source) from error
    else:
        data = source
    if not data.startswith(_ZIP_START):
        return data
    with Archive(source) as archive:
        container = parse_xml(archive.read(_CONTAINER))
        rootfile = container.find("rootfiles/rootfile")
        name = None if rootfile is None else rootfile.get("full-path")
        if name is None:
            raise FormatError(f"{_CONTAINER} names no rootfile")
        return archive.read(name)


def _parts(root: Element) -> dict[str, list[Element]]:
    parts: dict[str, list[Element]] = {}
    silence = Element("measure")
    if root.tag == "score-partwise":
        for part in root.findall("part"):
            name = part.get("id", "")
            if name in parts:
                raise FormatError(f"two parts have the id {name[:40]!r}")
            parts[name] = part.findall("measure")
    elif root.tag == "score-timewise":
        for index, measure in enumerate(root.findall("measure")[: MAX_MEASURES + 1]):
            for part in measure.findall("part")[: MAX_PARTS + 1]:
                contents = parts.setdefault(part.get("id", ""), [])
                contents += [silence] * (index - len(contents))
                part.attrib.update(measure.attrib)
                contents.append(part)
                if len(parts) > MAX_PARTS:
                    break
    else:
        raise FormatError(
            f"the root element is {root.tag[:40]!r}; score-partwise and score-timewise are allowed"
        )
    if not any(parts.values()):
        raise FormatError("the score has no measures")
    count = max(map(len, parts.values()))
    if len(parts) > MAX_PARTS or count > MAX_MEASURES or len(parts) * count > MAX_BARS:
        raise FormatError(f"more than {MAX_PARTS} parts, {MAX_MEASURES} measures, or {MAX_BARS} of all parts")
    for contents in parts.values():
        contents.extend([silence] * (count - len(contents)))
    return parts
