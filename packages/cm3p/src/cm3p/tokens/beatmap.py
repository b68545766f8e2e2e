"""Groups of a beatmap to tokens.

Sequence: ``[CLS]`` (optional), ``[BOS]``, the groups, ``[EOS]``; audio placeholders come before all of it. A group
gives its type, then of what it has: time, snapping, distance, position, column, new combo, scroll speed, hit sounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from cm3p.events.groups import EVENT_TYPES_WITH_NEW_COMBO, EventType, Group
from cm3p.stored import read_json_object
from cm3p.tokens.encoding import Encoding
from cm3p.tokens.tokenizer import Tokenizer
from pentatonic.errors import ConfigError, InputError, UsageError

_MAX_SNAPPING, _MAX_COLUMN, _MAX_SCROLL_SPEED = 16, 18, 10
_MAX_CACHED_VALUES = 1 << 16


class CM3PBeatmapTokenizer(Tokenizer):
    """Tokenizer of beatmaps.

    Values are clipped to their range and rounded half to even to their step.

    Args:
        vocab_file: ``vocab.json`` that gives the ids; None makes a new vocabulary.
        min_time: Earliest time in a window, in ms.
        max_time: Latest time in a window, in ms.
        time_step: Step of times, in ms.
        max_distance: Largest distance, in osu! pixels.
        distance_step: Step of distances.
        position_range: Smallest x, largest x, smallest y, largest y, in osu! pixels.
        position_step: Step of positions.
        position_split_axes: One token for x and one for y, instead of one for both.
        add_cls_token: Start with ``[CLS]``.
        separate_new_combo_token: A token ``[NEW_COMBO]``, instead of types such as ``[CIRCLE_NEW_COMBO]``.

    Raises:
        ConfigError: An option is out of range.
    """

    special_tokens: ClassVar = {
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "audio_bos_token": "[AUDIO_BOS]",
        "audio_eos_token": "[AUDIO_EOS]",
        "audio_token": "[AUDIO]",
    }
    additional_special_tokens = ("[AUDIO_BOS]", "[AUDIO_EOS]", "[AUDIO]")
    special_token_order = tuple(special_tokens.values())

    unk_token: str
    unk_token_id: int
    sep_token: str
    sep_token_id: int
    mask_token: str
    mask_token_id: int
    audio_bos_token: str
    audio_bos_token_id: int
    audio_eos_token: str
    audio_eos_token_id: int
    audio_token: str
    audio_token_id: int

    def __init__(
        self,
        vocab_file: str | Path | None = None,
        min_time: int = 0,
        max_time: int = 30000,
        time_step: int = 10,
        max_distance: int = 640,
        distance_step: int = 4,
        position_range: Sequence[int] = (-256, 768, -256, 640),
        position_step: int = 4,
        position_split_axes: bool = True,
        add_cls_token: bool = False,
        separate_new_combo_token: bool = True,
        **kwargs: Any,
    ) -> None:
        self.min_time, self.max_time, self.time_step = min_time, max_time, time_step
        self.max_distance, self.distance_step = max_distance, distance_step
        self.position_range, self.position_step = list(position_range), position_step
        self.position_split_axes = position_split_axes
        self.add_cls_token = add_cls_token
        self.separate_new_combo_token = separate_new_combo_token
        options = {
            name: getattr(self, name)
            for name in (
                "min_time",
                "max_time",
                "time_step",
                "max_distance",
                "distance_step",
                "position_range",
                "position_step",
                "position_split_axes",
                "add_cls_token",
                "separate_new_combo_token",
            )
        }
        self._check_options(options)
        vocabulary = kwargs.pop("base_vocabulary", None)
        if vocab_file is not None:
            vocabulary = read_json_object(Path(vocab_file))
        if vocabulary is None:
            vocabulary = {token: index for index, token in enumerate(self._new_vocabulary())}
        super().__init__(options, vocabulary, kwargs.pop("special_token_ids", None), kwargs)
        self._build_tables()

    @staticmethod
    def _check_options(options: Mapping[str, Any]) -> None:
        for name in ("time_step", "distance_step", "position_step"):
            if options[name] < 1:
                raise ConfigError(f"{name} is {options[name]}; allowed: 1 or more")
        ranges = options["position_range"]
        if len(ranges) != 4 or ranges[0] > ranges[1] or ranges[2] > ranges[3]:
            raise ConfigError(
                f"position_range is {ranges}; allowed: smallest x, largest x, smallest y, largest y"
            )
        if options["min_time"] > options["max_time"]:
            raise ConfigError(f"min_time {options['min_time']} is above max_time {options['max_time']}")

    def _new_vocabulary(self) -> Iterable[str]:
        """Tokens in the order of their ids."""
        step = self.position_step
        x_min, x_max, y_min, y_max = self.position_range
        xs, ys = range(x_min, x_max + 1, step), range(y_min, y_max + 1, step)
        yield from (f"[{event.upper()}]" for event in EventType)
        if not self.separate_new_combo_token:
            yield from (f"[{event.upper()}_NEW_COMBO]" for event in EVENT_TYPES_WITH_NEW_COMBO)
        yield from (
            f"[TIME_SHIFT_{time}]" for time in range(self.min_time, self.max_time + 1, self.time_step)
        )
        yield from (f"[SNAPPING_{divisor}]" for divisor in range(_MAX_SNAPPING + 1))
        yield from (f"[DISTANCE_{distance}]" for distance in range(self.max_distance + 1))
        if self.position_split_axes:
            yield from (f"[POS_X_{x}]" for x in xs)
            yield from (f"[POS_Y_{y}]" for y in ys)
        else:
            yield from (f"[POS_{x}_{y}]" for x in xs for y in ys)
        yield from (f"[MANIA_COLUMN_{column}]" for column in range(1, _MAX_COLUMN + 1))
        yield from (
            f"[SCROLL_SPEED_{hundredths / 100:.2f}]" for hundredths in range(100 * _MAX_SCROLL_SPEED + 1)
        )
        if self.separate_new_combo_token:
            yield "[NEW_COMBO]"
        sets = range(1, 4)
        yield from (f"[HITSOUND_{sound}_{s}_{a}]" for sound in range(0, 16, 2) for s in sets for a in sets)
        yield from (f"[VOLUME_{volume}]" for volume in range(101))

    def _build_tables(self) -> None:
        """Tables from values to ids. All but those of the types are filled as values occur."""
        self._types = {event: self._ids.get(f"[{event.upper()}]") for event in EventType}
        self._new_combos: dict[EventType, int | None] = {}
        if not self.separate_new_combo_token:
            self._new_combos = {
                event: self._ids.get(f"[{event.upper()}_NEW_COMBO]") for event in EVENT_TYPES_WITH_NEW_COMBO
            }
        self._times = _Table(self._time_ids)
        self._snappings = _Table(lambda value: self._id("snapping", f"[SNAPPING_{value}]"))
        self._distances = _Table(self._distance_id)
        self._positions = _Table(self._position_ids)
        self._columns = _Table(self._column_id)
        self._scroll_speeds = _Table(self._scroll_speed_id)
        self._hitsounds = _Table(self._hitsound_ids)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, _Table)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._build_tables()

    def __call__(
        self,
        groups: Sequence[Group] | Sequence[Sequence[Group]],
        window_start_ms: float | Sequence[float] | None = None,
        num_audio_tokens: int | Sequence[int] | None = None,
        *,
        padding: bool | str | None = False,
        truncation: bool | str | None = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> Encoding:
        """Encode the groups of a window, or of several windows.

        Args:
            groups: Groups of one window, or one list of groups per window.
            window_start_ms: Start of the window, or of each; 0 if None.
            num_audio_tokens: Audio placeholders of the window, or of each; 0 if None.
            padding: See :func:`~cm3p.tokens.encoding.encode_batch`.
            truncation: See :func:`~cm3p.tokens.encoding.encode_batch`.
            max_length: See :func:`~cm3p.tokens.encoding.encode_batch`.
            return_tensors: See :func:`~cm3p.tokens.encoding.encode_batch`.
            kwargs: Options of transformers' method; they change nothing.

        Returns:
            ``input_ids`` and ``attention_mask``: lists of one window, or (B, L) of several. A tensor is always (B, L).

        Raises:
            UsageError: There are no windows, or an option is unknown.
            InputError: A value is not a finite number, or the vocabulary has no token for it.
        """
        single = len(groups) > 0 and isinstance(groups[0], Group)
        windows: Any = [groups] if single else groups
        if not windows:
            raise UsageError("there are no windows to encode; an empty window is an empty list in a list")
        sequences = [
            self.encode(window, start, audio)
            for window, start, audio in zip(
                windows,
                _per_window(window_start_ms, len(windows), "window_start_ms"),
                _per_window(num_audio_tokens, len(windows), "num_audio_tokens"),
                strict=True,
            )
        ]
        encoding = self.pad(
            sequences,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
        )
        if single and return_tensors is None:
            return Encoding({name: rows[0] for name, rows in encoding.items()})
        return encoding

    def tokenize(
        self, groups: Sequence[Group], window_start_ms: float = 0, num_audio_tokens: int = 0
    ) -> list[str]:
        """Return the tokens of one window; arguments and errors as :meth:`encode`."""
        return self.convert_ids_to_tokens(self.encode(groups, window_start_ms, num_audio_tokens))

    def encode(
        self, groups: Iterable[Group], window_start_ms: float = 0, num_audio_tokens: int = 0
    ) -> list[int]:
        """Encode one window.

        Args:
            groups: Groups of the window.
            window_start_ms: Its start.
            num_audio_tokens: Audio placeholders to start with.

        Returns:
            Ids, neither truncated nor padded.

        Raises:
            InputError: A value is not a finite number, or the vocabulary has no token for it.
        """
        ids: list[int] = []
        if num_audio_tokens > 0:
            ids = [
                self.audio_bos_token_id,
                *([self.audio_token_id] * num_audio_tokens),
                self.audio_eos_token_id,
            ]
        if self.add_cls_token:
            ids.append(self.cls_token_id)
        ids.append(self.bos_token_id)
        types, combos, times, positions = self._types, self._new_combos, self._times, self._positions
        hitsounds, separate = self._hitsounds, self.separate_new_combo_token
        append, extend = ids.append, ids.extend
        for group in groups:
            event = group.event_type
            index = combos.get(event) if group.new_combo and event in combos else types.get(event)
            if index is None:
                raise _missing("event_type", f"[{str(event).upper()}]")
            append(index)
            if group.has_time:
                append(times[group.time - window_start_ms])
                if group.snapping is not None:
                    append(self._snappings[group.snapping])
            if group.distance is not None:
                append(self._distances[group.distance])
            if group.x is not None and group.y is not None:
                extend(positions[group.x, group.y])
            if group.mania_column is not None:
                append(self._columns[group.mania_column])
            if separate and group.new_combo:
                append(self._id("new_combo", "[NEW_COMBO]"))
            if group.scroll_speed is not None:
                append(self._scroll_speeds[group.scroll_speed])
            if group.hitsounds:
                for sound in zip(
                    group.hitsounds, group.samplesets, group.additions, group.volumes, strict=True
                ):
                    extend(hitsounds[sound])
        append(self.eos_token_id)
        return ids

    def _id(self, field: str, token: str) -> int:
        index = self._ids.get(token)
        if index is None:
            raise _missing(field, token)
        return index

    def _time_ids(self, time: float) -> int:
        clipped = _clip("time", time, self.min_time, self.max_time)
        return self._id("time", f"[TIME_SHIFT_{round(clipped / self.time_step) * self.time_step}]")

    def _distance_id(self, distance: float) -> int:
        clipped = _clip("distance", distance, 0, self.max_distance)
        return self._id("distance", f"[DISTANCE_{round(clipped / self.distance_step) * self.distance_step}]")

    def _position_ids(self, position: tuple[float, float]) -> tuple[int, ...]:
        x_min, x_max, y_min, y_max = self.position_range
        step = self.position_step
        x = round(_clip("x", position[0], x_min, x_max) / step) * step
        y = round(_clip("y", position[1], y_min, y_max) / step) * step
        if self.position_split_axes:
            return self._id("x", f"[POS_X_{x}]"), self._id("y", f"[POS_Y_{y}]")
        return (self._id("x, y", f"[POS_{x}_{y}]"),)

    def _column_id(self, column: float) -> int:
        clipped = int(_clip("mania_column", column, 1, _MAX_COLUMN))
        return self._id("mania_column", f"[MANIA_COLUMN_{clipped}]")

    def _scroll_speed_id(self, speed: float) -> int:
        clipped = _clip("scroll_speed", speed, 0, _MAX_SCROLL_SPEED)
        return self._id("scroll_speed", f"[SCROLL_SPEED_{round(clipped / 0.01) * 0.01:.2f}]")

    def _hitsound_ids(self, sound: tuple[int, int, int, int]) -> tuple[int, int]:
        bits, sample_set, addition, volume = sound
        bits = _clip("hitsounds", bits >> 1, 0, 7) << 1
        sample_set, addition = _clip("samplesets", sample_set, 1, 3), _clip("additions", addition, 1, 3)
        return (
            self._id("hitsounds", f"[HITSOUND_{bits}_{sample_set}_{addition}]"),
            self._id("volumes", f"[VOLUME_{_clip('volumes', volume, 0, 100)}]"),
        )

    @classmethod
    def _from_stored(
        cls, config: dict[str, Any], vocabulary: dict[str, int], special_token_ids: dict[str, int]
    ) -> Self:
        return cls(**config, base_vocabulary=vocabulary, special_token_ids=special_token_ids)


class _Table(dict[Any, Any]):
    """Values to ids, each computed when it first occurs."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, key: Any) -> Any:
        if len(self) >= _MAX_CACHED_VALUES:
            self.clear()
        value = self[key] = self._compute(key)
        return value


def _clip(field: str, value: Any, low: int, high: int) -> Any:
    if isinstance(value, float) and math.isnan(value):
        raise InputError(f"{field} of an event is {value}; allowed: finite numbers")
    return min(max(value, low), high)


def _missing(field: str, token: str) -> InputError:
    return InputError(
        f"{field} of an event: the vocabulary has no token {token}; the options of the tokenizer must be those "
        "that the vocabulary was made with"
    )


def _per_window(values: Any, count: int, name: str) -> Sequence[Any]:
    if values is None:
        return [0] * count
    if isinstance(values, Sequence):
        if len(values) != count:
            raise UsageError(f"{name} has {len(values)} values for {count} windows")
        return values
    return [values] * count
