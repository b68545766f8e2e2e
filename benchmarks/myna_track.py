"""One pass of `rpecl-2d-alibi` over whole tracks, compared with a bias that is written out, as the original does it.

    python benchmarks/myna_track.py

The model has the size of the released one (384 wide, 12 layers, 6 heads, 2D ALiBi with slopes) and random weights; the
spectrograms are noise in its range. Lengths are those of the front end of training, 100 frames a second, so 3 minutes
are 9,000 tokens and 10 minutes 30,000. Every pass runs in a process of its own, on one thread:

- ours: `embed_tracks`, mode track
- dense: the same layers and weights; a bias (heads, tokens, tokens) is built once for all layers and given to
  `scaled_dot_product_attention`, which the newest version of the original does

Time is that of the pass. Memory is the highest resident memory in the pass, less what the process held before, with
the model and the spectrogram loaded. Where dense would need more memory than `--most-gb`, its row is not measured but
computed from the longest measured one by the square of the length, and says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import markdown_table, write_results
from torch import Tensor

from myna_rpe.config import EncoderConfig, PositionConfig
from myna_rpe.model import MynaEncoder
from myna_rpe.patches import patchify
from myna_rpe.positions import grid_coordinates
from myna_rpe.whole_tracks import TrackOptions, embed_tracks
from pentatonic.child_process import python_environment

CONFIG = EncoderConfig(positions=PositionConfig(bias="alibi"))
FRAMES_PER_SECOND = 100


def dense_bias(model: MynaEncoder, columns: int) -> Tensor:
    """The bias of all pairs, ``(H, S, S)``."""
    coords = grid_coordinates(8, columns, torch.device("cpu")).float()
    time_slopes, freq_slopes = model.bias.time_slopes, model.bias.freq_slopes
    assert time_slopes is not None and freq_slopes is not None
    n = len(coords) + 1
    bias = torch.zeros(len(time_slopes), n, n)
    time, freq = coords.unbind(-1)
    distances = [(axis[:, None] - axis[None]).abs() for axis in (time, freq)]
    for head in range(len(bias)):
        bias[head, 1:, 1:] = -(time_slopes[head] * distances[0] + freq_slopes[head] * distances[1])
    return bias


@torch.no_grad()
def dense_pass(model: MynaEncoder, mel: Tensor) -> Tensor:
    """What :meth:`MynaEncoder.forward` gives, ``(1, O)``."""
    x = model.embed["first"](patchify(mel[None], model.config.patch))
    assert model.class_token is not None
    x = torch.cat([model.class_token.expand(1, 1, -1), x], dim=1)
    bias = dense_bias(model, mel.shape[1] // model.config.patch.frames)[None]
    for block in model.blocks:
        layer: Any = block.attention
        qkv = layer.qkv(layer.norm(x)).unflatten(-1, (3, layer.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        x = x + layer.out(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2))
        x = x + block.mlp(x)  # type: ignore[operator]
    return model.head(model.norm(x)[:, 0])


class PeakMemory(threading.Thread):
    """Reads the resident memory of this process every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.peak = resident_mb()
        self.stopped = threading.Event()

    def run(self) -> None:
        """Read until stopped."""
        while not self.stopped.wait(0.005):
            self.peak = max(self.peak, resident_mb())


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def measure(way: str, minutes: float) -> None:
    """Run one pass and print its time, its memory and the start of its result; what a child process does."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MynaEncoder(CONFIG).eval()
    mel = (
        torch.rand(128, round(minutes * 60 * FRAMES_PER_SECOND), generator=torch.Generator().manual_seed(1))
        * -60
    )
    embed_tracks(model, [mel[:, :256]], TrackOptions())  # what the first pass of a process loads
    memory = PeakMemory()
    memory.start()
    start = time.perf_counter()
    with torch.no_grad():
        vector = (
            dense_pass(model, mel)[0]
            if way == "dense"
            else embed_tracks(model, [mel], TrackOptions())[0].vector
        )
    seconds = time.perf_counter() - start
    memory.stopped.set()
    memory.join()
    print(json.dumps({"s": seconds, "mb": memory.peak - memory.before, "vector": vector.tolist()}))


def measured(way: str, minutes: float) -> dict[str, Any]:
    """Run :func:`measure` in a process of its own."""
    here = Path(__file__).resolve()
    done = subprocess.run(
        [sys.executable, "-P", str(here), "--one", way, "--minutes", str(minutes)],
        env=python_environment(here.parent),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 3, 10], help="lengths")
    parser.add_argument("--most-gb", type=float, default=10.0, help="memory that dense may take")
    parser.add_argument("--one", choices=("ours", "dense"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one, arguments.minutes[0])
        return
    rows = []
    longest: tuple[float, dict[str, Any]] | None = None
    for minutes in sorted(arguments.minutes):
        n_tokens = 8 * int(minutes * 60 * FRAMES_PER_SECOND / 16)
        ours = measured("ours", minutes)
        if 4 * CONFIG.heads * n_tokens**2 < arguments.most_gb * 1e9 / 2:
            dense = measured("dense", minutes)
            difference = (torch.tensor(dense["vector"]) - torch.tensor(ours["vector"])).abs().max()
            size = torch.tensor(dense["vector"]).abs().max()
            note, longest = f"measured; {float(difference / size):.1e} apart", (minutes, dense)
        elif longest is not None:
            factor = (minutes / longest[0]) ** 2
            dense = {key: longest[1][key] * factor for key in ("s", "mb")}
            note = f"computed from {longest[0]:g} minutes"
        else:
            continue
        rows.append(
            {
                "minutes": minutes,
                "tokens": n_tokens,
                "ours, s": ours["s"],
                "dense, s": dense["s"],
                "dense / ours": dense["s"] / ours["s"],
                "ours, MB": ours["mb"],
                "dense, MB": dense["mb"],
                "less memory": dense["mb"] / ours["mb"],
                "dense": note,
            }
        )
        print(markdown_table(rows[-1:]), flush=True)
    print(markdown_table(rows))
    print(write_results("myna_track", rows, command="python benchmarks/myna_track.py"))


if __name__ == "__main__":
    main()
