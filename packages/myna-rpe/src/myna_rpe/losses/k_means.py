"""K-means as a loss on unit embeddings: each is drawn to the centroids that it is near to.

Centroids and assignments follow without gradients. They are those of all processes, so each has the same. Ours, after
an idea in the outlook of Myna-RPE; balanced assignment as in arXiv 2006.09882 (SwAV).

Shapes: n embeddings, D their width, K clusters, Q embeddings of the queue.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pentatonic.errors import UsageError
from pentatonic.training.gather import gathered

_SINKHORN_STEPS, _SINKHORN_EPS = 3, 0.05
# A cluster that gets less than this part of an equal share, in the moving average, is given up.
_DEAD_SHARE = 0.05


class KMeans(nn.Module):
    """Spherical k-means with centroids that follow the training.

    The first Q embeddings only fill a queue, of which k-means++ (Arthur and Vassilvitskii, 2007) then takes the first
    centroids; until then the loss is 0.

    Args:
        clusters: K.
        dim: D.
        temperature: Of the soft assignment: the loss is ``-t * logsumexp(cosines / t)``; ``None``: hard, one minus the
            cosine with the centroid that an embedding is assigned to.
        momentum: Of the centroids.
        queue: Q.
        balanced: Give every cluster the same number of embeddings of a batch, so that not all fall into one.

    Attributes:
        centroids: ``(K, D)`` unit vectors.
        sizes: ``(K,)`` moving average of the share of embeddings that a cluster gets.
        waiting: ``(Q, D)`` the queue.
        n_waiting: How many are in it; Q or more: the centroids are there.

    Raises:
        UsageError: A value is out of its range.
    """

    centroids: Tensor
    sizes: Tensor
    waiting: Tensor
    n_waiting: Tensor

    def __init__(
        self,
        clusters: int,
        dim: int,
        *,
        temperature: float | None = 0.1,
        momentum: float = 0.95,
        queue: int = 1024,
        balanced: bool = True,
    ) -> None:
        super().__init__()
        if (
            clusters < 2
            or queue < clusters
            or not 0 <= momentum < 1
            or (temperature is not None and temperature <= 0)
        ):
            raise UsageError(
                "clusters must be 2 or more, queue at least as many, momentum in [0, 1), temperature above 0 or none; "
                f"got {clusters}, {queue}, {momentum}, {temperature}"
            )
        self.temperature, self.momentum, self.balanced = temperature, momentum, balanced
        self.register_buffer("centroids", torch.zeros(clusters, dim))
        self.register_buffer("sizes", torch.full((clusters,), 1 / clusters))
        self.register_buffer("waiting", torch.zeros(queue, dim))
        self.register_buffer("n_waiting", torch.zeros((), dtype=torch.int64))

    @property
    def ready(self) -> bool:
        """Whether there are centroids."""
        return int(self.n_waiting) >= len(self.waiting)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Compute the loss of ``(n, D)`` unit vectors; in training mode the centroids then move."""
        with torch.no_grad():
            known = self.ready
            everywhere = gathered(embeddings.detach()) if dist.is_initialized() else embeddings.detach()
            assigned = self.assign(everywhere) if known else None
            centroids = self.centroids.clone()
        loss = 0.0 * embeddings.sum()
        if assigned is not None:
            loss = self._loss(embeddings, centroids, assigned)
        if self.training:
            if assigned is not None:
                self._move(everywhere, assigned)
            else:
                self._fill(everywhere)
        return loss

    def _loss(self, embeddings: Tensor, centroids: Tensor, assigned: Tensor) -> Tensor:
        cosines = embeddings @ centroids.T
        if self.temperature is not None:
            return -(self.temperature * (cosines / self.temperature).logsumexp(dim=1)).mean()
        first = dist.get_rank() * len(embeddings) if dist.is_initialized() else 0
        own = assigned[first : first + len(embeddings)]
        return (1 - cosines.gather(1, own[:, None])).mean()

    @torch.no_grad()
    def assign(self, embeddings: Tensor) -> Tensor:
        """Return the cluster of each of ``(n, D)`` unit vectors, ``(n,)``; balanced over these vectors if asked for."""
        cosines = embeddings @ self.centroids.T
        return _balanced(cosines).argmax(dim=1) if self.balanced else cosines.argmax(dim=1)

    def _fill(self, embeddings: Tensor) -> None:
        first = int(self.n_waiting)
        taken = embeddings[: len(self.waiting) - first]
        self.waiting[first : first + len(taken)] = taken
        self.n_waiting += len(taken)
        if self.ready:
            self.centroids.copy_(k_means_plus_plus(self.waiting, len(self.centroids)))

    def _move(self, embeddings: Tensor, assigned: Tensor) -> None:
        member = F.one_hot(assigned, len(self.centroids)).to(embeddings.dtype)  # (n, K)
        sums, counts = member.T @ embeddings, member.sum(0)
        means = sums / counts.clamp(min=1)[:, None]
        moved = self.momentum * self.centroids + (1 - self.momentum) * means
        self.centroids.copy_(F.normalize(torch.where(counts[:, None] > 0, moved, self.centroids), dim=1))
        self.sizes.mul_(self.momentum).add_((1 - self.momentum) * counts / len(embeddings))
        dead = (self.sizes < _DEAD_SHARE / len(self.sizes)).nonzero().flatten()
        if len(dead):
            farthest = (embeddings @ self.centroids.T).amax(dim=1).argsort()[: len(dead)]
            dead = dead[: len(farthest)]
            self.centroids[dead] = embeddings[farthest]
            self.sizes[dead] = 1 / len(self.sizes)


def _balanced(cosines: Tensor) -> Tensor:
    """Scale ``exp(cosines / eps)`` so that all clusters together get as much, and all embeddings give as much."""
    n, clusters = cosines.shape
    plan = ((cosines - cosines.max()) / _SINKHORN_EPS).exp()
    for _ in range(_SINKHORN_STEPS):
        plan = plan / (plan.sum(dim=0, keepdim=True) * clusters).clamp(min=1e-12)
        plan = plan / (plan.sum(dim=1, keepdim=True) * n).clamp(min=1e-12)
    return plan


def k_means_plus_plus(points: Tensor, clusters: int) -> Tensor:
    """Choose first centroids ``(K, D)`` among unit vectors ``(n, D)``, apart from each other.

    The greedy form: of several points drawn each time the one is taken that leaves the least squared distances. The
    draws depend on nothing but the number of points, so every process chooses the same.
    """
    generator = torch.Generator().manual_seed(len(points))
    trials = 2 + int(math.log(clusters))
    chosen: list[int] = []
    nearest = torch.ones(len(points))  # squared distance of each point to the nearest that was chosen
    for _ in range(clusters):
        weights = nearest if float(nearest.sum()) > 0 else torch.ones_like(nearest)
        drawn = torch.multinomial(weights, trials, replacement=True, generator=generator)
        squared = torch.cdist(points[drawn], points).square().cpu()  # (trials, n)
        left = torch.minimum(squared, nearest) if chosen else squared
        best = int(left.sum(1).argmin())
        chosen.append(int(drawn[best]))
        nearest = left[best]
    return points[chosen].clone()
