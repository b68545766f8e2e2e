from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pentatonic.errors import UsageError
from pentatonic.optim import Muon, adamw, layerwise_groups, muon, muon_groups, orthogonalise

GOLDEN = Path(__file__).parent / "goldens" / "cm3p_muon"
MUON_NAMES = ["tall", "wide", "square", "conv", "decoder_big"]
ADAMW_NAMES = ["embeddings", "norm", "logit_scale"]


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "io.safetensors")


@pytest.fixture(scope="module")
def meta() -> dict:
    return json.loads((GOLDEN / "meta.json").read_text())


class Named(nn.Module):
    """Parameters under given names and shapes."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor.clone()))


def from_golden(golden, meta, **settings) -> tuple[Named, Muon]:
    module = Named(**{name: golden[f"init.{name}"] for name in MUON_NAMES + ADAMW_NAMES})
    optimizer = muon(module, meta["lr"], meta["adamw_weight_decay"], betas=tuple(meta["betas"]), **settings)
    return module, optimizer


def take_step(module, optimizer, golden, meta, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = meta["lr"] * (1 - step / 10)
    for name, parameter in module.named_parameters():
        parameter.grad = golden[f"grad.{step}.{name}"].clone()
    optimizer.step()


def test_muon_golden(golden, meta) -> None:
    module, optimizer = from_golden(golden, meta)
    for step in range(4):
        take_step(module, optimizer, golden, meta, step)
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(
                parameter.detach(), golden[f"param.{step}.{name}"], rtol=0, atol=1e-6, msg=f"{step} {name}"
            )


@pytest.mark.parametrize("name", ["tall", "wide", "square"])
def test_orthogonalise_golden(golden, name: str) -> None:
    result = orthogonalise(golden[f"grad.0.{name}"])
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), golden[f"ns.{name}"].float(), rtol=0, atol=5e-4)


def test_muon_grouping(golden, meta) -> None:
    module = Named(
        matrix=torch.zeros(3, 4),
        conv=torch.zeros(2, 3, 3),
        PROJ_OUT_weight=torch.zeros(3, 3),
        tok_Embeddings=torch.zeros(5, 2),
        bias=torch.zeros(3),
        scale=torch.zeros(()),
        vocabulary=torch.zeros(10_000, 2),
        classifier=torch.zeros(9_999, 2),
        frozen=torch.zeros(2, 2),
    )
    module.frozen.requires_grad_(False)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for_muon, for_adamw = muon_groups(module)
    assert [names[id(p)] for p in for_muon] == ["matrix", "conv", "classifier"]
    assert [names[id(p)] for p in for_adamw] == [
        "PROJ_OUT_weight",
        "tok_Embeddings",
        "bias",
        "scale",
        "vocabulary",
    ]
    with pytest.raises(UsageError, match="matrices"):
        Muon(for_adamw, [], 0.1)


def test_corrected_adamw_rate_equals_torch(golden, meta) -> None:
    module, optimizer = from_golden(golden, meta, reproduce_full_lr=False)
    reference = Named(**{name: golden[f"init.{name}"] for name in ADAMW_NAMES})
    expected = torch.optim.AdamW(reference.parameters(), lr=1.0, weight_decay=meta["adamw_weight_decay"])
    for step in range(4):
        take_step(module, optimizer, golden, meta, step)
        expected.param_groups[0]["lr"] = meta["lr"] / 4 * (1 - step / 10)
        for name, parameter in reference.named_parameters():
            parameter.grad = golden[f"grad.{step}.{name}"].clone()
        expected.step()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(getattr(module, name), parameter, rtol=0, atol=1e-6)


def test_muon_state_survives_a_round_trip(golden, meta) -> None:
    module, optimizer = from_golden(golden, meta)
    take_step(module, optimizer, golden, meta, 0)
    twin, twin_optimizer = from_golden(golden, meta)
    twin.load_state_dict(module.state_dict())
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(1, 4):
        take_step(module, optimizer, golden, meta, step)
        take_step(twin, twin_optimizer, golden, meta, step)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, getattr(twin, name)), name


def test_muon_leaves_parameters_without_gradient(golden, meta) -> None:
    module, optimizer = from_golden(golden, meta)
    module.tall.grad = golden["grad.0.tall"]
    assert optimizer.step(lambda: 1.5) == 1.5
    assert not torch.equal(module.tall, golden["init.tall"])
    for name in MUON_NAMES[1:] + ADAMW_NAMES:
        assert torch.equal(getattr(module, name), golden[f"init.{name}"]), name


def test_adamw_decays_every_trainable_parameter() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    module[0].bias.requires_grad_(False)
    optimizer = adamw(module, 1e-2, 0.5)
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 3
    assert (group["weight_decay"], group["betas"], group["eps"]) == (0.5, (0.9, 0.999), 1e-8)
    before = module[1].weight.detach().clone()
    module[1].weight.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(module[1].weight.detach(), before * (1 - 1e-2 * 0.5))


def test_layerwise_groups_scale_the_rate() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    module[1].bias.requires_grad_(False)
    groups = layerwise_groups(module, lambda name: int(name.split(".")[0]), 0.5)
    assert [group["lr_scale"] for group in groups] == [0.25, 0.5, 1.0]
    assert [len(group["params"]) for group in groups] == [2, 1, 2]
    assert groups[0]["params"][0] is module[0].weight
    optimizer = adamw(module, 0.4, 0.0, groups=groups)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2, 0.4]
    for decay in (0.0, 1.5):
        with pytest.raises(UsageError, match="above 0 and at most 1"):
            layerwise_groups(module, lambda name: 0, decay)
