"""Myna and Myna-RPE: embeddings of whole tracks, a music library, playlists. Names are loaded when first used."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from myna_rpe.config import EncoderConfig
    from myna_rpe.embed import embed_file, embed_folder
    from myna_rpe.model import MynaEncoder
    from myna_rpe.weights import from_pretrained, save_pretrained
    from myna_rpe.whole_tracks import TrackOptions, embed_tracks

__all__ = [
    "EncoderConfig",
    "MynaEncoder",
    "TrackOptions",
    "__version__",
    "embed_file",
    "embed_folder",
    "embed_tracks",
    "from_pretrained",
    "save_pretrained",
]

__version__ = version("myna-rpe")

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EncoderConfig": "myna_rpe.config",
        "MynaEncoder": "myna_rpe.model",
        "TrackOptions": "myna_rpe.whole_tracks",
        "embed_file": "myna_rpe.embed",
        "embed_folder": "myna_rpe.embed",
        "embed_tracks": "myna_rpe.whole_tracks",
        "from_pretrained": "myna_rpe.weights",
        "save_pretrained": "myna_rpe.weights",
    },
)
