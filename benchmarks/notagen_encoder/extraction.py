"""The music encoder of CLaMP 2 at its released size, with random weights: patches and short pieces, in two ways.

Shapes: N patches of a window of L = 512, S = 64 characters, V = 128 characters of the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from notagen.clamp2.config import ClampConfig, EncoderConfig
from notagen.clamp2.embedder import Embedder
from notagen.clamp2.features import music_features
from notagen.clamp2.model import Clamp
from notagen.clamp2.patches import PATCH_LENGTH, VOCABULARY_SIZE

RELEASED = EncoderConfig(layers=12, width=768, heads=12, mlp_width=3072, length=PATCH_LENGTH)
PIECES = Path(__file__).parents[2] / "packages" / "notagen" / "demo"
TOLERANCE = 1e-5


def random_model() -> Clamp:
    torch.manual_seed(0)
    return Clamp(ClampConfig(family="clamp2", projection=768, music=RELEASED)).eval()


@torch.inference_mode()
def one_hot_embedding(model: Clamp, patches: Tensor) -> Tensor:
    """The patch embedding as a product with one-hot vectors, as the original computes it."""
    one_hot = F.one_hot(patches, VOCABULARY_SIZE).flatten(2).float()
    return one_hot @ model.music.embed.weight + model.music.embed_bias


@torch.inference_mode()
def summed_embedding(model: Clamp, patches: Tensor) -> Tensor:
    return model.music.embedded(patches)


@torch.inference_mode()
def padded_features(model: Clamp, pieces: list[Tensor]) -> Tensor:
    """Features of pieces of one window, each padded to L patches and computed alone, as the original does."""
    rows = []
    for piece in pieces:
        window = F.pad(piece, (0, 0, 0, PATCH_LENGTH - len(piece)))[None]
        rows.append(model.music_features(window, torch.tensor([len(piece)])))
    return torch.cat(rows)


def best_s(work: Callable[[], Tensor], rounds: int) -> tuple[float, Tensor]:
    """CPU seconds of the fastest round, and the result."""
    best, result = float("inf"), torch.empty(0)
    for _ in range(rounds):
        start_s = time.process_time()
        result = work()
        best = min(best, time.process_time() - start_s)
    return best, result


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    """Compare the ways.

    Raises:
        SystemExit: Their results differ.
    """
    model = random_model()
    embedder = Embedder(model)
    pieces = [embedder.encode_file(path).pieces[0].ids for path in sorted(PIECES.rglob("*.abc"))]
    window = torch.cat(pieces)
    window = window.repeat(PATCH_LENGTH // len(window) + 1, 1)[None, :PATCH_LENGTH]
    short = [piece for piece in pieces if len(piece) <= PATCH_LENGTH]
    lengths = f"{min(map(len, short))} to {max(map(len, short))}"
    cases: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor], float]] = {
        f"embedding of {PATCH_LENGTH} patches, one-hot": (
            lambda: one_hot_embedding(model, window),
            lambda: summed_embedding(model, window),
            10,
        ),
        f"{len(short)} pieces of {lengths} patches, padded to {PATCH_LENGTH}": (
            lambda: padded_features(model, short),
            lambda: music_features(model, short),
            3,
        ),
    }
    for name, (original, ours, goal) in cases.items():
        ours_s, found = best_s(ours, rounds)
        original_s, expected = best_s(original, rounds)
        difference = float((found - expected).abs().max())
        if difference > TOLERANCE:
            raise SystemExit(f"{name}: the results differ by {difference:.1e}")
        yield {
            "what": name,
            "original's way, CPU s": original_s,
            "this, CPU s": ours_s,
            "original / this": original_s / ours_s,
            "goal": goal,
            "largest difference": difference,
        }
