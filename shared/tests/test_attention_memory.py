"""Peak memory of biased attention, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if not Path("/proc/self/status").is_file():
    pytest.skip("the peak memory of a process is read from /proc", allow_module_level=True)

# Not from getrusage, whose peak a process takes over from the one that started it. Peak resident size only ever
# grows, so the back end that must stay small runs first.
SCRIPT = """
import json, re, torch
from pentatonic.attention import Alibi2D, alibi_slopes, attention

torch.set_num_threads(1)

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

def step(n, backend):
    q, k, v = (torch.randn(1, 2, n, 16, requires_grad=True) for _ in range(3))
    slopes = alibi_slopes(2).requires_grad_()
    coords = torch.stack((torch.arange(n) // 8, torch.arange(n) % 8), dim=-1)
    o = attention(q, k, v, bias=Alibi2D(coords, slopes, slopes), backend=backend)
    if backend == "chunked":
        o.sum().backward()
    return peak()

step(600, "chunked")
start = step(600, "sdpa")
chunked = step(3072, "chunked")
print(json.dumps({"chunked": chunked - start, "sdpa": step(3072, "sdpa") - start}))
"""


def test_training_with_2d_alibi_needs_no_quadratic_memory():
    child = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    growth = json.loads(child.stdout)
    matrix = 2 * 3072 * 3072 * 4
    assert growth["sdpa"] > matrix  # the measurement sees what it should see
    assert growth["chunked"] < matrix / 4


# Ten minutes of audio in 8 frequency rows. The warm-up pays for what the libraries allocate once.
TRACK = """
import re, torch
from pentatonic.attention import Alibi2D, alibi_slopes, attention

torch.set_num_threads(1)

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

def step(n, tolerance):
    q, k, v, o = (torch.ones(1, 6, n, 64) for _ in range(4))
    patches = torch.arange(n)
    coords = torch.stack((patches // 8, patches % 8), dim=-1)
    start = peak()
    slopes = alibi_slopes(6)
    o.copy_(attention(q, k, v, bias=Alibi2D(coords, slopes, slopes), backend="chunked", tolerance=tolerance))
    return peak() - start

step(1024, 1e-4)
print(max(step(30_000, tolerance) for tolerance in (1e-4, None)))
"""


@pytest.mark.slow
def test_a_track_of_30000_tokens_needs_little_memory_beside_its_inputs():
    child = subprocess.run([sys.executable, "-c", TRACK], capture_output=True, text=True, check=True)
    output = 6 * 30_000 * 64 * 4  # a second one while it is copied
    assert int(child.stdout) < output + 100 * 2**20
