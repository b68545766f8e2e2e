"""Windows of a map in which each token knows its hit object, and what it says about it.

Shapes: L tokens of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from cm3p.beatmap import Beatmap
from cm3p.events.groups import EVENT_TYPES_WITH_NEW_COMBO, EventType, Group
from cm3p.events.song_length import get_song_length
from cm3p.inference.maps import EncodedMap, WindowOptions, encode_map
from cm3p.processor import CM3PProcessor
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.windows import groups_in_windows
from pentatonic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

NO_OBJECT = -1
"""Object of tokens that belong to none: special tokens, audio, beats, kiai, scroll speeds of mania."""


class Aspect(StrEnum):
    """What a token says about its object."""

    TYPE = "type"
    TIME = "time"
    END_TIME = "end time"
    POSITION = "position"
    NEW_COMBO = "new combo"
    SCROLL_SPEED = "scroll speed"
    HIT_SOUND = "hit sound"


_BY_PREFIX = {
    "[TIME_SHIFT_": Aspect.TIME,
    "[SNAPPING_": Aspect.TIME,
    "[DISTANCE_": Aspect.POSITION,
    "[POS_": Aspect.POSITION,
    "[MANIA_COLUMN_": Aspect.POSITION,
    "[NEW_COMBO]": Aspect.NEW_COMBO,
    "[SCROLL_SPEED_": Aspect.SCROLL_SPEED,
    "[HITSOUND_": Aspect.HIT_SOUND,
    "[VOLUME_": Aspect.HIT_SOUND,
}
_STARTS = frozenset(
    (
        *(EventType.CIRCLE, EventType.SLIDER_HEAD, EventType.SPINNER),
        *(EventType.HOLD_NOTE, EventType.DRUMROLL, EventType.DENDEN),
    )
)


@dataclass(frozen=True)
class ObjectWindow:
    """A window of a map.

    Args:
        start_s: Where it starts, in seconds.
        ids: L token ids.
        objects: L indices into the map's hit objects, or :data:`NO_OBJECT`.
        aspects: L; meaningless where there is no object.
        features: Its spectrograms; None without audio.
    """

    start_s: float
    ids: list[int]
    objects: list[int]
    aspects: list[Aspect]
    features: Tensor | None = None


def object_windows(
    processor: CM3PProcessor, beatmap: Beatmap, samples: Tensor | None, options: WindowOptions
) -> list[ObjectWindow]:
    """Encode a map as :func:`cm3p.inference.maps.encode_map` does, and find the object of each token.

    Args:
        processor: That of the model.
        beatmap: The map.
        samples: (n,) its song at the processor's rate; None: without audio.
        options: How it is cut.

    Raises:
        InputError: The map cannot be encoded; as :func:`cm3p.inference.maps.encode_map`.
    """
    encoded = encode_map(processor, beatmap, samples, options)
    length_s = (
        get_song_length(beatmap=beatmap)
        if samples is None
        else len(samples) / processor.default_kwargs["audio_kwargs"]["sampling_rate"]
    )
    groups = processor.beatmap_parser.parse_beatmap(beatmap, 1.0, length_s)
    text = processor.default_kwargs["beatmap_kwargs"]
    windows = groups_in_windows(
        groups, encoded.starts_s, text["window_length_sec"], text["window_stride_sec"]
    )
    return [
        _window(processor.beatmap_tokenizer, encoded, number, each) for number, each in enumerate(windows)
    ]


def _window(
    tokenizer: CM3PBeatmapTokenizer, encoded: EncodedMap, number: int, groups: Sequence[Group]
) -> ObjectWindow:
    ids, start_s = encoded.windows[number], encoded.starts_s[number]
    audio = ids.count(tokenizer.audio_token_id)
    around = tokenizer.encode([], num_audio_tokens=audio)
    front, alone = len(around) - 1, len(tokenizer.encode([])) - 1  # all but [EOS] stand before the events
    objects, aspects, expected = [NO_OBJECT] * front, [Aspect.TYPE] * front, around[:-1]
    for group in groups:
        tokens = tokenizer.encode([group], start_s * 1000)[alone:-1]
        expected += tokens
        objects += [NO_OBJECT if group.object_index is None else group.object_index] * len(tokens)
        aspects += [_aspect(tokenizer, token, group.event_type) for token in tokens]
    if ids != [*expected, tokenizer.eos_token_id][: len(ids)]:
        raise InputError(f"the tokens of the window at {start_s:g} s are not those of its events")
    # A window longer than the model's longest sequence is cut, so that its last objects have fewer tokens or none.
    objects, aspects = ([*objects, NO_OBJECT][: len(ids)], [*aspects, Aspect.TYPE][: len(ids)])
    return ObjectWindow(start_s, ids, objects, aspects, encoded.features_of(number))


def _aspect(tokenizer: CM3PBeatmapTokenizer, token: int, event: EventType) -> Aspect:
    aspect = _aspect_of_text(tokenizer.convert_ids_to_tokens(token))
    return Aspect.END_TIME if aspect is Aspect.TIME and event not in _STARTS else aspect


@lru_cache(maxsize=1 << 16)
def _aspect_of_text(token: str) -> Aspect:
    return next((aspect for prefix, aspect in _BY_PREFIX.items() if token.startswith(prefix)), Aspect.TYPE)


def combo_partners(tokenizer: CM3PBeatmapTokenizer) -> dict[int, int]:
    """Return the ids of types that also say whether a combo starts, such as ``[CIRCLE_NEW_COMBO]``, each way round.

    Empty for a vocabulary in which ``[NEW_COMBO]`` is a token of its own.
    """
    partners: dict[int, int] = {}
    for event in EVENT_TYPES_WITH_NEW_COMBO:
        plain = tokenizer.convert_tokens_to_ids(f"[{event.upper()}]")
        starting = tokenizer.convert_tokens_to_ids(f"[{event.upper()}_NEW_COMBO]")
        if plain is not None and starting is not None:
            partners |= {plain: starting, starting: plain}
    return partners
