"""NotaGen: sheet music in ABC notation, read, checked, converted and written. Names are loaded when first used."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from notagen.abc import parse_tune, print_tune
    from notagen.files.writing import write_piece
    from notagen.generation.continuation import continuation
    from notagen.generation.decoding import Limits, Request, generate, stream
    from notagen.generation.infilling import infill
    from notagen.generation.sampling import Sampling
    from notagen.model import NotaGen, NotaGenConfig
    from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
    from notagen.notation.repair import repair
    from notagen.notation.validation import validate
    from notagen.prompts import find_prompt, model_prompts
    from notagen.score import read_score
    from notagen.sound.performance import perform
    from notagen.sound.synth import render_audio
    from notagen.weights import from_pretrained, save_pretrained

_HOMES = {
    "Limits": "notagen.generation.decoding",
    "NotaGen": "notagen.model",
    "NotaGenConfig": "notagen.model",
    "Request": "notagen.generation.decoding",
    "Sampling": "notagen.generation.sampling",
    "abc_to_musicxml": "notagen.musicxml",
    "continuation": "notagen.generation.continuation",
    "find_prompt": "notagen.prompts",
    "from_pretrained": "notagen.weights",
    "generate": "notagen.generation.decoding",
    "infill": "notagen.generation.infilling",
    "model_prompts": "notagen.prompts",
    "musicxml_to_abc": "notagen.musicxml",
    "parse_tune": "notagen.abc",
    "perform": "notagen.sound.performance",
    "print_tune": "notagen.abc",
    "read_score": "notagen.score",
    "render_audio": "notagen.sound.synth",
    "repair": "notagen.notation.repair",
    "save_pretrained": "notagen.weights",
    "stream": "notagen.generation.decoding",
    "validate": "notagen.notation.validation",
    "write_piece": "notagen.files.writing",
}

__all__ = [
    "Limits",
    "NotaGen",
    "NotaGenConfig",
    "Request",
    "Sampling",
    "__version__",
    "abc_to_musicxml",
    "continuation",
    "find_prompt",
    "from_pretrained",
    "generate",
    "infill",
    "model_prompts",
    "musicxml_to_abc",
    "parse_tune",
    "perform",
    "print_tune",
    "read_score",
    "render_audio",
    "repair",
    "save_pretrained",
    "stream",
    "validate",
    "write_piece",
]

__version__ = version("notagen")

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
