"""What the Pentatonic music models share.

The modules are imported one by one (``from pentatonic import audio``), so that nobody waits for what is not needed.
"""

from importlib.metadata import version

__version__ = version("pentatonic")
