"""What a patch of 16 characters costs NotaGen on one CPU thread, beside the original's way of writing.

    python benchmarks/notagen_generate.py

The model has the sizes of the released small one, random weights, and an output that never ends a patch early, so that
every patch is 16 steps of the character decoder. The original's way is written plainly: no keys and values are kept, so
each patch runs the patch decoder over the whole context (patches as one-hot vectors, all attention weights in memory)
and each character runs the character decoder over all characters before it. It writes one piece at a time.

- CPU seconds per patch and piece at contexts of 1 to 2,000 patches: the original's way, ours in float32 and with int8
  weights, alone and eight pieces at a time. All float32 ways must write the same text.
- Peak memory above that of the loaded model while one patch is written, each in a process of its own (`--part memory`,
  a table of its own). The original lacks `torch.no_grad`, so that it also stores what gradients would need; the table
  states its memory without it, as it is, and with it. All its times above are with it.
- Constrained pieces of notagen-tiny (`--part bars`, a table of its own): CPU seconds per patch of the finished texts
  when bars are drawn freely and again, beside the decoding before, which followed the grammar at each character. Both
  ways write whole pieces, as long as the model makes them, for the same prompts and seeds, in turn; the best round of
  each counts. Goal: 1.5 times at most.
- Embedding with the music encoder of CLaMP 2 at its released size (`--part embed`, a table of its own): the patch
  embedding beside the product with one-hot vectors (goal: 10 times as fast), and short pieces beside windows padded to
  512 patches (goal: 3 times as fast). Results must be equal within 1e-5; the best round of each counts.
- A training step (`--part train`, a table of its own): the loss of a batch of real pieces (those of the package's
  tests, cut at a number of patches) and its gradients, without dropout and optimiser. The original's way is written
  plainly: pieces are padded to the longest, the character decoder reads every patch at its full 16 characters, and all
  attention weights are in memory. It computes in float32, as there is no float16 on processors; ours in float32, and in
  bfloat16 by autocast as in training. All must have the same loss (bfloat16 within 1 %); the best round of each counts.
- A step of preference training (`--part dpo`, a table of its own): loss and gradients of a pair of pieces of 512
  patches, by the way of `notagen dpo`, which keeps the values of the reference and holds one piece at a time, beside
  policy and reference computed together, once with the same reading of patches and once with every patch padded, as in
  the original. Losses and gradients must agree. Goals: 1.2 times as fast, 30 % less memory, which is the peak of a
  process of its own for each way, model, Python and torch included; the best round of each counts.

Other times are medians over patches; the pass over a given context, which comes once, is in a row of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import markdown_table, write_results
from notagen_encoder import extraction
from notagen_original.network import SMALL, plain_trunk
from notagen_training import preference, step

from notagen.codec import BOS, EOS, PAD, PATCH_SIZE, VOCABULARY_SIZE, decode, encode_generate, padded
from notagen.generation.decoding import Limits, Request, generate, sample_patches, stream
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling, draw, probabilities
from notagen.model import DecoderCache, NotaGen
from notagen.prompts import model_prompts
from notagen.quantize import quantize
from notagen.weights import from_pretrained
from pentatonic.child_process import python_environment

CONTEXTS = (1, 64, 1024, 2000)
MEMORY_CONTEXTS = (1024, 2000)
BATCH = 8
SAMPLING = Sampling()
ORIGINAL, ORIGINAL_NO_GRAD = "original's", "original's with no_grad"


def random_model() -> NotaGen:
    torch.manual_seed(0)
    model = NotaGen(SMALL).eval()
    with torch.no_grad():  # logits of 0 are never among the nine largest
        model.char_decoder.embed.weight[[PAD, BOS, EOS]] = 0
    return model


def prompt_of(context: int) -> str:
    """A prompt of so many patches, the start patch included."""
    return "".join(f"%{number:014}\n" for number in range(context - 1))


def original_patch(model: NotaGen, context: list[list[int]], rng: np.random.RandomState) -> list[int]:
    """One patch, as the original writes it; with what gradients would need, as in the original, unless disabled."""
    patches = model.patch_decoder
    one_hot = F.one_hot(torch.tensor([context]), VOCABULARY_SIZE).flatten(2).float()
    vector = plain_trunk(patches.trunk, one_hot @ patches.embed.weight + patches.embed_bias)[:, -1:]
    table, written = model.char_decoder.embed.weight, []
    for _ in range(PATCH_SIZE):
        x = torch.cat((vector, table[torch.tensor([written], dtype=torch.long)]), dim=1)
        logits = plain_trunk(model.char_decoder.trunk, x)[:, -1] @ table.T
        uniform = torch.tensor([rng.random_sample()], dtype=torch.float64)
        written.append(int(draw(probabilities(logits.detach(), SAMPLING), uniform)))
    return written


@torch.no_grad()
def original(model: NotaGen, context: int, patches: int) -> tuple[list[float], str]:
    """CPU seconds of each patch, and the text."""
    given, rng = encode_generate(prompt_of(context)), np.random.RandomState(0)
    seconds, written = [], []
    for _ in range(patches):
        start_s = time.process_time()
        written.append(original_patch(model, given + written, rng))
        seconds.append(time.process_time() - start_s)
    return seconds, decode(written)


def ours(model: NotaGen, context: int, patches: int, batch: int) -> tuple[list[float], list[str]]:
    """CPU seconds of each round of patches, and the texts."""
    requests = [Request(prompt_of(context), seed=seed) for seed in range(batch)]
    texts = [""] * batch
    seconds: list[float] = []
    start_s = time.process_time()
    for number, update in enumerate(
        stream(model, requests, sampling=SAMPLING, limits=Limits(patches=patches), batch_size=batch), 1
    ):
        texts[update.index] += update.text
        if number % batch == 0:
            seconds.append(time.process_time() - start_s)
            start_s = time.process_time()
    return seconds, texts


def row(way: str, context: int, batch: int, seconds: float | None, **more: Any) -> dict[str, Any]:
    names = ("original / this", "pass over the context, s")
    return {
        "way": way,
        "context": context,
        "batch": batch,
        "CPU s per patch": seconds,
        **dict.fromkeys(names),
        **more,
    }


def speed(repeats: int) -> Iterator[dict[str, Any]]:
    models = {"float32": random_model()}
    models["int8"] = quantize(models["float32"])
    for context in CONTEXTS:
        patches = max(2, repeats if context < 1000 else repeats // 4)
        taken, expected = original(models["float32"], context, patches)
        slow = statistics.median(taken)
        yield row(ORIGINAL_NO_GRAD, context, 1, slow)
        for name, model in models.items():
            for batch in (1, BATCH):
                seconds, texts = ours(model, context, 2 * repeats + 1, batch)
                if name == "float32" and not texts[0].startswith(expected):
                    raise SystemExit(f"context {context}, batch {batch}: the text is not the original's")
                each = statistics.median(seconds[1:]) / batch
                first = max(0.0, seconds[0] - seconds[1]) / batch
                yield row(
                    name,
                    context,
                    batch,
                    each,
                    **{"original / this": slow / each, "pass over the context, s": first},
                )


def by_bars(model: NotaGen, requests: Sequence[Request], sampling: Sampling) -> int:
    """Write constrained pieces as they are written now; return the number of their patches."""
    pieces = generate(model, requests, sampling=sampling, constrained=True, batch_size=len(requests))
    return sum(len(encode_generate(piece.text)) for piece in pieces)


@torch.no_grad()
def by_characters(model: NotaGen, requests: Sequence[Request], sampling: Sampling) -> int:
    """Write constrained pieces with the grammar at each character; return the number of their patches."""
    grammars = [Grammar(each.prompt, bars=each.bars, vocabulary=model.vocabulary) for each in requests]
    rngs = [np.random.RandomState(each.seed) for each in requests]
    contexts = [encode_generate(each.prompt) for each in requests]
    cache = DecoderCache(model.patch_decoder.trunk, len(requests))
    for row, context in enumerate(contexts):
        model.patch_decoder(torch.tensor([context[:-1]]), cache.row(row, len(context)))
        cache.lengths[row] = len(context) - 1
    live = list(range(len(requests)))
    while live:
        newest = torch.tensor([[contexts[i][-1]] for i in live])
        vectors = model.patch_decoder(newest, cache)[:, 0]
        following = [grammars[i] for i in live]
        patches = sample_patches(
            model, vectors, [[] for _ in live], [rngs[i] for i in live], sampling, following
        )
        for slot in reversed(range(len(live))):
            contexts[live[slot]].append(padded(patches[slot]))
            if grammars[live[slot]].ended or len(contexts[live[slot]]) == model.config.patch_length:
                live[slot] = live[-1]
                live.pop()
                cache.drop(slot)
    return sum(map(len, contexts))


def bars(rounds: int) -> Iterator[dict[str, Any]]:
    model = from_pretrained("notagen-tiny")
    for prompt in model_prompts("notagen-tiny")[::3]:  # tunes of one voice, and chorales of four
        for batch in (1, BATCH):
            requests = [Request(prompt.text, seed=seed) for seed in range(batch)]
            best = dict.fromkeys((by_characters, by_bars), float("inf"))
            for _ in range(rounds):
                for way in best:
                    start_s = time.process_time()
                    patches = way(model, requests, model.sampling)
                    best[way] = min(best[way], (time.process_time() - start_s) / patches)
            yield {
                "pieces": prompt.instrumentation,
                "batch": batch,
                "grammar at each character, CPU s per patch": best[by_characters],
                "bars drawn freely, CPU s per patch": best[by_bars],
                "bars / characters": best[by_bars] / best[by_characters],
            }


def memory() -> Iterator[dict[str, Any]]:
    for context in MEMORY_CONTEXTS:
        for way in (ORIGINAL, ORIGINAL_NO_GRAD, "float32", "int8"):
            command = [sys.executable, "-P", __file__, "--memory-of", way, "--context", str(context)]
            environment = python_environment(Path(__file__).parent)
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            megabytes = json.loads(output.stdout.splitlines()[-1])
            yield {"way": way, "context": context, "peak above model, MB": megabytes}


def peak_above_model(way: str, context: int) -> float:
    """Write one patch; how far memory rose above that of the process with the model, in MB."""
    model = random_model()
    if way == "int8":
        model = quantize(model)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is in use now
    before = status_megabytes("VmRSS")
    if way == ORIGINAL:
        original_patch(model, encode_generate(prompt_of(context)), np.random.RandomState(0))
    elif way == ORIGINAL_NO_GRAD:
        original(model, context, 1)
    else:
        ours(model, context, 1, 1)
    return status_megabytes("VmHWM") - before


def status_megabytes(name: str) -> float:
    return int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


# Part -> table, and what gives its rows; each takes the number of repeats.
PARTS = {
    "original": ("notagen_generate", speed),
    "bars": ("notagen_generate_bars", bars),
    "memory": ("notagen_generate_memory", lambda _: memory()),
    "embed": ("notagen_embed", extraction.rows),
    "train": ("notagen_train", step.rows),
    "dpo": ("notagen_dpo", preference.rows),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=6, help="timed patches, or rounds; decides how long it takes"
    )
    parser.add_argument("--part", choices=PARTS, help="one of the tables; all without it")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--context", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        print(peak_above_model(arguments.memory_of, arguments.context))
        return
    command = f"python benchmarks/notagen_generate.py --repeats {arguments.repeats}"
    for part, (name, measured) in PARTS.items():
        if arguments.part in (None, part):
            rows = [*measured(arguments.repeats)]
            print(markdown_table(rows))
            print(f"\nwritten: {write_results(name, rows, command=f'{command} --part {part}')}")


if __name__ == "__main__":
    main()
