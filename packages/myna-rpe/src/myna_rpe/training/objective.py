"""The pre-training task: crops of a track find each other among crops of others, with most of their patches left out.

Shapes: V views, B tracks, F mel bands, T frames, N tokens, K tokens that are kept, D width, O outputs of the head.
Sources: arXiv 2502.12511 (Myna), and Myna-RPE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from myna_rpe.config import EncoderConfig, PatchConfig, PatchName
from myna_rpe.losses import (
    GlobalContrastive,
    KMeans,
    LearnedTemperature,
    attention_weights,
    convex_combination,
    effective_rank,
    hull_distance,
    info_nce,
    mean_cosine,
    mean_width,
    nt_xent,
)
from myna_rpe.model import MynaEncoder
from myna_rpe.training.options import ObjectiveConfig
from pentatonic.errors import ConfigError
from pentatonic.training import StepContext
from pentatonic.training.distillation import Distillation
from pentatonic.training.gather import gathered
from pentatonic.training.teacher import TeacherTargets

Batch = Mapping[str, Any]


class ContrastiveTraining(nn.Module):
    """An encoder with everything that only its training needs.

    Args:
        config: The encoder.
        options: The objective.
        n_tracks: Tracks of the training set, of which SogCLR remembers something.
        views: V, crops of each track.
        teacher: Targets of the teacher that ``options.distillation`` names.
        encoder: Encoder to continue training; a new one by default.

    Attributes:
        encoder: The encoder.

    Raises:
        ConfigError: The options contradict each other or the encoder.
    """

    def __init__(
        self,
        config: EncoderConfig,
        options: ObjectiveConfig,
        *,
        n_tracks: int,
        views: int = 2,
        teacher: TeacherTargets | None = None,
        encoder: MynaEncoder | None = None,
    ) -> None:
        super().__init__()
        if options.hull.weight and views < 3:
            raise ConfigError(f"objective.hull needs crops.views of 3 or more, and it is {views}")
        if bool(options.distillation.weight) != (teacher is not None):
            raise ConfigError(
                "objective.distillation.weight is above 0 exactly where there are targets of a teacher"
            )
        self.options = options
        self.encoder = MynaEncoder(config) if encoder is None else encoder
        width = config.out_dim or config.dim
        contrast, k_means = options.contrast, options.k_means
        self.temperature = (
            LearnedTemperature(
                contrast.temperature, contrast.lowest_temperature, contrast.highest_temperature
            )
            if contrast.learned_temperature
            else None
        )
        self.memory = (
            GlobalContrastive(
                n_tracks,
                temperature=contrast.temperature,
                gamma=contrast.gamma,
                schedule="cosine" if contrast.gamma_schedule == "cosine" else "constant",
                decay_epochs=contrast.gamma_epochs,
                learned_temperatures=contrast.name == "isogclr",
            )
            if contrast.name in ("sogclr", "isogclr")
            else None
        )
        self.k_means = (
            KMeans(
                k_means.clusters,
                width,
                temperature=k_means.temperature,
                momentum=k_means.momentum,
                queue=k_means.queue,
                balanced=k_means.balanced,
            )
            if k_means.weight
            else None
        )
        self.distillation = (
            Distillation(
                config.dim,
                torch.from_numpy(teacher.vector_mean),
                torch.from_numpy(teacher.vector_std),
                teacher.tag_width if options.distillation.tags_weight else 0,
                cosine_weight=options.distillation.cosine_weight,
                mse_weight=options.distillation.mse_weight,
                tags_weight=options.distillation.tags_weight,
            )
            if teacher is not None
            else None
        )

    def forward(self, batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
        """Leave patches out, encode, compare.

        Args:
            batch: From :meth:`myna_rpe.training.data.Views.collate`.
            context: Position of this batch in training; random numbers come from its generator. Without one they come
                from the global generator, and the extra losses have their full weight.

        Returns:
            Scalars: ``loss``; ``contrast``, which is InfoNCE in evaluation of a model that is trained with SogCLR;
            ``accuracy`` of finding the other view in the batch; ``effective_rank`` and ``mean_cosine`` of the
            embeddings; each extra loss by its name; ``temperature``, where it is learned.
        """
        if self.training and self.temperature is not None:
            self.temperature.return_to_range()
        generator = None if context is None else context.generator()
        names: list[PatchName] = list(self.encoder.config.patches)
        totals: dict[str, Tensor] = {}
        for name in names:  # each kind of patches has masks of its own
            pooled = self.pooled(batch, name, generator)
            for key, value in self.losses(pooled, batch, context, generator).items():
                totals[key] = totals.get(key, 0.0) + value / len(names)
        return totals

    def pooled(self, batch: Batch, patch: PatchName, generator: torch.Generator | None) -> list[Tensor]:
        """Encode the views of a batch: V tensors ``(B, D)``."""
        encoded = []
        for mel, frames in zip(batch["views"], batch["frames"], strict=True):
            rows, columns = self.encoder.grid(mel.shape[-1], patch)
            patchout = self.options.patchout
            n_kept = patchout.n_kept(rows * columns, rows)
            keep, padded = None, None
            if self.training and n_kept < rows * columns:
                size = self.encoder.config.patches[patch]
                choose = kept_columns if patchout.kind == "columns" else kept_tokens
                keep = choose(rows, columns, frames.cpu(), size, n_kept, generator).to(mel.device)
            elif int(frames.min()) < mel.shape[-1]:
                padded = frames
            encoded.append(self._encode(mel, patch, keep, padded))
        return encoded

    def _encode(self, mel: Tensor, patch: PatchName, keep: Tensor | None, frames: Tensor | None) -> Tensor:
        """Encode some crops at a time, where asked for, in the memory of those.

        This is gradient caching (arXiv 2101.06983): the loss needs the embeddings of all crops, but not what happened
        inside the encoder. Going back, each part runs once more, alone, with the gradient of its embeddings.
        """
        size = self.options.sub_batch
        if size is None or size >= len(mel):
            return self.encoder.features(mel, patch=patch, keep=keep, frames=frames)
        parts = []
        for first in range(0, len(mel), size):
            rows = slice(first, first + size)
            arguments = {
                "patch": patch,
                "keep": None if keep is None else keep[rows],
                "frames": None if frames is None else frames[rows],
            }
            parts.append(checkpoint(self.encoder.features, mel[rows], use_reentrant=False, **arguments))
        return torch.cat(parts)  # type: ignore[arg-type]

    def losses(
        self,
        pooled: list[Tensor],
        batch: Batch,
        context: StepContext | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compute all losses of V views ``(B, D)``, in float32; as :meth:`forward` returns them."""
        with torch.autocast(pooled[0].device.type, enabled=False):
            pooled = [view.float() for view in pooled]
            views = [F.normalize(self.encoder.head(view), dim=1) for view in pooled]
            others = views[1:]
            contrast = torch.stack([self._contrast(views[0], other, batch) for other in others]).mean()
            extra = self._extra(pooled, views, batch, generator)
            loss, weighted = contrast, self._weights(context)
            for name, value in extra.items():
                loss = loss + weighted.get(name, 0.0) * value
            found = (views[0] @ views[1].T).argmax(dim=1) == torch.arange(len(views[0]), device=loss.device)
            if self.temperature is not None:
                extra["temperature"] = self.temperature()
        return {
            "loss": loss,
            "contrast": contrast.detach(),
            "accuracy": found.float().mean(),
            "effective_rank": effective_rank(views[0].detach()),
            "mean_cosine": mean_cosine(views[0].detach()),
        } | {name: value.detach() for name, value in extra.items()}

    def _weights(self, context: StepContext | None) -> dict[str, float]:
        options = self.options
        extra = {
            "k_means": options.k_means,
            "hull": options.hull,
            "width": options.width,
            "distillation": options.distillation,
        }
        weights = {
            name: one.weight if context is None else one.weight_at(context.step)
            for name, one in extra.items()
        }
        if options.width.target is None:
            weights["width"] *= -1  # the wider the better; with a target, what is missing to it counts
        return weights

    def _contrast(self, one: Tensor, other: Tensor, batch: Batch) -> Tensor:
        options = self.options.contrast
        temperature = options.temperature if self.temperature is None else self.temperature()
        distributed = dist.is_initialized()
        if self.memory is not None and self.training:
            index = batch["index"]
            if distributed:
                one, other, index = gathered(one), gathered(other), gathered(index)
            self.memory.start_epoch(int(batch["epoch"][0]))
            return self.memory(one, other, index)
        if options.name == "nt_xent":
            if distributed:
                one, other = gathered(one), gathered(other)
            return nt_xent(one, other, temperature=temperature)
        return info_nce(
            one, other, temperature=temperature, symmetric=options.symmetric, gather=options.gather
        )

    def _extra(
        self, pooled: list[Tensor], views: list[Tensor], batch: Batch, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        options, extra = self.options, {}
        points = torch.cat(views)
        if self.k_means is not None:
            extra["k_means"] = self.k_means(points)
        if options.hull.weight:
            anchor, others = views[0], torch.stack(views[1:], dim=1)
            if options.hull.projection == "exact":
                extra["hull"] = hull_distance(anchor, others)
            else:
                weights = attention_weights(anchor, others, temperature=options.hull.temperature)
                extra["hull"] = convex_combination(anchor, others, weights)
        if options.width.weight:
            directions = torch.randn(options.width.directions, points.shape[1], generator=generator)
            groups = self.k_means.assign(points) if self.k_means is not None and self.k_means.ready else None
            width = mean_width(
                points,
                F.normalize(directions, dim=1).to(points.device),
                groups,
                softness=options.width.softness,
            )
            target = options.width.target
            extra["width"] = width if target is None else F.relu(target - width)
        if self.distillation is not None:
            tags = torch.cat(batch["tags"]) if self.distillation.to_tags is not None else None
            parts = self.distillation(torch.cat(pooled), torch.cat(batch["vectors"]), tags)
            extra["distillation"] = parts.pop("loss")
            extra |= {f"distillation_{name}": value for name, value in parts.items()}
        return extra


def kept_tokens(
    rows: int,
    columns: int,
    frames: Tensor,
    patch: PatchConfig,
    n_kept: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the tokens that are kept, at random for each crop, and never one of padding.

    A crop that has fewer than ``n_kept`` tokens repeats them, each as often as the others or once more.

    Args:
        rows: Rows of patches.
        columns: Columns of patches.
        frames: ``(B,)`` frames before the padding, on the CPU; a patch with one of them counts.
        patch: The patches.
        n_kept: K.
        generator: Source of random numbers, on the CPU.

    Returns:
        ``(B, K)`` int64 raster numbers, ascending.
    """
    real_columns = (frames.add(patch.frames - 1) // patch.frames).clamp(max=columns)
    order = torch.rand(len(frames), rows * columns, generator=generator)
    order += (torch.arange(columns) >= real_columns[:, None]).repeat(1, rows)  # padding comes last
    places = torch.arange(n_kept) % (real_columns * rows)[:, None]
    return order.argsort(dim=1).gather(1, places).sort(dim=1).values


def kept_columns(
    rows: int,
    columns: int,
    frames: Tensor,
    patch: PatchConfig,
    n_kept: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """As :func:`kept_tokens`, but whole columns; ``n_kept`` is a multiple of ``rows``."""
    chosen = kept_tokens(1, columns, frames, patch, n_kept // rows, generator)
    first_of_row = columns * torch.arange(rows)[:, None]
    return (first_of_row + chosen[:, None]).flatten(1)
