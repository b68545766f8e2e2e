"""Beatmaps, songs and metadata to the inputs of the models.

Shapes: W windows of all maps together, L tokens, M entries of metadata, V variations of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cm3p.audio_features import CM3PAudioFeatureExtractor, as_songs, in_positions, load_song, padded_window
from cm3p.beatmap import Beatmap
from cm3p.call_options import Options, merge_options, stored_options, with_defaults
from cm3p.events.groups import Group
from cm3p.events.loading import load_beatmap
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.events.song_length import get_song_length
from cm3p.metadata import get_metadata, merge_metadata_dicts
from cm3p.stored import BUNDLED, read_json_object, write_json
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.encoding import Encoding, empty_encoding
from cm3p.tokens.entries import drop_fields, encode_entries
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from cm3p.windows import groups_in_windows, window_starts
from pentatonic.errors import UsageError
from pentatonic.untrusted.files import local_path

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "processor_config.json"
PARTS: Mapping[str, Any] = {
    "audio_feature_extractor": CM3PAudioFeatureExtractor,
    "beatmap_parser": CM3PBeatmapParser,
    "beatmap_tokenizer": CM3PBeatmapTokenizer,
    "metadata_tokenizer": CM3PMetadataTokenizer,
}


@dataclass(slots=True)
class _Song:
    """A map in windows, with its audio if there is any.

    Args:
        beatmap: The map.
        length_s: Length of the song in seconds.
        starts_s: Starts of the windows.
        windows: Events of each window.
        samples: (n,) samples of the song.
        features: (W, bands, frames) of its windows.
        audio_tokens: Audio placeholders of each window.
    """

    beatmap: Beatmap
    length_s: float
    starts_s: list[float]
    windows: list[list[Group]]
    samples: torch.Tensor | None = None
    features: list[torch.Tensor] = field(default_factory=list)
    audio_tokens: list[int] = field(default_factory=list)


class CM3PProcessor:
    """Makes the inputs of the models from beatmaps, songs and metadata.

    Args:
        audio_feature_extractor: Makes spectrograms.
        beatmap_parser: Makes events of beatmaps.
        beatmap_tokenizer: Encodes events.
        metadata_tokenizer: Encodes metadata.
        default_kwargs: Default options of a call by group: ``beatmap_kwargs``, ``metadata_kwargs``, ``audio_kwargs``,
            ``common_kwargs``; missing ones have the defaults of :data:`cm3p.call_options.DEFAULTS`.
        apply_speed_to_audio: A ``speed`` also speeds up audio files, with their pitch, and the length of maps without
            audio, so that beats and windows reach up to the end. In the original it changes the events only.
        kwargs: Other keys of a stored configuration; they change nothing.

    Example:
        >>> processor = CM3PProcessor.from_pretrained("OliBomby/CM3P")
        >>> inputs = processor(beatmap="song.osu", audio="song.mp3")
    """

    def __init__(
        self,
        audio_feature_extractor: CM3PAudioFeatureExtractor,
        beatmap_parser: CM3PBeatmapParser,
        beatmap_tokenizer: CM3PBeatmapTokenizer,
        metadata_tokenizer: CM3PMetadataTokenizer,
        default_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        apply_speed_to_audio: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(audio_feature_extractor, CM3PAudioFeatureExtractor):  # that of transformers
            audio_feature_extractor = CM3PAudioFeatureExtractor(**audio_feature_extractor.to_dict())
        self.audio_feature_extractor = audio_feature_extractor
        self.beatmap_parser = beatmap_parser
        self.beatmap_tokenizer = beatmap_tokenizer
        self.metadata_tokenizer = metadata_tokenizer
        self.default_kwargs = with_defaults(default_kwargs)
        self.apply_speed_to_audio = apply_speed_to_audio

    def __call__(
        self,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        beatmap: Any = None,
        audio: Any = None,
        audio_sampling_rate: int | None = None,
        speed: float = 1.0,
        multiply_metadata: bool = False,
        populate_metadata: bool = False,
        metadata_dropout_prob: float = 0.0,
        metadata_variations: int = 1,
        **kwargs: Any,
    ) -> Encoding:
        """Encode beatmaps with their songs and metadata, or metadata alone.

        Args:
            metadata: One dictionary or a list of them, which are not changed.
            beatmap: One or a list of: path of an ``.osu`` file, open file, :class:`~cm3p.beatmap.Beatmap`.
            audio: As many songs: paths of audio files, or samples (n,) or (n, channels).
            audio_sampling_rate: Rate of samples in Hz.
            speed: Times of events are divided by it.
            multiply_metadata: One entry of metadata per window instead of one per map.
            populate_metadata: Fill unknown fields from the map; with ``multiply_metadata`` also the position in the
                song.
            metadata_dropout_prob: Probability with which each known field becomes unknown (numpy's generator).
            metadata_variations: Variants of each entry, the entry itself included; see
                :func:`cm3p.tokens.variations.metadata_variations`.
            kwargs: Options of :data:`cm3p.call_options.DEFAULTS`, each on its own or in its group.

        Returns:
            ``input_ids`` and ``attention_mask`` (W, L); with audio ``input_features`` (W, bands, frames); with metadata
            ``metadata_ids`` and ``metadata_attention_mask`` (M, L), or (M, V, L) and ``metadata_variation_classes``
            (M, V) with variations. Metadata alone is under ``input_ids`` and ``attention_mask``.

        Raises:
            UsageError: Counts do not fit, an option is wrong, or there is nothing to encode.
            InputError: A map cannot be read, or has too many windows.
            AudioError: A song cannot be read.
        """
        options = merge_options(self.default_kwargs, kwargs)
        return_tensors = options["common_kwargs"]["return_tensors"]
        if return_tensors not in ("pt", None):
            raise UsageError(f"return_tensors is {return_tensors!r}; allowed: pt, none")
        if metadata is None and beatmap is None:
            raise UsageError("there is nothing to encode; a beatmap, metadata or both are needed")
        songs: list[_Song] = []
        encoding = Encoding()
        entries = (
            [metadata] if isinstance(metadata, Mapping) else None if metadata is None else list(metadata)
        )
        if beatmap is not None:
            songs = self._songs(beatmap, audio, audio_sampling_rate, speed, options)
            encoding = self._encode_songs(songs, options)
            entries = _entries_of_songs(
                entries, songs, options, multiply=multiply_metadata, populate=populate_metadata
            )
        if entries is None:
            return encoding
        encoded = encode_entries(
            self.metadata_tokenizer,
            drop_fields(entries, metadata_dropout_prob),
            metadata_variations,
            return_tensors=return_tensors,
            **options["metadata_kwargs"],
        )
        if beatmap is None:
            return encoded
        names = {"input_ids": "metadata_ids", "attention_mask": "metadata_attention_mask"}
        encoding.update({names.get(name, name): value for name, value in encoded.items()})
        return encoding

    def decode(self, *args: Any, **kwargs: Any) -> str:
        """Call :meth:`decode <cm3p.tokens.tokenizer.Tokenizer.decode>` of the beatmap tokenizer."""
        return self.beatmap_tokenizer.decode(*args, **kwargs)

    def batch_decode(self, *args: Any, **kwargs: Any) -> list[str]:
        """Call :meth:`batch_decode <cm3p.tokens.tokenizer.Tokenizer.batch_decode>` of the beatmap tokenizer."""
        return self.beatmap_tokenizer.batch_decode(*args, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``processor_config.json``."""
        content = {
            "default_kwargs": stored_options(self.default_kwargs),
            "processor_class": type(self).__name__,
        }
        if self.apply_speed_to_audio:  # the original has no such option
            content["apply_speed_to_audio"] = True
        return content

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Write the processor into a folder, in the layout of the original.

        Args:
            save_directory: The folder, which is made if it is missing.
            kwargs: Options of transformers' method; they change nothing.

        Returns:
            Paths of the files.
        """
        folder = Path(save_directory)
        files = [str(write_json(folder / CONFIG_FILE, self.to_dict()))]
        for name in PARTS:
            files += getattr(self, name).save_pretrained(folder / name)
        return files

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str | None = None, **kwargs: Any) -> Self:
        """Read a processor, as this package or the original saved it. No code of the folder is executed.

        Args:
            name_or_path: The bundled ``cm3p-tiny``, a folder, or the hub id of a model.
            revision: Commit, tag or branch on the hub.
            kwargs: ``apply_speed_to_audio``; options of transformers' method change nothing.

        Raises:
            HubError: There is no such model.
            ConfigError: A file is missing or does not fit.
        """
        folder = _find(name_or_path, revision)
        config = {**read_json_object(folder / CONFIG_FILE), **kwargs}
        return cls(**{name: part.from_pretrained(folder / name) for name, part in PARTS.items()}, **config)

    def _songs(
        self, beatmap: Any, audio: Any, source_rate: int | None, speed: float, options: Options
    ) -> list[_Song]:
        beatmaps = [
            load_beatmap(item) for item in (beatmap if isinstance(beatmap, list | tuple) else [beatmap])
        ]
        audios = [None] * len(beatmaps) if audio is None else as_songs(audio)
        if len(audios) != len(beatmaps):
            raise UsageError(
                f"there are {len(audios)} songs for {len(beatmaps)} beatmaps; one for each is needed"
            )
        return [
            self._song(item, song, source_rate, speed, options)
            for item, song in zip(beatmaps, audios, strict=True)
        ]

    def _song(
        self, beatmap: Beatmap, audio: Any, source_rate: int | None, speed: float, options: Options
    ) -> _Song:
        """A map in windows. The windows are counted before anything of their number is made."""
        window, rate = options["beatmap_kwargs"], options["audio_kwargs"]["sampling_rate"]
        scale = speed if self.apply_speed_to_audio else 1.0
        samples = None
        if audio is None:
            length_s = get_song_length(beatmap=beatmap) / scale
        else:
            file_rate = int(rate // scale) if isinstance(audio, str | Path) else rate
            samples = load_song(audio, file_rate, source_rate)
            length_s = len(samples) / rate
        stride_s = window["window_stride_sec"]
        starts_s = window_starts(length_s, stride_s, window["min_window_length_sec"], window["max_windows"])
        groups = self.beatmap_parser.parse_beatmap(beatmap, speed, length_s * scale)
        windows = groups_in_windows(groups, starts_s, window["window_length_sec"], stride_s)
        song = _Song(beatmap, length_s, starts_s, windows, samples)
        if samples is not None:
            self._add_features(song, samples, window["window_length_sec"], options["audio_kwargs"])
        return song

    def _add_features(
        self, song: _Song, samples: torch.Tensor, window_s: float, audio: Mapping[str, Any]
    ) -> None:
        for start_s in song.starts_s:
            window = padded_window(
                samples,
                start_s,
                window_s,
                audio["sampling_rate"],
                multiple_of=audio["pad_to_multiple_of"],
                at_least=audio["window_size"],
            )
            mel = self.audio_feature_extractor(window, audio["device"])  # (bands, frames)
            song.features.append(in_positions(mel, audio["max_source_positions"]))
            frames = len(window) // audio["hop_length"]
            song.audio_tokens.append(-(-frames // audio["audio_length_per_tok"]))

    def _encode_songs(self, songs: list[_Song], options: Options) -> Encoding:
        import torch

        tensors = options["common_kwargs"]["return_tensors"]
        text = options["beatmap_kwargs"]
        windows = [groups for song in songs for groups in song.windows]
        if windows:
            encoding = self.beatmap_tokenizer(
                windows,
                [start_s * 1000 for song in songs for start_s in song.starts_s],
                [count for song in songs for count in song.audio_tokens or [0] * len(song.windows)],
                padding=text["padding"],
                truncation=text["truncation"],
                max_length=text["max_length"],
                return_tensors=tensors,
            )
        else:
            encoding = empty_encoding(0, text["max_length"] or 0, return_tensors=tensors)
        if any(song.samples is not None for song in songs):
            bands, positions = (
                self.audio_feature_extractor.feature_size,
                options["audio_kwargs"]["max_source_positions"],
            )
            features = [torch.empty(0, bands, positions), *(rows for song in songs for rows in song.features)]
            encoding["input_features"] = torch.cat(features) if tensors else list(torch.cat(features))
        return encoding


def _find(name_or_path: str | Path, revision: str | None) -> Path:
    """The folder of a processor, fetched from the hub if need be."""
    if str(name_or_path) not in BUNDLED and (path := local_path(name_or_path)):
        return path
    # The names of released models are with the weights, which need torch.
    from cm3p.weights import RELEASED
    from pentatonic.hub import resolve

    patterns = (CONFIG_FILE, *(f"{part}/*.json" for part in PARTS))
    released = {name: replace(model, files={CONFIG_FILE: None}) for name, model in RELEASED.items()}
    return resolve(
        name_or_path, bundled=BUNDLED, released=released, allow_patterns=patterns, revision=revision
    )


def _entries_of_songs(
    entries: list[Mapping[str, Any]] | None,
    songs: list[_Song],
    options: Options,
    *,
    multiply: bool,
    populate: bool,
) -> list[Mapping[str, Any]] | None:
    """Metadata by map or by window, from what the caller gave and, to populate, from the maps."""
    if not (multiply or populate):
        return entries
    # As in the original, metadata that is not given counts as one entry when it is multiplied.
    given: Sequence[Mapping[str, Any] | None] = entries or [None] * (1 if multiply else len(songs))
    if len(given) != len(songs):
        raise UsageError(
            f"there are {len(given)} entries of metadata for {len(songs)} beatmaps; one for each is needed"
        )
    if entries is None and not populate:
        return None
    result: list[Mapping[str, Any]] = []
    for entry, song in zip(given, songs, strict=True):
        positions = [start_s / song.length_s for start_s in song.starts_s] if multiply else [None]
        found = get_metadata(beatmap=song.beatmap, song_length=song.length_s) if populate else None
        for position in positions:
            merged = entry
            if found is not None:
                merged = merge_metadata_dicts(entry, {**found, "song_position": position})
            result.append(merged or {})
    return result
