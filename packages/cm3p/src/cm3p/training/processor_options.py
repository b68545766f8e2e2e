"""Options of the processor in the configuration of training, under the names of the original."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cm3p.audio_features import CM3PAudioFeatureExtractor
from cm3p.events.options import ParserOptions
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.processor import CM3PProcessor
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer

_TABLES = ("modes", "statuses", "mappers", "tags")


@dataclass
class AudioFeatureOptions:
    """Spectrograms; see :class:`cm3p.audio_features.CM3PAudioFeatureExtractor`."""

    feature_size: int = 80
    sampling_rate: int = 16000
    hop_length: int = 160
    chunk_length: int = 30
    n_fft: int = 400
    padding_value: float = 0.0
    dither: float = 0.0
    return_attention_mask: bool = False


@dataclass
class BeatmapTokenizerOptions:
    """Tokens of beatmaps; see :class:`cm3p.tokens.beatmap.CM3PBeatmapTokenizer`."""

    min_time: int = 0
    max_time: int = 16000
    time_step: int = 10
    max_distance: int = 640
    distance_step: int = 4
    position_range: list[int] = field(default_factory=lambda: [-256, 768, -256, 640])
    position_step: int = 4
    position_split_axes: bool = True
    add_cls_token: bool = False
    separate_new_combo_token: bool = True


@dataclass
class MetadataTokenizerOptions:
    """Tokens of metadata; see :class:`cm3p.tokens.metadata.CM3PMetadataTokenizer`.

    Tables that are None are made from the training data.
    """

    modes: dict[int, str] | None = None
    statuses: dict[int, str] | None = None
    mappers: dict[int, str] | None = None
    tags: dict[int, dict[str, Any]] | None = None
    min_difficculty: float = 0.0
    max_difficulty: float = 14.0
    difficulty_step: float = 0.1
    min_year: int = 2000
    max_year: int = 2023
    max_song_length: int = 600
    song_length_step: int = 10
    song_position_step: float = 0.01
    global_sv_step: float = 0.01
    hold_note_ratio_step: float = 0.1
    scroll_speed_ratio_step: float = 0.1
    add_cls_token: bool = False
    unique_tag_ids: bool = True


@dataclass
class BeatmapKwargs:
    """Windows and lengths of a call; see :data:`cm3p.call_options.DEFAULTS`."""

    max_length: int = 4000
    padding: str = "longest"
    truncation: str = "longest_first"
    window_length_sec: float = 16.0
    window_stride_sec: float = 16.0
    min_window_length_sec: float = 1.0


@dataclass
class MetadataKwargs:
    """Lengths of metadata of a call."""

    max_length: int = 128
    padding: str = "longest"
    truncation: str = "longest_first"


@dataclass
class AudioKwargs:
    """Audio of a call."""

    sampling_rate: int = 16000
    padding: bool = False
    truncation: bool = False
    pad_to_multiple_of: int = 256000
    max_source_positions: int = 1600
    hop_length: int = 160
    window_size: int = 400
    audio_length_per_tok: int = 8
    device: str = "cpu"


@dataclass
class CommonKwargs:
    """What kind of tensors a call returns."""

    return_tensors: str = "pt"


@dataclass
class DefaultKwargs:
    """Default options of a call by group."""

    beatmap_kwargs: BeatmapKwargs = field(default_factory=BeatmapKwargs)
    metadata_kwargs: MetadataKwargs = field(default_factory=MetadataKwargs)
    audio_kwargs: AudioKwargs = field(default_factory=AudioKwargs)
    common_kwargs: CommonKwargs = field(default_factory=CommonKwargs)


@dataclass
class ProcessorOptions:
    """All parts of the processor."""

    audio_feature_extractor: AudioFeatureOptions = field(default_factory=AudioFeatureOptions)
    beatmap_parser: ParserOptions = field(default_factory=ParserOptions)
    beatmap_tokenizer: BeatmapTokenizerOptions = field(default_factory=BeatmapTokenizerOptions)
    metadata_tokenizer: MetadataTokenizerOptions = field(default_factory=MetadataTokenizerOptions)
    default_kwargs: DefaultKwargs = field(default_factory=DefaultKwargs)


def build_processor(
    options: ProcessorOptions, tables: dict[str, dict[int, Any]], *, apply_speed_to_audio: bool
) -> CM3PProcessor:
    """Return a processor with a new vocabulary.

    Args:
        options: Its parts.
        tables: ``modes``, ``statuses``, ``mappers`` and ``tags`` of the data, for those that the options leave open.
        apply_speed_to_audio: See :class:`cm3p.processor.CM3PProcessor`.

    Raises:
        ConfigError: A value is out of range.
    """
    metadata = asdict(options.metadata_tokenizer)
    for name in _TABLES:
        if metadata[name] is None:
            metadata[name] = tables[name]
    return CM3PProcessor(
        CM3PAudioFeatureExtractor(**asdict(options.audio_feature_extractor)),
        CM3PBeatmapParser(**asdict(options.beatmap_parser)),
        CM3PBeatmapTokenizer(**asdict(options.beatmap_tokenizer)),
        CM3PMetadataTokenizer(**metadata),
        default_kwargs=asdict(options.default_kwargs),
        apply_speed_to_audio=apply_speed_to_audio,
    )
