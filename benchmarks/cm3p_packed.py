"""All windows of a map in one batch: packed with local attention, compared with padding and full attention.

    python benchmarks/cm3p_packed.py --map song.osu

A model with the sizes of the released one (22 layers of width 768, every third global) and random weights embeds the
windows of a map of 1,378 objects. One way is ours: the valid tokens of all windows end to end, and local layers that
compute their window alone. The other is the original's on a CPU (`cm3p_original/network.py`): windows padded to 2,000
tokens, and the whole matrix of scores in every layer. The vectors must be equal to 2e-5. The aim is at least 2x.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cm3p_original.maps import generated_map
from cm3p_original.models import MAX_LENGTH, V7, full_model, processor
from cm3p_original.network import beatmap_vectors
from machine import markdown_table, write_results
from torch import Tensor

from cm3p.beatmap import read_beatmap

TOLERANCE = 2e-5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--map", type=Path, help="a map")
    parser.add_argument("--layers", type=int, default=22, help="of the beatmap tower")
    parser.add_argument("--windows", type=int, help="the first ones of the map only")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parts = processor()
    beatmap = read_beatmap(arguments.map or generated_map(0))
    batch = parts(beatmap=beatmap, beatmap_kwargs={"padding": "max_length"})
    ids, mask = (batch[name][: arguments.windows] for name in ("input_ids", "attention_mask"))
    lengths = mask.sum(1)
    model = full_model(V7, parts, num_hidden_layers=arguments.layers)

    def ours() -> Tensor:
        return F.normalize(model.get_beatmap_features(ids, None, mask), dim=-1)

    ways: dict[str, tuple[int, Callable[[], Tensor]]] = {
        "ours, packed": (int(lengths.sum()), ours),
        f"original's way, padded to {MAX_LENGTH}, full attention": (
            ids.numel(),
            lambda: beatmap_vectors(model, ids, mask),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, Tensor] = {}
    with torch.inference_mode():
        model.get_beatmap_features(ids[:1, :200], None, mask[:1, :200])
        for _ in range(arguments.rounds):
            for name, (_, work) in ways.items():
                start_s = time.perf_counter()
                vectors[name] = work()
                seconds[name].append(time.perf_counter() - start_s)
    first = vectors["ours, packed"]
    least_s = min(seconds["ours, packed"])
    rows: list[dict[str, Any]] = [
        {
            "way": name,
            "windows": len(ids),
            "longest": int(lengths.max()),
            "tokens computed": count,
            "s": min(seconds[name]),
            "s / ours packed": min(seconds[name]) / least_s,
            "greatest difference": float((vectors[name] - first).abs().max()),
        }
        for name, (count, _) in ways.items()
    ]
    print(markdown_table(rows))
    if max(row["greatest difference"] for row in rows) > TOLERANCE:
        raise SystemExit(f"the vectors differ by more than {TOLERANCE}")
    given = " --map MAP" if arguments.map else ""
    windows = f" --windows {arguments.windows}" if arguments.windows else ""
    options = f" --layers {arguments.layers}{windows} --rounds {arguments.rounds}"
    command = f"python benchmarks/cm3p_packed.py{given}{options}"
    print(f"\nwritten: {write_results('cm3p_packed', rows, command=command)}")


if __name__ == "__main__":
    main()
