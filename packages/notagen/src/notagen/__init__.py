"""NotaGen: sheet music in ABC notation, read, checked, converted and written. Names are loaded when first used."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from notagen.abc import parse_tune, print_tune
    from notagen.export import write_piece
    from notagen.generate import Limits, Request, stream
    from notagen.model import NotaGen, NotaGenConfig
    from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
    from notagen.playback import perform
    from notagen.prompts import find_prompt, model_prompts
    from notagen.sampling import Sampling
    from notagen.score import read_score
    from notagen.synth import render_audio
    from notagen.weights import from_pretrained, save_pretrained

# Where a function has its module's name (`generate`, `validate`, `infill`, …) the module is what the package shows.
_HOMES = {
    "Limits": "notagen.generate",
    "NotaGen": "notagen.model",
    "NotaGenConfig": "notagen.model",
    "Request": "notagen.generate",
    "Sampling": "notagen.sampling",
    "abc_to_musicxml": "notagen.musicxml",
    "find_prompt": "notagen.prompts",
    "from_pretrained": "notagen.weights",
    "model_prompts": "notagen.prompts",
    "musicxml_to_abc": "notagen.musicxml",
    "parse_tune": "notagen.abc",
    "perform": "notagen.playback",
    "print_tune": "notagen.abc",
    "read_score": "notagen.score",
    "render_audio": "notagen.synth",
    "save_pretrained": "notagen.weights",
    "stream": "notagen.generate",
    "write_piece": "notagen.export",
}

__all__ = [
    "Limits",
    "NotaGen",
    "NotaGenConfig",
    "Request",
    "Sampling",
    "__version__",
    "abc_to_musicxml",
    "find_prompt",
    "from_pretrained",
    "model_prompts",
    "musicxml_to_abc",
    "parse_tune",
    "perform",
    "print_tune",
    "read_score",
    "render_audio",
    "save_pretrained",
    "stream",
    "write_piece",
]

__version__ = version("notagen")

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
