"""Losses beside the goldens: weights by name, padding, problem types, and two processes with the loss of one."""

import multiprocessing
import runpy
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from cm3p.losses import (
    classification_loss,
    contrastive_loss,
    gathered_contrastive_loss,
    masked_lm_loss,
    named_weights,
)
from pentatonic.errors import UsageError

B, V, D = 6, 4, 5
CASES = ("plain", "variations", "padding masked")


def test_weights_by_name() -> None:
    assert named_weights("original", 8) == (1.0, 0.5)
    assert named_weights("mean", 8) == (0.125, 0.5)
    with pytest.raises(UsageError):
        named_weights("other")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        named_weights("mean", 0)


def test_padding_can_be_left_out() -> None:
    similarity = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([[0, -1], [0, -1], [0, -1]])
    got = contrastive_loss(similarity, classes, mask_padding=True)
    torch.testing.assert_close(got, contrastive_loss(similarity[:, 0]))
    assert got != contrastive_loss(similarity, classes)
    # An entry that is all padding still has its first variation as target.
    assert contrastive_loss(similarity, torch.full((3, 2), -1), mask_padding=True).isfinite()


def test_masked_tokens() -> None:
    logits, labels = torch.randn(2, 3, 7), torch.tensor([[1, -100, 2], [-100, -100, 6]])
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(masked_lm_loss(logits, labels), expected)
    torch.testing.assert_close(masked_lm_loss(logits, labels, torch.tensor(12)), expected * 3 / 12)
    assert masked_lm_loss(logits, torch.full_like(labels, -100)) == 0


def test_problem_types() -> None:
    logits = torch.randn(4, 3)
    whole = torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(classification_loss(logits, whole), F.cross_entropy(logits, whole))
    several = F.one_hot(whole, 3).float()
    expected = F.binary_cross_entropy_with_logits(logits, several)
    torch.testing.assert_close(classification_loss(logits, several), expected)
    torch.testing.assert_close(
        classification_loss(logits, several, "regression"), F.mse_loss(logits, several)
    )
    with pytest.raises(UsageError):
        classification_loss(logits, whole, "other")


def vectors(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(3)
    shape = (B, D) if name == "plain" else (B, V, D)
    metadata = F.normalize(torch.randn(shape, generator=generator), dim=-1)
    beatmaps = F.normalize(torch.randn(B, D, generator=generator), dim=-1)
    classes = torch.tensor([[0, 1, 2, -1], [1, 0, 4, -1], [0, 1, 2, 3]]).repeat(2, 1)
    leaves = metadata, beatmaps, torch.tensor(3.0)
    return (*(leaf.requires_grad_() for leaf in leaves), None if name == "plain" else classes)


def run_process(rank: int, port: int, folder: Path) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = slice(rank * B // 2, (rank + 1) * B // 2)
    for name in CASES:
        metadata, beatmaps, scale, classes = vectors(name)
        own = None if classes is None else classes[rows]
        loss = gathered_contrastive_loss(
            metadata[rows], beatmaps[rows], scale, own, mask_padding=name == "padding masked"
        )
        loss.backward()
        found = {"loss": loss.detach(), "m": metadata.grad, "b": beatmaps.grad, "s": scale.grad}
        save_file(
            {key: value for key, value in found.items() if value is not None}, folder / f"{name}-{rank}"
        )
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "cm3p.losses", "pentatonic.training.gather"])
    processes = [
        context.Process(target=runpy.run_path, args=(__file__, {"JOB": (rank, port, tmp_path)}, "__main__"))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    for name in CASES:
        metadata, beatmaps, scale, classes = vectors(name)
        similarity = metadata @ beatmaps.T * scale
        loss = contrastive_loss(similarity, classes, mask_padding=name == "padding masked")
        loss.backward()
        found = [load_file(tmp_path / f"{name}-{rank}") for rank in range(2)]
        for key, expected in (("loss", loss), ("m", metadata.grad), ("b", beatmaps.grad), ("s", scale.grad)):
            got = (found[0][key] + found[1][key]) / 2  # as data parallel training does
            torch.testing.assert_close(got, torch.as_tensor(expected).detach(), rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    run_process(*globals()["JOB"])
