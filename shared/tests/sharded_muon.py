"""Muon on parameters that two processes share, against the same on whole ones; run by ``test_sharded_muon.py``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from pentatonic.optim import muon


def network() -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Unflatten(1, (7, 1)), nn.Conv1d(7, 5, 3, padding=1), nn.Flatten())
    return nn.Sequential(nn.Linear(10, 7), nn.GELU(), convolution, nn.Linear(5, 12), nn.LayerNorm(12))


dist.init_process_group("gloo")
whole, shared = network(), network()
fully_shard(shared, mesh=init_device_mesh("cpu", (2,)))
optimizers = [(module, muon(module, 0.02, 0.1)) for module in (whole, shared)]
for step in range(3):
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(step))
    for module, optimizer in optimizers:
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
for one, other in zip(whole.parameters(), shared.parameters(), strict=True):
    torch.testing.assert_close(other.full_tensor(), one.detach(), rtol=1e-6, atol=1e-7)  # type: ignore[attr-defined]
dist.destroy_process_group()
