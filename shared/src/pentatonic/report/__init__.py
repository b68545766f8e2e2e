"""Reports as one self-contained HTML file: players, plots, tables, the exact command and the versions.

The file loads nothing from a network: its content security policy allows only its own style sheet and script, by
their SHA-256, and images and sound from ``data:`` addresses; and sound of local files where a player plays one in
place. All text is escaped. Several programs can share one file: each adds a section with its own command and versions,
and replaces only that one.
"""

from __future__ import annotations

import base64
import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile

from pentatonic.errors import (
    AudioError,
    AudioFileNotFound,
    AudioLimitExceeded,
    MissingExtra,
    NonFiniteAudio,
    UnsupportedFormat,
    UsageError,
)
from pentatonic.report.cells import is_number, plain_value, shown
from pentatonic.report.page import PageTemplates, Section
from pentatonic.report.sound_map import Dot, SoundMap, map_block
from pentatonic.report.urls import is_file_url

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["MAX_AUDIO_BYTES", "Dot", "Report", "SoundMap", "check_page", "is_embeddable"]

MAX_AUDIO_BYTES = 64 * 2**20
"""Largest sound that one player may embed; browsers fail on much longer ``data:`` addresses."""

_FIGURE_DPI = 192  # twice the 96 of a CSS pixel: sharp on dense screens
_MAX_CHANNELS = 8
_MEDIA_TYPES = {b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}
_SECTION_NAME = re.compile("[a-z0-9-]*")
_SVG_ROOT = "{http://www.w3.org/2000/svg}svg"


class Report:
    """One HTML page, or a section of one, that is filled from top to bottom and then written.

    Args:
        title: Title of the report.
        command: The command line that made it, as ``run_manifest()["command"]`` gives it (without secrets).
        versions: Name -> version of the software behind the results.
        section: Name of the section in a page of several, such as that of the package: lower-case letters,
            digits and ``-``. Ids in the section start with it.

    Raises:
        MissingExtra: jinja2 is not installed.
        UsageError: ``section`` has other characters.
    """

    def __init__(self, title: str, *, command: str, versions: Mapping[str, str], section: str = "") -> None:
        if not _SECTION_NAME.fullmatch(section):
            raise UsageError(f"section: {section!r} may have lower-case letters, digits and '-' only")
        self._templates = PageTemplates()  # loaded here, so that a missing extra fails before the work
        self._title, self._command, self._versions = title, command, dict(versions)
        self._name = section
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

    def listing(self, text: str, summary: str) -> None:
        """Add text unchanged, such as source code, collapsed under a summary."""
        self._blocks.append({"kind": "listing", "text": text, "summary": summary})

    def table(self, rows: Sequence[Mapping[str, object]], caption: str) -> None:
        """Add a table; the page also holds its values in full precision, as JSON in ``#report-data``.

        Args:
            rows: One mapping from column name to value per row; a missing value or None shows as a dash.
                Fractions are shown with four significant digits.
            caption: Caption of the table.
        """
        names = list(dict.fromkeys(name for row in rows for name in row))
        values = [[plain_value(row.get(name)) for name in names] for row in rows]
        columns = [
            {"name": name, "is_number": all(is_number(row[i]) or row[i] is None for row in values)}
            for i, name in enumerate(names)
        ]
        cells = [[shown(value) for value in row] for row in values]
        self._blocks.append({"kind": "table", "caption": caption, "columns": columns, "rows": cells})
        self._tables.append(
            {"caption": caption, "rows": [dict(zip(names, row, strict=True)) for row in values]}
        )

    def audio(
        self,
        sound: str | Path | bytes | np.ndarray | Tensor,
        label: str,
        *,
        sample_rate: int | None = None,
    ) -> str:
        """Add a player.

        Args:
            sound: A WAV, FLAC or Ogg file, or the bytes of one, embedded as it is; or float samples (n,) or
                (channels, n) in -1..1, embedded as 16-bit WAV.
            label: Name of the recording.
            sample_rate: Sample rate of the samples in Hz; ignored for a file.

        Returns:
            The id of the player, for :meth:`links`.

        Raises:
            UsageError: There are samples without a sample rate.
            AudioError: The file is missing or of another format, the samples have another shape or type or
                are not finite, or the sound is larger than ``MAX_AUDIO_BYTES``.
        """
        if isinstance(sound, str | Path):
            media_type, data = _read_audio(Path(sound))
        elif isinstance(sound, bytes):
            _check_size(label, len(sound))
            media_type, data = _media_type(label, sound), sound
        elif sample_rate is None:
            raise UsageError("sample_rate: samples need one, in Hz")
        else:
            media_type, data = "audio/wav", _encode_samples(sound, label, sample_rate)
        return self._add_player(label, _data_uri(media_type, data))

    def local_audio(self, url: str, label: str) -> str:
        """Add a player of a file of this machine, which is played from where it is and not copied.

        Only a page that was opened from a file plays it; one with such a player may load media from files.

        Args:
            url: A ``file:`` URL.
            label: Name of the recording.

        Returns:
            The id of the player, for :meth:`links`.

        Raises:
            UsageError: The URL is of another kind, or has signs that are not those of a URL.
        """
        if not is_file_url(url):
            raise UsageError(f"url: {url!r} is not the file: URL of a file of this machine")
        return self._add_player(label, url)

    def figure(self, fig: Figure, alt: str) -> None:
        """Add a matplotlib figure.

        Args:
            fig: The figure; it stays open.
            alt: Text alternative: what it shows.

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
        image = {"uri": _data_uri("image/png", png), "alt": alt, "width": width, "height": height}
        self._blocks.append({"kind": "figure", "images": [image]})

    def svg(self, pages: Sequence[str], alt: str) -> None:
        """Add drawings, such as engraved pages, below each other.

        They are embedded as images, so nothing in them can run or load anything, and their ids and styles
        cannot clash with others.

        Args:
            pages: SVG documents, each with a ``viewBox`` or a ``width`` and ``height``.
            alt: Text alternative: what they show; page numbers are added if there are several.

        Raises:
            UsageError: A page is not an SVG document, or has no size.
        """
        images = []
        for number, page in enumerate(pages, 1):
            width, height = _svg_size(page, number)
            name = f"{alt}, page {number} of {len(pages)}" if len(pages) > 1 else alt
            uri = _data_uri("image/svg+xml", page.encode())
            images.append({"uri": uri, "alt": name, "width": width, "height": height})
        self._blocks.append({"kind": "figure", "images": images})

    @property
    def place(self) -> int:
        """The place of what is added next, for :meth:`sound_map`."""
        return len(self._blocks)

    def sound_map(self, drawing: SoundMap, label: str, *, place: int | None = None) -> None:
        """Add a drawing whose dots play: a click on one, or Enter on one with a label, names it and plays it.

        Its sounds are files of this machine, as in :meth:`local_audio`, or those of players that the report has. All of
        them are played in one player below the drawing.

        Args:
            drawing: The drawing.
            label: What it shows, for readers of screens.
            place: A former :attr:`place`, so that it can be above the players that it names; ``None``: at the end.

        Raises:
            UsageError: The sound of a dot is neither the ``file:`` URL of a file nor a player of this report.
        """
        block = map_block(drawing, label, self._players)
        self._blocks.insert(self.place if place is None else place, block)

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
                raise UsageError(f"links: {player!r} is not a player of this report; audio() returns the ids")
            if not (math.isfinite(time_s) and time_s >= 0):
                raise UsageError(f"links: the time {time_s} of {label!r} is not a number of seconds >= 0")
            clock = _clock(time_s)
            items.append({"label": label, "player": player, "time_s": float(time_s), "clock": clock})
        self._blocks.append({"kind": "links", "links": items})

    def write(self, path: str | Path) -> None:
        """Write the page, and create its folder if needed; an error leaves no partial file.

        Args:
            path: The HTML file; an existing one is replaced.

        Raises:
            CheckpointError: The file cannot be written.
        """
        _write_page(Path(path), self._html([]))

    def add_to(self, path: str | Path) -> None:
        """Write this report as one section of a page that may have others.

        Args:
            path: An HTML file that :meth:`write` or this method wrote; a section of the same name is
                replaced in place, the others stay as they are. A missing file is created.

        Raises:
            UsageError: This report has no section name.
            FormatError: The file exists, but was not written by a report, or was edited.
            CheckpointError: The file cannot be written.
        """
        path = Path(path)
        if not self._name:
            raise UsageError("section: a report that is added to a page needs a name for its section")
        _write_page(path, self._html(self._templates.sections_of(path) if path.exists() else []))

    def _add_player(self, label: str, uri: str) -> str:
        player = f"{self._name}{'-' if self._name else ''}player-{len(self._players) + 1}"
        self._players.add(player)
        self._blocks.append({"kind": "audio", "label": label, "player": player, "uri": uri})
        return player

    def _html(self, others: Sequence[Section]) -> str:
        own = self._templates.section(
            self._name,
            self._title,
            self._blocks,
            command=self._command,
            versions=self._versions,
            tables=self._tables,
        )
        sections = {section.name: section for section in others} | {own.name: own}
        return self._templates.page(list(sections.values()))


def check_page(path: str | Path) -> None:
    """Refuse a page that :meth:`Report.add_to` could not be used with; to be called before the work.

    Args:
        path: An HTML file, which may be missing.

    Raises:
        FormatError: The file exists, but was not written by a report, or was edited.
        MissingExtra: ``pentatonic[report]`` is not installed.
    """
    templates = PageTemplates()
    if Path(path).exists():
        templates.sections_of(Path(path))


def is_embeddable(path: Path) -> bool:
    """Whether a file is WAV, FLAC or Ogg by its content, which :meth:`Report.audio` embeds as it is.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(4) in _MEDIA_TYPES


def _write_page(path: Path, html: str) -> None:
    from pentatonic.checkpoint import atomic_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(html.encode())


def _svg_size(page: str, number: int) -> tuple[int, int]:
    """Return width and height of an SVG document, in units of its own."""
    if "<!DOCTYPE" in page:
        raise UsageError(f"pages: page {number} has a document type, which may define entities; leave it out")
    try:
        root = ET.fromstring(page)  # noqa: S314 - without a document type there are no entities to expand
        box = root.get("viewBox", f"0 0 {root.get('width')} {root.get('height')}").replace(",", " ").split()
        width, height = (float(side.removesuffix("px")) for side in box[2:])
    except (ET.ParseError, ValueError) as error:
        raise UsageError(f"pages: page {number} is not an SVG document with a size: {error}") from error
    if root.tag != _SVG_ROOT or not (0 < width < math.inf and 0 < height < math.inf):
        raise UsageError(f"pages: page {number} is not an SVG document with a size")
    return max(1, round(width)), max(1, round(height))


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _read_audio(path: Path) -> tuple[str, bytes]:
    if not path.is_file():
        raise AudioFileNotFound(path, "there is no such file")
    _check_size(path, path.stat().st_size)
    data = path.read_bytes()
    return _media_type(path, data), data


def _media_type(what: str | Path, data: bytes) -> str:
    if (media_type := _MEDIA_TYPES.get(data[:4])) is None:
        raise UnsupportedFormat(what, "a report embeds WAV, FLAC and Ogg files; pass samples instead")
    return media_type


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


def _clock(time_s: float) -> str:
    tenths = round(10 * time_s)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
