"""Audio from prompts and from clips of a style bank, by AudioLDM 1 and 2. Names are loaded when first used."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from rc_audioldm.denoising.sampling import Item, Sampling, sample
    from rc_audioldm.generation.generate import generate
    from rc_audioldm.generation.requests import Request
    from rc_audioldm.generation.result import Result
    from rc_audioldm.generation.settings import Settings
    from rc_audioldm.generation.styles import StyleFinder
    from rc_audioldm.model import AudioLDM
    from rc_audioldm.prompts.encoder import PromptEncoder
    from rc_audioldm.weights import from_pretrained, save_pretrained

__all__ = [
    "AudioLDM",
    "Item",
    "PromptEncoder",
    "Request",
    "Result",
    "Sampling",
    "Settings",
    "StyleFinder",
    "__version__",
    "from_pretrained",
    "generate",
    "sample",
    "save_pretrained",
]

__version__ = version("rc-audioldm")

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AudioLDM": "rc_audioldm.model",
        "Item": "rc_audioldm.denoising.sampling",
        "PromptEncoder": "rc_audioldm.prompts.encoder",
        "Request": "rc_audioldm.generation.requests",
        "Result": "rc_audioldm.generation.result",
        "Sampling": "rc_audioldm.denoising.sampling",
        "Settings": "rc_audioldm.generation.settings",
        "StyleFinder": "rc_audioldm.generation.styles",
        "from_pretrained": "rc_audioldm.weights",
        "generate": "rc_audioldm.generation.generate",
        "sample": "rc_audioldm.denoising.sampling",
        "save_pretrained": "rc_audioldm.weights",
    },
)
