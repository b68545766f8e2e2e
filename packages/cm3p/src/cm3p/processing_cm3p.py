"""The original's module name for the processor."""

from cm3p.metadata import get_metadata
from cm3p.processor import CM3PProcessor

__all__ = ["CM3PProcessor", "get_metadata"]
