"""Engraving: pages that stand alone, hold the notes they were given, and never take the program down."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import pytest

from notagen.engraving import engrave, pdf_bytes
from pentatonic.errors import InputError, MissingExtra, UsageError

SVG = "{http://www.w3.org/2000/svg}"
PITCHES = ("C4", "E4", "G4", "C5")


def score(*, measures: int = 1, parts: int = 1, words: str = "Andante") -> bytes:
    """MusicXML: four quarters a measure, a chord symbol, a metronome mark and words in the first."""
    listed = "".join(
        f'<score-part id="P{i}"><part-name>Violin {i}</part-name></score-part>' for i in range(parts)
    )
    head = (
        "<attributes><divisions>1</divisions><key><fifths>1</fifths></key>"
        "<time><beats>4</beats><beat-type>4</beat-type></time>"
        "<clef><sign>G</sign><line>2</line></clef></attributes>"
        "<direction><direction-type><metronome><beat-unit>quarter</beat-unit><per-minute>96</per-minute>"
        "</metronome></direction-type></direction>"
        f"<direction><direction-type><words>{words}</words></direction-type></direction>"
        "<harmony><root><root-step>B</root-step><root-alter>-1</root-alter></root>"
        '<kind text="m7">minor-seventh</kind></harmony>'
    )
    notes = "".join(
        f"<note><pitch><step>{name[0]}</step><octave>{name[1]}</octave></pitch><duration>1</duration>"
        "<type>quarter</type></note>"
        for name in PITCHES
    )
    bars = "".join(
        f'<measure number="{n}">{head if n == 1 else ""}{notes}</measure>' for n in range(1, measures + 1)
    )
    body = "".join(f'<part id="P{i}">{bars}</part>' for i in range(parts))
    return f'<score-partwise version="4.0"><part-list>{listed}</part-list>{body}</score-partwise>'.encode()


@pytest.fixture(scope="module")
def pages() -> list[str]:
    pytest.importorskip("verovio")
    return engrave(score(measures=50, parts=2))


def view_box(page: str) -> list[float]:
    return [float(n) for n in ET.fromstring(page).attrib["viewBox"].split()]


def text_of(page: str) -> str:
    return " ".join("".join(text.itertext()) for text in ET.fromstring(page).iter(f"{SVG}text"))


def test_pages_hold_all_notes_and_are_cut_below_the_last_system(pages: list[str]) -> None:
    heads = [page.count('class="notehead"') for page in pages]
    assert len(pages) > 1
    assert sum(heads) == 50 * 2 * len(PITCHES)
    assert all(view_box(page)[2] == 2100 for page in pages)
    assert view_box(pages[0])[3] <= 2970
    (short,) = engrave(score())
    assert view_box(short)[3] < 700


def test_pages_stand_alone(pages: list[str]) -> None:
    seen: set[str] = set()
    for page in pages:
        ids = [element.attrib["id"] for element in ET.fromstring(page).iter() if "id" in element.attrib]
        assert len(set(ids)) == len(ids)
        assert not seen & set(ids)
        seen |= set(ids)
        for element in ET.fromstring(page).iter():
            assert element.tag.removeprefix(SVG) not in {"script", "foreignObject", "image", "a"}
            assert not [name for name in element.attrib if name.startswith("on")]
            reference = element.get("{http://www.w3.org/1999/xlink}href") or element.get("href") or "#"
            assert reference[0] == "#"
        assert "@font-face" not in page
        assert "Leipzig" not in text_of(page)


def test_same_music_gives_the_same_pages() -> None:
    pytest.importorskip("verovio")
    assert engrave(score()) == engrave(score())


def test_signs_of_the_music_font_are_outlines() -> None:
    pytest.importorskip("verovio")
    (page,) = engrave(score())
    root = ET.fromstring(page)
    groups = {g.get("class"): g for g in root.iter(f"{SVG}g")}
    for kind, shown in (("tempo", "\xa0=\xa096"), ("harm", "Bm7")):
        assert "".join(groups[kind].itertext()) == shown
        (outline,) = groups[kind].findall(f"{SVG}path")
        assert outline.attrib["d"].startswith("M")
        # The sign stands between the text before it and the text after it.
        (line,) = groups[kind].findall(f"{SVG}text")
        (sign_x,) = re.findall(r"translate\((\d+)", outline.attrib["transform"])
        later = [float(run.attrib["x"]) for run in line.iter(f"{SVG}tspan") if "x" in run.attrib]
        assert float(line.attrib["x"]) <= float(sign_x) < min(later)
    assert not [c for c in page if 0xE000 <= ord(c) < 0xF900]


def test_a_sign_stands_where_the_text_before_it_ends() -> None:
    pytest.importorskip("verovio")
    mark = b"<direction-type><words>Allegro moderato</words></direction-type><direction-type><metronome>"
    (page,) = engrave(score().replace(b"<direction-type><metronome>", mark, 1))
    tempo = next(g for g in ET.fromstring(page).iter(f"{SVG}g") if g.get("class") == "tempo")
    text, sign = tempo[0], tempo[1]
    size = float(
        next(run.attrib["font-size"] for run in text.iter(f"{SVG}tspan") if run.text).removesuffix("px")
    )
    (sign_x,) = re.findall(r"translate\((\d+)", sign.attrib["transform"])
    # Its letters and the space after them are 7.776 times as wide as the type is large, in bold Times.
    assert (float(sign_x) - float(text.attrib["x"])) / size == pytest.approx(7.776, abs=0.03)


def test_hostile_words_stay_text() -> None:
    pytest.importorskip("verovio")
    (page,) = engrave(score(words="&lt;script&gt;alert(1)&lt;/script&gt;"))
    assert "<script>alert(1)</script>" in text_of(page)
    assert f"{SVG}script" not in [element.tag for element in ET.fromstring(page).iter()]


@pytest.mark.parametrize("document", [b"", b"X:1\nK:C\nCDEF|\n", b"<svg/>", b"\xff\xfe", b"<score-partwise>"])
def test_what_is_no_musicxml_is_an_input_error(document: bytes) -> None:
    pytest.importorskip("verovio")
    with pytest.raises(InputError, match="engraving"):
        engrave(document)


def test_a_process_that_hangs_or_crashes_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("verovio")
    program = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(program))

    def runs(body: str) -> None:
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)

    runs("exec sleep 60")
    with pytest.raises(InputError, match=r"stopped after 0\.2 s"):
        engrave(score(), timeout_s=0.2)
    runs("kill -SEGV $$")
    with pytest.raises(InputError, match="SIGSEGV"):
        engrave(score())
    runs("echo first >&2; echo 'no space' >&2; exit 3")
    with pytest.raises(InputError, match="status 3: no space"):
        engrave(score())


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_time_limit_is_positive(timeout_s: float) -> None:
    with pytest.raises(UsageError, match="timeout_s"):
        engrave(score(), timeout_s=timeout_s)


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verovio", None)
    monkeypatch.setitem(sys.modules, "cairocffi", None)
    with pytest.raises(MissingExtra, match=r"notagen\[engrave\]"):
        engrave(score())
    with pytest.raises(MissingExtra, match=r"notagen\[engrave\]"):
        pdf_bytes(["<svg/>"])


# --- PDF --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cairo")
def test_pdf_has_a_page_of_a4_for_each_page(pages: list[str]) -> None:
    data = pdf_bytes(pages)
    assert data.startswith(b"%PDF-")
    assert re.findall(rb"MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", data) == len(pages) * [
        (b"595.275591", b"841.889764")
    ]


@pytest.mark.usefixtures("cairo")
@pytest.mark.parametrize(("box", "corner"), [((2100, 1485), (1.0, 0.5)), ((2100, 5940), (0.5, 1.0))])
def test_pdf_page_fills_the_width_or_the_height_of_the_paper(
    box: tuple[int, int], corner: tuple[float, float]
) -> None:
    """A page is scaled evenly; a rectangle over all of it ends at the stated share of the paper."""
    width, height = box
    drawn = f'<rect x="0" y="0" width="{width}" height="{height}" fill="red"/>'
    page = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{drawn}</svg>'
    assert _painted(pdf_bytes([page])) == pytest.approx(corner, abs=2e-3)


def _painted(data: bytes) -> tuple[float, float]:
    """Extent of the one filled rectangle of a PDF, as a share of A4."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    drawing = next(text for s in streams if b" re" in (text := zlib.decompress(s)))
    ((width, height),) = re.findall(rb"0 0 ([\d.]+) ([\d.]+) re f", drawing)
    return float(width) / 595.276, float(height) / 841.89


def test_pdf_without_pages_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one page"):
        pdf_bytes([])
