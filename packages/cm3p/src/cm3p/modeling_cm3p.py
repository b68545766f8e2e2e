"""The models, under the original's module name."""

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
from cm3p.network.outputs import (
    BeatmapClassifierOutput,
    CM3PAudioModelOutput,
    CM3PBeatmapModelOutput,
    CM3PMetadataModelOutput,
    CM3POutput,
)

__all__ = [
    "BeatmapClassifierOutput",
    "CM3PAudioModelOutput",
    "CM3PBeatmapModel",
    "CM3PBeatmapModelOutput",
    "CM3PBeatmapModelWithProjection",
    "CM3PForBeatmapClassification",
    "CM3PForMaskedLM",
    "CM3PMetadataModel",
    "CM3PMetadataModelOutput",
    "CM3PMetadataModelWithProjection",
    "CM3PModel",
    "CM3POutput",
    "CM3PPreTrainedModel",
]
