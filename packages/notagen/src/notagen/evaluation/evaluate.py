"""``notagen evaluate``: loss on held-out pieces, and validity and novelty of generated ones, beside baselines.

    notagen evaluate model=notagen-tiny data.index=data/notagen/augmented_eval.jsonl \
        data.train=data/notagen/augmented_train.jsonl pieces=64 out=out/evaluation.json

Prompts are those of the held-out pieces, in turn. Baselines are the same network untrained, and a character bigram
fitted on the training pieces; held-out pieces themselves stand beside the generated ones, so that every figure can be
read against music of people. All is a function of the seed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from notagen.codec import PAD, PATCH_SIZE
from notagen.evaluation.bigram import Bigram
from notagen.evaluation.novelty import KnownMusic
from notagen.generation.decoding import Limits, Request, generate
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen
from notagen.notation.validation import validate
from notagen.training.data import PieceDataset, collate
from notagen.training.index import Index
from notagen.weights import from_pretrained
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import json_text, progress, run_manifest
from pentatonic.errors import ConfigError, FormatError
from pentatonic.training import ItemKey, compose_config


@dataclass
class EvaluationDataConfig:
    """Pieces to compare with.

    Args:
        index: Held-out pieces.
        train: Pieces that the model was trained on, for the bigram and for novelty; neither without it.
        novelty_notes: Notes of a run that counts as known or new.
    """

    index: str = "???"
    train: str | None = None
    novelty_notes: int = 8


@dataclass
class SamplingConfig:
    """As :class:`notagen.generation.sampling.Sampling`."""

    top_k: int = 9
    top_p: float = 0.9
    temperature: float = 1.2


@dataclass
class EvaluateConfig:
    """Options of ``notagen evaluate``.

    Args:
        model: Whatever :func:`notagen.from_pretrained` loads.
        data: Pieces to compare with.
        pieces: How many to generate of each kind; 0: only the loss is measured.
        sampling: How characters are chosen.
        seed: Of the first piece; each further one adds 1.
        max_patches: Where a piece is given up.
        batch_size: Pieces at a time.
        device: ``cpu`` or ``cuda``.
        out: JSON file to write.
    """

    model: str = "???"
    data: EvaluationDataConfig = field(default_factory=EvaluationDataConfig)
    pieces: int = 32
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0
    max_patches: int = 512
    batch_size: int = 16
    device: str = "cpu"
    out: str | None = None


@dataclass(frozen=True)
class Loss:
    """How well characters are predicted.

    Attributes:
        nats: Mean cross-entropy of a character.
        characters: How many were predicted.
    """

    nats: float
    characters: int

    @property
    def bits(self) -> float:
        """Cross-entropy of a character in bits."""
        return self.nats / math.log(2)


@dataclass(frozen=True)
class Rates:
    """What pieces of one kind are like; all but the first are shares.

    Attributes:
        pieces: How many there are.
        finished: Brought to an end by their author, not by a limit.
        valid: Pieces without any error of :func:`notagen.notation.validation`.
        unparsable_bars: Bars that are no ABC, of all bars.
        misaligned_bars: Bars whose voices disagree, of all bars.
        known: Runs of notes that occur in the training pieces, of all runs; None without training pieces.
        copies: Pieces whose voices are all voices of training pieces; None without training pieces.
        longest_known: Notes of the longest known stretch of a piece, the mean of pieces; None without training pieces.
    """

    pieces: int
    finished: float
    valid: float
    unparsable_bars: float
    misaligned_bars: float
    known: float | None
    copies: float | None
    longest_known: float | None


def model_loss(model: NotaGen, data: PieceDataset, *, batch_size: int = 16) -> Loss:
    """Measure a model on whole pieces; every character of every piece counts the same.

    Args:
        model: In evaluation mode.
        data: Pieces.
        batch_size: Pieces at a time, which decides memory and speed only.
    """
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in progress(range(0, len(data), batch_size), "measuring the loss"):
            pieces = [data[ItemKey(0, i)] for i in range(start, min(start + batch_size, len(data)))]
            count += sum(int((piece[1:] != PAD).sum()) for piece in pieces)
            for patches, mask in collate(pieces):
                log_p = model.log_probabilities(patches.to(model.device), mask.to(model.device))
                total -= float(log_p.double().sum())
    return Loss(total / count, count)


def bigram_loss(bigram: Bigram, data: PieceDataset) -> Loss:
    """Measure the baseline on the same characters."""
    pieces = [data[ItemKey(0, i)] for i in range(len(data))]
    count = sum(int((piece[1:] != PAD).sum()) for piece in pieces)
    return Loss(-sum(map(bigram.log_probability, pieces)) / count, count)


def rates(pieces: Sequence[tuple[str, bool]], known: KnownMusic | None = None) -> Rates:
    """Describe pieces.

    Args:
        pieces: Text in interleaved layout and whether it is finished, at least one.
        known: Training pieces.
    """
    reports = [validate(text) for text, _ in pieces]
    count, bars = len(pieces), max(1, sum(report.bars for report in reports))
    shares = _novelty_rates([text for text, _ in pieces], known) if known else (None, None, None)
    return Rates(
        count,
        sum(finished for _, finished in pieces) / count,
        sum(report.valid for report in reports) / count,
        sum(report.unparsable_bars for report in reports) / bars,
        sum(report.misaligned_bars for report in reports) / bars,
        *shares,
    )


def _novelty_rates(texts: Sequence[str], known: KnownMusic) -> tuple[float, float, float]:
    found = []
    for text in texts:
        with contextlib.suppress(FormatError):  # no tune, so nothing of it is known
            found.append(known.novelty(text))
    runs = max(1, sum(each.ngrams for each in found))
    return (
        sum(each.known for each in found) / runs,
        sum(each.copy for each in found) / len(texts),
        sum(each.longest_known for each in found) / len(texts),
    )


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measure a model and its baselines.

    Returns:
        ``loss``: for each of ``model``, ``untrained`` and ``bigram`` the values of :class:`Loss`, and ``bits``;
        ``pieces``: for each kind the values of :class:`Rates`; both as in the file. The bigram, and the shares of
        known music, are there with ``data.train`` only.

    Raises:
        ConfigError: An option is out of its range.
        InputError: An index cannot be read.
    """
    if config.pieces < 0 or config.batch_size < 1 or config.max_patches < 1:
        raise ConfigError("pieces must be 0 or more, batch_size and max_patches at least 1")
    model = from_pretrained(config.model, device=config.device)
    torch.manual_seed(config.seed)
    untrained = NotaGen(model.config).to(model.device).eval()
    pieces = partial(PieceDataset, patch_length=model.config.patch_length, random=False)
    held_out, bigram, known = pieces(Index(config.data.index)), None, None
    losses = {name: model_loss(each, held_out) for name, each in (("model", model), ("untrained", untrained))}
    if config.data.train is not None:
        training = pieces(Index(config.data.train))
        bigram = Bigram(training[ItemKey(0, i)] for i in range(len(training)))
        losses["bigram"] = bigram_loss(bigram, held_out)
        texts = (training.index.read(i) for i in range(len(training)))
        known = KnownMusic(texts, n=config.data.novelty_notes)
    result: dict[str, Any] = {
        "loss": {name: asdict(loss) | {"bits": loss.bits} for name, loss in losses.items()}
    }
    if config.pieces:
        kinds = _write_pieces(config, model, untrained, bigram, held_out.index)
        result["pieces"] = {kind: asdict(rates(written, known)) for kind, written in kinds.items()}
    result |= {"config": asdict(config), "run": run_manifest()}
    if config.out is not None:
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(config.out) as file:
            file.write(f"{json_text(result)}\n".encode())
    return result


def _write_pieces(
    config: EvaluateConfig, model: NotaGen, untrained: NotaGen, bigram: Bigram | None, held_out: Index
) -> dict[str, list[tuple[str, bool]]]:
    """Return text and whether it is finished of the pieces of each kind, the held-out ones among them."""
    chosen = [i % len(held_out) for i in range(config.pieces)]
    prompts = [held_out.entries[i].prompt_text for i in chosen]
    requests = [Request(prompt, seed=config.seed + i) for i, prompt in enumerate(prompts)]
    sampling = Sampling(**asdict(config.sampling))
    limits = Limits(patches=config.max_patches)
    kinds = {}
    for kind, writer, constrained in (
        ("constrained", model, True),
        ("free", model, False),
        ("untrained", untrained, False),
    ):
        written = generate(
            writer,
            requests,
            sampling=sampling,
            limits=limits,
            batch_size=config.batch_size,
            constrained=constrained,
        )
        kinds[kind] = [(piece.text, piece.status == "finished") for piece in written]
    if bigram is not None:
        most = config.max_patches * PATCH_SIZE
        kinds["bigram"] = [
            bigram.generate(request.prompt, seed=request.seed, sampling=sampling, max_characters=most)
            for request in requests
        ]
    kinds["held-out"] = [(held_out.read(i), True) for i in dict.fromkeys(chosen)]
    return kinds


def table(result: Mapping[str, Any]) -> str:
    """Return what :func:`evaluate` found as two Markdown tables."""
    lines = ["| predicts held-out characters | bits each |", "|---|---|"]
    lines += [f"| {name} | {loss['bits']:.3f} |" for name, loss in result["loss"].items()]
    if "pieces" in result:
        names = [column.name for column in fields(Rates)]
        lines += ["", f"| pieces by | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {kind} | {' | '.join(_shown(name, values[name]) for name in names)} |"
            for kind, values in result["pieces"].items()
        ]
    return "\n".join(lines)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if name in ("pieces", "longest_known") else f"{100 * value:.1f} %"


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``model=notagen-tiny data.index=data/notagen/augmented_eval.jsonl``."""
    config = compose_config("notagen.conf.evaluation", overrides, EvaluateConfig, config_name="evaluate")
    print(table(evaluate(config)))


if __name__ == "__main__":
    from notagen.cli import run_module

    run_module("evaluate", __doc__)
