"""What several tests of the package need."""

from __future__ import annotations

import pytest


@pytest.fixture
def cairo() -> None:
    """Skip where no PDF can be made: without the extra, or without the cairo library of the system."""
    try:
        pytest.importorskip("cairosvg")
    except OSError:
        pytest.skip("the system has no cairo library")
