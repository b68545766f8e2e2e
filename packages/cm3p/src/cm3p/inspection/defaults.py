"""Processors for looking at maps: that of a model, or one with the settings of the published configuration v7."""

from __future__ import annotations

from cm3p.audio_features import CM3PAudioFeatureExtractor
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.processor import CM3PProcessor
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer

_WINDOW_S = 16.0
MODES = {0: "osu", 1: "taiko", 2: "fruits", 3: "mania"}
STATUSES = {
    -2: "graveyard",
    -1: "wip",
    0: "pending",
    1: "ranked",
    2: "approved",
    3: "qualified",
    4: "loved",
}


def get_processor(model: str | None, revision: str | None = None) -> CM3PProcessor:
    """Return the processor of a model; without one that of v7, whose metadata knows neither mappers nor tags.

    Raises:
        HubError, ConfigError: There is no usable processor.
    """
    if model is not None:
        return CM3PProcessor.from_pretrained(model, revision=revision)
    return CM3PProcessor(
        CM3PAudioFeatureExtractor(),
        CM3PBeatmapParser(add_snapping=False, add_distances=False),
        CM3PBeatmapTokenizer(
            max_time=int(_WINDOW_S * 1000), add_cls_token=True, separate_new_combo_token=False
        ),
        CM3PMetadataTokenizer(modes=MODES, statuses=STATUSES, min_year=2007, add_cls_token=True),
        {
            "beatmap_kwargs": {
                "max_length": 2000,
                "window_length_sec": _WINDOW_S,
                "window_stride_sec": _WINDOW_S,
            },
            "audio_kwargs": {
                "padding": False,
                "pad_to_multiple_of": int(_WINDOW_S * 16000),
                "max_source_positions": 1600,
            },
        },
    )
