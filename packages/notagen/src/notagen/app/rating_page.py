"""A page that plays two pieces and asks which one is better; answers are kept as ratings that ``notagen dpo`` reads."""

from __future__ import annotations

import base64
import html
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from notagen.dpo.ratings import Better, Rating, read_ratings
from notagen.files.readable import readable
from notagen.sound.sound_file import sound_bytes
from pentatonic import page_server
from pentatonic.errors import InputError, MissingExtra, PentatonicError, UsageError

try:
    import gradio as gr
except ImportError as error:
    raise MissingExtra("The page for ratings", "notagen[app]") from error

PASSWORD_VARIABLE = "NOTAGEN_PASSWORD"  # noqa: S105 - the name of a variable

_MAX_SOUND_S = 60
_MAX_PIECE_BYTES = 1 << 20
_SAMPLE_RATE = 44100
_LABELS: dict[str, str] = {
    "first": "First is better (1)",
    "neither": "Neither (0)",
    "second": "Second is better (2)",
}
_KEYS = """() => document.addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = {1: "first", 0: "neither", 2: "second"}[event.key];
  if (button) document.getElementById(button)?.click();
})"""
_STYLE = (
    ".players audio { width: 100%; } .players pre { max-height: 40vh; overflow: auto; font-size: 0.8rem; }"
)


class RatingRun:
    """Pairs of pieces, of which those that were rated before are left out.

    Args:
        files: The pieces, at least two.
        out: File of the ratings; answers are added to it, and it may have some.
        count: Most pairs, those included that were rated before.
        seed: Of the pairs, and of which piece is the first one.

    Raises:
        UsageError: There are fewer than two pieces, or ``count`` is less than 1.
        InputError: The file has lines that are no ratings.
    """

    def __init__(self, files: Sequence[Path], out: Path, *, count: int = 200, seed: int = 0) -> None:
        if len(files) < 2 or count < 1:
            raise UsageError(f"{len(files)} pieces and {count} pairs; allowed: at least 2 pieces and 1 pair")
        self.out, self._lock = out, threading.Lock()
        names = [Path(os.path.relpath(file, out.parent)).as_posix() for file in sorted(files)]
        rng, size = random.Random(seed), len(names)
        drawn: dict[frozenset[int], tuple[str, str]] = {}
        while len(drawn) < min(count, size * (size - 1) // 2):
            first, second = rng.sample(range(size), 2)
            drawn.setdefault(frozenset((first, second)), (names[first], names[second]))
        rated = {frozenset((r.first, r.second)) for r in read_ratings(out)} if out.is_file() else set()
        self.pairs = list(drawn.values())
        self.todo = [number for number, pair in enumerate(self.pairs) if frozenset(pair) not in rated]

    @property
    def current(self) -> int | None:
        """Number of the pair that is to be rated; None at the end."""
        return self.todo[0] if self.todo else None

    def answer(self, number: int | None, better: Better) -> None:
        """Keep an answer; one to a pair that is rated already, as from a second window, changes nothing."""
        with self._lock:
            if number is None or number not in self.todo:
                return
            first, second = self.pairs[number]
            with self.out.open("a", encoding="utf-8") as file:
                file.write(Rating(first, second, better).line())
                file.flush()
                os.fsync(file.fileno())
            self.todo.remove(number)

    def text(self, name: str) -> str:
        """Return the text of a piece.

        Raises:
            InputError: It cannot be read.
        """
        try:
            with (self.out.parent / name).open("rb") as file:
                return file.read(_MAX_PIECE_BYTES).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot be read ({error})") from error


def build_rating_app(run: RatingRun) -> gr.Blocks:
    """Build the page, for :func:`pentatonic.page_server.launch`.

    Args:
        run: The pairs; all windows share it.
    """
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def shown() -> tuple[int | None, str, str, str, *tuple[Any, ...]]:
        number = run.current
        rated, total = len(run.pairs) - len(run.todo), len(run.pairs)
        progress = f"{rated} of {total} pairs rated"
        on = gr.update(interactive=number is not None)
        if number is None:
            done = f"{progress}. That is all; the ratings are in {run.out.name}."
            return (None, done, "", "", on, on, on)
        first, second = (_player(run, name) for name in run.pairs[number])
        return (number, f"{progress}. Which piece is better?", first, second, on, on, on)

    with gr.Blocks(title="NotaGen ratings", analytics_enabled=False) as app:
        number = gr.State(None)
        status = gr.Markdown(elem_id="status")
        with gr.Row(elem_classes="players"):
            players = [gr.HTML(elem_id=f"player-{side}") for side in ("first", "second")]
        with gr.Row():
            buttons = {name: gr.Button(label, elem_id=name) for name, label in _LABELS.items()}
        outputs = [number, status, *players, *buttons.values()]

        def rate(better: Better) -> Any:
            def answered(rated: int | None) -> Any:
                run.answer(rated, better)
                return shown()

            return answered

        for name in get_args(Better):
            buttons[name].click(rate(name), number, outputs, **quiet)
        app.load(shown, None, outputs, **quiet)
        app.load(None, None, None, js=_KEYS)
    return app


def serve_ratings(
    run: RatingRun,
    *,
    host: str = "127.0.0.1",
    port: int = 7862,
    user: str | None = None,
    password: str | None = None,
) -> None:
    """Run the page until it is interrupted, and print its address; arguments as for :func:`notagen.app.page.serve`."""
    page_server.serve(
        lambda: build_rating_app(run),
        name="NotaGen ratings",
        prefix="notagen-",
        host=host,
        port=port,
        user=user,
        password=password,
        variable=PASSWORD_VARIABLE,
        max_upload_bytes=1,
        style=_STYLE,
    )


def _player(run: RatingRun, name: str) -> str:
    """Return a player of a piece, with its text; or why it cannot be played."""
    try:
        text = run.text(name)
        sound = sound_bytes(
            text, ".mp3", sample_rate=_SAMPLE_RATE, subtype="MPEG_LAYER_III", max_duration_s=_MAX_SOUND_S
        )
        player = f'<audio controls src="data:audio/mpeg;base64,{base64.b64encode(sound).decode()}"></audio>'
        return f"{player}<pre>{html.escape(readable(text))}</pre>"
    except PentatonicError as error:
        return f"<p>Cannot be played: {html.escape(str(error))}</p>"
