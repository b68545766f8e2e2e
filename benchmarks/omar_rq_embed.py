"""Cost of embedding with OMAR-RQ: early exit, comparison with plain PyTorch, and memory for long files.

    python benchmarks/omar_rq_embed.py

- Early exit: layer 6 of the 24 of "base" for 30 s, compared with running all 24 and computing cosines and sines again
  for queries and keys of every layer, as the original does. The results must be equal bit for bit.
- The whole model compared with the same architecture written with PyTorch's functions on the same weights. The
  results must agree.
- 8-bit products (`--dtype int8`) compared with float32, and the error that they cost; the exported ONNX graph in
  ONNX Runtime compared with the model. Shapes of "base", cut to `--depth` blocks, because an export takes minutes.
- Peak memory of `omar-rq embed` above that of the loaded model for 10, 30 and 60 minutes, all layers stored.

`--part` runs one of them. Times are medians over rounds in which both sides alternate, on one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from machine import markdown_table, write_results
from torch import Tensor

from omar_rq.conformer import Rotary
from omar_rq.frontends import patchify
from omar_rq.model import OmarRQ
from omar_rq.published_models import published_config
from omar_rq.quantize import quantize
from omar_rq.weights import save_pretrained
from pentatonic.attention import Causal
from pentatonic.child_process import python_environment
from pentatonic.rope import rope_table

LAYER, AUDIO_S = 6, 30
MINUTES = (10, 30, 60)

# Runs the command line, and records the memory after loading the model and at the end.
MEASURED = """
import json, re, sys
from pathlib import Path
from omar_rq import cli

def megabytes(name):
    return int(re.search(name + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

load = cli._load
def load_and_note(*args, **kwargs):
    model = load(*args, **kwargs)
    note["loaded"] = megabytes("VmRSS")
    return model

note, cli._load = {}, load_and_note
sys.argv = ["omar-rq", *sys.argv[1:]]
try:
    cli.main()
finally:
    print(json.dumps({**note, "peak": megabytes("VmHWM")}))
"""


class RebuiltRotary:
    """A position code that computes its table at every use."""

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate queries or keys (B, H, N, D)."""
        return Rotary(*rope_table(torch.arange(x.shape[2]), x.shape[3]))(x)


def all_layers(model: OmarRQ, audio: Tensor) -> Tensor:
    """Run every block, and return the output of the requested one."""
    x = model.embed(patchify(model.frontend(audio), model.patch_size))
    outputs = []
    for block in model.trunk.blocks:
        x = block(x, RebuiltRotary(), Causal())
        outputs.append(x)
    return outputs[LAYER]


def plain_model(model: OmarRQ, audio: Tensor) -> Tensor:
    """The last layer, computed with PyTorch's functions only."""
    x = F.linear(plain_patches(model, audio), model.embed.weight, model.embed.bias)
    n, width = x.shape[1], x.shape[2]
    heads = model.config.net.num_heads
    frequencies = 10000.0 ** (-torch.arange(0, width // heads, 2) / (width // heads))
    angles = (torch.arange(n)[:, None] * frequencies).repeat_interleave(2, dim=-1)
    for block in model.trunk.blocks:
        x = plain_block(block, x, angles.cos(), angles.sin())
    return x


def plain_patches(model: OmarRQ, audio: Tensor) -> Tensor:
    config, mel = model.config.input, model.frontend.mel
    window = torch.hann_window(config.win_length)
    spectrum = torch.stft(audio, config.n_fft, config.hop_length, window=window, return_complex=True)
    frames = torch.log10(1 + 10000 * (mel.filterbank @ spectrum.abs().square()))
    frames = (frames - config.norm_mean) / config.norm_std
    n = frames.shape[2] // config.patch_size[1]
    return (
        frames[:, :, : n * config.patch_size[1]]
        .unflatten(2, (n, -1))
        .permute(0, 2, 1, 3)
        .reshape(len(audio), n, -1)
    )


def plain_block(block: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    x = x + block.residual_factor * plain_feed_forward(block.ff1, x)
    attention, conv = block.attention, block.conv
    q, k, v = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part in attention.qkv(x).chunk(3, -1)
    )
    q, k = (part * cos + rotate_pairs(part) * sin for part in (q, k))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    x = plain_norm(block.norm_attention, block.alpha * x + attention.out(attended))
    y = F.glu(plain_pointwise(conv.pointwise_in, plain_norm(conv.norm, x).transpose(1, 2)), dim=1)
    y = F.conv1d(y, conv.depthwise.weight, conv.depthwise.bias, padding=15, groups=y.shape[1])
    norm = conv.batch_norm
    y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    x = x + plain_pointwise(conv.pointwise_out, F.gelu(y)).transpose(1, 2)
    x = x + block.residual_factor * plain_feed_forward(block.ff2, x)
    return plain_norm(block.norm_out, x)


def plain_feed_forward(part: Any, x: Tensor) -> Tensor:
    return part.down(F.gelu(part.up(plain_norm(part.norm, x))))


def plain_pointwise(conv: Any, x: Tensor) -> Tensor:
    return F.conv1d(x, conv.weight, conv.bias)


def plain_norm(norm: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def rotate_pairs(x: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((-odd, even), dim=-1).flatten(-2)


def alternate(ours: Callable[[], Tensor], other: Callable[[], Tensor], repeats: int) -> tuple[float, float]:
    """Median seconds of both, alternating, after one warm-up round."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for work, taken in zip((ours, other), seconds, strict=True):
            start_s = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start_s)
    first, second = (statistics.median(taken[1:]) for taken in seconds)
    return first, second


def timed(measure: str, ours_s: float, other_s: float, agreement: str) -> dict[str, Any]:
    return {
        "measure": measure,
        "unit": "s",
        "ours": ours_s,
        "other": other_s,
        "other / ours": other_s / ours_s,
        "agreement": agreement,
    }


def speed(repeats: int) -> Iterator[dict[str, Any]]:
    torch.manual_seed(0)
    model = OmarRQ(published_config("base")).eval()
    audio = 0.1 * torch.randn(1, AUDIO_S * model.sample_rate)

    def early() -> Tensor:
        return model.extract_embeddings(audio, LAYER, sample_rate=model.sample_rate)[0]

    def whole() -> Tensor:
        return model.extract_embeddings(audio, sample_rate=model.sample_rate)[0]

    if not torch.equal(early(), all_layers(model, audio)):
        raise SystemExit("early exit changes the results")
    times = alternate(early, lambda: all_layers(model, audio), repeats)
    yield timed(f"base, layer {LAYER} of 24, {AUDIO_S} s; other: all layers run", *times, "bit-equal")
    plain = plain_model(model, audio)
    difference = float((whole() - plain).abs().max() / plain.abs().max())
    if difference > 1e-4:
        raise SystemExit(f"the plain model differs by {difference:g} of the largest value")
    times = alternate(whole, lambda: plain_model(model, audio), repeats)
    yield timed(f"base, all layers, {AUDIO_S} s; other: plain PyTorch", *times, f"{difference:.1e} relative")


def paths(depth: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Ways of computing the same embeddings on a CPU."""
    torch.manual_seed(0)
    config = published_config("base")
    model = OmarRQ(dataclasses.replace(config, net=dataclasses.replace(config.net, depth=depth))).eval()
    audio = 0.1 * torch.randn(1, AUDIO_S * model.sample_rate)
    about = f"base shapes, {depth} blocks, {AUDIO_S} s"

    def eager() -> Tensor:
        return model.extract_embeddings(audio, sample_rate=model.sample_rate)[0]

    eight_bit = quantize(model)

    def small() -> Tensor:
        return eight_bit.extract_embeddings(audio, sample_rate=model.sample_rate)[0]

    error = float((small() - eager()).square().mean().sqrt() / eager().square().mean().sqrt())
    yield timed(
        f"{about}, int8; other: float32", *alternate(small, eager, repeats), f"{error:.1e} relative RMS"
    )
    session = onnx_session(model)

    def onnx() -> Tensor:
        return torch.from_numpy(session.run(None, {"audio": audio.numpy()})[0])[0]

    difference = float((onnx() - eager()).abs().max())
    if difference > 1e-4:
        raise SystemExit(f"the exported graph differs by {difference:g}")
    times = alternate(onnx, eager, repeats)
    yield timed(f"{about}, ONNX Runtime; other: PyTorch", *times, f"{difference:.1e} at most")


def onnx_session(model: OmarRQ) -> Any:
    import onnxruntime

    from omar_rq.export.graph_files import export_graph

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, Path(folder, "model"))
        with torch.enable_grad():
            graph = export_graph(Path(folder, "model"), Path(folder, "graph"))
        return onnxruntime.InferenceSession(graph / "model.onnx", options, providers=["CPUExecutionProvider"])


def memory(model: str) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        for minutes in MINUTES:
            path = Path(folder, f"{minutes}.wav")
            write_noise(path, minutes)
            words = ["embed", path, "--model", model, "--layers", "all", "--out", Path(folder, str(minutes))]
            command = [sys.executable, "-P", "-c", MEASURED, *map(str, words), "--device", "cpu"]
            environment = python_environment() | {"OMP_NUM_THREADS": "1"}
            output = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
            note = json.loads(output.stdout.splitlines()[-1])
            yield {
                "measure": f"{model}, all layers, {minutes} min: peak above the loaded model",
                "unit": "MB",
                "ours": note["peak"] - note["loaded"],
                "other": None,
                "other / ours": None,
                "agreement": None,
            }


def write_noise(path: Path, minutes: int) -> None:
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        for _ in range(minutes):
            file.write(0.1 * generator.standard_normal(60 * 16000))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--model", default="omar-rq-tiny", help="model of the memory measurement")
    parser.add_argument("--depth", type=int, default=4, help="blocks in the comparison of int8 and ONNX")
    parser.add_argument("--part", choices=("all", "speed", "paths", "memory"), default="all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if arguments.part in ("all", "memory"):
        rows += memory(arguments.model)  # first, because a child process would inherit the peak of this one
    with torch.no_grad():
        if arguments.part in ("all", "paths"):
            rows = [*paths(arguments.depth, arguments.repeats), *rows]
        if arguments.part in ("all", "speed"):
            rows = [*speed(arguments.repeats), *rows]
    print(markdown_table(rows))
    command = (
        f"python benchmarks/omar_rq_embed.py --part {arguments.part} --repeats {arguments.repeats} "
        f"--model {arguments.model} --depth {arguments.depth}"
    )
    subject = "omar_rq_embed" if arguments.part == "all" else f"omar_rq_embed_{arguments.part}"
    print(f"\nwritten: {write_results(subject, rows, command=command)}")


if __name__ == "__main__":
    main()
