"""What the tests of all packages share: one thread, Triton's interpreter, Hypothesis profiles, a browser."""

import os
import signal

# A shell that starts a command in the background makes it ignore Ctrl-C, and so do all its children: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread for this process and its children: sums of floats depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

CHROMIUM = Path("/usr/bin/chromium")

if not torch.cuda.is_available():
    # Without a GPU the attention kernels run in Triton's interpreter, which is chosen when they are imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# On a build server a test must not fail for a new random example; elsewhere Hypothesis keeps searching.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; tests that need it are skipped where it is not installed."""
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def until() -> Callable[[Any, str], None]:
    """``until(page, condition)`` waits until a JavaScript expression is true.

    Playwright's ``wait_for_function`` may need ``eval``, which the content security policy of our pages forbids.
    """

    def wait(page: Any, condition: str) -> None:
        for _ in range(200):
            if page.evaluate(condition):
                return
            page.wait_for_timeout(50)
        raise AssertionError(condition)

    return wait
