"""The versions of diffusers and transformers that models are tested with; others fail, or tokenise wrongly in silence.

This module imports neither, because an untested pair can fail at the import.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from pentatonic.errors import BackendUnavailable

TESTED = {"diffusers": ((0, 42), (0, 43)), "transformers": ((5, 17), (6,))}
"""Library to the first version that is tested and the first one that is not."""


def check_library_versions() -> None:
    """Refuse versions of the libraries outside the tested range.

    Raises:
        BackendUnavailable: A library is missing or has another version; the message says which one to install.
    """
    for name, (low, high) in TESTED.items():
        allowed = f"{name}>={_text(low)},<{_text(high)}"
        try:
            installed = version(name)
        except PackageNotFoundError:
            raise BackendUnavailable(f"{name} is not installed; install {allowed}") from None
        numbers = tuple(int(part) for part in re.findall(r"\d+", installed)[:3])
        if not low <= numbers < high:
            raise BackendUnavailable(
                f"{name} {installed} is outside the tested range, where AudioLDM fails or reads prompts wrongly; "
                f"install {allowed}"
            )


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
