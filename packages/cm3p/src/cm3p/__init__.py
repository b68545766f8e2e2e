"""CM3P: osu! beatmaps, their metadata and their audio in one space. Names are loaded when first used."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("cm3p")
