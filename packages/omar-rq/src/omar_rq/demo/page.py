"""The page of ``omar-rq demo``.

For every recording: a player, its mel spectrogram and the self-similarity of its embeddings. Across recordings: for
every segment, the most similar segments of the others, one click away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omar_rq.demo.recording import PLAYER_BYTES, PLAYER_S, SEGMENT_S, Recording, read_recording
from omar_rq.model import OmarRQ
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.audio_folder.npz import find_audio
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions
from pentatonic.cli import BatchReport, run_manifest
from pentatonic.errors import InputError, MissingExtra
from pentatonic.folder_run import REPORT_FILE, run_files
from pentatonic.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEAREST_SHOWN = 12
_COMPARED_SEGMENTS = 1024  # of one recording at once with all of another


def write_demo(
    model_name: str, paths: Sequence[Path], out: Path, reading: ReadOptions = DEFAULT_READING
) -> tuple[Path, BatchReport]:
    """Embed recordings and write ``out/index.html``, one self-contained page, and ``out/report.json``.

    Memory hardly grows with the length of the recordings: pictures have a bounded size, and what is too large to embed
    as it is is encoded for the page.

    Args:
        model_name: Bundled name, directory or hub id.
        paths: Audio files, or folders of them.
        out: Folder to write to.
        reading: What is read of each file; times on the page count from its start.

    Returns:
        The page, and what became of each file. The page leaves out files that cannot be read.

    Raises:
        UsageError: There is no audio file.
        InputError: No file can be read.
        MissingExtra: ``omar-rq[report]`` is not installed.
    """
    found = find_audio(paths)
    manifest = run_manifest()
    report = Report(
        "OMAR-RQ: hear what the embeddings say", command=manifest["command"], versions=manifest["versions"]
    )
    model = from_pretrained(model_name)
    page = out / "index.html"
    recordings, outcome = _read_all(model, found.files, page, reading)
    outcome.passed_over = found.passed_over
    if not recordings:
        reasons = "; ".join(f"{entry['path']}: {entry['reason']}" for entry in outcome.entries)
        raise InputError(f"none of the recordings can be read: {reasons}")
    # What all recordings share (silence, loudness, the soundfont) would make everything look alike.
    recordings = centred(recordings)
    report.text(
        f"Each recording was cut into {model.embedding_rate_hz:.4g} tokens per second by the model {model_name}, "
        f"which turned every token into a vector of {model.config.net.embed_dim} numbers. The squares show how "
        "similar any two moments of a recording are: bright blocks are sections, bright diagonals are repetitions."
    )
    report.text(_sound_note(reading))
    players = [_describe(report, recording) for recording in recordings]
    if len(recordings) > 1:
        _nearest(report, recordings, players)
    report.write(page)
    outcome.write(out / REPORT_FILE)
    return page, outcome


def _read_all(
    model: OmarRQ, files: Sequence[Path], page: Path, reading: ReadOptions
) -> tuple[list[Recording], BatchReport]:
    recordings: dict[Path, Recording] = {}

    def keep(recording: Recording, _: Path) -> dict[str, object]:
        recordings[recording.path] = recording
        about = {"tokens": recording.n_tokens, "duration_s": round(recording.duration_s, 3)}
        return {**about, "flags": recording.flags} if recording.flags else about

    with audio.DecodingProcess() as decoder:
        outcome = run_files(
            dict.fromkeys(files, page),
            lambda source: source,
            lambda sources: [read_recording(model, source, decoder.stream, reading) for source in sources],
            keep,
            description="embedding",
        )
    return [recordings[file] for file in files if file in recordings], outcome


def _sound_note(reading: ReadOptions) -> str:
    note = (
        f"Players have WAV, FLAC and Ogg files of at most {PLAYER_BYTES >> 20} MB as they are, and the others as mono "
        f"Ogg Vorbis of 16 kHz, at most their first {PLAYER_S / 3600:g} hours."
    )
    if not reading.is_excerpt:
        return note
    length = "the rest" if reading.duration_s is None else f"at most {reading.duration_s:g} s"
    return f"Of each recording, {length} from {reading.start_s:g} s on was read; all times count from there. {note}"


def centred(recordings: Sequence[Recording]) -> list[Recording]:
    """Subtract the mean embedding of all recordings together."""
    n_tokens = torch.tensor([float(recording.n_tokens) for recording in recordings])
    mean = (n_tokens / n_tokens.sum()) @ torch.stack([recording.mean for recording in recordings])
    return [
        replace(r, mean=r.mean - mean, overview=r.overview - mean, segments=r.segments - mean)
        for r in recordings
    ]


def _describe(report: Report, recording: Recording) -> str:
    report.heading(recording.name)
    player = report.audio(recording.sound, recording.name)
    report.figure(_figure(recording), f"Mel spectrogram and self-similarity matrix of {recording.name}")
    return player


def _figure(recording: Recording) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("The demo page", "omar-rq[report]") from error
    spectrogram = recording.spectrogram.numpy()
    unit = F.normalize(recording.overview, dim=1)
    similarity = (unit @ unit.T).numpy()
    seconds = recording.duration_s
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
    names = [recording.name for recording in recordings]
    rows = [
        {"segment": f"{names[a]}, {s:.1f} s", "nearest": f"{names[b]}, {t:.1f} s", "cosine": score}
        for score, a, s, b, t in pairs
    ]
    report.table(rows, "Closest pairs of segments")
    for _, a, s, b, t in pairs:
        ends = ((a, s), (b, t))
        links = [(names[i], players[i], at) for i, at in ends if at < recordings[i].sound_s]
        if links:
            report.links(links)


def nearest_pairs(recordings: Sequence[Recording]) -> list[tuple[float, int, float, int, float]]:
    """Return (cosine, recording, seconds, other recording, seconds there), the closest first, each pair once."""
    segments = [F.normalize(recording.segments, dim=1) for recording in recordings]
    starts = [recording.segment_s for recording in recordings]
    pairs = {}
    for a, own in enumerate(segments):
        nearest = [_nearest_of(own, others) for b, others in enumerate(segments) if b != a]
        others = [b for b in range(len(segments)) if b != a]
        scores, which = torch.stack([scores for scores, _ in nearest]).max(dim=0)
        for i, (score, k) in enumerate(zip(scores.tolist(), which.tolist(), strict=True)):
            b, j = others[k], int(nearest[k][1][i])
            pairs[frozenset({(a, i), (b, j)})] = (score, a, i * starts[a], b, j * starts[b])
    return sorted(pairs.values(), reverse=True)


def _nearest_of(own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest cosine of each row, (S,), and the row of ``others`` that has it."""
    parts = [(part @ others.T).max(dim=1) for part in own.split(_COMPARED_SEGMENTS)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
