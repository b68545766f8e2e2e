"""``notagen evaluate``: loss on held-out pieces, and validity and novelty of generated pieces, with baselines.

    notagen evaluate model=notagen-tiny data.index=data/notagen/augmented_eval.jsonl \
        data.train=data/notagen/augmented_train.jsonl pieces=64 out=out/evaluation.json

Prompts are those of the held-out pieces, in turn. Each kind of pieces has the measures of
:mod:`notagen.evaluation.measures`, beside those of the held-out pieces; and constrained pieces say which share of their
bars was drawn freely. Baselines are the same network without training, and a character
bigram of the training pieces. The held-out pieces are measured too, so that generated pieces can be compared with
human-written music. Results are deterministic for a seed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from notagen.codec import PAD, PATCH_SIZE
from notagen.evaluation.bigram import Bigram
from notagen.evaluation.measures import PieceMeasures, measure, pooled
from notagen.evaluation.novelty import KnownMusic
from notagen.generation.bar_drawing import Draws
from notagen.generation.best_of import best_pieces
from notagen.generation.decoding import Limits, Request
from notagen.model import NotaGen
from notagen.notation.validation import validate
from notagen.training.data import PieceDataset, collate
from notagen.training.index import Index
from notagen.vocabulary import Vocabulary
from notagen.weights import from_pretrained
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import json_text, make_output_place, progress, run_manifest
from pentatonic.errors import ConfigError, FormatError
from pentatonic.training import ItemKey, compose_config


@dataclass
class EvaluationDataConfig:
    """Pieces to compare with.

    Args:
        index: Held-out pieces.
        train: Training pieces of the model, for the bigram and novelty; None: both are left out.
        novelty_notes: Number of notes of the runs that are compared for novelty.
    """

    index: str = "???"
    train: str | None = None
    novelty_notes: int = 8


@dataclass
class SamplingConfig:
    """Options of :class:`notagen.generation.sampling.Sampling`; None: as the model says."""

    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None


@dataclass
class EvaluateConfig:
    """Options of ``notagen evaluate``.

    Args:
        model: Name or path for :func:`notagen.from_pretrained`.
        data: Pieces to compare with.
        pieces: Number of pieces to generate of each kind; 0: only the loss is measured.
        sampling: How characters are chosen.
        best_of: Number of candidates of each piece of the model; see :func:`notagen.generation.best_of.best_pieces`.
        seed: Seed of the first piece; each further piece adds 1.
        max_patches: Greatest number of patches of a piece.
        batch_size: Number of pieces per batch.
        device: ``cpu`` or ``cuda``.
        out: JSON file to write.
    """

    model: str = "???"
    data: EvaluationDataConfig = field(default_factory=EvaluationDataConfig)
    pieces: int = 32
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    best_of: int = 1
    seed: int = 0
    max_patches: int = 512
    batch_size: int = 16
    device: str = "cpu"
    out: str | None = None


@dataclass(frozen=True)
class Loss:
    """Loss of the prediction of characters.

    Attributes:
        nats: Mean cross-entropy per character, in nats.
        characters: Number of predicted characters.
    """

    nats: float
    characters: int

    @property
    def bits(self) -> float:
        """Mean cross-entropy per character, in bits."""
        return self.nats / math.log(2)


@dataclass(frozen=True)
class Rates:
    """Properties of the pieces of one kind.

    Attributes:
        pieces: Number of pieces.
        finished: Share of pieces that were not ended by a limit.
        valid: Share of pieces without errors by :func:`notagen.notation.validation.validate`.
        unparsable_bars: Share of bars that cannot be parsed.
        misaligned_bars: Share of bars whose voices have different lengths or barlines.
        known: Share of runs of notes that occur in the training pieces; None without training pieces.
        copies: Share of pieces whose voices are all equal to voices of training pieces; None without training pieces.
        longest_known: Mean number of notes of the longest known passage of a piece; None without training pieces.
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
    """Return the loss of a model on whole pieces, as the mean over all characters of all pieces.

    Args:
        model: The model, in evaluation mode.
        data: The pieces.
        batch_size: Number of pieces per batch; affects memory and speed only.
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
    """Return the loss of the bigram model on the same characters as :func:`model_loss`."""
    pieces = [data[ItemKey(0, i)] for i in range(len(data))]
    count = sum(int((piece[1:] != PAD).sum()) for piece in pieces)
    return Loss(-sum(map(bigram.log_probability, pieces)) / count, count)


def rates(pieces: Sequence[tuple[str, bool]], known: KnownMusic | None = None) -> Rates:
    """Measure properties of pieces.

    Args:
        pieces: For each piece its text in interleaved layout and whether it is finished; at least one.
        known: Training pieces; None: novelty is not measured.
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
        with contextlib.suppress(FormatError):  # nothing is known of a text that is not a tune
            found.append(known.novelty(text))
    runs = max(1, sum(each.ngrams for each in found))
    return (
        sum(each.known for each in found) / runs,
        sum(each.copy for each in found) / len(texts),
        sum(each.longest_known for each in found) / len(texts),
    )


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate a model and its baselines.

    Returns:
        The content of the output file. ``sampling`` says how characters were chosen. ``loss`` has for each of
        ``model``, ``untrained`` and ``bigram`` the values of :class:`Loss`, and ``bits``; ``pieces`` has for each kind
        the values of :class:`Rates`. ``draws`` has the values of :class:`notagen.generation.bar_drawing.Draws` of the
        constrained pieces; ``measures`` has for all prompts together, and for each of several prompts, the values of
        :class:`notagen.evaluation.measures.PieceMeasures` of each kind. Without ``data.train`` the bigram and the
        values for known music are missing.

    Raises:
        ConfigError: An option is out of range.
        InputError: An index cannot be read.
    """
    if config.pieces < 0 or min(config.batch_size, config.max_patches, config.best_of) < 1:
        raise ConfigError("pieces must be 0 or more, batch_size, max_patches and best_of at least 1")
    model = from_pretrained(config.model, device=config.device)
    wanted = {name: value for name, value in asdict(config.sampling).items() if value is not None}
    model.sampling = replace(model.sampling, **wanted)
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
        kinds, draws = _write_pieces(config, model, untrained, bigram, held_out.index)
        result["pieces"] = {kind: asdict(rates(written, known)) for kind, written in kinds.items()}
        result["draws"] = asdict(draws)
        result["measures"] = {
            group: {kind: _measures(texts, model.vocabulary) for kind, texts in of.items()}
            for group, of in _by_prompt(kinds).items()
        }
    result |= {"config": asdict(config), "sampling": model.sampling.to_dict(), "run": run_manifest()}
    if config.out is not None:
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(config.out) as file:
            file.write(f"{json_text(result)}\n".encode())
    return result


def _write_pieces(
    config: EvaluateConfig, model: NotaGen, untrained: NotaGen, bigram: Bigram | None, held_out: Index
) -> tuple[dict[str, list[tuple[str, bool]]], Draws]:
    """Return the pieces of each kind, including held-out ones: the text of each, and whether it is finished.

    The draws are those of the constrained pieces together.
    """
    shown = [i % len(held_out) for i in range(config.pieces)]
    prompts = [held_out.entries[i].prompt_text for i in shown]
    requests = [Request(prompt, seed=config.seed + i) for i, prompt in enumerate(prompts)]
    limits = Limits(patches=config.max_patches)
    kinds: dict[str, list[tuple[str, bool]]] = {}
    draws = Draws()
    for kind, writer, best_of, constrained in (
        ("constrained", model, config.best_of, True),
        ("free", model, config.best_of, False),
        ("untrained", untrained, 1, False),
    ):
        chosen = best_pieces(
            writer,
            requests,
            best_of=best_of,
            sampling=model.sampling,
            limits=limits,
            batch_size=config.batch_size,
            constrained=constrained,
        )
        written = [choice.piece for _, choice in sorted(chosen, key=lambda item: item[0])]
        kinds[kind] = [(piece.text, piece.status == "finished") for piece in written]
        draws = sum((piece.draws for piece in written if piece.draws is not None), start=draws)
    if bigram is not None:
        most = config.max_patches * PATCH_SIZE
        kinds["bigram"] = [
            bigram.generate(request.prompt, seed=request.seed, sampling=model.sampling, max_characters=most)
            for request in requests
        ]
    kinds["held-out"] = [(held_out.read(i), True) for i in dict.fromkeys(shown)]
    return kinds, draws


def _measures(texts: Sequence[str], vocabulary: Vocabulary) -> dict[str, Any]:
    return pooled([measure(text, vocabulary) for text in texts]).to_dict()


def _by_prompt(kinds: Mapping[str, Sequence[tuple[str, bool]]]) -> dict[str, dict[str, list[str]]]:
    """Sort the texts of each kind by their prompts: all together, and those of each prompt if there are several.

    Pieces of kinds that spoil the prompt, such as those of an untrained network, count in the first group only.

    Returns:
        Name of the group -> kind -> texts.
    """
    groups: dict[str, dict[str, list[str]]] = {"all": {}}
    asked = {_prompt_name(text) for text, _ in kinds["held-out"]}
    for kind, pieces in kinds.items():
        for text, _ in pieces:
            name = _prompt_name(text)
            for group in ("all", name) if name in asked else ("all",):
                groups.setdefault(group, {}).setdefault(kind, []).append(text)
    return groups if len(groups) > 2 else {"all": groups["all"]}


def _prompt_name(text: str) -> str:
    lines = takewhile(lambda line: line.startswith("%") and not line.startswith("%%"), text.split("\n"))
    return " / ".join(line[1:] for line in lines) or "no prompt"


def table(result: Mapping[str, Any]) -> str:
    """Return the result of :func:`evaluate` as Markdown tables: losses, pieces, and the measures of each prompt."""
    lines = ["| predicts held-out characters | bits each |", "|---|---|"]
    lines += [f"| {name} | {loss['bits']:.3f} |" for name, loss in result["loss"].items()]
    if "pieces" in result:
        names = [column.name for column in fields(Rates)]
        lines += ["", f"| pieces by | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {kind} | {' | '.join(_shown(name, values[name]) for name in names)} |"
            for kind, values in result["pieces"].items()
        ]
        total = max(1, sum(result["draws"].values()))
        shares = (f"{100 * count / total:.1f} % {name}" for name, count in result["draws"].items())
        lines += ["", f"Bars of constrained pieces: {', '.join(shares)}."]
        names = [item.name for item in fields(PieceMeasures)]
        for group, kinds in result["measures"].items():
            lines += ["", f"| {group} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
            lines += [
                f"| {kind} | {' | '.join(_shown_share(name, values[name]) for name in names)} |"
                for kind, values in kinds.items()
            ]
    return "\n".join(lines)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if name in ("pieces", "longest_known") else f"{100 * value:.1f} %"


def _shown_share(name: str, share: Mapping[str, Any] | None) -> str:
    value = None if share is None else share["value"]
    if value is None:
        return "-"
    return f"{value:.1f}" if name == "voice_range" else f"{100 * value:.1f} %"


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``model=notagen-tiny data.index=data/notagen/augmented_eval.jsonl``."""
    config = compose_config("notagen.conf.evaluation", overrides, EvaluateConfig, config_name="evaluate")
    if config.out:
        make_output_place(Path(config.out), "out=")  # fail fast
    print(table(evaluate(config)))
