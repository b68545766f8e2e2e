"""Random streams that depend on the seed and the position in the run alone, not on earlier draws."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, made odd


def mix_seed(*parts: int) -> int:
    """Hashes integers to one seed.

    Each part is added to the state by exclusive or, after the state has moved by a constant, and the SplitMix64
    finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) mixes the result. So the
    order of the parts counts, neighbouring values give unrelated seeds, and the number is the same on every machine.

    Args:
        *parts: Integers; each is taken modulo 2**64.

    Returns:
        A seed in [0, 2**63), as ``torch.Generator.manual_seed`` and ``numpy.random.default_rng`` accept.
    """
    state = 0
    for part in parts:
        state = ((state + _GAMMA) & _MASK) ^ (part & _MASK)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def seed_global_generators(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and PyTorch (all devices), as dropout and the like use them.

    Args:
        seed: From :func:`mix_seed`.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@dataclass(frozen=True)
class StepContext:
    """Position of a forward pass in the run, from which its own random stream is seeded.

    Attributes:
        seed: Seed of the run; validation has a stream of its own under a derived seed.
        rank: Process number, from 0.
        step: Optimizer steps done before this one, from 0; in validation, the number of the batch.
        micro_step: Position within gradient accumulation, from 0.
    """

    seed: int
    rank: int
    step: int
    micro_step: int

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator seeded with ``mix_seed(seed, rank, step, micro_step)``.

        Args:
            device: Where the random numbers are to be drawn. The streams of CPU and CUDA differ.

        Returns:
            The generator; each call gives one at the start of the same stream.
        """
        generator = torch.Generator(device=device)
        generator.manual_seed(mix_seed(self.seed, self.rank, self.step, self.micro_step))
        return generator


def opaque_context() -> type[StepContext]:
    """A :class:`StepContext` that ``torch.compile`` does not look into.

    Traced, its numbers would become constants of the compiled code, which would be compiled again at every step.
    """
    opaque: Any = torch.compiler.disable(StepContext.generator)
    return type("OpaqueContext", (StepContext,), {"generator": opaque})
