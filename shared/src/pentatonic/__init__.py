"""What the Pentatonic music models share.

The modules are imported one by one (``from pentatonic import audio``), so that nobody waits for what is not needed.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pentatonic")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+source"
