"""The distillation loss: what it is, what it leaves out, and that it teaches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pentatonic.errors import UsageError
from pentatonic.training.distillation import Distillation

MEAN, STD = torch.tensor([1.0, -2.0, 5.0]), torch.tensor([2.0, 0.5, 0.0])


def items(n: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pooled, noise, tags = (torch.randn(n, width, generator=generator) for width in (4, 3, 2))
    return pooled, MEAN + STD * noise, tags.sigmoid()


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    pooled, vectors, tags = items()
    distil = Distillation(4, MEAN, STD, 2, cosine_weight=2.0, mse_weight=3.0, tags_weight=0.5)
    out = distil(pooled, vectors, tags)
    target = (vectors - MEAN) / torch.tensor([2.0, 0.5, 1.0])
    guess = distil.to_vector(pooled)
    cosine = (F.normalize(guess, dim=1) * F.normalize(target, dim=1)).sum(1).mean()
    assert distil.to_tags is not None
    logits = distil.to_tags(pooled)
    entropy = -(tags * F.logsigmoid(logits) + (1 - tags) * F.logsigmoid(-logits)).mean()
    torch.testing.assert_close(out["cosine"], cosine)
    torch.testing.assert_close(out["mse"], ((guess - target) ** 2).mean())
    torch.testing.assert_close(out["tags"], entropy)
    torch.testing.assert_close(out["loss"], 2 * (1 - cosine) + 3 * out["mse"] + 0.5 * entropy)


def test_items_without_a_target_have_no_part() -> None:
    pooled, vectors, tags = items()
    distil = Distillation(4, MEAN, STD, 2)
    expected = distil(pooled[:4], vectors[:4], tags[:4])
    vectors[4:], tags[4:] = float("nan"), float("nan")
    pooled.requires_grad_()
    got = distil(pooled, vectors, tags)
    torch.testing.assert_close(got, expected)
    (gradient,) = torch.autograd.grad(got["loss"], pooled)
    assert gradient.isfinite().all() and not gradient[4:].any() and gradient[:4].all()
    nothing = distil(pooled, torch.full_like(vectors, float("nan")), torch.full_like(tags, float("nan")))
    assert {name: float(value.detach()) for name, value in nothing.items()} == dict.fromkeys(got, 0.0)
    nothing["loss"].backward()
    assert all(p.grad is not None and not p.grad.any() for p in distil.parameters())


def test_an_encoder_learns_what_the_teacher_gives() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, 8, generator=generator)
    teacher = torch.randn(8, 3, generator=generator)
    vectors = MEAN + x @ teacher
    distil = Distillation(8, vectors.mean(0), vectors.std(0))
    optimizer = torch.optim.Adam(distil.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        distil(x, vectors)["loss"].backward()
        optimizer.step()
    out = distil(x, vectors)
    assert out["cosine"] > 0.99 and out["mse"] < 0.01


def test_under_autocast_the_loss_is_that_of_float32() -> None:
    pooled, vectors, _ = items()
    distil = Distillation(4, MEAN, STD)
    with torch.autocast("cpu", torch.bfloat16):
        inside = distil(pooled, vectors)
    torch.testing.assert_close(inside, distil(pooled, vectors), rtol=0, atol=0)


def test_wrong_arguments_are_refused() -> None:
    pooled, vectors, _ = items()
    with pytest.raises(UsageError, match="given no tags"):
        Distillation(4, MEAN, STD, 2)(pooled, vectors)
    with pytest.raises(UsageError, match="0 or more"):
        Distillation(4, MEAN, STD, mse_weight=-1.0)
    with pytest.raises(UsageError, match=r"\(V,\) each"):
        Distillation(4, MEAN, STD[:2])
