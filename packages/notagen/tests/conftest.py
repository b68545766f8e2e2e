"""One thread for this process and its children: sums of floats depend on the number of threads."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # Without a GPU the attention kernels run in Triton's interpreter, which is chosen when they are imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# On a build server a test must not fail for an example that no change has to do with; elsewhere it goes on searching.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def cairo() -> None:
    """Skip where no PDF can be made: without the extra, or without the cairo library of the system."""
    try:
        pytest.importorskip("cairosvg")
    except OSError:
        pytest.skip("the system has no cairo library")
