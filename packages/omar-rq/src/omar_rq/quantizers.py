"""Frozen quantisers: target patches to tokens, reproducible from a seed alone.

Parameters are drawn from a private generator in a fixed order, so a seed gives the targets that released models were
trained on, and the global random state does not change. Tensor names are those of training checkpoints.

Shapes: B batch, N patches, P values per patch, D code dimensions, V codebook size, L levels of one dimension.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from omar_rq.config import QuantizerConfig
from omar_rq.precision import Float32Module, float32_arithmetic
from pentatonic.errors import ConfigError, UsageError

# Similarities computed at once in the search, in elements: 4 MiB of float32, which fit the cache of a CPU.
_SEARCH_ELEMENTS = 2**20


class RandomProjectionQuantizer(Float32Module):
    """Nearest code of a random codebook after a random projection, by angle.

    Source: Chiu et al., "Self-supervised learning with random-projection quantizer for speech recognition",
    2022.

    Args:
        patch_dim: Values per patch, P.
        codebook_size: Codes, V.
        codebook_dim: Dimensions of a code, D.
        seed: Seed of projection and codebook, 0 or more.
        diff_input: Quantise the differences between neighbouring values of a patch; the first value is its
            difference from zero.

    Attributes:
        random_projection: (P, D) float32.
        codebook: (V, D) float32, as drawn; the search normalises its rows.
    """

    random_projection: Tensor
    codebook: Tensor
    _directions: Tensor

    def __init__(
        self,
        patch_dim: int,
        codebook_size: int = 8192,
        codebook_dim: int = 16,
        seed: int = 0,
        diff_input: bool = False,
    ) -> None:
        super().__init__()
        self.codebook_size, self.diff_input = codebook_size, diff_input
        generator = torch.Generator().manual_seed(seed)
        projection = torch.empty(patch_dim, codebook_dim, device="cpu")
        nn.init.xavier_normal_(projection, generator=generator)
        codebook = torch.empty(codebook_size, codebook_dim, device="cpu").normal_(generator=generator)
        self.register_buffer("random_projection", projection)
        self.register_buffer("codebook", codebook)
        self.register_buffer("_directions", F.normalize(codebook, dim=-1), persistent=False)
        self.register_load_state_dict_post_hook(_renormalise)

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        """Quantise patches.

        Besides the input, memory holds one block of similarities, for any number of patches. A patch of zeros has no
        direction, so its token is arbitrary.

        Args:
            patches: (..., P), usually (B, N, P); computed in float32, also under autocast.

        Returns:
            int64 tokens, (...), 0 to V - 1.
        """
        with float32_arithmetic(patches.device):
            x = patches.float()
            if self.diff_input:
                x = torch.diff(x, prepend=torch.zeros_like(x[..., :1]))
            z = F.normalize(x @ self.random_projection, dim=-1).flatten(0, -2)
            directions = self._directions.mT
            rows = max(1, _SEARCH_ELEMENTS // self.codebook_size)
            tokens = [(chunk @ directions).argmax(dim=-1) for chunk in z.split(rows)]
        return torch.cat(tokens).reshape(patches.shape[:-1])


def _renormalise(quantizer: RandomProjectionQuantizer, _incompatible: Any) -> None:
    quantizer._directions = F.normalize(quantizer.codebook, dim=-1)


class FiniteScalarQuantizer(Float32Module):
    """Rounds a few projected values to a few levels each; a token is the number of the combination.

    Sources: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", 2023, and for the symmetric
    levels Parker et al., "Scaling Transformers for Low-Bitrate High-Quality Speech Coding", 2024.

    Args:
        patch_dim: Values per patch, P. With P equal to ``len(levels)`` there is no projection.
        levels: Levels of each code dimension, 2 or more each.
        seed: Seed of the projections, 0 or more.
        preserve_symmetry: Space the levels evenly from -1 to 1. Otherwise they are ``i / (L // 2)`` for whole
            ``i``, with a level at 0 and, for even L, none at 1.

    Attributes:
        codebook_size: Product of the levels.
        project_in: Linear from P to D values with rows of unit length, or identity.
        project_out: Linear from D to P values with rows of unit length, or identity.

    Raises:
        ConfigError: There are no levels, or one is below 2.
    """

    _levels: Tensor
    _basis: Tensor

    def __init__(
        self, patch_dim: int, levels: Sequence[int], seed: int = 0, preserve_symmetry: bool = True
    ) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ConfigError(f"quantizer.fsq_levels is {tuple(levels)}; allowed: one or more numbers from 2")
        self.codebook_size, self.preserve_symmetry = math.prod(levels), preserve_symmetry
        # Mixed radix, the first dimension least significant.
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("_levels", torch.tensor(levels, device="cpu"), persistent=False)
        self.register_buffer("_basis", torch.tensor(basis, device="cpu"), persistent=False)
        if patch_dim == len(levels):
            self.project_in, self.project_out = nn.Identity(), nn.Identity()
        else:
            self.project_in, self.project_out = _unit_projections(patch_dim, len(levels), seed)

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        """Quantise patches.

        Args:
            patches: (..., P), usually (B, N, P); computed in float32, also under autocast.

        Returns:
            int64 tokens, (...), 0 to ``codebook_size - 1``.
        """
        with float32_arithmetic(patches.device):
            level = self._nearest_level(self.project_in(patches.float()))
        return (level.long() * self._basis).sum(dim=-1)

    def codes(self, tokens: Tensor) -> Tensor:
        """Return the quantised values of tokens.

        Args:
            tokens: Integers, (...).

        Returns:
            float32, (..., D), each from -1 to 1.

        Raises:
            UsageError: A token is negative, or not below ``codebook_size``.
        """
        if tokens.numel() and not (tokens.min() >= 0 and tokens.max() < self.codebook_size):
            raise UsageError(
                f"tokens range from {int(tokens.min())} to {int(tokens.max())}; "
                f"allowed: 0 to {self.codebook_size - 1}"
            )
        level = tokens[..., None] // self._basis % self._levels
        if self.preserve_symmetry:
            return 2 * level / (self._levels - 1) - 1
        half = self._levels // 2
        return (level - half) / half

    def decode(self, tokens: Tensor) -> Tensor:
        """Apply ``project_out`` to the codes of integer tokens (...): (..., P) float32.

        ``project_out`` is random, not the inverse of ``project_in``: the result has the shape of patches, but is not
        a reconstruction of them.

        Raises:
            UsageError: A token is negative, or not below ``codebook_size``.
        """
        with float32_arithmetic(tokens.device):
            return self.project_out(self.codes(tokens))

    def _nearest_level(self, z: Tensor) -> Tensor:
        """Level number of each value, 0 to L - 1, as float32."""
        top = self._levels - 1
        if self.preserve_symmetry:
            return torch.floor(top * (z.tanh() + 1) / 2 + 0.5)
        half_range = top * (1 + 1e-3) / 2
        offset = 0.5 * (self._levels % 2 == 0)
        shift = torch.atanh(offset / half_range)
        return torch.round(torch.tanh(z + shift) * half_range - offset) + self._levels // 2


def _unit_projections(patch_dim: int, code_dim: int, seed: int) -> tuple[nn.Linear, nn.Linear]:
    """Frozen random linear maps P to D and D to P whose weight rows have unit length.

    The random values are those of constructing two ``nn.Linear`` layers and then re-initialising their weights with
    Xavier-normal values: the first weights are discarded, the biases stay.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = (
        cast(nn.Linear, skip_init(nn.Linear, patch_dim, code_dim, device="cpu")),
        cast(nn.Linear, skip_init(nn.Linear, code_dim, patch_dim, device="cpu")),
    )
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
        bound = 1 / math.sqrt(layer.in_features)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    for layer in layers:
        nn.init.xavier_normal_(layer.weight, generator=generator)
    for layer in layers:
        layer.requires_grad_(False)
        layer.weight.copy_(F.normalize(layer.weight, dim=1))
    return layers


def build_quantizers(config: QuantizerConfig, patch_dim: int) -> nn.ModuleList:
    """Build the quantisers of one target; codebook ``c`` is seeded with ``config.seed + c``.

    The number of codes of a finite scalar quantiser follows from its levels. A different ``config.codebook_size``
    causes a warning and has no effect.

    Args:
        config: Kind, sizes and seed.
        patch_dim: Values per patch of the target, P.

    Returns:
        ``config.num_codebooks`` quantisers.

    Raises:
        ConfigError: A level of the finite scalar quantiser is below 2.
    """
    seeds = range(config.seed, config.seed + config.num_codebooks)
    if config.type == "random_codebook":
        return nn.ModuleList(
            RandomProjectionQuantizer(
                patch_dim, config.codebook_size, config.codebook_dim, seed, config.diff_input
            )
            for seed in seeds
        )
    size = math.prod(config.fsq_levels)
    if config.codebook_size != size:
        warnings.warn(
            f"quantizer.codebook_size is {config.codebook_size}; the levels {config.fsq_levels} give {size}",
            stacklevel=2,
        )
    return nn.ModuleList(
        FiniteScalarQuantizer(patch_dim, config.fsq_levels, seed, config.fsq_preserve_symmetry)
        for seed in seeds
    )
