"""Fit one head: standardised by the training split, its step chosen on the validation split.

Shape legend: B recordings of a batch, L layers, N tokens (1 of pooled features), D width, K outputs, c chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omar_rq.probing.config import FitOptions
from omar_rq.probing.data.recording import Recording
from omar_rq.probing.heads import HeadConfig, Outputs, ProbeHead
from omar_rq.probing.saved import classify_tokens
from omar_rq.probing.store import FeatureStore
from omar_rq.probing.tasks.task import ProbeTask
from pentatonic.errors import InputError
from pentatonic.training.schedules import warmup_cosine

# Tokens that are read at once, so that memory does not grow with a recording.
_BLOCK_TOKENS = 4096


@dataclass(frozen=True)
class Fitted:
    """A fitted head.

    Args:
        head: With the weights of its best step, in evaluation mode.
        step: That step, from 1.
        score: The first metric of the task there, on the validation split; larger is better.
    """

    head: ProbeHead
    step: int
    score: float


def fit_head(
    task: ProbeTask,
    store: FeatureStore,
    config: HeadConfig,
    train: Sequence[Recording],
    valid: Sequence[Recording],
    options: FitOptions,
    *,
    learning_rate: float,
    seed: int,
    device: str,
) -> Fitted | None:
    """Fit a head; a later step is kept only if it is strictly better on the validation split.

    Args:
        task: What is read.
        store: Features of all recordings.
        config: How the head is built.
        train: Fits standardisation and weights.
        valid: Chooses the step.
        options: How it is fitted.
        learning_rate: The highest one.
        seed: Of the initial weights, the orders, the crops and the dropout. Global generators stay as they are.
        device: Where the head is fitted.

    Returns:
        The head, or None if its outputs were not finite from the start.

    Raises:
        InputError: The first metric is undefined on the validation split.
    """
    with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        head = ProbeHead(config).to(device)
        _standardise(head, store, train)
        batches = _Batches(task, store, train, options, seed)
        if task.outputs == "regression":
            _scale_outputs(head, batches.targets)
        optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=options.weight_decay)
        best: tuple[int, float, dict[str, Tensor]] | None = None
        looks = 0
        for step, (features, real, targets) in zip(range(1, options.steps + 1), batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = warmup_cosine(
                    step - 1,
                    base_lr=learning_rate,
                    warmup_steps=min(options.warmup_steps, options.steps - 1),
                    total_steps=options.steps,
                    min_lr=options.min_lr,
                )
            head.train()
            optimizer.zero_grad()
            logits = head(features.to(device), None if real is None else real.to(device))
            probe_loss(logits, targets.to(device), task.outputs, head.scale, options.loss).backward()
            optimizer.step()
            if step % options.eval_every and step != options.steps:
                continue
            outputs = [recording_outputs(head, store, each, options, task.wants_features) for each in valid]
            if not all(np.isfinite(each).all() for each in outputs):
                break  # diverged: later steps are not finite either
            score = task.score(outputs, [each.labels for each in valid], store.source.rate)
            if math.isnan(score):
                raise InputError(
                    f"the validation split does not define {task.metrics[0]}: its {len(valid)} recordings do not have "
                    "different labels"
                )
            if best is None or score > best[1]:
                best = (step, score, {name: value.clone() for name, value in head.state_dict().items()})
                looks = 0
            else:
                looks += 1
                if options.patience is not None and looks >= options.patience:
                    break
    if best is None:
        return None
    head.load_state_dict(best[2])
    return Fitted(head.eval(), best[0], best[1])


def _standardise(head: ProbeHead, store: FeatureStore, train: Sequence[Recording]) -> None:
    """Mean and deviation of each value of each layer, over all chunks or tokens of the training split."""
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for recording in train:
        array = store.read(recording)
        axis = 0 if store.pooled else 1
        for start in range(0, array.shape[axis], _BLOCK_TOKENS):
            block = (
                array[start : start + _BLOCK_TOKENS] if axis == 0 else array[:, start : start + _BLOCK_TOKENS]
            )
            values = np.asarray(block, np.float64)
            count += values.shape[axis]
            total, squares = total + values.sum(axis), squares + (values**2).sum(axis)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    # A value that is the same everywhere, up to rounding, must not be blown up to noise.
    deviation = np.where(deviation > 1e-5 * np.abs(mean) + 1e-12, deviation, 1.0)
    head.mean.copy_(torch.from_numpy(mean))
    head.deviation.copy_(torch.from_numpy(deviation))


def _scale_outputs(head: ProbeHead, targets: Sequence[np.ndarray]) -> None:
    values = np.stack(targets).astype(np.float64)
    deviation = values.std(0)
    head.shift.copy_(torch.from_numpy(values.mean(0)))
    head.scale.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1.0)))


class _Batches:
    """Endless batches: features (B, L, N, D), where tokens are real (B, N) or None, and targets."""

    def __init__(
        self,
        task: ProbeTask,
        store: FeatureStore,
        recordings: Sequence[Recording],
        options: FitOptions,
        seed: int,
    ) -> None:
        self.task, self.store, self.recordings, self.options = task, store, recordings, options
        self.rng = np.random.default_rng(seed)
        self.crop = max(1, round(options.crop_s * store.source.rate))
        rate = store.source.rate
        self.targets = [
            task.target(each.labels, 1 if store.pooled else store.read(each).shape[1], rate)
            for each in recordings
        ]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
        while True:
            order = self.rng.permutation(len(self.recordings))
            for start in range(0, len(order), self.options.batch_size):
                chosen = order[start : start + self.options.batch_size].tolist()
                yield self._pooled(chosen) if self.store.pooled else self._cropped(chosen)

    def _pooled(self, chosen: Sequence[int]) -> tuple[Tensor, None, Tensor]:
        """A random chunk of each."""
        arrays = [self.store.read(self.recordings[number]) for number in chosen]
        rows = [np.asarray(array[self.rng.integers(len(array))], np.float32) for array in arrays]
        features = torch.from_numpy(np.stack(rows))[:, :, None]
        return features, None, torch.from_numpy(np.stack([self.targets[number] for number in chosen]))

    def _cropped(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """A random crop of each, padded to the longest."""
        arrays = [self.store.read(self.recordings[number]) for number in chosen]
        size = min(self.crop, max(array.shape[1] for array in arrays))
        frames = self.task.granularity == "frame"
        features = np.zeros((len(chosen), arrays[0].shape[0], size, arrays[0].shape[2]), np.float32)
        real = np.zeros((len(chosen), size), bool)
        targets = []
        for row, (number, array) in enumerate(zip(chosen, arrays, strict=True)):
            first = int(self.rng.integers(max(0, array.shape[1] - size) + 1))
            piece = array[:, first : first + size]
            features[row, :, : piece.shape[1]] = piece
            real[row, : piece.shape[1]] = True
            target = self.targets[number]
            if frames:
                part = target[first : first + size]
                nothing = -1 if part.dtype.kind == "i" else np.nan
                padded = np.full((size, *part.shape[1:]), nothing, part.dtype)
                padded[: len(part)] = part
                target = padded
            targets.append(target)
        return torch.from_numpy(features), torch.from_numpy(real), torch.from_numpy(np.stack(targets))


def probe_loss(
    logits: Tensor, targets: Tensor, outputs: Outputs, scale: Tensor, loss: str = "auto"
) -> Tensor:
    """Return the loss of a batch; what is not known does not count.

    Args:
        logits: (..., K).
        targets: As :meth:`omar_rq.probing.tasks.task.ProbeTask.target` gives them.
        outputs: What the outputs are.
        scale: (K,) of the head.
        loss: ``auto``, or ``binary`` for binary cross entropy of one-hot classes.
    """
    if outputs == "classes":
        return _class_loss(logits, targets, loss)
    if outputs == "boundary+classes":
        boundary = probe_loss(logits[..., :1], targets[..., :1], "multilabel", scale)
        classes = targets[..., 1].nan_to_num(nan=-1.0).long()
        return boundary + _class_loss(logits[..., 1:], classes, loss)
    if outputs == "regression":
        return F.mse_loss(logits / scale, targets / scale)
    known = ~targets.isnan()
    every = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    return (every * known).sum() / known.sum().clamp(min=1)


def _class_loss(logits: Tensor, classes: Tensor, loss: str) -> Tensor:
    known = classes >= 0
    if not known.any():
        return logits.sum() * 0
    if loss == "binary":
        one_hot = F.one_hot(classes[known], logits.shape[-1]).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[known], one_hot)
    return F.cross_entropy(logits[known], classes[known])


@torch.inference_mode()
def recording_outputs(
    head: ProbeHead, store: FeatureStore, recording: Recording, options: FitOptions, features: bool = False
) -> np.ndarray:
    """Return the logits of a whole recording: (K,), or (N, K) for tokens.

    Args:
        head: The head.
        store: Features.
        recording: One that the store has.
        options: Whether all chunks count, or the first.
        features: Put the mixed features (N, D) of tokens behind their logits.
    """
    head.eval()
    device = head.mean.device
    array = store.read(recording)
    if store.pooled:
        chunks = array[:1] if options.chunks == "first" else array
        values = torch.from_numpy(np.asarray(chunks, np.float32)).to(device)
        return head(values[:, :, None]).mean(0).cpu().numpy()
    mixed = torch.cat(
        [
            head.mix(
                torch.from_numpy(np.asarray(array[:, start : start + _BLOCK_TOKENS], np.float32)).to(device)[
                    None
                ]
            )
            for start in range(0, array.shape[1], _BLOCK_TOKENS)
        ],
        dim=1,
    )
    if head.config.granularity == "recording":
        return head.classify(mixed)[0].cpu().numpy()
    logits = classify_tokens(head, mixed[0])
    return (torch.cat((logits, mixed[0]), dim=1) if features else logits).cpu().numpy()
