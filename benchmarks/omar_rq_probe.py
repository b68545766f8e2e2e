"""Linear probes of the frozen embeddings of a small OMAR-RQ, compared with two baselines.

    python benchmarks/omar_rq_probe.py --data data/rendered/heldout

Recordings that were not in pre-training (see `tools/render_scores.py`) are split by score into two halves; a probe is
fitted to each half and tested on the other:

- pitch class: which of the 12 pitch classes sound in a token (macro average precision);
- instrument family: which of 9 families plays a recording with one family (accuracy on means over 5 seconds).

Intervals are 95 %, by bootstrap over the test recordings. Differences are to the last layer of the untrained network,
on the same bootstrap samples.

The same probe is fitted to the trained network, to the same network untrained, and to the mean log-mel of each token.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import markdown_table, write_results
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omar_rq.frontends import patchify
from omar_rq.model import OmarRQ
from omar_rq.weights import from_pretrained
from pentatonic import audio

BOOTSTRAP = 200
SEGMENT_TOKENS = 78  # 5 s at 15.6 tokens per second


@dataclass
class Clip:
    """One recording: features (N, D) per representation, pitch classes (N, 12), family and half of the split."""

    score: str
    half: int
    families: list[str]
    chroma: np.ndarray
    features: dict[str, np.ndarray]


def half_of(score: str) -> int:
    return hashlib.sha256(f"probe/{score}".encode()).digest()[0] % 2


def token_chroma(notes: list[list[float]], tokens: int, embedding_rate_hz: float) -> np.ndarray:
    """Pitch classes that sound for at least half of a token: (tokens, 12) bool."""
    sounding = np.zeros((tokens, 12))
    for start_s, end_s, pitch, _ in notes:
        first, last = int(start_s * embedding_rate_hz), min(tokens - 1, int(end_s * embedding_rate_hz))
        for token in range(first, last + 1):
            overlap = min(end_s, (token + 1) / embedding_rate_hz) - max(start_s, token / embedding_rate_hz)
            sounding[token, int(pitch) % 12] += max(0.0, overlap) * embedding_rate_hz
    return sounding >= 0.5


@torch.inference_mode()
def read_clips(folder: Path, models: dict[str, OmarRQ], seconds: float) -> list[Clip]:
    clips = []
    some = next(iter(models.values()))
    depth = some.config.net.depth
    for described in sorted(folder.glob("*.json")):
        record = json.loads(described.read_text())
        sound = audio.load(
            Path(f"{str(described).removesuffix('.json')}.flac"),
            sample_rate=some.sample_rate,
            duration_s=seconds,
        )
        features: dict[str, np.ndarray] = {}
        for name, model in models.items():
            patches = patchify(model.frontend(sound.samples), model.patch_size)
            features[f"{name}, patch embedding"] = model.embed(patches)[0].numpy()
            asked = range(depth) if name == "trained" else [depth - 1]  # untrained layers hardly differ
            embeddings = model.extract_embeddings(sound.samples, asked, sample_rate=sound.sample_rate)
            features |= {
                f"{name}, layer {i}": e.numpy() for i, e in zip(asked, embeddings[:, 0], strict=True)
            }
        bands, frames = some.patch_size
        patches = patchify(some.frontend(sound.samples), some.patch_size)[0]
        features["mean log-mel"] = patches.unflatten(-1, (bands, frames)).mean(-1).numpy()
        chroma = token_chroma(record["notes"], len(patches), some.embedding_rate_hz)
        clips.append(Clip(record["score"], half_of(record["score"]), record["families"], chroma, features))
    return clips


def logistic() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))


@dataclass
class Result:
    """A score, and its values on bootstrap samples of the recordings, the same samples for every representation."""

    score: float
    draws: np.ndarray
    chance: float

    def __str__(self) -> str:
        low, high = np.percentile(self.draws, (2.5, 97.5))
        return f"{self.score:.3f} [{low:.3f}, {high:.3f}]"

    def minus(self, other: Result) -> str:
        """The difference of the scores, with its interval over the same bootstrap samples."""
        low, high = np.percentile(self.draws - other.draws, (2.5, 97.5))
        return f"{self.score - other.score:+.3f} [{low:+.3f}, {high:+.3f}]"


def bootstrap(score: Callable[[list[int]], float], count: int) -> np.ndarray:
    """Scores of recordings drawn with replacement; the same samples in every call."""
    rng = np.random.default_rng(0)
    return np.array([score(rng.integers(count, size=count).tolist()) for _ in range(BOOTSTRAP)])


def folds(clips: list[Clip]) -> list[tuple[list[Clip], list[int]]]:
    """(clips to fit a probe to, indices of the clips to test it on), for both halves."""
    return [
        ([c for c in clips if c.half == half], [i for i, c in enumerate(clips) if c.half != half])
        for half in (0, 1)
    ]


def pitch_class(clips: list[Clip], name: str) -> Result:
    predicted = [np.zeros(c.chroma.shape) for c in clips]
    for fit, test in folds(clips):
        inputs = np.concatenate([c.features[name][::3] for c in fit])
        labels = np.concatenate([c.chroma[::3] for c in fit])
        for pitch in range(12):
            probe = logistic().fit(inputs, labels[:, pitch])
            for i in test:
                predicted[i][:, pitch] = probe.decision_function(clips[i].features[name])

    def precision(chosen: list[int]) -> float:
        truth = np.concatenate([clips[i].chroma for i in chosen])
        scores = np.concatenate([predicted[i] for i in chosen])
        return float(average_precision_score(truth, scores, average="macro"))

    chance = float(np.concatenate([c.chroma for c in clips]).mean())
    return Result(precision(list(range(len(clips)))), bootstrap(precision, len(clips)), chance)


def instrument(clips: list[Clip], name: str) -> Result:
    solo = [c for c in clips if len(c.families) == 1]
    right: dict[int, np.ndarray] = {}
    common: dict[int, float] = {}
    for fit, test in folds(solo):
        parts = [(part.mean(0), c.families[0]) for c in fit for part in segments(c.features[name])]
        families = [family for _, family in parts]
        probe = logistic().fit([mean for mean, _ in parts], families)
        commonest = max(sorted(set(families)), key=families.count)
        for i in test:
            predicted = probe.predict([part.mean(0) for part in segments(solo[i].features[name])])
            right[i] = predicted == solo[i].families[0]
            common[i] = float(solo[i].families[0] == commonest)

    def accuracy(chosen: list[int]) -> float:
        return float(np.concatenate([right[i] for i in chosen]).mean())

    everything = list(range(len(solo)))
    return Result(accuracy(everything), bootstrap(accuracy, len(solo)), float(np.mean(list(common.values()))))


def segments(features: np.ndarray) -> list[np.ndarray]:
    """Cut (N, D) into pieces of about SEGMENT_TOKENS tokens."""
    return np.array_split(features, max(1, len(features) // SEGMENT_TOKENS))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/rendered/heldout"))
    parser.add_argument("--model", default="omar-rq-tiny")
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    trained = from_pretrained(args.model)
    torch.manual_seed(0)
    untrained = OmarRQ(trained.config).eval()
    clips = read_clips(args.data, {"trained": trained, "untrained": untrained}, args.seconds)
    results = {}
    for name in clips[0].features:
        results[name] = (pitch_class(clips, name), instrument(clips, name))
        print(name, *results[name], flush=True)
    reference = results[f"untrained, layer {trained.config.net.depth - 1}"]
    rows = [
        {
            "features": name,
            "pitch class AP": str(pitch),
            "to untrained": pitch.minus(reference[0]),
            "instrument accuracy": str(family),
            "to untrained ": family.minus(reference[1]),
        }
        for name, (pitch, family) in results.items()
    ]
    rows.append(
        {
            "features": "chance",
            "pitch class AP": f"{reference[0].chance:.3f}",
            "to untrained": "",
            "instrument accuracy": f"{reference[1].chance:.3f}",
            "to untrained ": "",
        }
    )
    command = f"python benchmarks/omar_rq_probe.py --model {args.model} --seconds {args.seconds:g}"
    print(write_results("omar_rq_probe", rows, command=command))
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
