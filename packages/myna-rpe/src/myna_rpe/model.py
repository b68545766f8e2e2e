"""The encoder of Myna and Myna-RPE: a ViT over patches of a spectrogram. Plain single-device PyTorch.

spectrogram (B, F, T) -> patches (B, N, P) -> embed (B, N, D) + absolute code -> [patchout] -> [class token] -> blocks
-> norm (B, S, D) -> class token or mean (B, D) -> head (B, O)

Shape legend: B batch, F mel bands, T frames, R rows and C columns of patches, N = R * C tokens in raster order, P
values per patch, D width, S = N plus the class token, H heads, O outputs of the head. Sources: arXiv 2502.12511 (Myna)
and "Relative Positional Embeddings for Track Level Representations in Masked Contrastive Learning" (Myna-RPE).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from myna_rpe.config import N_MELS, EncoderConfig, PatchName
from myna_rpe.layers import Block, PatchEmbedding
from myna_rpe.long_input import embed_in_rows, run_blocks_in_place
from myna_rpe.patches import patchify, real_tokens_first
from myna_rpe.positions import AbsoluteCode, PositionBias, class_token_order, grid_coordinates, rotation_table
from pentatonic.attention import Bias, KeyLengths, PreparedBias, prepare_bias
from pentatonic.errors import AudioTooShort, UsageError

# From so many tokens on, a block works in place, head by head and row block by row block: less memory, equal values.
LONG = 4096


class MynaEncoder(nn.Module):
    """The encoder.

    Args:
        config: Configuration. Weights are initialised at random; :func:`myna_rpe.weights.from_pretrained` loads
            trained ones.

    Attributes:
        config: As given.
        embed: Patch embeddings by the names of their patches, ``first`` and ``second``.
        class_token: ``(D,)``, or ``None``.
        code: What is added to the tokens for their place.
        bias: What is added to the scores.
        blocks: The blocks.
        norm: Last norm.
        head: ``(B, D) -> (B, O)``; the identity where ``out_dim`` is 0.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.ModuleDict(
            {name: PatchEmbedding(patch, config.dim) for name, patch in config.patches.items()}
        )
        self.class_token = nn.Parameter(torch.randn(config.dim)) if config.class_token else None
        self.code = AbsoluteCode(config)
        self.bias = PositionBias(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.out_dim) if config.out_dim else nn.Identity()

    def grid(self, frames: int, patch: PatchName = "first") -> tuple[int, int]:
        """Return rows and columns of the patches of a spectrogram; frames short of a patch are left out.

        Raises:
            UsageError: The model has no such patches.
            AudioTooShort: There are fewer frames than a patch has.
        """
        if patch not in self.config.patches:
            raise UsageError(f"the model has no {patch!r} patches; allowed: {', '.join(self.config.patches)}")
        size = self.config.patches[patch]
        if frames < size.frames:
            raise AudioTooShort("audio", f"{frames} frames; the model needs {size.frames} for one patch")
        return size.rows, frames // size.frames

    def forward(
        self,
        mel: Tensor,
        *,
        patch: PatchName = "first",
        keep: Tensor | None = None,
        frames: Tensor | None = None,
    ) -> Tensor:
        """Embed spectrograms; arguments as :meth:`features`.

        Returns:
            ``(B, O)``: the head's output, in whose space training compares; with ``out_dim=0`` as :meth:`features`.
        """
        return self.head(self.features(mel, patch=patch, keep=keep, frames=frames))

    def features(
        self,
        mel: Tensor,
        *,
        patch: PatchName = "first",
        keep: Tensor | None = None,
        frames: Tensor | None = None,
    ) -> Tensor:
        """Encode spectrograms and pool.

        Args:
            mel: ``(B, F, T)`` floating; what is short of a column of patches at the end is left out.
            patch: Which patches, where the model has two kinds.
            keep: ``(B, K)`` int64, raster numbers of the tokens that are kept (patchout), in the order in which they
                form the sequence; ``None``: all.
            frames: ``(B,)`` frames per row where rows are padded on the right; a token counts if one of its frames
                does. Not with ``keep``.

        Returns:
            ``(B, D)``: the class token after the last norm, or the mean of the tokens.

        Raises:
            UsageError: An argument has a wrong shape, or the model has no such patches.
            AudioTooShort: There are fewer frames than a patch has.
        """
        x, lengths = self._encode(mel, patch, keep, frames)
        if self.class_token is not None:
            return x[:, 0]
        if lengths is None:
            return x.mean(1)
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return (x * valid[..., None]).sum(1) / lengths[:, None]

    def tokens(self, mel: Tensor, *, patch: PatchName = "first", keep: Tensor | None = None) -> Tensor:
        """Encode spectrograms without pooling.

        Returns:
            ``(B, S, D)`` after the last norm; the class token comes first, where there is one.
        """
        return self._encode(mel, patch, keep, None)[0]

    def _encode(
        self, mel: Tensor, patch: PatchName, keep: Tensor | None, frames: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return ``(B, S, D)``, and the number of tokens that count in each row where they differ."""
        if mel.dim() != 3 or mel.shape[1] != N_MELS or not mel.is_floating_point():
            raise UsageError(f"mel must be floating (B, {N_MELS}, T), got {mel.dtype} {tuple(mel.shape)}")
        if keep is not None and frames is not None:
            raise UsageError("give either keep or frames: patchout chooses among tokens that are there")
        rows, columns = self.grid(mel.shape[2], patch)
        size = self.config.patches[patch]
        coords = grid_coordinates(rows, columns, mel.device)
        lengths = None
        if frames is not None:
            keep, lengths = real_tokens_first(rows, columns, frames, size)
        if keep is not None:
            if keep.dim() != 2 or len(keep) != len(mel):
                raise UsageError(f"keep must be (B, K) with B = {len(mel)}, got {tuple(keep.shape)}")
            coords = coords[keep]
        inference = not torch.is_grad_enabled() and len(mel) == 1 and rows * columns >= LONG
        code = self.code(coords, columns)
        if inference and keep is None:
            embed = self.embed[patch]
            assert isinstance(embed, PatchEmbedding)
            x = embed_in_rows(embed, mel, size, self.class_token)
            if code is not None:
                x[:, x.shape[1] - rows * columns :].add_(code)
        else:
            patches = patchify(mel, size)
            if keep is not None:
                patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[-1]))
            x = self.embed[patch](patches.to(self.norm.weight.dtype))
            x = x if code is None else x + code
            if self.class_token is not None:
                x = torch.cat((self.class_token.expand(len(x), 1, -1).to(x.dtype), x), dim=1)
        positions, dim_head = self.config.positions, self.config.dim_head
        options: dict[str, Any] = {
            "rope": rotation_table(positions, coords, dim_head, class_token=self.config.class_token),
            "class_order": class_token_order(positions, dim_head, mel.device)
            if self.config.class_token
            else None,
        }
        if lengths is not None:
            options["mask"] = KeyLengths(lengths + int(self.config.class_token))
        bias = self.bias(coords, rows, columns)
        if inference:
            run_blocks_in_place(self.blocks, x, bias=bias, **options)
        else:
            prepared = self._prepared(bias, x)
            for block in self.blocks:
                x = block(x, bias=prepared, **options)
        return self.norm(x), lengths

    def _prepared(self, bias: Bias | None, x: Tensor) -> PreparedBias | None:
        """The bias for all layers; their keys all have one shape."""
        keys = x.new_empty(()).expand(len(x), self.config.heads, x.shape[1], self.config.dim_head)
        return None if bias is None else prepare_bias(bias, keys)
