"""What :mod:`notagen.engraving` runs in a child process: MusicXML in, SVG pages out.

Verovio sets metronome marks and the accidentals of chord symbols in a music font that readers do not have; they
become outlines here, so that a page only needs a font with serifs.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

from pentatonic.child_process import Message
from pentatonic.errors import InputError

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_MUSIC_FONT = "Leipzig"
_UNKNOWN_WIDTH = 0.5
_TITLE_SCALE = 1.6
# Kinds of text that the style sheet of a page sets in bold or italic.
_BOLD = frozenset({"ending", "fing", "reh", "tempo"})
_ITALIC = frozenset({"dir", "dynam", "mNum"})
_OPTIONS = {
    # Tenths of a millimetre: A4, cut below the last system.
    "pageWidth": 2100,
    "pageHeight": 2970,
    "adjustPageHeight": True,
    **{f"pageMargin{side}": 100 for side in ("Left", "Right", "Top", "Bottom")},
    "breaks": "auto",
    "footer": "none",
    "systemDivider": "none",
    "font": _MUSIC_FONT,
    "smuflTextFont": "none",
    "svgFormatRaw": True,
    "svgViewBox": True,
    # Names inside a page depend on the music alone, and differ between pieces.
    "xmlIdChecksum": True,
}


def engrave_document(request: Message) -> Message:
    """Engrave a score in the child process.

    Args:
        request: Its ``data`` is a MusicXML document, UTF-8.

    Returns:
        The pages as ``value``, a list of SVG documents.

    Raises:
        InputError: Verovio does not read it.
    """
    try:
        return Message(engrave_pages(request.data.decode()))
    except ValueError as error:  # also where it is not UTF-8
        raise InputError(f"engraving: {error}") from error


def engrave_pages(musicxml: str) -> list[str]:
    """Engrave a score in this process.

    Args:
        musicxml: A MusicXML document.

    Returns:
        One SVG document per page; its ``viewBox`` is in tenths of a millimetre.

    Raises:
        ValueError: Verovio does not read it.
    """
    import verovio

    toolkit = verovio.toolkit()
    toolkit.setInputFrom("musicxml")
    toolkit.setOptions(_OPTIONS)
    loaded = toolkit.loadData(musicxml)
    pages = [toolkit.renderToSVG(number) for number in range(1, toolkit.getPageCount() + 1)] if loaded else []
    if not any('class="measure"' in page for page in pages):
        raise ValueError("verovio finds no measure in this MusicXML")
    resources = Path(toolkit.getResourcePath())
    return [_standalone(page, number, resources) for number, page in enumerate(pages, 1)]


def _standalone(page: str, number: int, resources: Path) -> str:
    """Free a page of the music font and of ids that other pages have too."""
    name = ET.fromstring(page).attrib["id"]  # noqa: S314 - verovio's own output, here and below
    root = ET.fromstring(page.replace(name, f"{name}-{number}"))  # noqa: S314
    for element in root.iter():
        if name not in element.get("id", name):  # neither the page nor the outline of a sign
            del element.attrib["id"]
    for group in root.iter(f"{{{_SVG}}}g"):
        for text in group.findall(f"{{{_SVG}}}text"):
            if any(run.get("font-family") == _MUSIC_FONT for run in text.iter()):
                group.extend(_outlines(text, group.get("class", ""), resources))
    _enlarge_title(root)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return ET.tostring(root, encoding="unicode")


def _enlarge_title(root: ET.Element) -> None:
    """Print the first centred line of the page head larger; verovio ignores the sizes that MusicXML states.

    There is room for it in the margin above.
    """
    head = root.find(f".//{{{_SVG}}}g[@class='pgHead']")
    lines = [] if head is None else head.findall(f"{{{_SVG}}}text")
    titles = (line for line in lines if any(run.get("text-anchor") == "middle" for run in line.iter()))
    for run in next(titles, ET.Element("text")).iter(f"{{{_SVG}}}tspan"):
        if size := run.get("font-size", "").removesuffix("px"):
            run.set("font-size", f"{_TITLE_SCALE * float(size):g}px")


def _outlines(text: ET.Element, kind: str, resources: Path) -> list[ET.Element]:
    """Take the characters of the music font out of a line of text, and return them as paths."""
    style = "".join(("-bold" * (kind in _BOLD), "-italic" * (kind in _ITALIC)))
    x, y = float(text.get("x", "0")), text.get("y", "0")
    paths: list[ET.Element] = []
    for run in text.iter(f"{{{_SVG}}}tspan"):
        x, y = float(run.get("x", x)), run.get("y", y)
        if not run.text:
            continue
        size = float(run.get("font-size", "0").removesuffix("px"))
        musical = run.get("font-family") == _MUSIC_FONT
        widths = _widths(resources / (f"{_MUSIC_FONT}.xml" if musical else f"text/Times{style}.xml"))
        if not musical and paths:
            run.set("x", f"{x:.0f}")  # a reader's font may be wider; the text starts where the sign ends
        for character in run.text:
            if musical and (outline := _outline(resources, ord(character))):
                move = f"translate({x:.0f}, {y}) scale({size / 1000:g}, {-size / 1000:g})"
                paths.append(ET.Element(f"{{{_SVG}}}path", d=outline, transform=move))
            x += size * widths.get(character, _UNKNOWN_WIDTH)
        if musical:
            run.text = None
    return paths


@cache
def _widths(path: Path) -> dict[str, float]:
    """Widths of the characters of a font that verovio brings, for size 1."""
    font = ET.parse(path).getroot()  # noqa: S314
    em = float(font.attrib["units-per-em"])
    widths = {
        chr(int(g.attrib["c"], 16)): float(g.get("h-a-x", float(g.attrib["x"]) + float(g.attrib["w"]))) / em
        for g in font
    }
    return widths | {"\xa0": widths.get(" ", _UNKNOWN_WIDTH)}


@cache
def _outline(resources: Path, code: int) -> str:
    path = resources / _MUSIC_FONT / f"{code:04X}.xml"
    if not path.is_file():
        return ""
    return " ".join(shape.attrib["d"] for shape in ET.parse(path).iter("path"))  # noqa: S314
