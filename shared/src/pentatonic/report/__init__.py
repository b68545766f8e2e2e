"""Reports as one self-contained HTML file: players, plots, tables, the exact command and the versions.

The file needs no network and refuses any: its content security policy allows nothing but the style sheet and
the script in it, by their SHA-256, and images and sound from ``data:`` addresses. All text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile

from pentatonic.cli import json_text
from pentatonic.errors import (
    AudioError,
    AudioFileNotFound,
    AudioLimitExceeded,
    MissingExtra,
    NonFiniteAudio,
    UnsupportedFormat,
    UsageError,
)

if TYPE_CHECKING:
    import jinja2
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["MAX_AUDIO_BYTES", "Report"]

MAX_AUDIO_BYTES = 64 * 2**20
"""Largest sound that one player may embed; browsers give up on much longer ``data:`` addresses."""

_FIGURE_DPI = 192  # twice the 96 of a CSS pixel: sharp on dense screens
_MAX_CHANNELS = 8
_MEDIA_TYPES = {b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Report:
    """One HTML page that is filled from top to bottom and then written.

    Args:
        title: What the report is about.
        command: The command line that made it, as ``run_manifest()["command"]`` gives it (without secrets).
        versions: Name -> version of the software behind the results.

    Raises:
        MissingExtra: jinja2 is not installed.
    """

    def __init__(self, title: str, *, command: str, versions: Mapping[str, str]) -> None:
        self._template = _load_template()  # here, so that a missing extra is known before the work, not after
        self._title, self._command, self._versions = title, command, dict(versions)
        self._blocks: list[dict[str, Any]] = []
        self._tables: list[dict[str, Any]] = []
        self._players: set[str] = set()

    def heading(self, text: str) -> None:
        """Start a section."""
        self._blocks.append({"kind": "heading", "text": text})

    def text(self, text: str) -> None:
        """Add plain text; an empty line starts a new paragraph."""
        paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
        self._blocks.append({"kind": "text", "paragraphs": paragraphs})

    def table(self, rows: Sequence[Mapping[str, object]], caption: str) -> None:
        """Add a table; the page also holds its values in full precision, as JSON in ``#report-data``.

        Args:
            rows: One mapping from column name to value per row; a missing value or None shows as a dash.
                Fractions are shown with four significant digits.
            caption: What the table shows.
        """
        names = list(dict.fromkeys(name for row in rows for name in row))
        values = [[_plain_value(row.get(name)) for name in names] for row in rows]
        columns = [
            {"name": name, "is_number": all(_is_number(row[i]) or row[i] is None for row in values)}
            for i, name in enumerate(names)
        ]
        cells = [[_shown(value) for value in row] for row in values]
        self._blocks.append({"kind": "table", "caption": caption, "columns": columns, "rows": cells})
        self._tables.append(
            {"caption": caption, "rows": [dict(zip(names, row, strict=True)) for row in values]}
        )

    def audio(
        self, path_or_samples: str | Path | np.ndarray | Tensor, label: str, *, sample_rate: int | None = None
    ) -> str:
        """Add a player.

        Args:
            path_or_samples: A WAV, FLAC or Ogg file, embedded as it is; or float samples (n,) or
                (channels, n) in -1..1, embedded as 16-bit WAV.
            label: What is heard.
            sample_rate: Of the samples, in Hz; a file brings its own.

        Returns:
            The id of the player, for :meth:`links`.

        Raises:
            UsageError: There are samples without a sample rate.
            AudioError: The file is missing or of another format, the samples have another shape or type or
                are not finite, or the sound is larger than ``MAX_AUDIO_BYTES``.
        """
        if isinstance(path_or_samples, str | Path):
            media_type, data = _read_audio(Path(path_or_samples))
        elif sample_rate is None:
            raise UsageError("sample_rate: samples need one, in Hz")
        else:
            media_type, data = "audio/wav", _encode_samples(path_or_samples, label, sample_rate)
        player = f"player-{len(self._players) + 1}"
        self._players.add(player)
        self._blocks.append(
            {"kind": "audio", "label": label, "player": player, "uri": _data_uri(media_type, data)}
        )
        return player

    def figure(self, fig: Figure, alt: str) -> None:
        """Add a matplotlib figure.

        Args:
            fig: The figure; it stays open.
            alt: What it shows, for readers who do not see it.

        Raises:
            MissingExtra: matplotlib is not installed.
            UsageError: This is not a matplotlib figure.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtra("A figure in a report", "pentatonic[report]") from error
        if not isinstance(fig, Figure):
            raise UsageError(f"fig: a matplotlib Figure is needed, not {type(fig).__name__}")
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=_FIGURE_DPI, bbox_inches="tight", metadata={"Software": None})
        png = buffer.getvalue()
        # The header holds the size in pixels; stating it keeps the page from jumping while it loads.
        width, height = (int.from_bytes(png[at : at + 4], "big") * 96 // _FIGURE_DPI for at in (16, 20))
        uri = _data_uri("image/png", png)
        self._blocks.append({"kind": "figure", "uri": uri, "alt": alt, "width": width, "height": height})

    def links(self, links: Sequence[tuple[str, str, float]]) -> None:
        """Add time links: a click moves the player to that time and starts it.

        Args:
            links: (label, player id, time in seconds) of each link.

        Raises:
            UsageError: A player id is unknown, or a time is negative or not finite.
        """
        items = []
        for label, player, time_s in links:
            if player not in self._players:
                raise UsageError(f"links: {player!r} is no player of this report; audio() returns the ids")
            if not (math.isfinite(time_s) and time_s >= 0):
                raise UsageError(f"links: the time {time_s} of {label!r} is not a number of seconds >= 0")
            clock = _clock(time_s)
            items.append({"label": label, "player": player, "time_s": float(time_s), "clock": clock})
        self._blocks.append({"kind": "links", "links": items})

    def write(self, path: str | Path) -> None:
        """Write the page, whole or not at all, and make the folder for it where there is none.

        Args:
            path: The HTML file.

        Raises:
            CheckpointError: The file cannot be written.
        """
        from pentatonic.checkpoint import atomic_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(self._html().encode())

    def _html(self) -> str:
        style, script = _package_text("style.css"), _package_text("script.js")
        policy = (
            "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
            f"style-src {_source_hash(style)}; script-src {_source_hash(script)}"
        )
        data = {
            "title": self._title,
            "command": self._command,
            "versions": self._versions,
            "tables": self._tables,
        }
        html = self._template.render(
            title=self._title,
            command=self._command,
            versions=self._versions,
            blocks=self._blocks,
            policy=policy,
            style=style,
            script=script,
            data=_script_safe(json_text(data)),
        )
        return _UNPRINTABLE.sub("\ufffd", html)


def _load_template() -> jinja2.Template:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("An HTML report", "pentatonic[report]") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_package_text("template.html.j2"))


def _package_text(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script_safe(text: str) -> str:
    # Inside a script element only "<" can end the JSON or open a comment.
    return text.replace("<", "\\u003c")


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _read_audio(path: Path) -> tuple[str, bytes]:
    if not path.is_file():
        raise AudioFileNotFound(path, "there is no such file")
    _check_size(path, path.stat().st_size)
    data = path.read_bytes()
    if (media_type := _MEDIA_TYPES.get(data[:4])) is None:
        raise UnsupportedFormat(path, "a report embeds WAV, FLAC and Ogg files; pass samples instead")
    return media_type, data


def _encode_samples(samples: np.ndarray | Tensor, label: str, sample_rate: int) -> bytes:
    import numpy as np

    if not isinstance(samples, np.ndarray):
        samples = samples.detach().cpu()
        samples = samples.float() if samples.is_floating_point() else samples  # NumPy has no bfloat16
    array = np.atleast_2d(np.asarray(samples))
    if array.dtype.kind != "f":
        raise AudioError(label, f"samples are {array.dtype}; floats in -1..1 are needed")
    if array.ndim != 2 or not 1 <= array.shape[0] <= _MAX_CHANNELS or array.shape[1] == 0:
        needed = f"(n,) or (channels, n) with 1 to {_MAX_CHANNELS} channels and n > 0 are needed"
        raise AudioError(label, f"samples have the shape {array.shape}; {needed}")
    if not np.isfinite(array).all():
        raise NonFiniteAudio(label, "there are NaN or infinite samples")
    _check_size(label, 2 * array.size)
    buffer = io.BytesIO()
    soundfile.write(buffer, array.T.astype(np.float32), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _check_size(what: str | Path, n_bytes: int) -> None:
    if n_bytes > MAX_AUDIO_BYTES:
        limit = f"at most {MAX_AUDIO_BYTES} bytes fit into a report"
        raise AudioLimitExceeded(what, f"{n_bytes} bytes of sound; {limit}: cut or compress it")


def _plain_value(value: Any) -> str | int | float | None:
    if hasattr(value, "item"):  # NumPy and torch scalars
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _shown(value: str | int | float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def _clock(time_s: float) -> str:
    tenths = round(10 * time_s)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
