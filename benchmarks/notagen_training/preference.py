"""A step of preference training (DPO-positive), without optimiser: ours beside policy and reference computed together.

The sizes are those of a model that a CPU trains, with random weights; the pair is two long pieces. The policy differs
a little from the reference, so that the loss is not ln 2 by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from notagen.dpo.gradient import pair_gradient
from notagen.dpo.log_probability import log_probability, reference_log_probabilities
from notagen.model import NotaGen, NotaGenConfig
from notagen.training.objective import NotaGenTraining
from pentatonic.child_process import python_environment

SIZES = NotaGenConfig(patch_layers=6, char_layers=3, width=384, heads=6, patch_length=512, dropout=0.0)
BETA, LAM = 0.1, 10.0
TOGETHER, PADDED, OURS = "together", "together, padded", "this"

Step = Callable[[], float]


def random_pair(patches: int) -> tuple[Tensor, Tensor]:
    """Two pieces of patches of all lengths, as those of bars are."""
    generator = torch.Generator().manual_seed(1)
    pieces = []
    for _ in range(2):
        characters = torch.randint(3, 128, (patches, 16), generator=generator)
        lengths = torch.randint(5, 17, (patches, 1), generator=generator)
        places = torch.arange(16)
        piece = torch.where(places < lengths, characters, 0)
        pieces.append(torch.where((places == lengths - 1) & (lengths < 16), 2, piece))
    return pieces[0], pieces[1]


def models() -> tuple[NotaGenTraining, NotaGen]:
    """The policy after a small step, and the reference."""
    torch.manual_seed(0)
    policy = NotaGenTraining(SIZES)
    reference = NotaGen(SIZES)
    reference.load_state_dict(policy.state_dict())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=1e-4)
    return policy, reference.eval()


def together(of: Callable[[NotaGen, Tensor], Tensor], patches: int) -> tuple[NotaGen, Step]:
    """Both models in memory, all four log-probabilities in every step, and one backward pass through both pieces."""
    (policy, reference), (chosen, rejected) = models(), random_pair(patches)

    def step() -> float:
        policy.zero_grad(set_to_none=True)
        with torch.no_grad():
            of_chosen, of_rejected = of(reference, chosen), of(reference, rejected)
        own_chosen, own_rejected = of(policy, chosen), of(policy, rejected)
        difference = (own_chosen - own_rejected) - (of_chosen - of_rejected)
        penalty = torch.relu(of_chosen - own_chosen)
        loss = -F.logsigmoid(BETA * (difference - LAM * penalty))
        loss.backward()
        return float(loss.detach())

    return policy, step


def padded(model: NotaGen, piece: Tensor) -> Tensor:
    """Log-probability with the character decoder over all 16 places of every patch, as the original computes it."""
    return model.log_probabilities(piece[None], torch.ones(1, len(piece), dtype=torch.bool))[0].double()


def ours(patches: int) -> tuple[NotaGen, Step]:
    """The values of the reference, which a run computes once, and one piece after the other."""
    (policy, reference), (chosen, rejected) = models(), random_pair(patches)
    first, second = reference_log_probabilities(reference, [chosen, rejected]).tolist()
    del reference

    def step() -> float:
        return float(pair_gradient(policy, chosen, rejected, (first, second), beta=BETA, lam=LAM).loss)

    return policy, step


WAYS: dict[str, Callable[[int], tuple[NotaGen, Step]]] = {
    TOGETHER: lambda patches: together(log_probability, patches),
    PADDED: lambda patches: together(padded, patches),
    OURS: ours,
}


def peak_mib(way: str, patches: int) -> float:
    """Most memory of a process of its own that does two steps, in MiB."""
    command = [sys.executable, "-P", __file__, way, str(patches)]
    environment = python_environment(Path(__file__).parent)
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(output.stdout.splitlines()[-1])


def status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def rows(rounds: int, patches: int = SIZES.patch_length) -> Iterator[dict[str, Any]]:
    """Compare the ways.

    Raises:
        SystemExit: Their losses or gradients differ.
    """
    built = {name: build(patches) for name, build in WAYS.items()}
    best, losses = dict.fromkeys(WAYS, float("inf")), dict.fromkeys(WAYS, 0.0)
    for _ in range(rounds):
        for name, (_, step) in built.items():
            start_s = time.process_time()
            losses[name] = step()
            best[name] = min(best[name], time.process_time() - start_s)
    gradients = {
        name: torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        for name, (model, _) in built.items()
    }
    expected = gradients[PADDED]
    peaks = {name: peak_mib(name, patches) for name in WAYS}
    for name in WAYS:
        difference = float((gradients[name] - expected).norm() / expected.norm())
        if abs(losses[name] / losses[PADDED] - 1) > 1e-3 or difference > 1e-2:
            found = (
                f"loss {losses[name]}, for {PADDED} {losses[PADDED]}; gradients differ by {difference:.1e}"
            )
            raise SystemExit(f"{name}: {found}")
        yield {
            "way": name,
            "patches of a piece": patches,
            "CPU s per step": best[name],
            "this way's time / ours": best[name] / best[OURS],
            "peak, MiB": peaks[name],
            "memory that ours saves": 1 - peaks[OURS] / peaks[name],
            "loss": losses[name],
            "gradient differs by": difference,
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    _, one_step = WAYS[sys.argv[1]](int(sys.argv[2]))
    for _ in range(2):
        one_step()
    print(json.dumps(status_mib("VmHWM")))
