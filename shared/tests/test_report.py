"""The report is one well-formed page that escapes all text, needs no network, and works in a real browser."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from pentatonic import report as report_module
from pentatonic.errors import (
    AudioError,
    AudioFileNotFound,
    AudioLimitExceeded,
    CheckpointError,
    FormatError,
    MissingExtra,
    NonFiniteAudio,
    UnsupportedFormat,
    UsageError,
)
from pentatonic.report import Dot, Report, SoundMap, check_page, is_embeddable

Until = Callable[[Any, str], None]

SAMPLE_RATE = 8000
HOSTILE = (
    "</title></script><script>alert(1)</script><img src=x onerror=alert(2)> \"' onload=alert(3) &lt; <!--"
)
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A page as elements with their attributes and text; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[SimpleNamespace] = []
        self._open: list[SimpleNamespace] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[element.tag for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> repeats an attribute"
        element = SimpleNamespace(tag=tag, attrs=dict(attrs), text="")
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> closes nothing"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[SimpleNamespace]:
        return [element for element in self.elements if element.tag == tag]

    def one(self, tag: str) -> SimpleNamespace:
        (element,) = self.all(tag)
        return element


def new_report(title: str = "Title") -> Report:
    return Report(title, command="omar-rq embed a.wav", versions={"torch": "2.11.0"})


def tone(seconds: float) -> np.ndarray:
    return 0.1 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def svg(size: str, *, namespace: str = "http://www.w3.org/2000/svg") -> str:
    return f'<svg xmlns="{namespace}" {size}><rect width="9" height="9"/></svg>'


def written(report: Report, folder: Path) -> str:
    report.write(folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def page_of(report: Report, folder: Path) -> Page:
    return Page(written(report, folder))


def embedded(page: Page, tag: str) -> tuple[str, bytes]:
    head, _, body = page.one(tag).attrs["src"].partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(body, validate=True)


@pytest.fixture
def full_report() -> Report:
    """One of everything, with hostile text wherever text goes."""
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2, 3])
    report = Report(HOSTILE, command=HOSTILE, versions={HOSTILE: HOSTILE})
    report.heading(HOSTILE)
    report.text(f"{HOSTILE}\n\nsecond")
    report.table([{HOSTILE: HOSTILE, "n": 1.0}], HOSTILE)
    player = report.audio(tone(0.1), HOSTILE, sample_rate=SAMPLE_RATE)
    report.links([(HOSTILE, player, 0.05)])
    report.sound_map(SoundMap((90, 60), [Dot((1, 2), HOSTILE, (HOSTILE,), player, HOSTILE)]), HOSTILE)
    report.figure(figure, HOSTILE)
    report.listing(HOSTILE, HOSTILE)
    return report


# --- safety -----------------------------------------------------------------------------------------------


def test_hostile_text_stays_text(full_report: Report, tmp_path: Path) -> None:
    page = page_of(full_report, tmp_path)
    assert len(page.all("script")) == 3  # the data, that of the map, and our own code
    assert [image.attrs["src"][:5] for image in page.all("img")] == ["data:"]
    for element in page.elements:
        assert not [name for name in element.attrs if name.startswith("on") or name == "style"]
    for tag in ("h1", "h2", "caption", "bdi", "code", "text"):
        assert page.one(tag).text == HOSTILE, tag
    assert [title.text for title in page.all("title")] == [HOSTILE] * 2  # of the page and of a dot
    assert page.all("figcaption")[0].text == HOSTILE
    assert json.loads(page.all("script")[0].text)[0]["about"] == [HOSTILE]
    assert page.all("p")[0].text == HOSTILE
    assert page.all("th")[0].text == HOSTILE
    assert [player.attrs["aria-label"] for player in page.all("audio")] == [HOSTILE] * 2
    assert page.one("img").attrs["alt"] == HOSTILE


def test_page_refers_to_nothing_outside(full_report: Report, tmp_path: Path) -> None:
    html = written(full_report, tmp_path)
    assert not re.search(r"https?:|//[a-z0-9]+\.|@import|url\(", html.replace("data:", ""), re.IGNORECASE)
    for element in Page(html).elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert element.attrs.get(name, "data:").startswith(("data:", "#")), element


def test_policy_allows_exactly_our_style_and_script(full_report: Report, tmp_path: Path) -> None:
    page = page_of(full_report, tmp_path)
    (policy,) = (m.attrs["content"] for m in page.all("meta") if "http-equiv" in m.attrs)
    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    code = [script for script in page.all("script") if "type" not in script.attrs]

    def source(element: SimpleNamespace) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()}'"

    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "style-src": source(page.one("style")),
        "script-src": source(code[0]),
    }


def test_policy_comes_before_anything_it_governs(full_report: Report, tmp_path: Path) -> None:
    tags = [element.tag for element in page_of(full_report, tmp_path).elements]
    assert tags[:5] == ["html", "head", "meta", "meta", "meta"]
    assert tags.index("title") > 4
    assert tags.index("style") > 4


def test_data_survive_as_json(full_report: Report, tmp_path: Path) -> None:
    (island,) = (
        s for s in page_of(full_report, tmp_path).all("script") if s.attrs.get("id") == "report-data"
    )
    assert "<" not in island.text
    data = json.loads(island.text)
    assert data["title"] == data["command"] == HOSTILE
    assert data["versions"] == {HOSTILE: HOSTILE}
    assert data["tables"] == [{"caption": HOSTILE, "rows": [{HOSTILE: HOSTILE, "n": 1.0}]}]


def test_characters_that_html_forbids_are_replaced(tmp_path: Path) -> None:
    page = page_of(new_report("a\x00b\x1b\udcff\u304b"), tmp_path)
    assert page.one("h1").text == "a\ufffdb\ufffd\ufffd\u304b"


# --- content ----------------------------------------------------------------------------------------------


def test_footer_holds_the_command_and_the_versions(tmp_path: Path) -> None:
    page = page_of(new_report(), tmp_path)
    assert page.one("code").text == "omar-rq embed a.wav"
    assert page.one("li").text == "torch 2.11.0"


def test_empty_lines_separate_paragraphs(tmp_path: Path) -> None:
    report = new_report()
    report.text("one\ntwo\n \nthree\n\n")
    assert [p.text for p in page_of(report, tmp_path).all("p")][:2] == ["one\ntwo", "three"]


def test_table_shows_all_columns_and_keeps_full_precision(tmp_path: Path) -> None:
    report = new_report()
    report.table(
        [
            {"name": "a", "score": np.float32(0.5), "seen": True},
            {"name": "b", "score": 1 / 3, "n": torch.tensor(123456)},
            {"name": Path("c"), "score": float("nan"), "n": 12345.678},
        ],
        "Scores",
    )
    page = page_of(report, tmp_path)
    assert [th.text for th in page.all("th")] == ["name", "score", "seen", "n"]
    assert [td.text for td in page.all("td")] == [
        *("a", "0.5", "yes", "–"),  # noqa: RUF001
        *("b", "0.3333", "–", "123456"),  # noqa: RUF001
        *("c", "nan", "–", "12346"),  # noqa: RUF001
    ]
    assert ["class" in cell.attrs for cell in page.all("th") + page.all("td")] == 4 * [
        False,
        True,
        False,
        True,
    ]
    rows = json.loads(page.all("script")[0].text)["tables"][0]["rows"]
    assert rows[1] == {"name": "b", "score": 1 / 3, "seen": None, "n": 123456}
    assert rows[2]["score"] is None


def test_table_without_rows_keeps_its_caption(tmp_path: Path) -> None:
    report = new_report()
    report.table([], "No matches")
    page = page_of(report, tmp_path)
    assert page.one("caption").text == "No matches"
    assert page.all("td") == []


@pytest.mark.parametrize(
    ("suffix", "media_type"), [("wav", "audio/wav"), ("flac", "audio/flac"), ("ogg", "audio/ogg")]
)
def test_audio_files_are_embedded_as_they_are(suffix: str, media_type: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(0.2), SAMPLE_RATE)
    renamed = path.rename(tmp_path / "a.bin")  # the content decides
    report = new_report()
    assert report.audio(renamed, "tone") == "player-1"
    assert embedded(page_of(report, tmp_path), "audio") == (media_type, renamed.read_bytes())
    assert is_embeddable(renamed)
    in_memory = new_report()
    in_memory.audio(renamed.read_bytes(), "tone")
    assert page_of(in_memory, tmp_path).one("audio").attrs == page_of(report, tmp_path).one("audio").attrs


@pytest.mark.parametrize("kind", ["numpy", "stereo", "tensor", "bfloat16"])
def test_samples_are_embedded_as_16_bit_wav(kind: str, tmp_path: Path) -> None:
    mono = np.array([0.0, 0.5, -1.0, 2.0])
    samples: Any = {
        "numpy": mono,
        "stereo": np.stack([mono, -mono]),
        "tensor": torch.tensor(mono, requires_grad=True),
        "bfloat16": torch.tensor(mono, dtype=torch.bfloat16),
    }[kind]
    report = new_report()
    report.audio(samples, "tone", sample_rate=SAMPLE_RATE)
    media_type, data = embedded(page_of(report, tmp_path), "audio")
    read, sample_rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert (media_type, sample_rate) == ("audio/wav", SAMPLE_RATE)
    assert soundfile.info(io.BytesIO(data)).subtype == "PCM_16"
    assert read[:, 0].tolist() == [0, 16384, -32768, 32767]  # beyond full scale is clipped, never wrapped
    assert read.shape == (4, 2 if kind == "stereo" else 1)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.zeros(4, dtype=np.int16), AudioError, "samples are int16"),
        (np.zeros((100, 2)), AudioError, r"shape \(100, 2\)"),
        (np.zeros((1, 1, 9)), AudioError, r"shape \(1, 1, 9\)"),
        (np.zeros(0), AudioError, r"shape \(1, 0\)"),
        (np.array([0.0, np.nan]), NonFiniteAudio, "NaN"),
    ],
)
def test_samples_that_are_no_sound_are_refused(
    samples: np.ndarray, error: type[AudioError], message: str
) -> None:
    with pytest.raises(error, match=message):
        new_report().audio(samples, "tone", sample_rate=SAMPLE_RATE)


def test_samples_without_a_rate_are_refused() -> None:
    with pytest.raises(UsageError, match="sample_rate"):
        new_report().audio(tone(0.1), "tone")


def test_local_files_are_played_where_they_are(tmp_path: Path) -> None:
    report = section("local")
    player = report.local_audio("file:///music/caf%E9%20%22.mp3", HOSTILE)
    report.links([("start", player, 1.0)])
    path = tmp_path / "index.html"
    report.add_to(path)
    section("other").add_to(path)
    page = Page(path.read_text())
    (policy,) = (m.attrs["content"] for m in page.all("meta") if "http-equiv" in m.attrs)
    assert "media-src data: file:;" in policy
    assert [element.attrs["src"][:27] for element in page.all("audio")][1] == "file:///music/caf%E9%20%22."
    section("local").add_to(path)
    assert "file:" not in path.read_text().partition("<body>")[0]


@pytest.mark.parametrize(
    "url", ["http://x/a.mp3", "file://host/a", "javascript:x", 'file:///a"b', "file:///a b", "file:///é"]
)
def test_addresses_that_are_no_local_files_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not the file: URL"):
        new_report().local_audio(url, "x")


def test_files_that_browsers_do_not_play_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"<html>")
    with pytest.raises(UnsupportedFormat, match="WAV, FLAC and Ogg"):
        new_report().audio(tmp_path / "a.wav", "tone")
    with pytest.raises(UnsupportedFormat, match=r"a tone: .*WAV, FLAC and Ogg"):
        new_report().audio(b"<html>", "a tone")
    assert not is_embeddable(tmp_path / "a.wav")
    with pytest.raises(AudioFileNotFound, match="no such file"):
        new_report().audio(tmp_path / "b.wav", "tone")


def test_sound_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "MAX_AUDIO_BYTES", 1000)
    soundfile.write(tmp_path / "a.wav", tone(0.1), SAMPLE_RATE)
    with pytest.raises(AudioLimitExceeded, match="1000 bytes"):
        new_report().audio(tmp_path / "a.wav", "tone")
    with pytest.raises(AudioLimitExceeded, match="1000 bytes"):
        new_report().audio(tone(0.1), "tone", sample_rate=SAMPLE_RATE)


def test_figure_is_a_sharp_png_with_its_size(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(3, 2))
    figure.subplots().plot([0, 1])
    report = new_report()
    report.figure(figure, "A rising line")
    page = page_of(report, tmp_path)
    media_type, data = embedded(page, "img")
    pixels = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    image = page.one("img").attrs
    assert media_type == "image/png"
    assert data.startswith(b"\x89PNG")
    assert (int(image["width"]), int(image["height"])) == (pixels[0] // 2, pixels[1] // 2)
    assert pixels[0] > 400


def test_figure_of_another_kind_is_refused() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match="not str"):
        new_report().figure("plot.png", "A plot")  # pyright: ignore[reportArgumentType]


def test_links_name_player_and_time(tmp_path: Path) -> None:
    report = new_report()
    first = report.audio(tone(0.1), "first", sample_rate=SAMPLE_RATE)
    second = report.audio(tone(0.1), "second", sample_rate=SAMPLE_RATE)
    report.links([("chorus", second, 83.25), ("start", first, 0)])
    page = page_of(report, tmp_path)
    assert [
        (a.attrs["href"], a.attrs["data-player"], a.attrs["data-time"], a.text) for a in page.all("a")
    ] == [
        ("#player-2", "player-2", "83.25", "1:23.2 chorus"),
        ("#player-1", "player-1", "0.0", "0:00.0 start"),
    ]
    assert [audio.attrs["id"] for audio in page.all("audio")] == [first, second]


@pytest.mark.parametrize(
    ("player", "time_s"), [("player-2", 1.0), ("player-1", -1.0), ("player-1", float("nan"))]
)
def test_links_to_nowhere_are_refused(player: str, time_s: float) -> None:
    report = new_report()
    report.audio(tone(0.1), "tone", sample_rate=SAMPLE_RATE)
    with pytest.raises(UsageError, match="links"):
        report.links([("label", player, time_s)])


def test_pages_of_svg_are_images_of_their_size(tmp_path: Path) -> None:
    report = new_report()
    report.svg([svg('viewBox="0 0 2100 600"'), svg('width="30px" height="19.6"')], "Two bars")
    page = page_of(report, tmp_path)
    shown = [(i.attrs["alt"], i.attrs["width"], i.attrs["height"]) for i in page.all("img")]
    assert shown == [("Two bars, page 1 of 2", "2100", "600"), ("Two bars, page 2 of 2", "30", "20")]
    head, _, body = page.all("img")[0].attrs["src"].partition(";base64,")
    assert (head, base64.b64decode(body).decode()) == ("data:image/svg+xml", svg('viewBox="0 0 2100 600"'))


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<svg",
        svg("", namespace="http://example.org"),
        svg(""),
        svg('viewBox="0 0 1"'),
        svg('viewBox="0 0 9 0"'),
        svg('viewBox="0 0 9 nan"'),
        "<!DOCTYPE svg>" + svg('viewBox="0 0 9 9"'),
    ],
)
def test_what_is_not_svg_is_refused(page: str) -> None:
    with pytest.raises(UsageError, match="page 1"):
        new_report().svg([page], "A page")


def test_listing_is_folded_and_escaped(tmp_path: Path) -> None:
    report = new_report()
    report.listing(f"X:1\n  {HOSTILE}", HOSTILE)
    page = page_of(report, tmp_path)
    assert page.one("summary").text == HOSTILE
    assert page.all("pre")[0].text == f"X:1\n  {HOSTILE}"
    assert "open" not in page.one("details").attrs


# --- sections ---------------------------------------------------------------------------------------------


def section(name: str, title: str = HOSTILE, *, command: str = "omar-rq embed") -> Report:
    report = Report(title, command=command, versions={"torch": "2.11.0"}, section=name)
    player = report.audio(tone(0.01), "tone", sample_rate=SAMPLE_RATE)
    report.links([("start", player, 0)])
    report.table([{"n": 1}], HOSTILE)
    return report


def test_sections_share_a_page(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    section("").write(path)
    section("notagen", "Pieces", command="notagen demo").add_to(path)
    page = Page(path.read_text())
    assert [h.text for h in page.all("h1")] == [HOSTILE, "Pieces"]
    assert page.one("title").text == f"{HOSTILE} \N{EN DASH} Pieces"
    assert [code.text for code in page.all("code")] == ["omar-rq embed", "notagen demo"]
    ids = [element.attrs["id"] for element in page.elements if "id" in element.attrs]
    assert len(set(ids)) == len(ids) == 6
    assert [a.attrs["href"] for a in page.all("a")] == [
        *("#section", "#notagen-section"),
        *("#player-1", "#notagen-player-1"),
    ]
    assert all(a.attrs["href"][1:] in ids for a in page.all("a"))
    data = [json.loads(s.text)["title"] for s in page.all("script") if "type" in s.attrs]
    assert data == [HOSTILE, "Pieces"]


def test_a_section_alone_is_a_page(tmp_path: Path) -> None:
    section("notagen").add_to(tmp_path / "new" / "a.html")
    page = Page((tmp_path / "new" / "a.html").read_text())
    assert page.one("h1").text == page.one("title").text == HOSTILE
    assert page.all("nav") == []


def test_a_section_replaces_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    for name in ("a", "b", "c"):
        section(name, f"old {name}").add_to(path)
    before = path.read_text()
    section("b", "old b").add_to(path)
    assert path.read_text() == before
    section("b", "new b").add_to(path)
    assert [h.text for h in Page(path.read_text()).all("h1")] == ["old a", "new b", "old c"]
    assert path.read_text() == before.replace("old b", "new b")
    section("", "alone").write(path)
    assert [h.text for h in Page(path.read_text()).all("h1")] == ["alone"]


def test_titles_of_other_sections_keep_their_characters(tmp_path: Path) -> None:
    title = 'a "b" <!-- section: x --> & \x00\udcff <!-- end of section -->\n'
    section("one", title).add_to(tmp_path / "a.html")
    section("two", "second").add_to(tmp_path / "a.html")
    section("two", "third").add_to(tmp_path / "a.html")
    page = Page((tmp_path / "a.html").read_text())
    expected = title.replace("\x00\udcff", "\ufffd\ufffd")
    assert [h.text for h in page.all("h1")] == [expected, "third"]
    assert page.one("title").text == f"{expected} \N{EN DASH} third"


@pytest.mark.parametrize("harm", ["empty", "other", "cut", "edited", "grown", "bytes", "unclosed"])
def test_files_that_no_report_wrote_are_left_alone(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    section("a").add_to(path)
    page = path.read_bytes()
    harmed = {
        "empty": b"",
        "other": b"<!doctype html><title>mine</title>",
        "cut": page[:-20],
        "edited": page.replace(b"default-src", b"script-src *; default-src"),
        "grown": page + b"<script>alert(1)</script>",
        "bytes": b"\xff\xfe" + page,
        "unclosed": page.replace(b"<!-- end of section -->", b""),
    }[harm]
    path.write_bytes(harmed)
    with pytest.raises(FormatError, match=r"index\.html: is not a report"):
        section("b").add_to(path)
    with pytest.raises(FormatError, match=r"index\.html: is not a report"):
        check_page(path)
    assert path.read_bytes() == harmed


def test_pages_that_can_get_a_section(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    check_page(path)
    assert not path.exists()
    section("a").add_to(path)
    page = path.read_bytes()
    check_page(path)
    assert path.read_bytes() == page


def test_section_names_are_plain(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="section"):
        section('a"b')
    with pytest.raises(UsageError, match="needs a name"):
        section("").add_to(tmp_path / "a.html")


# --- files and extras -------------------------------------------------------------------------------------


def test_same_content_gives_the_same_bytes(full_report: Report, tmp_path: Path) -> None:
    assert written(full_report, tmp_path / "a") == written(full_report, tmp_path / "b")


def test_write_replaces_the_old_page_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    new_report("first").write(path)
    assert "first" in path.read_text()

    def full_disk(*_: Path) -> Path:
        raise OSError(28, "No space left on device")

    broken = new_report("second")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        with pytest.raises(CheckpointError, match=r"report\.html: No space left on device"):
            broken.write(path)
    assert "first" in path.read_text()
    broken.write(path)
    assert "second" in path.read_text()
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]


def test_missing_jinja2_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"pentatonic\[report\]"):
        new_report()


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    report = new_report()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"pentatonic\[report\]"):
        report.figure(SimpleNamespace(), "A plot")  # pyright: ignore[reportArgumentType]


# --- maps -------------------------------------------------------------------------------------------------


def test_a_map_has_its_dots_and_their_sounds(tmp_path: Path) -> None:
    report = new_report()
    report.text("above")
    place = report.place
    player = report.audio(tone(0.1), "one", sample_rate=SAMPLE_RATE)
    dots = [
        Dot((1, 2), "grey", ("Grey", "A"), "file:///m/a.ogg"),
        Dot((3, 4), "1. blue", ("Blue",), player, "1", (5, 6), 1),
        Dot((7, 8), "mute", ("Mute",)),
    ]
    report.sound_map(
        SoundMap((90, 60), dots, area=[(0, 0), (1, 0), (1, 2)], line=[(3, 4)]), "The map", place=place
    )
    html = written(report, tmp_path)
    page = Page(html)
    assert html.index("above") < html.index("<svg") < html.index(f'id="{player}"')
    circles = page.all("circle")
    assert [(each.attrs["cx"], each.attrs["class"]) for each in circles] == [
        ("1.0", "accent-0"),
        ("3.0", "accent-1"),
        ("7.0", "accent-0"),
    ]
    assert [each.attrs.get("tabindex") for each in circles] == [None, "0", None]
    assert [each.text for each in page.all("title")[1:]] == ["grey", "1. blue", "mute"]
    assert page.one("text").text == "1" and page.one("text").attrs["x"] == "5.0"
    assert page.one("polygon").attrs["points"] == "0.0,0.0 1.0,0.0 1.0,2.0 "
    data = json.loads(page.all("script")[0].text)
    assert [each["sound"] for each in data] == ["file:///m/a.ogg", player, ""]
    assert data[0]["about"] == ["Grey", "A"]
    assert "media-src data: file:;" in html


def test_a_map_of_embedded_sounds_may_not_read_files(tmp_path: Path) -> None:
    report = new_report()
    player = report.audio(tone(0.1), "one", sample_rate=SAMPLE_RATE)
    report.sound_map(SoundMap((9, 9), [Dot((1, 1), ' data-plays="file:', ("x",), player, "1")]), "map")
    assert "media-src data:;" in written(report, tmp_path)


@pytest.mark.parametrize("sound", ["player-9", "http://x/a.ogg", "javascript:alert(1)", "file:///a b", "x"])
def test_a_dot_has_no_other_sound(sound: str) -> None:
    with pytest.raises(UsageError, match="of a dot is neither"):
        new_report().sound_map(SoundMap((9, 9), [Dot((1, 1), "a", ("a",), sound)]), "map")


# --- a real browser ---------------------------------------------------------------------------------------


def test_browser_plays_from_a_time_link(
    browser: Any, until: Until, full_report: Report, tmp_path: Path
) -> None:
    player = full_report.audio(tone(20), "long", sample_rate=SAMPLE_RATE)
    full_report.links([("late", player, 12.5)])
    full_report.write(tmp_path / "report.html")
    page = browser.new_page()
    said: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: said.append(message.text))  # policy violations are console errors
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requested.append(request.url.split(":")[0]))
    page.goto((tmp_path / "report.html").as_uri())

    audio = page.locator(f"#{player}")
    assert audio.evaluate("player => player.currentTime") == 0
    page.get_by_role("link", name="late").click()
    until(page, f"document.getElementById('{player}').currentTime >= 12.5")
    assert audio.evaluate("player => player.currentTime < 15 && !player.paused")
    # The style sheet was let in by its hash, and another player silences this one.
    assert page.locator("body").evaluate("body => getComputedStyle(body).overflowWrap") == "anywhere"
    page.locator("audio").first.evaluate("player => { player.loop = true; return player.play(); }")
    until(page, f"document.getElementById('{player}').paused")
    assert said == []
    assert set(requested) <= {"file", "data"}
