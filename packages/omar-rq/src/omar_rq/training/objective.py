"""Masked token prediction: the pre-training task.

Shapes: B batch, n samples, N tokens, P values per patch, C embedding width, M masked tokens of the batch,
V codebook size, K token streams (representations x codebooks, representation-major).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omar_rq.config import ModelConfig
from omar_rq.frontends import Mel, patchify
from omar_rq.frontends.spec_augment import draw
from omar_rq.model import OmarRQ
from omar_rq.tokens import Tokenizer
from omar_rq.training.masking import mask_patches, mask_window_tokens
from pentatonic.errors import ConfigError
from pentatonic.training import StepContext

# Masked tokens whose logits are in memory at one time; with 49,176 columns they take 0.4 GB in float32.
HEAD_ROWS = 2048


class MaskedPrediction(nn.Module):
    """An encoder, the frozen tokenizer of its targets, and the linear head that predicts their tokens.

    Args:
        config: Model with at least one target and a quantizer.
        encoder: Encoder to continue training; a new one by default.

    Raises:
        ConfigError: There is nothing to predict.

    Source: OMAR-RQ (arXiv 2507.03482).
    """

    token_counts: Tensor

    def __init__(self, config: ModelConfig, encoder: OmarRQ | None = None) -> None:
        super().__init__()
        if not config.targets or config.quantizer is None:
            raise ConfigError(
                "pre-training needs model.targets and model.quantizer; this model has no targets"
            )
        if getattr(config.input, "stretch_factor", 1) != 1 and set(config.targets) != {config.input}:
            raise ConfigError(
                "mel.stretch_factor changes the time of the input alone, so the input must be the only target"
            )
        self.config = config
        self.encoder = OmarRQ(config) if encoder is None else encoder
        self.tokenizer = Tokenizer(config, self.encoder.frontend)
        self.streams = [
            f"{target.name}{codebook}"
            for target in config.targets
            for codebook in range(config.quantizer.num_codebooks)
        ]
        self.codebook_size = config.quantizer.codebook_size
        self.head = nn.Linear(config.net.embed_dim, self.codebook_size * len(self.streams))
        # How often each token occurred, to measure how many codes the quantisers use.
        self.register_buffer("token_counts", torch.zeros(len(self.streams), self.codebook_size))

    def forward(self, audio: Tensor, context: StepContext | None = None) -> dict[str, Tensor]:
        """Mask, encode, predict.

        Args:
            audio: (B, n) float32 at ``config.sample_rate``.
            context: Position of this batch in training; the mask is drawn from its generator, so it depends on
                (seed, rank, step) only. Without one the global generator is used, as in the original.

        Returns:
            Scalars: ``loss`` (mean cross-entropy over masked tokens and streams), ``accuracy``, both also for
            each stream, ``masked``, and for each stream ``perplexity`` of all tokens seen so far and ``used``,
            the share of codes that occurred.
        """
        generator = None if context is None else context.generator()
        patches, tokens = self.patches_and_tokens(audio, generator)
        window = mask_window_tokens(self.config.masking, self.config.input)
        masked_patches, mask = mask_patches(patches, self.config.masking, window=window, generator=generator)
        hidden, _ = self.encoder.trunk(self.encoder.embed(masked_patches))
        metrics = self.prediction_loss(hidden[mask], tokens[mask])
        metrics["masked"] = mask.float().mean()
        metrics |= self._usage(tokens)
        return metrics

    @torch.no_grad()
    def patches_and_tokens(
        self, audio: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return input patches (B, N, P) and target tokens (B, N, K), truncated to the same N.

        In training mode, a mel input with SpecAugment draws from ``generator``.
        """
        frontend, augmentation = self.encoder.frontend, None
        if self.training and isinstance(frontend, Mel) and frontend.config.augmented:
            shape = (len(audio), frontend.frames(audio.shape[1]))
            augmentation = draw(frontend.config, shape, generator)
            spectrogram = frontend.augmented(audio, augmentation)
        else:
            spectrogram = frontend(audio)
        patches = patchify(spectrogram, self.config.input.patch_size)
        tokens = self.tokenizer(audio, None if augmentation is None else augmentation.speed_only)
        length = min(patches.shape[1], tokens.shape[1])
        return patches[:, :length], tokens[:, :length]

    def logits(self, hidden: Tensor) -> Tensor:
        """Map (..., C) to (..., V, K); a column of the head is ``class * K + stream``."""
        return self.head(hidden).unflatten(-1, (self.codebook_size, len(self.streams)))

    def prediction_loss(self, hidden_MC: Tensor, tokens_MK: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and accuracy over masked tokens, in slices of rows so that memory stays small."""
        loss_K = correct_K = torch.zeros(len(self.streams), device=hidden_MC.device)
        for hidden, tokens in zip(hidden_MC.split(HEAD_ROWS), tokens_MK.split(HEAD_ROWS), strict=True):
            loss, correct = checkpoint(self._slice_sums, hidden, tokens, use_reentrant=False)  # type: ignore[misc]
            loss_K, correct_K = loss_K + loss, correct_K + correct
        rows = max(1, len(hidden_MC))
        loss_K, correct_K = loss_K / rows, correct_K / rows
        metrics = {"loss": loss_K.mean(), "accuracy": correct_K.mean()}
        for stream, loss, accuracy in zip(self.streams, loss_K.detach(), correct_K, strict=True):
            metrics |= {f"loss/{stream}": loss, f"accuracy/{stream}": accuracy}
        return metrics

    def _slice_sums(self, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(hidden).float()  # (rows, V, K)
        loss = F.cross_entropy(logits, tokens, reduction="none").sum(0)
        return loss, (logits.argmax(1) == tokens).sum(0).float()

    @torch.no_grad()
    def _usage(self, tokens: Tensor) -> dict[str, Tensor]:
        if self.training:
            for stream, seen in enumerate(tokens.flatten(0, 1).T):
                self.token_counts[stream] += torch.bincount(seen, minlength=self.codebook_size)
        share = self.token_counts / self.token_counts.sum(1, keepdim=True).clamp_min(1)
        perplexity = torch.exp(-torch.xlogy(share, share).sum(1))
        used = (self.token_counts > 0).float().mean(1)
        return {f"perplexity/{s}": value for s, value in zip(self.streams, perplexity, strict=True)} | {
            f"used/{s}": value for s, value in zip(self.streams, used, strict=True)
        }
