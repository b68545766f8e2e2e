"""How much streaming and a limited context change the embeddings, compared with one pass over the recording.

    python benchmarks/omar_rq_context.py

Ten minutes made of the demo recordings, with `omar-rq-tiny`. Differences only, no times.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from machine import markdown_table, write_results

from omar_rq import from_pretrained, stream_embeddings
from pentatonic import audio

DEMO = Path(__file__).parents[1] / "packages" / "omar-rq" / "demo"
SECONDS, RATE = 600, 16000


def row(name: str, ours: torch.Tensor, whole: torch.Tensor) -> dict[str, object]:
    difference = ours - whole
    return {
        "against float32 in one pass": name,
        "max, of the largest value": float(difference.abs().max() / whole.abs().max()),
        "relative RMS": float(difference.norm() / whole.norm()),
        "least cosine": float(torch.cosine_similarity(ours, whole, dim=1).min()),
    }


def main() -> None:
    recordings = [audio.load(path, sample_rate=RATE).samples[0] for path in sorted(DEMO.glob("*.ogg"))]
    samples = torch.cat(recordings * 7)[: SECONDS * RATE]
    model = from_pretrained("omar-rq-tiny")
    whole = model.extract_embeddings(samples, sample_rate=RATE)[0, 0]
    rows = []
    for context_s in (None, 300, 120, 60, 30, 10):
        pieces = stream_embeddings(model, samples.split(10 * RATE), context_s=context_s)
        name = "streamed, " + ("unlimited context" if context_s is None else f"context {context_s} s")
        rows.append(row(name, torch.cat([piece[0] for piece in pieces]), whole))
    half = from_pretrained("omar-rq-tiny", dtype=torch.bfloat16)
    for seconds in (30, 300):
        start = samples[: seconds * RATE]
        rows.append(
            row(
                f"bfloat16, {seconds} s",
                half.extract_embeddings(start, sample_rate=RATE)[0, 0],
                model.extract_embeddings(start, sample_rate=RATE)[0, 0],
            )
        )
    for seconds in (30, SECONDS):
        rounded = from_pretrained("omar-rq-tiny")
        rounded.trunk.config = replace(rounded.trunk.config, rope_positions="bf16")
        start = samples[: seconds * RATE]
        rows.append(
            row(
                f"positions rounded to bfloat16, {seconds} s",
                rounded.extract_embeddings(start, sample_rate=RATE)[0, 0],
                model.extract_embeddings(start, sample_rate=RATE)[0, 0],
            )
        )
    print(write_results("omar_rq_context", rows, command="python benchmarks/omar_rq_context.py"))
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
