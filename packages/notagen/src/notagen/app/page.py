"""The browser demo: generate a piece, see it engraved, play it, edit it, continue it, and download it.

Browser sessions are separate: results are sent to the session and not stored on the server. Engraving, audio and
downloads are ``data:`` addresses in the page; the server offers no files.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from notagen.app.preview import preview
from notagen.codec import decode, encode_generate
from notagen.files.readable import readable
from notagen.files.reading import SCORE_SUFFIXES, read_piece
from notagen.generation.continuation import continuation
from notagen.generation.decoding import Limits, Request, stream
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen
from notagen.notation.bars import is_field
from notagen.notation.lines import is_music
from notagen.prompts import Prompt, find_prompt
from pentatonic import page_server
from pentatonic.errors import FormatError, MissingExtra, PentatonicError, UsageError
from pentatonic.server import finite

try:
    import gradio as gr
except ImportError as error:
    raise MissingExtra("The browser demo", "notagen[app]") from error

MAX_SECONDS = 300
"""Longest time limit of a piece."""

MAX_BARS = 10_000
MAX_UPLOAD_BYTES = 2**21
PASSWORD_VARIABLE = "NOTAGEN_PASSWORD"  # noqa: S105 - the name of a variable
MAX_CHARACTERS = 100_000
"""Longest text in a text box, and of a generated piece."""

_KINDS = ("period", "composer", "instrumentation")
_ENDINGS = {
    "finished": "Finished",
    "cancelled": "Cancelled",
    "characters": "Ended early (text limit reached)",
    "seconds": "Ended early (time limit reached)",
    "context": "Ended early (the model's context is full)",
}
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_AT_A_TIME, _MAX_WAITING = 2, 16
_INTERVAL_S = 0.15  # between two updates of an unfinished piece
_WRITING, _SCORE, _ABC, _CHECK = "writing", "score", "abc", "check"
_STYLE = """
.gradio-container { max-width: 1500px !important; }
#title { margin-bottom: -0.4rem; }
#live textarea, #abc textarea, #start textarea { font-family: ui-monospace, monospace; font-size: 0.82rem; }
#score .pages { max-height: 74vh; overflow-y: auto; background: white; color: #555;
  border: 1px solid var(--border-color-primary); border-radius: 4px; }
#score .pages p { padding: 1rem; }
#score img { width: 100%; display: block; }
#media { min-height: 0; }
#media audio { width: 100%; height: 2.4rem; }
#media p { margin: 0.4rem 0; }
#media a { margin-left: 0.8rem; }
#check table { width: 100%; font-size: 0.85rem; text-align: left; }
#check td { padding: 0.1rem 0.5rem; vertical-align: top; }
"""


def serve(
    model: NotaGen,
    prompts: Sequence[Prompt],
    *,
    host: str = "127.0.0.1",
    port: int = 7861,
    user: str | None = None,
    password: str | None = None,
    soundfont: Path | None = None,
) -> None:
    """Run the demo until it is interrupted, and print its address.

    Args:
        model: The model, in evaluation mode.
        prompts: Prompts that the model knows.
        host: Address to listen on.
        port: Port to listen on; 0: any free one.
        user: User name of the login; None: no login.
        password: Password of the login; None: no login.
        soundfont: As for :func:`notagen.sound.synth.render_audio`.

    Raises:
        UsageError: As :func:`pentatonic.page_server.serve`.
    """
    page_server.serve(
        lambda: build_app(model, prompts, soundfont),
        name="NotaGen",
        prefix="notagen-",
        host=host,
        port=port,
        user=user,
        password=password,
        variable=PASSWORD_VARIABLE,
        max_upload_bytes=MAX_UPLOAD_BYTES,
        style=_STYLE,
    )


def launch(
    app: gr.Blocks,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    login: tuple[str, str] | None = None,
    uploads: Path | None = None,
) -> str:
    """Start the server in the background, without a share link and without access to folders.

    Args:
        app: The page.
        host: Address to listen at.
        port: Port to listen on; 0: any free one.
        login: User name and password; None: no login.
        uploads: Folder of the uploads, whose size is limited; None: it is not.

    Returns:
        The address of the server.

    Raises:
        UsageError: As :func:`pentatonic.page_server.launch`.
    """
    return page_server.launch(
        app,
        host=host,
        port=port,
        login=login,
        uploads=uploads,
        max_upload_bytes=MAX_UPLOAD_BYTES,
        style=_STYLE,
    )


def build_app(model: NotaGen, prompts: Sequence[Prompt], soundfont: Path | None = None) -> gr.Blocks:
    """Build the page.

    Args:
        model: The model, in evaluation mode; all sessions use it.
        prompts: Prompts that the model knows; may be empty.
        soundfont: As for :func:`notagen.sound.synth.render_audio`.

    Returns:
        The page, for :func:`launch`.
    """
    writer = _SessionWriter(model, tuple(prompts), soundfont)
    with gr.Blocks(title="NotaGen", analytics_enabled=False, delete_cache=(600, 600), fill_width=True) as app:
        with gr.Row():
            with gr.Column(scale=1, min_width=330):
                settings, buttons = _controls(writer.prompts, model.sampling), _buttons()
                status = gr.Textbox(label="Status", interactive=False, lines=2, elem_id="status")
            with gr.Column(scale=2, min_width=500):
                shown = {"status": status, **_results()}
        _connect_writing(app, writer, settings, buttons, shown)
        _connect_settings(writer.prompts, settings, buttons, shown)
    app.queue(max_size=_MAX_WAITING, api_open=False)
    return app


@dataclass
class _SessionWriter:
    """Generates pieces for all sessions.

    Attributes:
        model: The model.
        prompts: Prompts that the model knows.
        soundfont: For the sound of pieces; None: the built-in synthesiser.
        running: Session -> event that stops its piece.
    """

    model: NotaGen
    prompts: tuple[Prompt, ...]
    soundfont: Path | None = None
    running: dict[str, threading.Event] = field(default_factory=dict)

    def stop(self, session: str | None) -> None:
        """Stop the piece of a session, if one is being generated."""
        if stop := self.running.get(str(session)):
            stop.set()

    def write(self, values: Mapping[str, Any], session: str | None) -> Iterator[dict[str, str]]:
        """Generate a piece; yield live text and status, and at the end the piece in standard layout."""
        self.stop(session)  # a session has one piece at a time
        stop = self.running[str(session)] = threading.Event()
        try:
            request = self.request(values)
            sampling = Sampling(
                int(finite("top k", values["top_k"], 0, 127)),
                finite("top p", values["top_p"], 0.05, 1.0),
                finite("temperature", values["temperature"], 0.1, 2.0),
            )
            seconds = finite("the time limit", values["seconds"], 1, MAX_SECONDS)
            limits = Limits(characters=MAX_CHARACTERS, seconds=seconds)
            text, shown_at, ending = decode(encode_generate(request.prompt)), 0.0, ""
            for update in stream(
                self.model,
                [request],
                sampling=sampling,
                limits=limits,
                constrained=values["constrained"],
                cancel=stop.is_set,
            ):
                text, ending = text + update.text, _ENDINGS.get(update.status or "", "")
                if time.monotonic() - shown_at > _INTERVAL_S:
                    shown_at = time.monotonic()
                    yield {"live": text, "status": f"Writing, {_bars(text)}"}
            yield {"live": text, "status": f"{ending}, {_bars(text)}", "abc": readable(text)}
        except FormatError as error:  # its line numbers are of the prompt, not of the text in the box
            yield {"status": f"The text to start from: {error.reason}"}
        except PentatonicError as error:
            yield {"status": str(error)}
        finally:
            if self.running.get(str(session)) is stop:
                del self.running[str(session)]

    def request(self, values: Mapping[str, Any]) -> Request:
        """Return the request for a prompt, header lines, or music to continue."""
        prompt, start = "", values["start"] or ""
        if names := [values[kind] for kind in _KINDS if values[kind]]:
            prompt = find_prompt(*names, known=self.prompts).text
        if len(start) > MAX_CHARACTERS:
            raise UsageError(f"the text to start from has {len(start)} characters; allowed: {MAX_CHARACTERS}")
        bars = int(finite("bars", values["bars"] or 0, 0, MAX_BARS)) or None
        seed = int(finite("seed", values["seed"] or 0, 0, 2**32 - 1))
        lines = [line for line in start.splitlines() if line.strip()]
        if all(is_field(line) or line.startswith("%") for line in lines):
            return Request(prompt + "".join(f"{line}\n" for line in lines), seed, bars)
        return Request(prompt + continuation(start, bars=bars), seed)


def _bars(text: str) -> str:
    count = sum(is_music(line) for line in text.splitlines())
    return "1 bar" if count == 1 else f"{count} bars"


def _controls(prompts: Sequence[Prompt], sampling: Sampling) -> dict[str, Any]:
    """Lay out the settings of a piece, with the sampling of the model."""
    gr.Markdown("## NotaGen\nSheet music, written note by note.", elem_id="title")
    first = prompts[0] if prompts else Prompt("", "", "")
    kinds = {}
    with gr.Group(visible=bool(prompts)):
        for kind in _KINDS:
            value = getattr(first, kind)
            kinds[kind] = gr.Dropdown(_choices(prompts, first, kind), value=value, label=kind.capitalize())
    with gr.Row():
        bars = gr.Number(16, label="Bars", info="0: the model decides", precision=0, minimum=0, min_width=120)
        seed = gr.Number(0, label="Seed", info="same seed, same piece", precision=0, minimum=0, min_width=120)
    with gr.Accordion("Start from", open=False):
        start = gr.Textbox(
            label="Header, or music to continue",
            placeholder="ABC notation: fields such as M:3/4 alone, or a tune",
            lines=5,
            max_lines=12,
            max_length=MAX_CHARACTERS,
            elem_id="start",
        )
        suffixes = [*SCORE_SUFFIXES, ".txt"]
        upload = gr.UploadButton("Open ABC or MusicXML", file_types=suffixes, size="sm", elem_id="upload")
    with gr.Accordion("Sampling", open=False):
        top_k = gr.Slider(0, 127, sampling.top_k, step=1, label="Top k", info="0: all characters")
        top_p = gr.Slider(0.05, 1, sampling.top_p, step=0.05, label="Top p")
        temperature = gr.Slider(0.1, 2, sampling.temperature, step=0.05, label="Temperature")
        seconds = gr.Slider(5, MAX_SECONDS, 60, step=5, label="Time limit in seconds")
        constrained = gr.Checkbox(True, label="Only well-formed music")
    return {
        **kinds,
        "bars": bars,
        "seed": seed,
        "start": start,
        "upload": upload,
        "top_k": top_k,
        "top_p": top_p,
        "temperature": temperature,
        "seconds": seconds,
        "constrained": constrained,
    }


def _buttons() -> dict[str, gr.Button]:
    with gr.Row():
        return {
            "write": gr.Button("Write", variant="primary", size="md", min_width=90),
            "cancel": gr.Button("Cancel", size="md", min_width=90),
            "dice": gr.Button("Other seed", size="md", min_width=90),
        }


def _results() -> dict[str, Any]:
    """Lay out the results of a piece."""
    with gr.Tabs() as tabs:
        with gr.Tab("Score", id=_SCORE):
            media = gr.HTML(elem_id="media")
            score = gr.HTML(elem_id="score")
        with gr.Tab("As it is written", id=_WRITING):
            live = gr.Textbox(show_label=False, lines=24, max_lines=24, interactive=False, elem_id="live")
        with gr.Tab("ABC", id=_ABC):
            abc = gr.Textbox(
                label="Standard ABC; change it as you like",
                lines=22,
                max_lines=22,
                interactive=True,
                max_length=MAX_CHARACTERS,
                elem_id="abc",
            )
            update = gr.Button("Engrave this text", size="md")
        with gr.Tab("Check", id=_CHECK):
            check = gr.HTML("<p>Errors of notation are listed here.</p>", elem_id="check")
    return {
        "tabs": tabs, "media": media, "score": score, "live": live, "abc": abc, "update": update, "check": check
    }  # fmt: skip


def _connect_writing(
    app: gr.Blocks,
    writer: _SessionWriter,
    settings: Mapping[str, Any],
    buttons: Mapping[str, gr.Button],
    shown: Mapping[str, Any],
) -> None:
    inputs = {box for name, box in settings.items() if name != "upload"}

    def show(abc: str, seed: float | None) -> dict[Any, Any]:
        made = preview(abc[:MAX_CHARACTERS], writer.soundfont)
        return {
            shown["score"]: made.pages_html(),
            shown["media"]: made.media_html(f"notagen-{int(seed or 0)}"),
            shown["check"]: made.check_html(),
            shown["tabs"]: gr.Tabs(selected=_SCORE),
        }

    def write(values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        named = {name: values[box] for name, box in settings.items() if box in inputs}
        yield {shown["tabs"]: gr.Tabs(selected=_WRITING), shown["live"]: "", shown["status"]: "Waiting"}
        news: dict[str, str] = {}
        for news in writer.write(named, request.session_hash):
            yield {shown[name]: value for name, value in news.items()}
        if "abc" in news:
            yield show(news["abc"], named["seed"])

    def cancel(request: gr.Request) -> None:
        writer.stop(request.session_hash)

    previewed = [shown[name] for name in ("score", "media", "check", "tabs")]
    told = [shown[name] for name in ("live", "status", "abc")]
    again = [shown["abc"], settings["seed"]]
    buttons["write"].click(
        write,
        inputs,
        [*told, *previewed],
        concurrency_limit=_AT_A_TIME,
        api_visibility="private",
        show_progress="minimal",  # shows the position in the queue
        show_progress_on=shown["status"],
    )
    shown["update"].click(show, again, previewed, concurrency_limit=_AT_A_TIME, **_QUIET)
    buttons["cancel"].click(cancel, None, None, queue=False, **_QUIET)
    app.unload(cancel)  # the session was closed


def _connect_settings(
    prompts: Sequence[Prompt],
    settings: Mapping[str, Any],
    buttons: Mapping[str, gr.Button],
    shown: Mapping[str, Any],
) -> None:
    def narrow(*names: str) -> list[gr.Dropdown]:
        wanted = _nearest(prompts, names)
        return [
            gr.Dropdown(_choices(prompts, wanted, kind), value=getattr(wanted, kind)) for kind in _KINDS[1:]
        ]

    def read(path: str) -> tuple[Any, str]:
        source = Path(path)
        try:
            return read_piece(source), f"Read {source.name}"
        except PentatonicError as error:
            return gr.skip(), str(error).replace(f"{source.parent}{os.sep}", "")
        finally:
            source.unlink(missing_ok=True)

    kinds = [settings[kind] for kind in _KINDS]
    for box in kinds[:-1]:
        # Preprocessing would refuse a name that is missing in choices which the browser has not received yet.
        box.input(narrow, kinds, kinds[1:], preprocess=False, queue=False, **_QUIET)
    buttons["dice"].click(lambda: random.randrange(2**32), None, settings["seed"], queue=False, **_QUIET)
    settings["upload"].upload(read, settings["upload"], [settings["start"], shown["status"]], **_QUIET)


def _choices(prompts: Sequence[Prompt], wanted: Prompt, kind: str) -> list[str]:
    """Return the names of a kind in prompts that have the wanted names of the kinds before it."""
    before = _KINDS[: _KINDS.index(kind)]
    fitting = (each for each in prompts if all(getattr(each, k) == getattr(wanted, k) for k in before))
    return list(dict.fromkeys(getattr(each, kind) for each in fitting))


def _nearest(prompts: Sequence[Prompt], names: Sequence[str]) -> Prompt:
    """Return the prompt that agrees with the names; earlier kinds take precedence over later ones."""
    return max(
        prompts,
        key=lambda each: [getattr(each, kind) == name for kind, name in zip(_KINDS, names, strict=True)],
    )
