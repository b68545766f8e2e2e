"""The browser demo in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
import torch

from notagen.model import NotaGen, NotaGenConfig
from notagen.prompts import Prompt
from notagen.weights import load_file
from pentatonic.errors import UsageError

pytest.importorskip("gradio")

from notagen.app.page import MAX_UPLOAD_BYTES, _SessionWriter, build_app, launch
from pentatonic.server import UPLOAD_QUOTA_BYTES

# Inside gradio.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.*")

GOLDENS = Path(__file__).parent / "goldens" / "generation_e2e"
LEARNT = json.loads((GOLDENS / "cases.json").read_text())["cases"][1]["original"]
PROMPTS = (
    Prompt("Classical", "Anon, A.", "Art Song"),
    Prompt("Classical", "Nobody", "Choral"),
    Prompt("Romantic", "Nobody", "Keyboard"),
)
TUNE = "X:1\nL:1/8\nM:4/4\nK:C\nCDEF GABc|c8|]\n"


def serve(model: NotaGen) -> Iterator[str]:
    app = build_app(model.eval(), PROMPTS)
    yield launch(app)
    app.close(verbose=False)


@pytest.fixture(scope="module")
def learnt() -> Iterator[str]:
    """Address of a demo whose model knows one piece by heart."""
    yield from serve(load_file(GOLDENS / "weights.safetensors"))


@pytest.fixture(scope="module")
def endless() -> Iterator[str]:
    """Address of a demo whose model has learnt nothing."""
    torch.manual_seed(0)
    yield from serve(
        NotaGen(NotaGenConfig(patch_layers=1, char_layers=1, width=16, heads=1, patch_length=1024))
    )


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """``visit(address) -> page``, each a session of its own; fails on errors and on requests to other hosts."""
    complaints: list[str] = []
    contexts = []

    def visit(address: str) -> Any:
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith((address, "data:", "blob:")) else complaints.append(asked.url)
            ),
        )
        page.set_default_timeout(60_000)
        page.goto(address)
        page.get_by_role("button", name="Write", exact=True).wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def text_of(page: Any, box: str) -> str:
    return page.locator(f"#{box} textarea").input_value()


def set_number(page: Any, label: str, value: int) -> None:
    page.get_by_label(label, exact=True).fill(str(value))


def wait_for_status(page: Any, start: str) -> str:
    page.wait_for_function(
        "start => document.querySelector('#status textarea').value.startsWith(start)",
        arg=start,
    )
    return text_of(page, "status")


def wait_for_text(page: Any, characters: int) -> str:
    page.wait_for_function("n => document.querySelector('#live textarea')?.value.length >= n", arg=characters)
    return text_of(page, "live")


def start_from(page: Any, text: str) -> None:
    page.get_by_role("button", name="Start from").click()
    page.locator("#start textarea").fill(text)


def test_a_piece_is_written_seen_heard_and_taken_home(visit: Any, learnt: str) -> None:
    page = visit(learnt)
    set_number(page, "Bars", 3)
    press(page, "Write")
    assert wait_for_status(page, "Finished") == "Finished, 3 bars"
    score = page.locator("#score img").first
    score.wait_for()
    assert score.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    assert page.evaluate("atob(document.querySelector('#score img').src.split(',')[1])").count("<svg") >= 1
    sound = page.locator("#media audio")
    page.wait_for_function("document.querySelector('#media audio').readyState >= 1")
    assert sound.evaluate("player => player.duration") > 3
    heads = {"ABC": b"X:1\n", "MusicXML": b"<?xml", "MIDI": b"MThd", "SVG 1": b"<"}
    for name, head in heads.items():
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        assert Path(download.value.path()).read_bytes().startswith(head), name
        assert download.value.suggested_filename.startswith("notagen-0")
    page.get_by_role("tab", name="As it is written").click()
    assert text_of(page, "live") == LEARNT
    page.get_by_role("tab", name="Check").click()
    assert "3 bars, well-formed" in page.locator("#check").inner_text()


def test_a_changed_text_is_engraved(visit: Any, learnt: str) -> None:
    page = visit(learnt)
    page.get_by_role("tab", name="ABC").click()
    page.locator("#abc textarea").fill(TUNE.replace("c8", '"^${1+1}{{2}}<b>" c9 |c8'))
    press(page, "Engrave this text")
    page.locator("#score img").first.wait_for()
    page.get_by_role("tab", name="Check").click()
    assert "3 bars, 1 error" in page.locator("#check").inner_text()
    page.get_by_role("tab", name="ABC").click()
    page.locator("#abc textarea").fill("K:C\n<img src=x onerror=alert(1)> ${alert(2)} {{alert(3)}}")
    press(page, "Engrave this text")
    page.locator("#score p").wait_for()
    assert page.locator("#score img").count() == 0 and page.locator("#media a").count() == 1


def test_text_grows_and_cancel_ends_it_in_one_session_only(visit: Any, endless: str) -> None:
    first, second = visit(endless), visit(endless)
    set_number(second, "Seed", 1)
    for page in (first, second):
        set_number(page, "Bars", 5000)
        press(page, "Write")
    shown = [wait_for_text(page, 300) for page in (first, second)]
    assert shown[0] != shown[1] and all(
        text.startswith("%Classical\n%Anon, A.\n%Art Song\n") for text in shown
    )
    assert wait_for_text(first, len(shown[0]) + 200).startswith(shown[0][:200])
    press(first, "Cancel")
    assert wait_for_status(first, "Cancelled")
    still = len(text_of(second, "live"))
    assert wait_for_text(second, still + 200) and text_of(second, "status").startswith("Writing")
    ended = text_of(first, "live")
    press(second, "Cancel")
    assert wait_for_status(second, "Cancelled") and text_of(first, "live") == ended


def test_closing_the_page_ends_its_piece(visit: Any, browser: Any) -> None:
    torch.manual_seed(0)
    model = NotaGen(NotaGenConfig(patch_layers=1, char_layers=1, width=16, heads=1, patch_length=1024)).eval()
    steps = []
    model.patch_decoder.register_forward_pre_hook(lambda *_: steps.append(time.monotonic()))
    for address in serve(model):
        page = visit(address)
        set_number(page, "Bars", 5000)
        press(page, "Write")
        wait_for_text(page, 300)
        page.close()
        ended = time.monotonic() + 60
        while time.monotonic() - steps[-1] < 1.0:
            assert time.monotonic() < ended, "it goes on without a reader"
            time.sleep(0.1)


def test_starting_from_a_tune(visit: Any, learnt: str, tmp_path: Path) -> None:
    page = visit(learnt)
    (tmp_path / "tune.abc").write_text(TUNE)
    (tmp_path / "broken.musicxml").write_text("<score-partwise><part>")
    (tmp_path / "large.abc").write_text("%\n" * 2_000_000)
    start_from(page, "")
    page.locator("#upload input, input#upload, input[type=file]").first.set_input_files(tmp_path / "tune.abc")
    wait_for_status(page, "Read tune.abc")
    assert text_of(page, "start") == TUNE
    set_number(page, "Bars", 2)
    press(page, "Write")
    page.locator("#score img").first.wait_for()
    assert "CDEF GABc" in text_of(page, "live")
    page.locator("#start textarea").fill("X:1\nL:1/8\nM:4/4\nK:Q\nCDEF GABc|(c8|")
    press(page, "Write")
    said = wait_for_status(page, "The text to start from")
    assert said.startswith("The text to start from: K: key 'Q' does not start with A to G or none")


@pytest.mark.parametrize(
    ("path", "status"),
    [("config", 200), ("gradio_api/file=/etc/passwd", 403), ("gradio_api/file=pyproject.toml", 403)],
)
def test_no_file_of_the_server_can_be_asked_for(learnt: str, path: str, status: int) -> None:
    assert answer(f"{learnt}{path}") == status


def test_large_uploads_are_refused(learnt: str) -> None:
    end = b"\r\n--x--\r\n"
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.abc"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for size, status in ((1000, 200), (MAX_UPLOAD_BYTES + 1000, 413)):
        sent = Request(f"{learnt}gradio_api/upload", head + b"a" * size + end, form)
        assert answer(sent) == status


def test_only_the_page_itself_may_use_the_server(learnt: str) -> None:
    port = urlsplit(learnt).port
    for headers in (
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Host": f"example.org:{port}"},
        {"Host": f"example.org:{port}", "Origin": f"http://example.org:{port}"},
    ):
        assert answer(Request(f"{learnt}config", headers=headers)) == 403
        assert answer(Request(f"{learnt}gradio_api/upload", b"", headers)) == 403
    assert answer(Request(f"{learnt}config", headers={"Origin": learnt.rstrip("/")})) == 200


def test_uploads_that_nobody_reads_have_a_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    app = build_app(load_file(GOLDENS / "weights.safetensors"), ())
    address = launch(app, uploads=tmp_path)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.abc"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    size = MAX_UPLOAD_BYTES - 1000
    answers = []
    for number in range(40):  # each with a content of its own, or gradio stores it once
        body = head + str(number).encode().ljust(size, b"a") + b"\r\n--x--\r\n"
        answers.append(answer(Request(f"{address}gradio_api/upload", body, form)))
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    app.close(verbose=False)  # deletes them
    assert answers == [200] * answers.count(200) + [413] * answers.count(413)
    assert answers.count(413) > 5
    assert 0.9 * UPLOAD_QUOTA_BYTES < stored <= UPLOAD_QUOTA_BYTES


@pytest.mark.parametrize("name", ["top_k", "top_p", "temperature", "seconds", "bars", "seed"])
def test_numbers_that_no_slider_gives(name: str) -> None:
    values: dict[str, Any] = {
        "top_k": 9,
        "top_p": 0.9,
        "temperature": 1.2,
        "seconds": 60,
        "bars": 2,
        "seed": 0,
    }
    values |= {"period": "", "composer": "", "instrumentation": "", "start": "", "constrained": True}
    writer = _SessionWriter(load_file(GOLDENS / "weights.safetensors"), ())
    (news,) = writer.write(values | {name: float("nan")}, "session")
    assert "is nan; allowed: a number from" in news["status"]
    assert writer.running == {}


def test_a_login_is_asked_for() -> None:
    app = build_app(load_file(GOLDENS / "weights.safetensors"), ())
    address = launch(app, login=("me", "secret"))
    assert answer(f"{address}config") == 401
    app.close(verbose=False)


def test_a_taken_port_is_named(learnt: str) -> None:
    app = build_app(load_file(GOLDENS / "weights.safetensors"), ())
    port = urlsplit(learnt).port
    assert port is not None
    with pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1, port {port}") as caught:
        launch(app, port=port)
    assert "GRADIO" not in str(caught.value) and "launch()" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_verb_serves_until_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    shutil.copy(GOLDENS / "weights.safetensors", tmp_path)
    program = "from notagen.cli import main; main()"
    words = [
        sys.executable,
        "-c",
        program,
        "demo",
        "--model",
        str(tmp_path / "weights.safetensors"),
        "--port",
        "0",
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[3]
        assert answer(f"{address}config") == 200
        assert len(list(tmp_path.glob("notagen-*"))) == 1
        process.send_signal(number)
        assert process.wait(30) == 130
    assert list(tmp_path.glob("notagen-*")) == []


def answer(asked: str | Request) -> int:
    """Status of the answer."""
    try:
        with urlopen(asked, timeout=20) as response:
            return response.status
    except HTTPError as error:
        return error.code


def test_names_depend_on_each_other(visit: Any, learnt: str) -> None:
    page = visit(learnt)

    def choices(label: str) -> list[str]:
        page.get_by_label(label, exact=True).click()
        found = page.get_by_role("option").all_inner_texts()
        page.keyboard.press("Escape")
        page.get_by_role("listbox").wait_for(state="detached")
        return [each.replace("✓", "").strip() for each in found]

    assert choices("Composer") == ["Anon, A.", "Nobody"]
    page.get_by_label("Period", exact=True).click()
    page.get_by_role("option", name="Romantic").click()
    page.get_by_role("listbox").wait_for(state="detached")
    page.wait_for_function("[...document.querySelectorAll('input')].some(box => box.value == 'Keyboard')")
    assert choices("Composer") == ["Nobody"] and choices("Instrumentation") == ["Keyboard"]
    before = page.get_by_label("Seed", exact=True).input_value()
    press(page, "Other seed")
    page.wait_for_function(
        "before => [...document.querySelectorAll('input[type=number]')].every(box => box.value != before)",
        arg=before,
    )
