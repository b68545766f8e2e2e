"""The objective of pre-training: patchout, losses by name, gradient caching, and two processes that equal one."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from myna_rpe.config import EncoderConfig, PatchConfig, PositionConfig
from myna_rpe.losses import GlobalContrastive, info_nce, nt_xent
from myna_rpe.training.objective import ContrastiveTraining, kept_columns, kept_tokens
from myna_rpe.training.options import (
    ContrastConfig,
    DistillationConfig,
    ExtraLoss,
    HullConfig,
    KMeansConfig,
    ObjectiveConfig,
    PatchoutConfig,
    WidthConfig,
)
from pentatonic.errors import ConfigError
from pentatonic.training import StepContext

SMALL = EncoderConfig(
    dim=16,
    depth=1,
    heads=2,
    dim_head=8,
    mlp_dim=32,
    out_dim=8,
    train_frames=32,
    patch=PatchConfig(32, 8),
    positions=PositionConfig(bias="alibi"),
)
HYBRID = EncoderConfig(
    dim=16,
    depth=1,
    heads=2,
    dim_head=8,
    mlp_dim=32,
    out_dim=8,
    train_frames=32,
    patch=PatchConfig(32, 8),
    second_patch=PatchConfig(128, 2),
    class_token=False,
    positions=PositionConfig(absolute="sincos2d"),
)


def batch_of(n: int = 6, *, views: int = 2, frames: int = 32, epoch: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    mels = [torch.randn(n, 128, frames, generator=generator) for _ in range(views)]
    full = [torch.full((n,), frames) for _ in range(views)]
    return {"views": mels, "frames": full, "index": torch.arange(n), "epoch": torch.full((n,), epoch)}


def model(
    options: ObjectiveConfig | None = None, config: EncoderConfig = SMALL, **arguments: Any
) -> ContrastiveTraining:
    options = ObjectiveConfig(patchout=PatchoutConfig(0.0)) if options is None else options
    torch.manual_seed(0)
    return ContrastiveTraining(config, options, **{"n_tracks": 10, **arguments})


def options(**values: Any) -> ObjectiveConfig:
    return ObjectiveConfig(**{"patchout": PatchoutConfig(0.0), **values})


def gradients(module: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


# Patchout


def test_tokens_are_kept_at_random_and_never_those_of_padding() -> None:
    patch = PatchConfig(64, 8)
    frames = torch.tensor([32, 9, 1, 24])  # 4, 2, 1 and 3 columns of 2 rows
    seen = [set() for _ in frames]
    for seed in range(60):
        keep = kept_tokens(2, 4, frames, patch, 5, torch.Generator().manual_seed(seed))
        assert keep.shape == (4, 5) and (keep.diff(dim=1) >= 0).all()
        for row, kept in enumerate(keep.tolist()):
            seen[row] |= set(kept)
            counts = torch.bincount(torch.tensor(kept)).tolist()
            used = [count for count in counts if count]
            assert max(used) - min(used) <= 1
        assert len(set(keep[0].tolist())) == 5 and len(set(keep[1].tolist())) == 4
    assert seen == [set(range(8)), {0, 1, 4, 5}, {0, 4}, {0, 1, 2, 4, 5, 6}]


def test_whole_columns_are_kept_and_never_those_of_padding() -> None:
    patch = PatchConfig(32, 8)
    frames = torch.tensor([48, 9, 17])  # 6, 2 and 3 columns of 4 rows
    seen = [set() for _ in frames]
    for seed in range(40):
        keep = kept_columns(4, 6, frames, patch, 8, torch.Generator().manual_seed(seed))
        assert keep.shape == (3, 8) and (keep.diff(dim=1) > 0).all()
        for row, kept in enumerate(keep.tolist()):
            columns = {token % 6 for token in kept}
            assert set(kept) == {6 * each + column for each in range(4) for column in columns}
            seen[row] |= columns
    assert seen == [set(range(6)), {0, 1}, {0, 1, 2}]


def test_columns_are_left_out_where_asked_for() -> None:
    seen: dict[str, list[Tensor]] = {"uniform": [], "columns": []}
    for kind, kept in seen.items():
        module = model(options(patchout=PatchoutConfig(0.5, kind=kind)))
        features = module.encoder.features

        def watched(*arguments: Any, kept=kept, features=features, **named: Any) -> Tensor:
            kept.append(named["keep"])
            return features(*arguments, **named)

        module.encoder.features = watched
        module(batch_of(), StepContext(0, 0, 1, 0))
    assert all(keep.shape == (6, 8) for kept in seen.values() for keep in kept)  # of 4 rows of 4 columns
    for keep in seen["columns"]:
        assert all(len(set((row % 4).tolist())) == 2 for row in keep)
    assert any(len(set((row % 4).tolist())) > 2 for keep in seen["uniform"] for row in keep)


def test_the_number_of_kept_columns() -> None:
    assert PatchoutConfig(0.9, kind="columns").n_kept(128, 8) == 16  # int(0.9 * 16) = 14 columns are left out
    assert [PatchoutConfig(kept=n, kind="columns").n_kept(32, 8) for n in (3, 17, 100)] == [8, 16, 32]
    assert PatchoutConfig(0.9).n_kept(128, 8) == 13


def test_the_number_of_kept_tokens() -> None:
    assert PatchoutConfig(0.9).n_kept(128) == 13  # as in the original: int(0.9 * 128) = 115 are left out
    assert PatchoutConfig(0.0).n_kept(7) == 7
    assert [PatchoutConfig(kept=32).n_kept(n) for n in (16, 1000)] == [16, 32]


def test_what_stands_in_the_padding_changes_nothing() -> None:
    for ratio in (0.5, 0.0):
        module, batch = model(options(patchout=PatchoutConfig(ratio))), batch_of()
        batch["frames"] = [torch.tensor([32, 8, 16, 3, 32, 32]), torch.tensor([8, 32, 32, 32, 20, 32])]
        losses = []
        for filling in (0.0, 50.0):
            for mel, frames in zip(batch["views"], batch["frames"], strict=True):
                columns = frames.add(7) // 8 * 8
                for row, first in enumerate(columns.tolist()):
                    mel[row, :, first:] = filling
            losses.append(float(module(batch, StepContext(0, 0, 3, 0))["loss"].detach()))
        assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_masks_depend_on_the_step_alone() -> None:
    module, batch = model(options(patchout=PatchoutConfig(0.5))), batch_of()
    one, again, other = (
        float(module(batch, StepContext(0, 0, step, 0))["loss"].detach()) for step in (1, 1, 2)
    )
    assert one == again != other
    module.eval()  # nothing is left out
    one, other = (float(module(batch, StepContext(0, 0, step, 0))["loss"].detach()) for step in (1, 2))
    assert one == other


# Losses by name


def embeddings(module: ContrastiveTraining, batch: dict[str, Any], patch: str = "first") -> list[Tensor]:
    return [F.normalize(module.encoder(mel, patch=patch), dim=1) for mel in batch["views"]]


def test_each_loss_is_that_of_its_name() -> None:
    batch = batch_of(epoch=2)
    for name, symmetric in (
        ("info_nce", True),
        ("info_nce", False),
        ("nt_xent", True),
        ("sogclr", True),
        ("isogclr", True),
    ):
        module = model(options(contrast=ContrastConfig(name, 0.2, symmetric=symmetric)))
        one, two = embeddings(module, batch)
        out = module(batch)
        if name == "info_nce":
            expected = info_nce(one, two, temperature=0.2, symmetric=symmetric)
        elif name == "nt_xent":
            expected = nt_xent(one, two, temperature=0.2)
        else:
            memory = GlobalContrastive(10, temperature=0.2, learned_temperatures=name == "isogclr")
            memory.start_epoch(2)
            expected = memory(one, two, batch["index"])
            state = module.state_dict()
            for key in ("average", "temperatures", "temperature_gradients"):
                torch.testing.assert_close(state[f"memory.{key}"], getattr(memory, key))
            assert (state["memory.average"][:6] > 0).all() and not state["memory.average"][6:].any()
        torch.testing.assert_close(out["loss"], expected)
        assert 0 <= out["accuracy"] <= 1 and 1 <= out["effective_rank"] <= 6


def test_validation_leaves_the_memory_and_gives_info_nce() -> None:
    module, batch = model(options(contrast=ContrastConfig("sogclr"))), batch_of()
    module(batch)
    assert module.memory is not None
    before = module.memory.average.clone()
    batch["index"] += 100  # places in another data set
    out = module.eval()(batch)
    torch.testing.assert_close(out["loss"], info_nce(*embeddings(module, batch)))
    assert torch.equal(module.memory.average, before)


def test_of_more_views_the_first_is_compared_with_each() -> None:
    module, batch = model(), batch_of(views=3)
    first, *others = embeddings(module, batch)
    expected = sum(info_nce(first, other) for other in others) / 2
    torch.testing.assert_close(module(batch)["loss"], expected)


def test_both_kinds_of_patches_are_trained() -> None:
    module, batch = model(config=HYBRID), batch_of()
    losses = [info_nce(*embeddings(module, batch, patch)) for patch in ("first", "second")]
    out = module(batch)
    torch.testing.assert_close(out["loss"], (losses[0] + losses[1]) / 2)
    found = gradients(module, out["loss"])
    assert found.keys() == dict(module.named_parameters()).keys()
    module = model(options(contrast=ContrastConfig("sogclr")), config=HYBRID)
    memory = GlobalContrastive(10)
    losses = [memory(*embeddings(module, batch, patch), batch["index"]) for patch in ("first", "second")]
    torch.testing.assert_close(module(batch)["loss"], (losses[0] + losses[1]) / 2)  # one after the other


# A learned temperature


@pytest.mark.parametrize("name", ["info_nce", "nt_xent"])
def test_a_learned_temperature_has_the_gradient_of_finite_differences_and_stays_in_its_range(
    name: str,
) -> None:
    values = options(
        contrast=ContrastConfig(
            name, 0.2, learned_temperature=True, lowest_temperature=0.05, highest_temperature=0.4
        )
    )
    module, batch = model(values), batch_of()
    assert module.temperature is not None
    logarithm = module.temperature.logarithm
    out = module(batch)
    assert out["temperature"] == pytest.approx(0.2) and not out["temperature"].requires_grad
    plain = model(options(contrast=ContrastConfig(name, 0.2)))
    torch.testing.assert_close(out["loss"], plain(batch)["loss"])
    assert "temperature" not in plain(batch)
    out["loss"].backward()
    losses = []
    for step in (0.05, -0.05):
        with torch.no_grad():
            logarithm += step
            losses.append(float(module(batch)["loss"]))
            logarithm -= step
    assert logarithm.grad is not None
    assert float(logarithm.grad) == pytest.approx((losses[0] - losses[1]) / 0.1, rel=1e-2)
    for value, end in ((9.0, 0.4), (-9.0, 0.05)):
        with torch.no_grad():
            logarithm.fill_(value)
        assert float(module.eval()(batch)["temperature"]) == pytest.approx(end)
        assert logarithm.item() == value  # evaluation changes nothing
        module.train()(batch)["loss"].backward()
        assert logarithm.exp().item() == pytest.approx(end)
    module.zero_grad()
    module(batch)["loss"].backward()
    assert float(logarithm.grad) != 0  # it can leave the end of its range


def test_of_two_kinds_of_patches_one_temperature_is_learned() -> None:
    values = options(contrast=ContrastConfig(learned_temperature=True))
    module = model(values, config=HYBRID)
    out = module(batch_of())
    assert out["temperature"] == pytest.approx(0.1)
    assert gradients(module, out["loss"])["temperature.logarithm"] != 0


# Further losses


def test_a_weight_rises_after_its_start() -> None:
    extra = ExtraLoss(2.0, start_step=10, ramp_steps=4)
    assert [extra.weight_at(step) for step in (0, 10, 11, 13, 14, 99)] == [0, 0, 0.5, 1.5, 2, 2]
    assert ExtraLoss(2.0, ramp_steps=0).weight_at(0) == 2


@pytest.mark.parametrize("projection", ["exact", "attention"])
def test_further_losses_are_added_with_their_weights(projection: str) -> None:
    values = options(
        k_means=KMeansConfig(0.1, 0, 10, clusters=3, queue=18),
        hull=HullConfig(0.2, 0, 10, projection=projection),
        width=WidthConfig(0.01, 0, 10, target=None if projection == "exact" else 5.0),
    )
    module, batch = model(values, views=3), batch_of(views=3)
    module(batch)  # fills the queue of k-means
    assert module.k_means is not None and module.k_means.ready
    for step, share in ((0, 0.0), (5, 0.5), (20, 1.0)):
        out = module(batch, StepContext(0, 0, step, 0))
        sign = -1 if projection == "exact" else 1
        extra = 0.1 * out["k_means"] + 0.2 * out["hull"] + sign * 0.01 * out["width"]
        torch.testing.assert_close(out["loss"].detach(), out["contrast"] + share * extra)
        assert out["hull"] > 0 and out["width"] > 0
    assert {"k_means.centroids", "k_means.sizes"} <= module.state_dict().keys()
    assert gradients(module, out["loss"])


class Teacher:
    """What the objective asks of the targets of a teacher."""

    vector_mean, vector_std = np.zeros(3, np.float32), np.ones(3, np.float32)
    vector_width, tag_width = 3, 2


def test_the_teacher_is_learned_from_the_pooled_output() -> None:
    values = options(distillation=DistillationConfig(0.5, 0, 0, teacher="judge"))
    module, batch = model(values, teacher=Teacher()), batch_of()
    generator = torch.Generator().manual_seed(3)
    batch["vectors"] = [torch.randn(6, 3, generator=generator) for _ in range(2)]
    batch["tags"] = [torch.rand(6, 2, generator=generator) for _ in range(2)]
    batch["vectors"][1][2] = float("nan")
    out = module(batch)
    pooled = torch.cat([module.encoder.features(mel) for mel in batch["views"]])
    assert module.distillation is not None
    expected = module.distillation(pooled, torch.cat(batch["vectors"]), torch.cat(batch["tags"]))
    torch.testing.assert_close(out["distillation"], expected["loss"].detach())
    torch.testing.assert_close(out["loss"].detach(), out["contrast"] + 0.5 * out["distillation"])
    assert {"distillation_cosine", "distillation_mse", "distillation_tags"} <= out.keys()
    assert gradients(module, out["loss"])["distillation.to_tags.weight"].any()


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"views of 3"):
        model(options(hull=HullConfig(1.0)))
    with pytest.raises(ConfigError, match="targets of a teacher"):
        model(options(distillation=DistillationConfig(1.0, teacher="judge")))
    with pytest.raises(ConfigError, match=r"distillation\.teacher"):
        options(distillation=DistillationConfig(1.0))
    with pytest.raises(ConfigError, match=r"contrast\.name is 'triplet'; allowed: info_nce"):
        ContrastConfig("triplet")
    with pytest.raises(ConfigError, match=r"patchout\.kind is 'rows'; allowed: uniform, columns"):
        PatchoutConfig(kind="rows")
    with pytest.raises(ConfigError, match=r"contrast\.name is 'sogclr'; allowed: info_nce, nt_xent"):
        ContrastConfig("sogclr", learned_temperature=True)
    with pytest.raises(ConfigError, match=r"contrast\.temperature is 0\.6; allowed: from 0\.01"):
        ContrastConfig(temperature=0.6, learned_temperature=True)
    for ratio, kept in ((1.0, None), (0.5, 0)):
        with pytest.raises(ConfigError, match="patchout"):
            PatchoutConfig(ratio, kept)


# Memory and precision


@pytest.mark.parametrize("config", [SMALL, HYBRID], ids=["one kind", "hybrid"])
def test_gradient_caching_gives_the_gradients_of_the_whole_batch(config: EncoderConfig) -> None:
    found, largest = [], []
    for size in (None, 4):
        module = model(options(patchout=PatchoutConfig(0.5), sub_batch=size), config)
        sizes: list[int] = []
        module.encoder.blocks[0].register_forward_hook(
            lambda _m, args, _o, sizes=sizes: sizes.append(len(args[0]))
        )
        out = module(batch_of(), StepContext(0, 0, 1, 0))
        found.append((out["loss"].detach(), gradients(module, out["loss"])))
        largest.append((max(sizes), len(sizes)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    kinds = len(config.patches)
    # 2 views in parts of 4 and 2 crops, each once more on the way back.
    assert largest == [(6, 2 * kinds), (4, 8 * kinds)]


def test_losses_are_computed_in_float32_under_autocast() -> None:
    module, batch = model(), batch_of()
    pooled = module.pooled(batch, "first", None)
    expected = module.losses(pooled, batch)
    with torch.autocast("cpu", torch.bfloat16):
        got = module.losses(pooled, batch)
        assert module(batch)["loss"].dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


# Two processes

CASES = {name: ContrastConfig(name) for name in ("info_nce", "nt_xent", "sogclr", "isogclr")} | {
    f"{name}, learned": ContrastConfig(name, learned_temperature=True) for name in ("info_nce", "nt_xent")
}


def trained(case: str) -> ContrastiveTraining:
    module = model(options(contrast=CASES[case], k_means=KMeansConfig(0.1, 0, 0, clusters=3, queue=8)))
    centroids = torch.randn(3, 8, generator=torch.Generator().manual_seed(5))
    assert module.k_means is not None
    module.k_means.centroids.copy_(F.normalize(centroids, dim=1))
    module.k_means.n_waiting.fill_(8)
    return module


def half(batch: dict[str, Any], rank: int) -> dict[str, Any]:
    rows = slice(3 * rank, 3 * rank + 3)
    return {
        key: [one[rows] for one in value] if isinstance(value, list) else value[rows]
        for key, value in batch.items()
    }


def run_process(rank: int, port: int, folder: Path, wrapped_by_torch: bool) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for case in CASES:
        module = trained(case)
        wrapped = torch.nn.parallel.DistributedDataParallel(module) if wrapped_by_torch else module
        wrapped(half(batch_of(), rank))  # so that the memory is not empty
        found = gradients(module, wrapped(half(batch_of(), rank))["loss"])
        if not wrapped_by_torch:  # what data parallel training does with the gradients
            for gradient in found.values():
                dist.all_reduce(gradient.div_(2))
        save_file(found | dict(module.named_buffers()), folder / f"{case}-{rank}.safetensors")
    dist.destroy_process_group()


# PyTorch's own wrapper imports its compiler, which takes several times as long as everything else here.
@pytest.mark.parametrize("wrapped_by_torch", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_have_the_gradients_and_the_memory_of_one(
    wrapped_by_torch: bool, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "safetensors.torch", "myna_rpe.training.objective"])
    jobs = [{"JOB": (rank, port, tmp_path, wrapped_by_torch)} for rank in range(2)]
    processes = [context.Process(target=runpy.run_path, args=(__file__, job, "__main__")) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    for case in CASES:
        module = trained(case)
        module(batch_of())
        found = gradients(module, module(batch_of())["loss"])
        expected = found | dict(module.named_buffers())
        for rank in range(2):
            got = load_file(tmp_path / f"{case}-{rank}.safetensors")
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    run_process(*globals()["JOB"])
