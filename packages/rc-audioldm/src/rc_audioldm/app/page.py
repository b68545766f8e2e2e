"""The page: its controls, and what happens when they are used.

Browser sessions are separate: results are sent to the session that asked and are not stored on the server, which offers
no files. Sounds, pictures and downloads are ``data:`` addresses in the page.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pentatonic import page_server
from pentatonic.errors import MissingExtra, PentatonicError, UsageError
from rc_audioldm.app.reference import MAX_REFERENCE_S, MAX_UPLOAD_BYTES, read_reference
from rc_audioldm.app.sessions import Session, Sessions, StoppedByUser
from rc_audioldm.app.studio import (
    MAX_GUIDANCE,
    MAX_NEIGHBOURS,
    MAX_SECONDS,
    MAX_STEPS,
    Made,
    Studio,
    Wanted,
)
from rc_audioldm.generation.requests import DEFAULT_STRENGTH
from rc_audioldm.prompts.files import MAX_PROMPT_CHARACTERS

try:
    import gradio as gr

    from rc_audioldm.app.results import clip_html, comparison_html, ledger_html, message_html, reference_html
except ImportError as error:
    raise MissingExtra("The page in the browser", "rc-audioldm[app]") from error

NAME = "RC-AudioLDM"
PASSWORD_VARIABLE = "RC_AUDIOLDM_PASSWORD"  # noqa: S105 - the name of a variable
_MAX_WAITING = 16
_PROGRESS = gr.Progress()  # gradio finds it among the default values of an event's function
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_LICENCES = ["unknown", "public domain", "CC0 1.0", "CC BY 4.0", "CC BY-SA 4.0", "CC BY-NC 4.0"]
_CLIP, _COMPARISON = "clip", "comparison"
_STYLE = """
.gradio-container { max-width: 1400px !important; }
#title { margin-bottom: -0.4rem; }
#status .meta-text { top: auto; bottom: 0; }
#status { min-height: 5.5rem; padding: 0.5rem 0.7rem; border-radius: 6px;
  background: var(--background-fill-secondary); }
#clip audio, #comparison audio, #ledger audio { width: 100%; min-width: 12rem; height: 2.4rem; }
#clip img { width: 100%; margin: 0.8rem 0; border-radius: 4px; background: white; }
#clip a { margin-left: 0.9rem; }
#ledger h4 { margin: 1.1rem 0 0.4rem; font-weight: 600; }
#ledger ul { list-style: disc; margin-left: 1.2rem; }
#ledger pre { white-space: pre-wrap; padding: 0.6rem; border-radius: 4px;
  background: var(--background-fill-secondary); font-size: 0.8rem; }
#ledger table, #comparison table { width: 100%; border: none; border-collapse: collapse; font-size: 0.88rem; }
#ledger td, #ledger th, #comparison td, #comparison th { padding: 0.35rem 0.6rem; text-align: left; border: none;
  border-bottom: 1px solid var(--border-color-primary); vertical-align: middle; font-weight: 400; }
#ledger tr:first-child th, #comparison tr:first-child th { font-weight: 600; }
#comparison td audio { min-width: 7rem; }
.verdict { font-weight: 600; padding: 0.5rem 0.8rem; border-radius: 6px; border-left: 5px solid #8a8a8a;
  background: var(--background-fill-secondary); margin-bottom: 0.5rem; }
.verdict.publishable { border-color: #2e8b57; }
.verdict.non-commercial { border-color: #c8641e; }
.warning, .error { color: #b3261e; }
.dark .warning, .dark .error { color: #ff9a8f; }
.about { opacity: 0.8; }
"""


@dataclass(frozen=True)
class Start:
    """What the controls say when the page opens; the length and the steps of a small model are its own.

    Args:
        seconds: Length of the clip.
        steps: Of denoising.
    """

    seconds: float = 10.0
    steps: int = 25


def serve(
    studio: Studio,
    start: Start | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7862,
    user: str | None = None,
    password: str | None = None,
) -> None:
    """Run the page until it is interrupted, and print its address.

    Args:
        studio: Makes the clips.
        start: What the controls say at first.
        host: Address to listen on.
        port: Port to listen on; 0: any free one.
        user: User name of the login; None: no login.
        password: Password of the login; None: no login.

    Raises:
        UsageError: As :func:`pentatonic.page_server.serve`.
    """
    page_server.serve(
        lambda: build_page(studio, start),
        name=NAME,
        prefix="rc-audioldm-",
        host=host,
        port=port,
        user=user,
        password=password,
        variable=PASSWORD_VARIABLE,
        max_upload_bytes=MAX_UPLOAD_BYTES,
        style=_STYLE,
    )


def launch(page: gr.Blocks, *, uploads: Path | None = None, login: tuple[str, str] | None = None) -> str:
    """Serve a page on a free port of this machine in the background, and return its address.

    Args:
        page: The page.
        uploads: Folder of the uploads, whose size is limited; None: it is not.
        login: User name and password; None: no login.
    """
    return page_server.launch(
        page, uploads=uploads, login=login, max_upload_bytes=MAX_UPLOAD_BYTES, style=_STYLE
    )


def build_page(studio: Studio, start: Start | None = None) -> gr.Blocks:
    """Build the page.

    Args:
        studio: Makes the clips of all sessions, one at a time.
        start: What the controls say at first.
    """
    desk = _Desk(studio)
    with gr.Blocks(title=NAME, analytics_enabled=False, delete_cache=(600, 600), fill_width=True) as page:
        with gr.Row():
            with gr.Column(scale=1, min_width=340):
                controls, buttons = _controls(studio, start or Start()), _buttons(studio)
                status = gr.HTML(message_html("Ready."), elem_id="status")
            with gr.Column(scale=2, min_width=520):
                shown = {"status": status, **_results(studio)}
        _connect_making(page, desk, controls, buttons, shown)
        _connect_reference(desk, controls)
        buttons["dice"].click(lambda: random.randrange(2**32), None, controls["seed"], queue=False, **_QUIET)
    page.queue(max_size=_MAX_WAITING, api_open=False)
    return page


@dataclass
class _Desk:
    """Takes what sessions ask for, and gives the studio one clip after the other to make."""

    studio: Studio
    sessions: Sessions = field(default_factory=Sessions)

    def make(
        self, values: Mapping[str, Any], session: Session | None, tell: Any, *, compare: bool
    ) -> Made | str:
        """Return a clip, or in a sentence why there is none."""
        clips = 0

        def on_step(step: int, steps: int) -> None:
            nonlocal clips
            assert session is not None
            session.check()
            clips += step == 1
            which = f"sound {clips} of 4, " if compare else ""
            tell((step, steps), desc=f"{which}step {step} of {steps}", unit="steps")

        try:
            if session is None:
                raise StoppedByUser
            session.check()
            return self.studio.make(Wanted.of(values, session.reference), on_step, compare=compare)
        except StoppedByUser:
            return "Stopped."
        except PentatonicError as error:
            return str(error)
        except torch.OutOfMemoryError:
            return "The memory of the device is full; ask for fewer seconds."


def _controls(studio: Studio, start: Start) -> dict[str, Any]:
    """Lay out what can be asked for."""
    where = f"{studio.note.name} · licence of its weights: {studio.note.licence}"
    gr.Markdown(f"## {NAME}", elem_id="title")
    gr.HTML(message_html(where, "about"), padding=False)
    prompt = gr.Textbox(
        label="Prompt",
        placeholder="a slow warm cello phrase in a small room",
        lines=2,
        max_length=MAX_PROMPT_CHARACTERS,
        elem_id="prompt",
    )
    negative = gr.Textbox(
        label="What it shall not be", placeholder="noise, hiss", max_length=MAX_PROMPT_CHARACTERS
    )
    has_style = studio.clap is not None
    bank = studio.bank
    with gr.Group(visible=has_style):
        mode = gr.Dropdown(studio.modes, value=studio.modes[0][1], label="How the style is followed")
        strength = gr.Slider(
            0, 1, DEFAULT_STRENGTH, step=0.05, label="Strength of the style", info="0: the prompt alone"
        )
        most = MAX_NEIGHBOURS if bank is None else min(MAX_NEIGHBOURS, max(2, len(bank.clips)))
        neighbours = gr.Slider(
            1,
            most,
            min(most, studio.retrieval.neighbours),
            step=1,
            label="Clips of the bank in the style",
            visible=bank is not None,
        )
    with gr.Accordion("Reference clip", open=bank is None, visible=has_style):
        role = "The style is" if bank is None else "The style is what the bank has nearest to"
        reference = gr.HTML(
            message_html(f"{role} a clip of yours, of up to {MAX_REFERENCE_S:g} s."), elem_id="reference"
        )
        with gr.Row():
            upload = gr.UploadButton("Add a clip", size="sm", min_width=90, elem_id="upload")
            remove = gr.Button("Remove it", size="sm", min_width=90)
        licence = gr.Dropdown(
            _LICENCES, value="unknown", label="Its licence", allow_custom_value=True, elem_id="licence"
        )
    with gr.Row():
        low, high = min(1.0, start.seconds), MAX_SECONDS
        seconds = gr.Number(
            start.seconds,
            label="Seconds",
            info="length of the clip",
            minimum=low,
            maximum=high,
            min_width=110,
            step=1,
        )
        seed = gr.Number(42, label="Seed", info="same seed, same clip", precision=0, minimum=0, min_width=110)
    with gr.Accordion("More", open=False):
        steps = gr.Slider(
            1, MAX_STEPS, start.steps, step=1, label="Steps", info="more: slower, a little better"
        )
        guidance = gr.Slider(
            0, MAX_GUIDANCE, 3, step=0.5, label="Guidance", info="how strictly the prompt is followed"
        )
    return {
        "prompt": prompt,
        "negative": negative,
        "mode": mode,
        "strength": strength,
        "neighbours": neighbours,
        "licence": licence,
        "seconds": seconds,
        "steps": steps,
        "guidance": guidance,
        "seed": seed,
        "reference": reference,
        "upload": upload,
        "remove": remove,
    }


_NOT_ASKED = ("reference", "upload", "remove")


def _buttons(studio: Studio) -> dict[str, gr.Button]:
    with gr.Row():
        make = gr.Button("Generate", variant="primary", size="md", min_width=100)
        stop = gr.Button("Stop", size="md", min_width=70, interactive=False)
        dice = gr.Button("Other seed", size="md", min_width=90)
    compare = gr.Button("Compare strengths 0, ½, 1", size="md", visible=studio.clap is not None)
    return {"make": make, "compare": compare, "stop": stop, "dice": dice}


def _results(studio: Studio) -> dict[str, Any]:
    with gr.Tabs() as tabs:
        with gr.Tab("Clip", id=_CLIP):
            clip = gr.HTML(message_html("Your clip comes here."), elem_id="clip")
        with gr.Tab("What shaped it"):
            ledger = gr.HTML(
                message_html("The clips that shaped yours come here, with their licences."),
                elem_id="ledger",
            )
        with gr.Tab("Strengths compared", id=_COMPARISON, visible=studio.clap is not None):
            comparison = gr.HTML(
                message_html("One style at the strengths 0, ½ and 1, side by side."), elem_id="comparison"
            )
    return {"tabs": tabs, "clip": clip, "ledger": ledger, "comparison": comparison}


def _connect_making(
    page: gr.Blocks,
    desk: _Desk,
    controls: Mapping[str, Any],
    buttons: Mapping[str, gr.Button],
    shown: Mapping[str, Any],
) -> None:
    asked = {name: box for name, box in controls.items() if name not in _NOT_ASKED}
    turned = [buttons["make"], buttons["compare"], buttons["stop"]]

    def begin(request: gr.Request) -> list[Any]:
        desk.sessions.open(request.session_hash).stop.clear()
        free, busy = gr.Button(interactive=True), gr.Button(interactive=False)
        return [message_html("Waiting."), busy, busy, free]

    def end() -> list[gr.Button]:
        free, busy = gr.Button(interactive=True), gr.Button(interactive=False)
        return [free, free, busy]

    def show(made: Made | str, tab: str) -> dict[Any, Any]:
        if isinstance(made, str):
            return {shown["status"]: message_html(made, "" if made == "Stopped." else "error")}
        words = {
            "status": message_html(f"Finished in {made.result.seconds_taken:.1f} s."),
            "clip": clip_html(made),
            "ledger": ledger_html(made),
            "comparison": comparison_html(made),
            "tabs": gr.Tabs(selected=tab),
        }
        return {shown[name]: value for name, value in words.items()}

    def make(
        values: dict[Any, Any], request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> dict[Any, Any]:
        named = {name: values[box] for name, box in asked.items()}
        session = desk.sessions.find(request.session_hash)
        return show(desk.make(named, session, progress, compare=False), _CLIP)

    def compare(
        values: dict[Any, Any], request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> dict[Any, Any]:
        named = {name: values[box] for name, box in asked.items()}
        session = desk.sessions.find(request.session_hash)
        return show(desk.make(named, session, progress, compare=True), _COMPARISON)

    def stop(request: gr.Request) -> None:
        if (session := desk.sessions.find(request.session_hash)) is not None:
            session.stop.set()

    def close(request: gr.Request) -> None:
        desk.sessions.close(request.session_hash)

    for name, work in (("make", make), ("compare", compare)):
        buttons[name].click(begin, None, [shown["status"], *turned], queue=False, **_QUIET).then(
            work,
            set(asked.values()),
            list(shown.values()),
            concurrency_limit=1,
            concurrency_id="model",
            api_visibility="private",
            show_progress="full",  # the steps, or the place in the queue
            show_progress_on=shown["status"],
        ).then(end, None, turned, queue=False, **_QUIET)
    buttons["stop"].click(stop, None, None, queue=False, **_QUIET)
    page.unload(close)


def _connect_reference(desk: _Desk, controls: Mapping[str, Any]) -> None:
    def read(path: str, request: gr.Request) -> str:
        try:
            if desk.studio.clap is None:
                raise UsageError("this page follows no reference")
            clip = read_reference(Path(path), desk.studio.clap.sample_rate)
        except PentatonicError as error:
            return message_html(str(error), "error")
        desk.sessions.open(request.session_hash).reference = clip
        return reference_html(clip.name, clip.seconds)

    def remove(request: gr.Request) -> str:
        desk.sessions.open(request.session_hash).reference = None
        return message_html("There is no reference.")

    controls["upload"].upload(read, controls["upload"], controls["reference"], concurrency_limit=2, **_QUIET)
    controls["remove"].click(remove, None, controls["reference"], queue=False, **_QUIET)
