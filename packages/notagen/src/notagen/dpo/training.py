"""Training of a policy on preferences (CLaMP-DPO, NotaGen, arXiv 2502.18008) with the loop that all trainers share.

Every step is one pair of pieces, a chosen and a rejected one, or all pairs of a few of each. Long pieces have a fixed
set of crops, so that the log-probabilities of the reference, which is the policy before the first step, are computed
once and kept in the run folder.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from notagen.codec import PAD
from notagen.dpo.encoding import fixed_crops
from notagen.dpo.gradient import block_gradient, pair_gradient
from notagen.dpo.log_probability import CHUNK, reference_log_probabilities
from notagen.dpo.loss import PairLosses, pair_losses
from notagen.dpo.preferences import Preferences
from notagen.model import NotaGen, NotaGenConfig
from notagen.training.objective import NotaGenTraining
from notagen.weights import generation_notes, save_pretrained, write_config, write_notes
from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import ConfigError, CorruptCheckpoint, FormatError, InputError, PentatonicError
from pentatonic.folder_run import fingerprint
from pentatonic.optim import adamw
from pentatonic.training import (
    ItemKey,
    OptimConfig,
    StepContext,
    Trainer,
    TrainerConfig,
    TrainResult,
    config_yaml,
    constant,
    mix_seed,
)

#: Most that the loss before the first step may differ from ln 2, in nats.
FIRST_LOSS_TOLERANCE: Mapping[str, float] = {"fp32": 1e-6, "bf16": 1e-3}

_REFERENCES, _VALUES, _MADE_FROM = "ref_logps.safetensors", "log_probabilities", "made_from"
_POLICY = "policy"


@dataclass
class PolicyTrainingConfig:
    """How a policy learns from pairs.

    Args:
        beta: Factor of the difference of log-probabilities, above 0; the greater, the closer to the reference.
        lam: Weight of the penalty on chosen pieces that become less likely, at least 0.
        policy_dropout: Dropout of the policy in training; the reference never has any.
        block: Chosen and rejected pieces of a step, so many of each; the loss is the mean of all their pairs, for which
            every piece goes through the model twice. 1: one pair, and every piece once.
        crops: Most crops of a piece that is longer than the context.
        chunk: Most patches that the character decoder reads at a time, which bounds the memory.
        checkpoint_blocks: Compute activations a second time in the backward pass, to save memory.
        optim: AdamW, at a constant rate; all parameters decay.
        trainer: The loop; every step is ``grad_accumulation`` pairs or blocks.
    """

    beta: float = 0.1
    lam: float = 10.0
    policy_dropout: float = 0.0
    block: int = 1
    crops: int = 3
    chunk: int = CHUNK
    checkpoint_blocks: bool = False
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-6))
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(max_steps=10_000, max_grad_norm=1.0, log_every=1)
    )


@dataclass(frozen=True)
class Pair:
    """What one loss is computed from.

    Args:
        chosen: ``(N, 16)`` int64, a crop of the chosen piece.
        rejected: ``(M, 16)`` int64, a crop of the rejected piece.
        reference: Log-probabilities of the two crops under the reference.
    """

    chosen: Tensor
    rejected: Tensor
    reference: tuple[float, float]


@dataclass(frozen=True)
class Block:
    """Pieces whose pairs one loss is the mean of.

    Args:
        chosen: ``(N, 16)`` int64 each, crops of a chosen pieces.
        rejected: ``(M, 16)`` int64 each, crops of b rejected pieces.
        reference_chosen: ``(a,)`` float64 log-probabilities under the reference.
        reference_rejected: ``(b,)`` float64.
        paired: ``(a, b)`` bool: which of them form pairs.
    """

    chosen: tuple[Tensor, ...]
    rejected: tuple[Tensor, ...]
    reference_chosen: Tensor
    reference_rejected: Tensor
    paired: Tensor


class PolicyTraining(NotaGenTraining):
    """The language model with a forward pass that returns the loss of a pair, or the mean of those of a block.

    The gradients are computed in the forward pass, one piece at a time, and handed out in the backward pass.

    Args:
        config: Sizes, with the dropout of the training.
        beta: As in :class:`PolicyTrainingConfig`, as are the others.
        lam: As there.
        chunk: As there.
        checkpoint_blocks: As there.
    """

    def __init__(
        self,
        config: NotaGenConfig,
        *,
        beta: float = 0.1,
        lam: float = 10.0,
        chunk: int = CHUNK,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__(config, checkpoint_blocks=checkpoint_blocks)
        self.beta, self.lam, self.chunk = beta, lam, chunk

    def forward(self, batch: Pair | Block, context: StepContext | None = None) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the loss of a pair or block before the step.

        Args:
            batch: The pair or block.
            context: Not used.

        Returns:
            Float32 scalars, of a block means over its pairs: ``loss`` in nats; ``margin``, the difference of the
            implicit rewards; ``accuracy``, 1 where it is above 0; ``penalty`` in nats, and ``penalized``, 1 where it is
            above 0; ``chosen_change`` and ``rejected_change``, by how much the log-probability of a character grew
            since the first step, in nats.
        """
        found: list[PairLosses] = []
        loss = _PairLoss.apply(self, batch, found, *self.parameters())
        assert isinstance(loss, Tensor)
        losses = found[0]
        if isinstance(batch, Pair):
            sizes = (torch.tensor(characters(batch.chosen)), torch.tensor(characters(batch.rejected)))
        else:
            sizes = (
                torch.tensor([[characters(piece)] for piece in batch.chosen]),
                torch.tensor([characters(piece) for piece in batch.rejected]),
            )
        metrics = {
            "margin": losses.margin,
            "accuracy": (losses.margin > 0).double(),
            "penalty": losses.penalty,
            "penalized": (losses.penalty > 0).double(),
            "chosen_change": losses.chosen_change / sizes[0],
            "rejected_change": losses.rejected_change / sizes[1],
        }
        return {"loss": loss} | {
            name: _mean(value, batch).float().to(self.device) for name, value in metrics.items()
        }


def _mean(values: Tensor, batch: Pair | Block) -> Tensor:
    """Return the mean over pairs, a scalar."""
    return values.reshape(()) if isinstance(batch, Pair) else values[batch.paired].mean()


class _PairLoss(torch.autograd.Function):
    """The loss as a function of the parameters; ``found`` gets what it is made of."""

    @staticmethod
    def forward(
        ctx: Any,
        policy: PolicyTraining,
        batch: Pair | Block,
        found: list[PairLosses],
        *parameters: nn.Parameter,
    ) -> Tensor:
        earlier = [parameter.grad for parameter in parameters]  # of a batch before, in accumulation
        with torch.enable_grad():
            losses = _gradient(policy, batch)
        ctx.gradients = [parameter.grad for parameter in parameters]
        for parameter, gradient in zip(parameters, earlier, strict=True):
            parameter.grad = gradient
        found.append(losses)
        return _mean(losses.loss, batch).float().to(policy.device)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if each is None else outputs[0] * each for each in ctx.gradients)
        return None, None, None, *gradients


def _gradient(policy: PolicyTraining, batch: Pair | Block) -> PairLosses:
    """Set the gradients of the parameters to those of the loss."""
    options = {"beta": policy.beta, "lam": policy.lam}
    if isinstance(batch, Pair):
        return pair_gradient(
            policy, batch.chosen, batch.rejected, batch.reference, chunk=policy.chunk, **options
        )
    policy.zero_grad(set_to_none=True)
    return block_gradient(
        policy,
        batch.chosen,
        batch.rejected,
        batch.reference_chosen,
        batch.reference_rejected,
        paired=batch.paired,
        chunk=policy.chunk,
        **options,
    )


class PairDataset:
    """The pairs of preference data; which crops of long pieces a pair has is drawn from seed, epoch and number.

    In blocks, there is one around every pair: further pieces are drawn among those that its two pieces form pairs with.

    Args:
        preferences: Which pieces form pairs.
        chosen: Crops ``(N, 16)`` of each chosen piece.
        rejected: Crops of each rejected piece.
        references: Log-probability of each crop of the chosen, then of the rejected pieces, in their order.
        seed: Seed of the draws.
        block: Chosen and rejected pieces of an item, so many of each where there are; 1: pairs.
    """

    def __init__(
        self,
        preferences: Preferences,
        chosen: Sequence[Sequence[Tensor]],
        rejected: Sequence[Sequence[Tensor]],
        *,
        seed: int = 0,
        block: int = 1,
    ) -> None:
        self.preferences, self.chosen, self.rejected = preferences, chosen, rejected
        self.seed, self.block = seed, block
        self._pairs = None if preferences.pairs is None else frozenset(preferences.pairs)
        self.references: dict[tuple[str, int, int], float] = {}

    def __len__(self) -> int:
        return self.preferences.pair_count

    def __getitem__(self, key: ItemKey) -> Pair | Block:
        """Return a pair, or the block around it."""
        return self.pair(key) if self.block == 1 else self._block_around(key)

    def pair(self, key: ItemKey) -> Pair:
        """Return a pair."""
        rng = random.Random(mix_seed(self.seed, key.epoch, key.index))
        chosen, rejected = self.preferences.pair(key.index)
        own, own_value = self._crop("chosen", chosen, rng)
        other, other_value = self._crop("rejected", rejected, rng)
        return Pair(own, other, (own_value, other_value))

    def _block_around(self, key: ItemKey) -> Block:
        rng = random.Random(mix_seed(self.seed, key.epoch, key.index))
        first, second = self.preferences.pair(key.index)
        chosen = [i for i in range(len(self.chosen)) if i != first and self._paired(i, second)]
        rejected = [j for j in range(len(self.rejected)) if j != second and self._paired(first, j)]
        chosen = [first, *rng.sample(chosen, min(self.block - 1, len(chosen)))]
        rejected = [second, *rng.sample(rejected, min(self.block - 1, len(rejected)))]
        own, own_values = zip(*(self._crop("chosen", i, rng) for i in chosen), strict=True)
        others, other_values = zip(*(self._crop("rejected", j, rng) for j in rejected), strict=True)
        return Block(
            own,
            others,
            torch.tensor(own_values, dtype=torch.float64),
            torch.tensor(other_values, dtype=torch.float64),
            torch.tensor([[self._paired(i, j) for j in rejected] for i in chosen]),
        )

    def _crop(self, kind: str, number: int, rng: random.Random) -> tuple[Tensor, float]:
        crops = (self.chosen if kind == "chosen" else self.rejected)[number]
        crop = rng.randrange(len(crops))
        return crops[crop], self.references[kind, number, crop]

    def _paired(self, chosen: int, rejected: int) -> bool:
        return self._pairs is None or (chosen, rejected) in self._pairs

    def crops(self) -> dict[tuple[str, int, int], Tensor]:
        """Return all crops by kind of piece, number of piece and number of crop."""
        return {
            (kind, number, crop): patches
            for kind, pieces in (("chosen", self.chosen), ("rejected", self.rejected))
            for number, crops in enumerate(pieces)
            for crop, patches in enumerate(crops)
        }


def characters(patches: Tensor) -> int:
    """Return how many characters of ``(N, 16)`` patches count for a log-probability."""
    return int((patches[1:] != PAD).sum())


def train_policy(
    start: NotaGen,
    preferences: Preferences,
    texts: Mapping[str, str],
    config: PolicyTrainingConfig,
    run_dir: Path,
    *,
    notes: Mapping[str, object] = MappingProxyType({}),
) -> TrainResult:
    """Train a policy, or go on training, and write it to ``policy`` in the run folder once all steps are done.

    Args:
        start: The policy before the first step, which is also the reference. It stays as it is.
        preferences: Which pieces form pairs.
        texts: Path of each chosen and rejected piece, as in ``preferences``, to its text as the policy wrote it.
        config: Settings.
        run_dir: Gets checkpoints, ``metrics.jsonl``, and ``ref_logps.safetensors`` with the log-probabilities of the
            reference.
        notes: Further files of the policy: name to a value for JSON.

    Returns:
        Where the run ended; ``policy`` is missing where a signal stopped it.

    Raises:
        ConfigError: A setting is out of range, or there are several processes.
        InputError: There are no pairs, or a piece cannot be encoded.
        PentatonicError: The loss before the first step is not ln 2, so that policy and reference do not agree.
    """
    data = _dataset(preferences, texts, start.config.patch_length, config)
    if config.beta <= 0 or config.lam < 0:
        raise ConfigError(f"beta must be above 0 and lam at least 0, got {config.beta} and {config.lam}")
    if config.block < 1:
        raise ConfigError(f"block is {config.block}, but must be at least 1")
    module = PolicyTraining(
        replace(start.config, dropout=config.policy_dropout),
        beta=config.beta,
        lam=config.lam,
        chunk=config.chunk,
        checkpoint_blocks=config.checkpoint_blocks,
    )
    module.load_state_dict(start.state_dict())
    optim = config.optim
    all_notes = {**generation_notes(start), **notes}
    trainer = Trainer(
        module,
        optimizer=adamw(module, optim.lr, optim.weight_decay),
        schedule=partial(constant, base_lr=optim.lr),
        train_dataset=data,
        batch_size=1,
        collate=_only,
        config=config.trainer,
        run_dir=run_dir,
        resolved_config=config_yaml(config),
        on_save=partial(_complete_checkpoint, start.config, all_notes),
    )
    if trainer.processes.world_size > 1:
        raise ConfigError("preference training runs in one process; start it without a launcher")
    precision = trainer.processes.precision
    with torch.autocast(module.device.type, torch.bfloat16, enabled=precision == "bf16"):
        data.references = cached_references(module, data.crops(), run_dir / _REFERENCES, precision=precision)
        check_first_loss(module, data.pair(ItemKey(0, 0)), precision)
    result = trainer.fit()
    if not result.interrupted:
        policy = NotaGen(start.config)
        policy.load_state_dict(module.state_dict())
        save_pretrained(policy, run_dir / _POLICY, notes=all_notes)
    return result


def cached_references(
    policy: PolicyTraining,
    crops: Mapping[tuple[str, int, int], Tensor],
    path: Path,
    *,
    precision: str = "fp32",
) -> dict[tuple[str, int, int], float]:
    """Return the log-probabilities of all crops under the reference: from a file, or computed and written to it.

    Args:
        policy: The policy before its first step.
        crops: Crops by their keys.
        path: The file. Values that were made from another reference, other crops or in another precision are replaced.
        precision: In which the caller lets them be computed.
    """
    digest = hashlib.sha256(
        f"{fingerprint(policy.config, policy.state_dict())} {precision} {policy.device.type}".encode()
    )
    for key, patches in crops.items():
        digest.update(f"{key} {tuple(patches.shape)}".encode())
        digest.update(patches.numpy().tobytes())
    made_from = torch.tensor(list(digest.digest()), dtype=torch.uint8)
    stored = _stored_values(path, made_from)
    if stored is None:
        stored = reference_log_probabilities(policy, list(crops.values()), chunk=policy.chunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, {_VALUES: stored, _MADE_FROM: made_from})
    return dict(zip(crops, stored.tolist(), strict=True))


def check_first_loss(policy: PolicyTraining, pair: Pair, precision: str = "fp32") -> None:
    """Refuse to train where the loss of a policy before its first step is not ln 2.

    Args:
        policy: The policy before its first step.
        pair: Any pair, with the values of the reference.
        precision: ``fp32`` or ``bf16``, in which the caller lets it be computed.

    Raises:
        PentatonicError: Policy and reference differ.
    """
    values = reference_log_probabilities(policy, [pair.chosen, pair.rejected], chunk=policy.chunk)
    references = torch.tensor(pair.reference, dtype=torch.float64)
    losses = pair_losses(*values, *references, beta=policy.beta, lam=policy.lam)
    loss, allowed = float(losses.loss), FIRST_LOSS_TOLERANCE[precision]
    if not abs(loss - math.log(2)) <= allowed:
        raise PentatonicError(
            f"the loss before the first step is {loss:.8f} and must be ln 2 ({math.log(2):.8f}) to {allowed:g}: policy "
            f"and reference differ; remove {_REFERENCES} if another machine made it"
        )


def _dataset(
    preferences: Preferences, texts: Mapping[str, str], patch_length: int, config: PolicyTrainingConfig
) -> PairDataset:
    if not preferences.pair_count:
        raise InputError("there are no pairs of a chosen and a rejected piece to learn from")
    encoded: dict[str, list[Tensor]] = {}
    for path in dict.fromkeys((*preferences.chosen, *preferences.rejected)):
        if path not in texts:
            raise InputError(f"the text of {path} is missing")
        try:
            crops = fixed_crops(texts[path], patch_length, most=config.crops)
        except FormatError as error:
            raise FormatError(error.reason, path=path, line=error.line, column=error.column) from error
        encoded[path] = [torch.tensor(crop) for crop in crops]
    chosen, rejected = (
        [encoded[path] for path in paths] for paths in (preferences.chosen, preferences.rejected)
    )
    return PairDataset(preferences, chosen, rejected, seed=config.trainer.seed, block=config.block)


def _only(items: list[Pair | Block]) -> Pair | Block:
    return items[0]


def _stored_values(path: Path, made_from: Tensor) -> Tensor | None:
    """Return the values of a file; None where there is none, or it was made from something else."""
    try:
        stored = load_tensors(path)
    except CorruptCheckpoint:
        return None
    return stored[_VALUES] if torch.equal(stored[_MADE_FROM], made_from) else None


def _complete_checkpoint(
    config: NotaGenConfig, notes: Mapping[str, object], folder: Path, module: nn.Module
) -> None:
    """Make a checkpoint loadable as a model."""
    write_config(config, folder)
    write_notes(notes, folder)
