"""A pytest plugin with what the test suites of all packages share; ``pyproject.toml`` of the workspace loads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")

# One thread for this process and its children: sums of floats depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported


def pytest_configure() -> None:
    """Make test runs repeatable, and possible without a GPU."""
    import torch
    from hypothesis import settings

    if not torch.cuda.is_available():
        # The attention kernels then run in Triton's interpreter, which is chosen when they are imported.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    # On a build server a test must not fail for an example that the change did not cause; elsewhere it searches on.
    settings.register_profile("ci", derandomize=True)
    if os.environ.get("CI"):
        settings.load_profile("ci")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser, where Playwright and Chromium are installed."""
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def wait_until(page: Any, condition: str) -> None:
    """Wait for a condition in a page; ``wait_for_function`` may need ``eval``, which the page's policy forbids.

    Raises:
        AssertionError: It does not come about within ten seconds.
    """
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)
