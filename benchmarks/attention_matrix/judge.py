"""What float64 says about a sample of the rows of a problem.

Shapes: B batch, H heads, N keys, D head dimension; b, r the samples and rows that are checked. Outputs have the layout
of the queries: ``(B, H, Nq, D)``, or packed ``(total, H, D)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attention_matrix.problem import Problem

CHECKED_ROWS = 32


@dataclass(eq=False)
class Truth:
    """Output and gradients in float64; gradients for an upstream gradient that is 0 outside the checked rows."""

    o: Tensor
    grads: list[Tensor]


class Judge:
    """Compares outputs and gradients with the plain formula in float64."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._truths: dict[frozenset[str], Truth] = {}

    @cached_property
    def checked(self) -> tuple[Tensor, Tensor]:
        """Samples (b,) and query rows (r,) that are compared with float64."""
        problem = self.problem
        samples = torch.tensor(sorted({0, problem.case.batch - 1}), device=problem.device)
        rows = torch.linspace(0, problem.n_q - 1, min(CHECKED_ROWS, problem.n_q), device=problem.device)
        return samples, rows.long()

    def pick(self, x: Tensor, *, rows: bool) -> Tensor:
        """The checked samples of a tensor, heads first, all its tokens or the checked rows only."""
        samples, checked = self.checked
        x = x if self.problem.case.longest is None else x.transpose(0, 1)[None]
        return x[samples][:, :, checked] if rows else x[samples]

    @cached_property
    def checked_grad(self) -> Tensor:
        """An upstream gradient that is 0 outside the checked samples and rows, so that float64 can follow."""
        samples, rows = self.checked
        sparse = torch.zeros_like(self.problem.grad)
        at = (rows,) if self.problem.case.longest is not None else (samples[:, None], slice(None), rows)
        sparse[at] = self.problem.grad[at]
        return sparse

    def truth(self, omitted: frozenset[str]) -> Truth:
        """Output and gradients of the checked rows by the plain formula, without ``bias`` or ``rope`` if omitted."""
        if omitted not in self._truths:
            self._truths[omitted] = self._compute_truth(omitted)
        return self._truths[omitted]

    @torch.enable_grad()
    def _compute_truth(self, omitted: frozenset[str]) -> Truth:
        case, (_, rows) = self.problem.case, self.checked
        k, v = (
            self.pick(x.detach(), rows=False).double().requires_grad_()
            for x in (self.problem.k, self.problem.v)
        )
        q = self.pick(self.problem.q.detach(), rows=True).double().requires_grad_()
        slope = self.problem.slope.detach().double().requires_grad_()
        rotated_q, rotated_k = q, k
        if self.problem.table is not None and "rope" not in omitted:
            cos, sin = (part.double() for part in self.problem.table)
            rotated_q = rotate(q, cos[rows], sin[rows], self.problem.rope_style)
            rotated_k = rotate(k, cos, sin, self.problem.rope_style)
        scores = case.dim**-0.5 * rotated_q @ rotated_k.transpose(-1, -2)
        if case.bias is not None and "bias" not in omitted:
            scores = scores - slope[:, None, None] * self._distances(rows)
        keys = torch.arange(case.tokens, device=self.problem.device)
        first, last = (bound[rows, None] for bound in self.problem.visible)
        scores = scores.masked_fill((keys < first) | (keys > last), -math.inf)
        o = scores.softmax(-1) @ v
        if not case.backward:
            return Truth(o.detach(), [])
        inputs = [q, k, v, *([slope] if case.learned else [])]
        grads = torch.autograd.grad(o, inputs, self.pick(self.problem.grad, rows=True).double())
        return Truth(o.detach(), list(grads))

    def _distances(self, rows: Tensor) -> Tensor:
        """What the slope of a head is multiplied by: (1 or b, 1, r, N)."""
        if self.problem.coords is None:
            positions = torch.arange(self.problem.case.tokens, device=self.problem.device).double()
            return (positions[rows, None] - positions)[None, None].abs()
        coords = self.problem.coords.double().expand(self.problem.case.batch, -1, -1)[self.checked[0]]
        distances = (coords[:, rows, None] - coords[:, None]).abs().sum(-1)
        distances[:, rows == 0] = 0.0
        distances[..., 0] = 0.0
        return distances[:, None]

    def errors(
        self, o: Tensor, grads: Sequence[Tensor], omitted: frozenset[str]
    ) -> tuple[float, float | None]:
        """Relative errors, norm over norm, of the output and of the worst gradient, in the checked rows.

        Args:
            o: Output in the layout of q.
            grads: Gradients of ``inputs`` for ``checked_grad``; may be empty.
            omitted: What this opponent leaves out, and the truth with it.
        """
        truth = self.truth(omitted)
        error = relative(self.pick(o.detach(), rows=True), truth.o)
        if not grads:
            return error, None
        found = [
            self.pick(grads[0], rows=True),
            self.pick(grads[1], rows=False),
            self.pick(grads[2], rows=False),
        ]
        found += grads[3:]
        worst = torch.tensor([relative(*pair) for pair in zip(found, truth.grads, strict=True)]).max()
        return error, float(worst)  # unlike that of Python, this maximum keeps NaN


def rotate(x: Tensor, cos: Tensor, sin: Tensor, style: str) -> Tensor:
    """The rotation of :mod:`pentatonic.rope`, written out."""
    if style == "half":
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((found.double() - expected).norm() / expected.norm())
