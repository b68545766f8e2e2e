"""The original's module name for the tokenizers."""

from cm3p.metadata import CM3PMetadata, merge_metadata_dicts
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer

__all__ = ["CM3PBeatmapTokenizer", "CM3PMetadata", "CM3PMetadataTokenizer", "merge_metadata_dicts"]
