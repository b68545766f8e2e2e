"""Answers of probes that are made up, and probes that know one recording by heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import omar_rq
from omar_rq.model import OmarRQ
from omar_rq.probing.features import FeatureConfig, pooled_features, token_features
from omar_rq.probing.heads import HeadConfig, Outputs, ProbeHead
from omar_rq.probing.saved import EncoderRecord, Prediction, SavedProbe

CHORDS = ("N", "C:maj", "A:min", "F:maj", "G:maj")
KEYS = ("C major", "A minor")
RATE = 16000
TRIADS = {"C:maj": (60, 64, 67), "A:min": (57, 60, 64), "F:maj": (53, 57, 60), "G:maj": (55, 59, 62)}
BEAT_S, START_S = 0.5, 0.25


def beat_answers(
    times: Sequence[float],
    positions: Sequence[int],
    *,
    seconds: float,
    rate: float = 25.0,
    between: Sequence[float] = (),
    likely: float = 0.9,
    likely_between: float = 0.5,
    unlikely: float = 0.05,
    seed: int | None = 0,
) -> Prediction:
    """What a probe says that hears beats at ``times`` and weaker ones at ``between``, three tokens wide."""
    n_tokens = int(seconds * rate)
    starts = np.arange(n_tokens) / rate
    beat, downbeat = np.full(n_tokens, unlikely), np.full(n_tokens, unlikely / 2)

    def raise_around(values: np.ndarray, time: float, peak: float) -> None:
        np.maximum(values, peak * np.clip(1.5 - np.abs(starts - time) * rate, 0, 1), out=values)

    for time, position in zip(times, positions, strict=True):
        raise_around(beat, time, likely)
        raise_around(downbeat, time, likely * (0.9 if position == 1 else 0.15))
    for time in between:
        raise_around(beat, time, likely_between)
    if seed is not None:
        noise = np.random.default_rng(seed).normal(0, 0.04, (2, n_tokens))
        beat = np.clip(beat + noise[0], 0.005, 0.99)
        downbeat = np.clip(np.minimum(downbeat + noise[1], beat), 0.005, 0.99)
    values = np.stack((beat, downbeat), axis=1).astype(np.float32)
    return Prediction(
        "beat", ("beat", "downbeat"), np.arange(n_tokens) / rate, values, rate, "none: one for each token"
    )


def label_answers(
    task: str, labels: Sequence[str], which: Sequence[int], rate: float, sure: float = 0.6
) -> Prediction:
    """What a probe says that gives one label of each token this probability, and the others the rest of it."""
    values = np.full((len(which), len(labels)), (1 - sure) / (len(labels) - 1), np.float32)
    values[np.arange(len(which)), which] = sure
    return Prediction(task, tuple(labels), np.arange(len(which)) / rate, values, rate, "none")


def song(bars: int = 6, beat_s: float = BEAT_S) -> tuple[np.ndarray, list[float], list[str]]:
    """Bars of four beats and one chord, with clicks on beats: samples, beats, and the chord of each bar."""
    names = list(TRIADS)
    chords = [names[bar % len(names)] for bar in range(bars)]
    samples = np.zeros(int((START_S + bars * 4 * beat_s + 0.25) * RATE), np.float32)
    beats = [START_S + beat_s * i for i in range(4 * bars)]
    for i, beat in enumerate(beats):
        first = int(beat * RATE)
        t = np.arange(min(int(beat_s * RATE), len(samples) - first)) / RATE
        tone = sum(np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * t) for note in TRIADS[chords[i // 4]])
        click = np.sin(2 * np.pi * (3000 if i % 4 == 0 else 1500) * t) * np.exp(-60 * t)
        samples[first : first + len(t)] += (0.08 * tone * np.exp(-2 * t) + 0.4 * click).astype(np.float32)
    return samples, beats, chords


def fitted(
    model: OmarRQ,
    task: str,
    labels: Sequence[str],
    samples: np.ndarray,
    targets: np.ndarray,
    outputs: Outputs,
) -> SavedProbe:
    """A probe whose head is the least-squares solution for one recording: (N, K) targets of its tokens, or (1, K)."""
    frame = len(targets) > 1
    layers = (0, 2)
    features = FeatureConfig(layers=layers, pooling="none" if frame else "mean")
    blocks = [torch.from_numpy(samples)]
    with torch.inference_mode():
        if frame:
            values = torch.cat(list(token_features(model, blocks, features)), dim=1)
        else:
            values = pooled_features(model, blocks, features)[0][0][:, None]
    head = ProbeHead(
        HeadConfig(
            width=values.shape[2],
            outputs=len(labels),
            layers=layers,
            granularity="frame" if frame else "recording",
            pooling="none" if frame else "mean",
        )
    )
    if frame:
        head.mean.copy_(values.mean(1))
        head.deviation.copy_(values.std(1).clamp(min=1e-3))
    mixed = head.mix(values[None]).detach()[0].double()
    wanted = torch.from_numpy(np.where(targets > 0.5, 3.0, -3.0))
    x = torch.cat((mixed, torch.ones(len(mixed), 1, dtype=torch.float64)), dim=1)
    weights = torch.linalg.solve(
        x.T @ x + 0.1 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ wanted[: len(x)]
    )
    with torch.no_grad():
        head.first.weight.copy_(weights[:-1].T[..., None].float())
        head.first.bias.copy_(weights[-1].float())  # type: ignore[union-attr]
    encoder = EncoderRecord.of(model, "omar-rq-tiny")
    return SavedProbe(task, tuple(labels), outputs, encoder, features, head.eval())


@pytest.fixture(scope="session")
def tiny() -> OmarRQ:
    return omar_rq.from_pretrained("omar-rq-tiny")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny: OmarRQ) -> Path:
    """A folder with ``song.wav`` and probes that know it: ``beat``, ``chord``, ``key``, ``tags``."""
    folder = tmp_path_factory.mktemp("studio")
    samples, beats, chords = song()
    soundfile.write(folder / "song.wav", samples, RATE, subtype="FLOAT")
    rate = tiny.embedding_rate_hz
    n_tokens = (1 + len(samples) // 256) // 4
    centres = (np.arange(n_tokens) + 0.5) / rate
    near = np.abs(np.arange(n_tokens)[:, None] / rate - np.array(beats)) * rate
    beat_targets = np.stack(((near < 0.75).any(1), (near[:, ::4] < 0.75).any(1)), axis=1)
    bar = np.clip(((centres - START_S) / (4 * BEAT_S)).astype(int), 0, len(chords) - 1)
    chord_targets = np.zeros((n_tokens, len(CHORDS)))
    chord_targets[np.arange(n_tokens), [CHORDS.index(chords[i]) for i in bar]] = 1
    for task, labels, targets, outputs in (
        ("beat", ("beat", "downbeat"), beat_targets, "multilabel"),
        ("chord", CHORDS, chord_targets, "classes"),
        ("key", KEYS, np.array([[1.0, 0.0]]), "classes"),
        ("tagging", ("piano", "drums", "voice"), np.array([[1.0, 1.0, 0.0]]), "multilabel"),
    ):
        fitted(tiny, task, labels, samples, targets, outputs).save(folder / task)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``omar-rq`` with these words: exit status, standard output and standard error."""
    from omar_rq.cli import app
    from pentatonic.cli import run as run_app

    def start(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_app(app, [str(word) for word in words])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return start
