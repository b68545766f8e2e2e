"""Maps to the inputs of a model, window by window.

Shapes: W windows, L tokens, R spectrograms of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cm3p.beatmap import Beatmap
from cm3p.processor import CM3PProcessor
from pentatonic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_MAX_WINDOWS = 1000
"""Windows of a map before it is refused: 4 hours in windows of 16 s, where the longest ranked maps have one."""


class NothingToEmbed(InputError):
    """A map without hit objects, or too short for a window."""


@dataclass(frozen=True)
class WindowOptions:
    """How maps are cut into windows.

    Args:
        max_windows: A map with more of them is refused.
        min_window_s: A window starts earlier than this before the end; None: as the processor has it.
    """

    max_windows: int = DEFAULT_MAX_WINDOWS
    min_window_s: float | None = None

    def as_call(self) -> dict[str, Any]:
        """The same as options of a processor's call."""
        minimum = {} if self.min_window_s is None else {"min_window_length_sec": self.min_window_s}
        return {"max_windows": self.max_windows, **minimum}


@dataclass(frozen=True)
class EncodedMap:
    """The windows of a map, neither padded nor stacked.

    Args:
        windows: W lists of L token ids.
        starts_s: Where each window starts, in seconds.
        features: (W R, bands, frames) spectrograms; None without audio.
    """

    windows: list[list[int]]
    starts_s: list[float]
    features: Tensor | None = None

    def features_of(self, window: int) -> Tensor | None:
        """(R, bands, frames) spectrograms of a window."""
        if self.features is None:
            return None
        each = len(self.features) // len(self.windows)
        return self.features[window * each : (window + 1) * each]


def window_text(processor: CM3PProcessor) -> str:
    """Say how a processor cuts maps, such as ``16 s, hop 16 s``."""
    options = processor.default_kwargs["beatmap_kwargs"]
    return f"{options['window_length_sec']:g} s, hop {options['window_stride_sec']:g} s"


def encode_map(
    processor: CM3PProcessor, beatmap: Beatmap, samples: Tensor | None, options: WindowOptions
) -> EncodedMap:
    """Encode a map.

    Args:
        processor: That of the model.
        beatmap: The map.
        samples: (n,) its song at the processor's rate; None: without audio.
        options: How it is cut.

    Raises:
        NothingToEmbed: It has no objects, or no window.
        TooManyWindows: It has more windows than allowed.
        InputError: It cannot be encoded.
    """
    if not beatmap.hit_objects:
        raise NothingToEmbed("the map has no hit objects, so there is nothing to embed")
    return _encode(processor, beatmap, samples, options)


def encode_audio_alone(processor: CM3PProcessor, samples: Tensor, options: WindowOptions) -> EncodedMap:
    """Encode a song as the windows of a map without any event: no objects, no beats, no kiai time.

    Args:
        processor: That of the model.
        samples: (n,) the song at the processor's rate.
        options: How it is cut.

    Raises:
        NothingToEmbed: It has no window.
        TooManyWindows: It has more windows than allowed.
    """
    encoded = _encode(processor, Beatmap(), samples, options)
    tokenizer = processor.beatmap_tokenizer
    audio_tokens = [ids.count(tokenizer.audio_token_id) for ids in encoded.windows]
    windows = [tokenizer.encode([], num_audio_tokens=count) for count in audio_tokens]
    return EncodedMap(windows, encoded.starts_s, encoded.features)


def _encode(
    processor: CM3PProcessor, beatmap: Beatmap, samples: Tensor | None, options: WindowOptions
) -> EncodedMap:
    import torch

    rate = processor.default_kwargs["audio_kwargs"]["sampling_rate"]
    encoding = processor(
        beatmap=beatmap,
        audio=samples,
        audio_sampling_rate=None if samples is None else rate,
        beatmap_kwargs={"padding": False, **options.as_call()},
        common_kwargs={"return_tensors": None},
    )
    windows = encoding["input_ids"]
    if not windows:
        raise NothingToEmbed("the map is shorter than the shortest window, so there is nothing to embed")
    stride_s = processor.default_kwargs["beatmap_kwargs"]["window_stride_sec"]
    features = encoding.get("input_features")
    return EncodedMap(
        windows,
        [index * stride_s for index in range(len(windows))],
        None if features is None else torch.stack(list(features)),
    )
