"""``omar-rq demo``: one page with players and plots that show what the embeddings of some recordings represent.

For every recording: a player, its mel spectrogram and the self-similarity of its embeddings. Across recordings: for
every segment, the most similar segments of the others, one click away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omar_rq.files.npz_folder import find_audio
from omar_rq.model import OmarRQ
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.cli import BatchReport, progress, run_manifest
from pentatonic.errors import InputError, MissingExtra
from pentatonic.mel import MelFrontend
from pentatonic.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Long enough for a motif, short enough to point at.
SEGMENT_S = 3.0
NEAREST_SHOWN = 12


@dataclass(frozen=True)
class Recording:
    """One embedded recording: samples (n,) at ``sample_rate``, embeddings (N, C) at ``embedding_rate_hz``."""

    name: str
    samples: Tensor
    sample_rate: int
    embeddings: Tensor
    embedding_rate_hz: float

    def segments(self) -> Tensor:
        """Mean embedding of every ``SEGMENT_S`` seconds, unit length: (S, C)."""
        length = max(1, round(SEGMENT_S * self.embedding_rate_hz))
        whole = max(1, len(self.embeddings) // length)
        return F.normalize(torch.stack([part.mean(0) for part in self.embeddings.tensor_split(whole)]), dim=1)


def write_demo(model_name: str, paths: Sequence[Path], out: Path) -> tuple[Path, BatchReport]:
    """Embed recordings and write ``out/index.html``, one self-contained page.

    Args:
        model_name: Bundled name, directory or hub id.
        paths: Audio files, or folders of them.
        out: Folder to write to.

    Returns:
        The page, and what became of each file. The page leaves out files that cannot be read.

    Raises:
        UsageError: There is no audio file.
        InputError: No file can be read.
        MissingExtra: ``omar-rq[report]`` is not installed.
    """
    files = find_audio(paths)
    manifest = run_manifest()
    report = Report(
        "OMAR-RQ: hear what the embeddings say", command=manifest["command"], versions=manifest["versions"]
    )
    model = from_pretrained(model_name)
    embedded, outcome = {}, BatchReport()
    with outcome.interruptible(files):
        for file in progress(files, "embedding"):
            try:
                embedded[file] = embed(model, file)
                outcome.done(file)
            except InputError as error:
                outcome.failed(file, error)
    if not embedded:
        reasons = "; ".join(f"{entry['path']}: {entry['reason']}" for entry in outcome.entries)
        raise InputError(f"none of the recordings can be read: {reasons}")
    # What all recordings share (silence, loudness, the soundfont) would make everything look alike.
    recordings = centred(list(embedded.values()))
    report.text(
        f"Each recording was cut into {model.embedding_rate_hz:.4g} tokens per second by the model {model_name}, "
        f"which turned every token into a vector of {model.config.net.embed_dim} numbers. The squares show how "
        "similar any two moments of a recording are: bright blocks are sections, bright diagonals are repetitions."
    )
    players = [
        _describe(report, recording, path) for recording, path in zip(recordings, embedded, strict=True)
    ]
    if len(recordings) > 1:
        _nearest(report, recordings, players)
    page = out / "index.html"
    report.write(page)
    return page, outcome


def embed(model: OmarRQ, path: Path) -> Recording:
    """Load one file and embed it with the last layer."""
    sound = audio.load(path, sample_rate=model.sample_rate)
    embeddings = model.extract_embeddings(sound.samples, sample_rate=sound.sample_rate)
    assert isinstance(embeddings, Tensor)
    return Recording(
        path.stem, sound.samples[0], sound.sample_rate, embeddings[0, 0], model.embedding_rate_hz
    )


def centred(recordings: Sequence[Recording]) -> list[Recording]:
    """Subtract the mean embedding of all recordings together."""
    mean = torch.cat([recording.embeddings for recording in recordings]).mean(0)
    return [
        Recording(r.name, r.samples, r.sample_rate, r.embeddings - mean, r.embedding_rate_hz)
        for r in recordings
    ]


def _describe(report: Report, recording: Recording, path: Path) -> str:
    name = recording.name.replace("_", " ")
    report.heading(name)
    embeddable = path.suffix.lower() in {".wav", ".flac", ".ogg"}
    player = (
        report.audio(path, name)
        if embeddable
        else report.audio(recording.samples, name, sample_rate=recording.sample_rate)
    )
    report.figure(_figure(recording), f"Mel spectrogram and self-similarity matrix of {name}")
    return player


def _figure(recording: Recording) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("The demo page", "omar-rq[report]") from error
    mel = MelFrontend.preset("omar-rq-16k")
    samples = audio.resample(recording.samples, recording.sample_rate, mel.config.sample_rate)
    spectrogram = mel(samples).numpy()
    unit = F.normalize(recording.embeddings, dim=1)
    similarity = (unit @ unit.T).numpy()
    seconds = len(unit) / recording.embedding_rate_hz
    figure = Figure(figsize=(8.5, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.9, 1))
    left.imshow(
        spectrogram, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(spectrogram))
    )
    left.set(title="mel spectrogram", xlabel="seconds", ylabel="mel band")
    low = float(np.percentile(similarity, 5))
    right.imshow(
        similarity, origin="lower", cmap="viridis", vmin=low, vmax=1, extent=(0, seconds, 0, seconds)
    )
    right.set(title="self-similarity", xlabel="seconds", ylabel="seconds")
    return figure


def _nearest(report: Report, recordings: Sequence[Recording], players: Sequence[str]) -> None:
    report.heading("Nearest segments across the recordings")
    report.text(
        f"Segments of {SEGMENT_S:g} seconds and their nearest neighbour in another recording, by the cosine of their "
        "mean embeddings, the closest pairs first. Click a time to listen."
    )
    pairs = nearest_pairs(recordings)[:NEAREST_SHOWN]
    names = [recording.name.replace("_", " ") for recording in recordings]
    rows = [
        {"segment": f"{names[a]}, {s:.1f} s", "nearest": f"{names[b]}, {t:.1f} s", "cosine": score}
        for score, a, s, b, t in pairs
    ]
    report.table(rows, "Closest pairs of segments")
    for _, a, s, b, t in pairs:
        report.links([(names[a], players[a], s), (names[b], players[b], t)])


def nearest_pairs(recordings: Sequence[Recording]) -> list[tuple[float, int, float, int, float]]:
    """Return (cosine, recording, seconds, other recording, seconds there), the closest first, each pair once."""
    segments = [recording.segments() for recording in recordings]
    seconds = [
        len(r.embeddings) / r.embedding_rate_hz / len(part)
        for r, part in zip(recordings, segments, strict=True)
    ]
    pairs = {}
    for a, own in enumerate(segments):
        for i, segment in enumerate(own):
            score, b, j = max(
                (float(other @ segment), b, j)
                for b, others in enumerate(segments)
                if b != a
                for j, other in enumerate(others)
            )
            pairs[frozenset({(a, i), (b, j)})] = (score, a, i * seconds[a], b, j * seconds[b])
    return sorted(pairs.values(), reverse=True)
