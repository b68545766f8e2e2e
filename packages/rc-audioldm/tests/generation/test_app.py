"""The page in a real browser, and the studio behind it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import soundfile
import torch

from pentatonic.errors import PentatonicError, UsageError
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.clap import ClapEncoder
from rc_audioldm.generation.finish import ModelNote
from rc_audioldm.ledger.files import read_ledger
from rc_audioldm.model import AudioLDM

pytest.importorskip("gradio")
pytest.importorskip("matplotlib")

from rc_audioldm.app.page import Start, _Desk, build_page, launch
from rc_audioldm.app.reference import MAX_REFERENCE_S, MAX_UPLOAD_BYTES, read_reference
from rc_audioldm.app.sessions import MOST_SESSIONS, Session, Sessions, StoppedByUser
from rc_audioldm.app.studio import Studio, Wanted

# Inside gradio.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.*")

NOTE = ModelNote("tiny <b>model</b>", "", "CC BY-NC-SA 4.0")
SECONDS = 0.01675
PAGE = b"<!doctype html><html><script>alert(1)</script></html>"
VALUES: dict[str, Any] = {
    "prompt": "drum",
    "negative": "",
    "mode": "automatic",
    "strength": 1.0,
    "neighbours": 2,
    "licence": "unknown",
    "seconds": SECONDS,
    "steps": 2,
    "guidance": 3.0,
    "seed": 1,
}
slow = threading.Event()
"""While it is set, each step waits for a while."""


@pytest.fixture(scope="module")
def studio(models: dict[str, AudioLDM], clap: ClapEncoder, bank: StyleBank) -> Studio:
    return Studio(models["audioldm"], NOTE, clap, bank)


@pytest.fixture(scope="module")
def address(studio: Studio) -> Iterator[str]:
    hook = studio.model.unet.register_forward_pre_hook(lambda *_: time.sleep(0.2) if slow.is_set() else None)
    page = build_page(studio, Start(SECONDS, 2))
    yield launch(page)
    page.close(verbose=False)
    hook.remove()


@pytest.fixture
def recording(clips: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a clip under another name, as uploads are deleted."""

    def copy(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes((clips / "flute.wav").read_bytes())
        return path

    return copy


def make(studio: Studio, reference: Path | None = None, *, compare: bool = False, **values: Any) -> Any:
    assert studio.clap is not None
    clip = None if reference is None else read_reference(reference, studio.clap.sample_rate)
    wanted = Wanted.of(VALUES | values, clip)
    return studio.make(wanted, lambda *_: None, compare=compare)


def test_a_reference_shapes_the_clip_and_strength_0_is_the_prompt_alone(
    studio: Studio, recording: Any, tmp_path: Path
) -> None:
    alone = make(studio, mode="prompt")
    none = make(studio, recording("mine.wav"), strength=0.0)
    styled = make(studio, recording("mine.wav"))
    assert torch.equal(alone.result.audio, none.result.audio)
    assert not torch.equal(alone.result.audio, styled.result.audio)
    assert none.sources == () and len(styled.sources) == 2
    assert all(each.sound is not None and len(each.sound) > 500 for each in styled.sources)
    (tmp_path / "made.wav").write_bytes(styled.wav)
    ledger = read_ledger(tmp_path / "made.wav")
    assert ledger == styled.ledger and [each.role for each in ledger.influences] == ["retrieved"] * 2
    assert json.loads(styled.sidecar)["verdict"] == ledger.verdict


def test_a_reference_without_a_bank_is_credited_as_it_was_sent(studio: Studio, recording: Any) -> None:
    import hashlib

    path = recording("mine.wav")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    made = make(replace(studio, bank=None), path, licence="CC BY 4.0")
    (influence,) = made.ledger.influences
    assert (influence.clip, influence.sha256, influence.licence) == ("mine.wav", sha256, "CC BY 4.0")
    assert made.sources[0].sound is not None
    assert not path.exists()


def test_strengths_are_compared(studio: Studio) -> None:
    steps: list[tuple[int, int]] = []
    made = studio.make(Wanted.of(VALUES, None), lambda *each: steps.append(each), compare=True)
    assert steps == [(1, 2), (2, 2)] * 4
    assert list(made.strengths) == [0.0, 0.5, 1.0] and len(set(made.strengths.values())) == 3
    assert made.likeness is not None and [dose.strength for dose in made.likeness.doses] == [0.0, 0.5, 1.0]
    assert all(dose.timbre is not None for dose in made.likeness.doses)
    with pytest.raises(UsageError, match="add a reference clip"):
        make(replace(studio, bank=None), compare=True)


def test_modes_are_those_that_are_possible(studio: Studio, models: Any, state_adapter: Any) -> None:
    def names(studio: Studio) -> list[str]:
        return [name for _, name in studio.modes]

    assert names(studio) == ["automatic", "prompt", "clap-in", "augment", "audio-init"]
    assert names(replace(studio, bank=None)) == ["automatic", "prompt", "clap-in", "audio-init"]
    assert names(replace(studio, bank=None, clap=None)) == ["prompt"]
    second = replace(studio, model=models["audioldm2"])
    assert {"lm-mix", "lm-concat"} < set(names(second)) and "adapter" not in names(second)
    assert "adapter" in names(replace(second, adapter=state_adapter))


@pytest.mark.parametrize("name", ["strength", "seconds", "steps", "guidance", "seed", "neighbours"])
def test_numbers_that_no_control_gives(studio: Studio, name: str) -> None:
    desk = _Desk(studio)
    for value in (float("nan"), "2", None, True):
        said = desk.make(VALUES | {name: value}, Session(), None, compare=False)
        assert isinstance(said, str) and "allowed: a number from" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": " "}, "Write what you want to hear first."),
        ({"mode": "../x"}, "mode is '../x'; allowed: prompt"),
        ({"mode": "lm-mix"}, "which audioldm cannot do"),
        ({"prompt": "x" * 100_000}, "more than"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_sentence(studio: Studio, values: Any, said: str) -> None:
    answer = _Desk(studio).make(VALUES | values, Session(), None, compare=False)
    assert isinstance(answer, str) and said in answer


@pytest.mark.parametrize(
    ("content", "reason"),
    [(PAGE, "x.wav: "), (b"", "x.wav: "), (b"RIFF" + bytes(60), "x.wav: ")],
    ids=["page", "empty", "damaged"],
)
def test_a_reference_that_is_no_audio_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(PentatonicError) as caught:
        read_reference(path, 16000)
    assert str(caught.value).startswith(reason) and str(tmp_path) not in str(caught.value)
    assert not path.exists()


def test_a_long_or_silent_reference_is_refused(tmp_path: Path) -> None:
    for seconds, level, reason in ((MAX_REFERENCE_S + 1, 0.5, "longest allowed"), (1.0, 0.0, "is silent")):
        path = tmp_path / "x.flac"
        soundfile.write(path, torch.full((int(8000 * seconds),), level).numpy(), 8000)
        with pytest.raises(PentatonicError, match=reason):
            read_reference(path, 16000)


def test_sessions_are_apart_and_bounded() -> None:
    sessions = Sessions()
    first, second = sessions.open("a"), sessions.open("b")
    first.stop.set()
    second.check()
    with pytest.raises(StoppedByUser):
        sessions.open("a").check()
    sessions.close("b")
    assert sessions.find("b") is None and second.stop.is_set()
    for number in range(MOST_SESSIONS):
        sessions.open(str(number))
    assert len(sessions) == MOST_SESSIONS and sessions.find("a") is None


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
        page.set_default_timeout(120_000)
        page.goto(address)
        page.get_by_role("button", name="Generate", exact=True).wait_for()
        return page

    yield visit
    slow.clear()
    for context in contexts:
        context.close()
    assert complaints == []


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def wait_for_status(page: Any, start: str) -> None:
    page.wait_for_function(
        "start => document.querySelector('#status').innerText.trim().startsWith(start)", arg=start
    )


def generate(page: Any, prompt: str, button: str = "Generate") -> bytes:
    """Make a clip, and return its file."""
    page.locator("#prompt textarea").fill(prompt)
    press(page, button)
    page.locator("#status").get_by_text("Finished").wait_for(state="detached")
    wait_for_status(page, "Finished")
    page.get_by_role("tab", name="Clip").click()
    player = page.locator("#clip audio")
    player.wait_for()
    return base64.b64decode(player.get_attribute("src").split(",")[1])


def send(page: Any, path: Path) -> None:
    page.locator("#upload input, input#upload, input[type=file]").first.set_input_files(path)


def sound(wav: bytes, folder: Path) -> list[Any]:
    (folder / "x.wav").write_bytes(wav)
    return soundfile.read(folder / "x.wav")[0].tolist()


def test_a_clip_is_made_heard_and_taken_home(visit: Any, address: str, tmp_path: Path) -> None:
    page = visit(address)
    wav = generate(page, 'drum <img src=x onerror="alert(1)">')
    assert len(sound(wav, tmp_path)) == 268
    assert page.locator("#clip img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    page.wait_for_function("document.querySelector('#clip audio').readyState >= 1")
    with page.expect_download() as download:
        page.get_by_role("link", name="WAV with its ledger inside").click()
    assert download.value.suggested_filename == "clip.wav"
    assert Path(download.value.path()).read_bytes() == wav
    ledger = read_ledger(tmp_path / "x.wav")
    with page.expect_download() as download:
        page.get_by_role("link", name="ledger as JSON").click()
    assert json.loads(Path(download.value.path()).read_bytes())["prompt"] == ledger.prompt
    page.get_by_role("tab", name="What shaped it").click()
    shown = page.locator("#ledger").inner_text()
    assert "What may be done with this clip is not known." in shown and "ask for the licence" in shown
    assert all(each.clip in shown for each in ledger.influences)
    assert page.locator("#ledger audio").count() == len(ledger.influences) == 4
    assert 'Uses the sound "violin.wav", licensed under CC BY 4.0' in shown


def test_a_reference_counts_in_its_own_session_only(
    visit: Any, address: str, recording: Any, tmp_path: Path
) -> None:
    first, second = visit(address), visit(address)
    before = generate(first, "drum")
    first.get_by_role("button", name="Reference clip").click()
    page_file = tmp_path / "page.wav"
    page_file.write_bytes(PAGE)
    send(first, page_file)
    first.locator("#reference").get_by_text("page.wav: ").wait_for()
    assert sound(generate(first, "drum"), tmp_path) == sound(before, tmp_path)
    send(first, recording("a<b>&.wav"))
    first.locator("#reference").get_by_text("1.0 s").wait_for()
    after = generate(first, "drum")
    assert sound(after, tmp_path) != sound(before, tmp_path)
    assert second.locator("#clip audio").count() == 0
    assert sound(generate(second, "drum"), tmp_path) == sound(before, tmp_path)
    press(first, "Remove it")
    first.locator("#reference").get_by_text("There is no reference.").wait_for()
    assert sound(generate(first, "drum"), tmp_path) == sound(before, tmp_path)


def test_strengths_are_heard_side_by_side(visit: Any, address: str) -> None:
    page = visit(address)
    generate(page, "drum", "Compare strengths 0, ½, 1")
    page.get_by_role("tab", name="Strengths compared").click()
    players = page.locator("#comparison audio")
    assert players.count() == 3
    assert len({player.get_attribute("src") for player in players.all()}) == 3
    assert "timbre, to the reference" in page.locator("#comparison").inner_text()


def test_a_clip_is_stopped_while_another_session_waits(visit: Any, address: str) -> None:
    first, second = visit(address), visit(address)
    slow.set()
    first.get_by_role("button", name="More").click()
    first.get_by_label("number input for Steps").fill("200")
    first.locator("#prompt textarea").fill("drum")
    press(first, "Generate")
    first.wait_for_function("/step [0-9]+ of 200/.test(document.querySelector('#status').innerText)")
    second.locator("#prompt textarea").fill("bass")
    press(second, "Generate")
    press(first, "Stop")
    wait_for_status(first, "Stopped.")
    assert first.locator("#clip audio").count() == 0
    wait_for_status(second, "Finished")


@pytest.mark.parametrize(
    ("path", "status"),
    [("config", 200), ("gradio_api/file=/etc/passwd", 403), ("gradio_api/file=pyproject.toml", 403)],
)
def test_no_file_of_the_server_can_be_asked_for(address: str, path: str, status: int) -> None:
    assert answer(f"{address}{path}") == status


def test_only_the_page_itself_may_use_the_server(address: str) -> None:
    for headers in ({"Origin": "https://example.org"}, {"Host": "example.org"}):
        assert answer(Request(f"{address}config", headers=headers)) == 403
        assert answer(Request(f"{address}gradio_api/upload", b"", headers)) == 403


def test_large_uploads_are_refused(address: str) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for size, status in ((1000, 200), (MAX_UPLOAD_BYTES + 1000, 413)):
        sent = Request(f"{address}gradio_api/upload", head + b"a" * size + b"\r\n--x--\r\n", form)
        assert answer(sent) == status


def answer(asked: str | Request) -> int:
    """Status of the answer."""
    try:
        with urlopen(asked, timeout=60) as response:
            return response.status
    except HTTPError as error:
        return error.code
