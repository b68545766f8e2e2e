"""What the Pentatonic music models share.

The modules are imported one by one (``from pentatonic import audio``), so that nobody waits for what is not needed.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pentatonic")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"
