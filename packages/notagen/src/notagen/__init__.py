"""NotaGen: sheet music in ABC notation, read, checked and written. Names are loaded when they are first used."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from notagen.abc import parse_tune, print_tune
    from notagen.generate import Limits, Request, stream
    from notagen.model import NotaGen, NotaGenConfig
    from notagen.prompts import find_prompt
    from notagen.sampling import Sampling
    from notagen.weights import from_pretrained, save_pretrained

__all__ = [
    "Limits",
    "NotaGen",
    "NotaGenConfig",
    "Request",
    "Sampling",
    "__version__",
    "find_prompt",
    "from_pretrained",
    "parse_tune",
    "print_tune",
    "save_pretrained",
    "stream",
]

__version__ = version("notagen")

# `generate` and `prompts` are modules, which a name of the package would hide.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Limits": "notagen.generate",
        "NotaGen": "notagen.model",
        "NotaGenConfig": "notagen.model",
        "Request": "notagen.generate",
        "Sampling": "notagen.sampling",
        "find_prompt": "notagen.prompts",
        "from_pretrained": "notagen.weights",
        "parse_tune": "notagen.abc",
        "print_tune": "notagen.abc",
        "save_pretrained": "notagen.weights",
        "stream": "notagen.generate",
    },
)
