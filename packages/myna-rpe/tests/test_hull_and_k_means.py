"""Losses on hulls and clusters of embeddings, and the measures of collapse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from myna_rpe.losses import (
    KMeans,
    attention_weights,
    convex_combination,
    effective_rank,
    hull_distance,
    info_nce,
    mean_cosine,
    mean_width,
)
from myna_rpe.losses.k_means import k_means_plus_plus
from pentatonic.errors import UsageError

GOLDENS = Path(__file__).parent / "goldens"


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_combination_of_the_original() -> None:
    io = load_file(GOLDENS / "losses" / "io.safetensors")
    limits = json.loads((GOLDENS / "losses" / "meta.json").read_text())["tolerance_float32"]
    loss = convex_combination(io["z1"], io["cc_z_aug"], io["cc_logits"].softmax(0))
    torch.testing.assert_close(loss, io["cc_loss"], **limits)


def test_weights_by_likeness_prefer_the_nearest_view() -> None:
    anchor, others = unit(4, 8), unit(4, 3, 8, seed=1)
    others[:, 1] = anchor
    weights = attention_weights(anchor, others, temperature=0.01)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert (weights.argmax(1) == 1).all() and (weights[:, 1] > 0.99).all()
    assert (
        convex_combination(anchor, others, weights)
        < 1e-3
        < convex_combination(anchor, others[:, [0, 2]], weights[:, :2] / weights[:, :2].sum(1, keepdim=True))
    )


def test_the_distance_to_a_hull_is_exact_and_its_gradient_too() -> None:
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    queries = torch.tensor([[0.5, 0.5], [2.0, 0.5], [2.0, 3.0]], dtype=torch.float64)
    loss = hull_distance(queries, square.expand(3, 4, 2))
    torch.testing.assert_close(loss, torch.tensor((0 + 1 + 5) / 3, dtype=torch.float64))
    anchor = torch.randn(5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    others = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.autograd.gradcheck(hull_distance, (anchor.requires_grad_(), others.requires_grad_()))


def test_the_width_of_a_hull() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, 0.1]])
    # Hard, the widths are 2 and 0.5 over all; of the pairs 2 and 0, 0 and 0.4.
    torch.testing.assert_close(
        mean_width(points, directions, softness=1e-3), torch.tensor(1.25), atol=5e-3, rtol=0
    )
    groups = torch.tensor([4, 4, 7, 7])
    both = mean_width(points, directions, groups, softness=1e-3)
    torch.testing.assert_close(both, torch.tensor(0.6), atol=5e-3, rtol=0)
    assert float(mean_width(points[:1], directions)) == 0
    points.requires_grad_()
    (gradient,) = torch.autograd.grad(mean_width(points, directions), points)
    assert (gradient[0, 0] > 0) and (gradient[1, 0] < 0)


def test_measures_of_collapse() -> None:
    same = unit(1, 16).expand(8, -1)
    assert float(mean_cosine(same)) == pytest.approx(1, abs=1e-5)
    assert float(effective_rank(same)) == pytest.approx(1, abs=1e-3)
    assert float(effective_rank(torch.eye(16)[:8])) == pytest.approx(8, rel=1e-5)
    assert float(mean_cosine(torch.eye(16)[:8])) == pytest.approx(0, abs=1e-6)


def mixture(n: int, clusters: int = 5, spread: float = 0.15) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    centres = torch.linalg.qr(torch.randn(16, clusters, generator=generator)).Q.T
    labels = torch.arange(n) % clusters
    noise = torch.randn(n, 16, generator=generator)
    return F.normalize(centres[labels] + spread * noise, dim=1), labels


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(one.numpy(), other.numpy()))


@pytest.mark.parametrize("balanced", [True, False])
def test_the_clusters_of_a_mixture_are_found(balanced: bool) -> None:
    points, labels = mixture(400)
    loss_of = KMeans(5, 16, queue=100, momentum=0.8, balanced=balanced)
    losses = [float(loss_of(points[n % 4 :: 4])) for n in range(60)]
    assert losses[0] == 0 and losses[-1] < losses[2]
    assert agreement(loss_of.assign(points), labels) > 0.95
    torch.testing.assert_close(loss_of.centroids.norm(dim=1), torch.ones(5))


def test_embeddings_move_to_their_clusters_and_stay_apart() -> None:
    """With InfoNCE, over two noisy views of the mixture, as in training."""
    points, labels = mixture(100)
    loss_of = KMeans(5, 16, queue=100, temperature=None)
    plain, helped = points.clone(), points.clone()
    reached = []
    contrast = torch.zeros(())
    for moved, weight in ((plain, 0.0), (helped, 0.1)):
        moved.requires_grad_()
        optimizer = torch.optim.Adam([moved], 0.01)
        for step in range(60):
            noise = torch.Generator().manual_seed(step)
            one, other = (
                F.normalize(moved + 0.1 * torch.randn(100, 16, generator=noise), dim=1) for _ in range(2)
            )
            contrast = info_nce(one, other)
            loss = contrast + weight * loss_of(F.normalize(moved, dim=1)) if weight else contrast
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        reached.append(float(contrast.detach()))
    assert agreement(loss_of.assign(F.normalize(helped.detach(), dim=1)), labels) > 0.95
    assert reached[1] < reached[0] + 0.1


def test_centroids_move_in_training_alone_and_dead_ones_are_given_another_place() -> None:
    points, _ = mixture(100)
    loss_of = KMeans(5, 16, queue=50, momentum=0.5, balanced=False)
    loss_of(points)
    assert loss_of.ready
    before = loss_of.centroids.clone()
    loss_of.eval()(points)
    assert torch.equal(loss_of.centroids, before)
    loss_of.train().centroids[3] = -points.mean(0)  # nothing is near to it
    for _ in range(12):
        loss_of(points)
    assert loss_of.assign(points).bincount(minlength=5).min() > 0


def test_first_centroids_lie_apart() -> None:
    points, labels = mixture(200, spread=0.02)
    chosen = k_means_plus_plus(points, 5)
    nearest = (chosen @ points.T).argmax(1)
    assert len(set(labels[nearest].tolist())) == 5
    assert k_means_plus_plus(torch.ones(3, 2), 3).shape == (3, 2)  # points that are all the same


def test_wrong_clusters_are_refused() -> None:
    for values in ({"clusters": 1}, {"queue": 3}, {"momentum": 1.0}, {"temperature": 0.0}):
        with pytest.raises(UsageError, match="clusters must be 2"):
            KMeans(**{"clusters": 5, "dim": 4, **values})
