"""Audio from prompts and from clips of a style bank, by AudioLDM 1 and 2. Names are loaded when first used."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("rc-audioldm")
