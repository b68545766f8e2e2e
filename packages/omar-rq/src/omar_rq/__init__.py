"""OMAR-RQ: music audio embeddings by masked token prediction. Names are loaded when they are first used."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from omar_rq.config import ModelConfig
    from omar_rq.embed import embed_file, embed_folder, tokenize_folder
    from omar_rq.model import OmarRQ
    from omar_rq.streaming import stream_embeddings
    from omar_rq.tokens import Tokenizer
    from omar_rq.weights import from_pretrained, get_model, save_pretrained

__all__ = [
    "ModelConfig",
    "OmarRQ",
    "Tokenizer",
    "__version__",
    "embed_file",
    "embed_folder",
    "from_pretrained",
    "get_model",
    "save_pretrained",
    "stream_embeddings",
    "tokenize_folder",
]

__version__ = version("omar-rq")

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ModelConfig": "omar_rq.config",
        "OmarRQ": "omar_rq.model",
        "Tokenizer": "omar_rq.tokens",
        "embed_file": "omar_rq.embed",
        "embed_folder": "omar_rq.embed",
        "from_pretrained": "omar_rq.weights",
        "get_model": "omar_rq.weights",
        "save_pretrained": "omar_rq.weights",
        "stream_embeddings": "omar_rq.streaming",
        "tokenize_folder": "omar_rq.embed",
    },
)
