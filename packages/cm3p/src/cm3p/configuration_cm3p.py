"""The configurations, under the original's module name."""

from cm3p.configuration import CM3PAudioConfig, CM3PBeatmapConfig, CM3PConfig, CM3PMetadataConfig

__all__ = ["CM3PAudioConfig", "CM3PBeatmapConfig", "CM3PConfig", "CM3PMetadataConfig"]
