"""One thread for this process and its children: sums of floats depend on the number of threads."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import pytest
from hypothesis import settings

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
