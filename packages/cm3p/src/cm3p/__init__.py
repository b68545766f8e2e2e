"""CM3P: osu! beatmaps, their metadata and their audio in one space.

Names are loaded when they are first used. The models are registered with the Auto classes of transformers: after
``import cm3p`` a directory as downloaded from the hub loads by ``AutoModel.from_pretrained``, without its code.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from cm3p.registration import install
from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from cm3p.configuration import CM3PAudioConfig, CM3PBeatmapConfig, CM3PConfig, CM3PMetadataConfig
    from cm3p.model import (
        CM3PBeatmapModel,
        CM3PBeatmapModelWithProjection,
        CM3PForBeatmapClassification,
        CM3PForMaskedLM,
        CM3PMetadataModel,
        CM3PMetadataModelWithProjection,
        CM3PModel,
        CM3PPreTrainedModel,
    )
    from cm3p.processor import CM3PProcessor
    from cm3p.weights import from_pretrained, save_pretrained

__all__ = [
    "CM3PAudioConfig",
    "CM3PBeatmapConfig",
    "CM3PBeatmapModel",
    "CM3PBeatmapModelWithProjection",
    "CM3PConfig",
    "CM3PForBeatmapClassification",
    "CM3PForMaskedLM",
    "CM3PMetadataConfig",
    "CM3PMetadataModel",
    "CM3PMetadataModelWithProjection",
    "CM3PModel",
    "CM3PPreTrainedModel",
    "CM3PProcessor",
    "__version__",
    "from_pretrained",
    "save_pretrained",
]

__version__ = version("cm3p")

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CM3PAudioConfig": "cm3p.configuration",
        "CM3PBeatmapConfig": "cm3p.configuration",
        "CM3PBeatmapModel": "cm3p.model",
        "CM3PBeatmapModelWithProjection": "cm3p.model",
        "CM3PConfig": "cm3p.configuration",
        "CM3PForBeatmapClassification": "cm3p.model",
        "CM3PForMaskedLM": "cm3p.model",
        "CM3PMetadataConfig": "cm3p.configuration",
        "CM3PMetadataModel": "cm3p.model",
        "CM3PMetadataModelWithProjection": "cm3p.model",
        "CM3PModel": "cm3p.model",
        "CM3PPreTrainedModel": "cm3p.model",
        "CM3PProcessor": "cm3p.processor",
        "from_pretrained": "cm3p.weights",
        "save_pretrained": "cm3p.weights",
    },
)

install()
