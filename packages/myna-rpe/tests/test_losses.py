"""Contrastive losses against numbers of the programs that trained the released models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from myna_rpe.losses import GlobalContrastive, info_nce, nt_xent
from pentatonic.errors import UsageError

GOLDENS = Path(__file__).parent / "goldens"


def golden(case: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    about = json.loads((GOLDENS / case / "meta.json").read_text())
    return about, load_file(GOLDENS / case / "io.safetensors")


def test_info_nce_and_its_gradients() -> None:
    about, io = golden("losses")
    limits = about["tolerance_float32"]
    z1, z2 = (io[name].clone().requires_grad_() for name in ("z1", "z2"))
    loss = info_nce(z1, z2, symmetric=False)
    torch.testing.assert_close(loss, io["loss"], **limits)
    for got, name in zip(torch.autograd.grad(loss, (z1, z2)), ("grad_z1", "grad_z2"), strict=True):
        torch.testing.assert_close(got, io[name], **limits)
    torch.testing.assert_close(info_nce(z2, z1, symmetric=False), io["loss_swapped"], **limits)
    torch.testing.assert_close(info_nce(z1, z2), (io["loss"] + io["loss_swapped"]) / 2, **limits)
    torch.testing.assert_close(info_nce(z1, z2, temperature=0.5, symmetric=False), io["loss_t05"], **limits)


@pytest.mark.parametrize(("temperature", "name"), [(0.5, "nt_xent_t05"), (0.1, "nt_xent_t01")])
def test_nt_xent(temperature: float, name: str) -> None:
    about, io = golden("losses")
    got = nt_xent(io["z1"], io["z2"], temperature=temperature)
    torch.testing.assert_close(got, io[name], **about["tolerance_float32"])


@pytest.mark.parametrize("case", ["sogclr_state", "sogclr_cosine", "isogclr"])
def test_the_memory_of_the_data_set_follows_the_original(case: str) -> None:
    about, io = golden(case)
    made, limits = about["constructor"], about["tolerance_float32"]
    loss_of = GlobalContrastive(
        made["N"],
        temperature=made["tau"],
        gamma=made["gamma"],
        schedule=made["gamma_schedule"],
        decay_epochs=made.get("gamma_decay_epochs", 1),
        learned_temperatures=made.get("enable_isogclr", False),
        eps=made["eps"],
    )
    for number, call in enumerate(about["calls"]):
        loss_of.start_epoch(call["epoch"])
        z1, z2 = (io[f"{name}_{number}"].clone().requires_grad_() for name in ("z1", "z2"))
        loss = loss_of(z1, z2, io[f"index_{number}"])
        torch.testing.assert_close(loss, io[f"loss_{number}"], **limits)
        torch.testing.assert_close(loss_of.average, io[f"u_{number}"], **limits)
        for got, name in zip(torch.autograd.grad(loss, (z1, z2)), ("grad_z1", "grad_z2"), strict=True):
            torch.testing.assert_close(got, io[f"{name}_{number}"], **limits)
        if f"tau_{number}" in io:
            torch.testing.assert_close(loss_of.temperatures, io[f"tau_{number}"], **limits)
            torch.testing.assert_close(loss_of.temperature_gradients, io[f"grad_tau_{number}"], **limits)


def test_the_memory_of_batches_that_differ() -> None:
    about, io = golden("sogclr")
    limits, loss_of = about["tolerance_float32"], GlobalContrastive(int(io["index"].max()) + 1)
    views = ["z1", "z1_call1", "z1_call2"]
    for number, name in enumerate(views):
        loss_of.start_epoch(number)
        z1 = io[name].clone().requires_grad_()
        loss = loss_of(z1, io["z2"], io["index"])
        torch.testing.assert_close(loss, io[f"loss_{number}"], **limits)
        torch.testing.assert_close(loss_of.average[io["index"]], io[f"u_{number}"], **limits)
        (gradient,) = torch.autograd.grad(loss, z1)
        torch.testing.assert_close(gradient, io[f"grad_z1_{number}"], **limits)


def test_a_sample_alone_has_no_negatives() -> None:
    with pytest.raises(UsageError, match="no negatives"):
        GlobalContrastive(4)(torch.ones(1, 3), torch.ones(1, 3), torch.tensor([0]))
