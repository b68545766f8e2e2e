"""Metadata to tokens: one token per field, then one per tag."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from cm3p.beatmap.objects import RULESETS
from cm3p.metadata import FIELDS, is_null
from cm3p.stored import read_json_object
from cm3p.tokens.encoding import Encoding
from cm3p.tokens.tokenizer import Tokenizer
from cm3p.tokens.variations import metadata_variations
from pentatonic.errors import ConfigError, InputError, UsageError

_UNKNOWN = {field: f"[{'TAG' if field == 'tags' else field.upper()}_UNK]" for field in FIELDS}
_MAX_CIRCLE_SIZE, _MAX_KEYS, _GLOBAL_SV_RANGE = 10, 18, (0.4, 3.6)
_NUMERIC_OPTIONS = (
    "min_difficculty",
    "max_difficulty",
    "difficulty_step",
    "min_year",
    "max_year",
    "max_song_length",
    "song_length_step",
    "song_position_step",
    "global_sv_step",
    "hold_note_ratio_step",
    "scroll_speed_ratio_step",
)


class CM3PMetadataTokenizer(Tokenizer):
    """Tokenizer of metadata.

    A field that is missing, null, not finite, or not in the vocabulary gets its unknown token, such as ``[YEAR_UNK]``.
    Numbers are clipped to their range and rounded half to even to their step.

    Args:
        vocab_file: ``vocab.json`` that gives the ids; None makes a new vocabulary.
        modes: Id to name of the rulesets.
        statuses: Id to name of the ranking statuses.
        mappers: Id to name of the mappers.
        tags: Id to ``{"name", "ruleset_id", "description"}`` of the tags.
        min_difficculty: Lowest star rating (spelled as in the files of the original).
        max_difficulty: Highest star rating.
        difficulty_step: Step of star ratings and circle sizes.
        min_year: First year.
        max_year: Last year.
        max_song_length: Longest song, in s.
        song_length_step: Step of song lengths, in s.
        song_position_step: Step of positions in the song.
        global_sv_step: Step of slider multipliers.
        hold_note_ratio_step: Step of the share of hold notes.
        scroll_speed_ratio_step: Step of the rate of scroll speed changes.
        add_cls_token: Start with ``[CLS]``.
        unique_tag_ids: In a new vocabulary, give a name that tags of several rulesets share one token per ruleset,
            such as ``[TAG_skillset/tech (taiko)]``; a tag that is given by name is taken from the ruleset of ``mode``.
            False makes the vocabulary of the original, where they share a token, and the last tags share their ids
            with special tokens.
        numpy_integers: Whether numpy integers count as ids of modes and statuses. In the original they are unknown;
            tokenizers that it saved are loaded with False.

    Raises:
        ConfigError: An option is out of range.
    """

    special_tokens: ClassVar = {
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
    }
    additional_special_tokens = tuple(_UNKNOWN.values())
    special_token_order = (*special_tokens.values(), *additional_special_tokens)

    def __init__(
        self,
        vocab_file: str | Path | None = None,
        modes: Mapping[Any, str] | None = None,
        statuses: Mapping[Any, str] | None = None,
        mappers: Mapping[Any, str] | None = None,
        tags: Mapping[Any, Mapping[str, Any]] | None = None,
        min_difficculty: float = 0.0,
        max_difficulty: float = 14.0,
        difficulty_step: float = 0.1,
        min_year: int = 2000,
        max_year: int = 2023,
        max_song_length: int = 600,
        song_length_step: int = 10,
        song_position_step: float = 0.01,
        global_sv_step: float = 0.01,
        hold_note_ratio_step: float = 0.1,
        scroll_speed_ratio_step: float = 0.1,
        add_cls_token: bool = False,
        unique_tag_ids: bool = True,
        numpy_integers: bool = True,
        **kwargs: Any,
    ) -> None:
        self.modes = _with_integer_keys("modes", modes)
        self.statuses = _with_integer_keys("statuses", statuses)
        self.mappers = _with_integer_keys("mappers", mappers)
        self.tags = _with_integer_keys("tags", tags)
        self.min_difficculty, self.max_difficulty = min_difficculty, max_difficulty
        self.difficulty_step = difficulty_step
        self.min_year, self.max_year = min_year, max_year
        self.max_song_length, self.song_length_step = max_song_length, song_length_step
        self.song_position_step, self.global_sv_step = song_position_step, global_sv_step
        self.hold_note_ratio_step, self.scroll_speed_ratio_step = (
            hold_note_ratio_step,
            scroll_speed_ratio_step,
        )
        self.add_cls_token, self.numpy_integers = add_cls_token, numpy_integers
        for name in _NUMERIC_OPTIONS:
            if not math.isfinite(getattr(self, name)) or (
                name.endswith("_step") and getattr(self, name) <= 0
            ):
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: finite numbers, steps above 0")
        tables = {
            name: {str(key): value for key, value in getattr(self, name).items()}
            for name in ("modes", "statuses", "mappers", "tags")
        }
        options = {name: getattr(self, name) for name in (*_NUMERIC_OPTIONS, "add_cls_token")} | tables
        if numpy_integers:  # files of the original do not have this key
            options["numpy_integers"] = True
        vocabulary = kwargs.pop("base_vocabulary", None)
        if vocab_file is not None:
            vocabulary = read_json_object(Path(vocab_file))
        if vocabulary is None:
            tokens = self._new_vocabulary(unique_tag_ids)
            # In the original a token that occurs twice gets its last id, and the special tokens start too early.
            vocabulary = {
                token: index
                for index, token in enumerate(dict.fromkeys(tokens) if unique_tag_ids else tokens)
            }
        super().__init__(options, vocabulary, kwargs.pop("special_token_ids", None), kwargs)
        self._index_names()

    def _new_vocabulary(self, unique_tag_ids: bool) -> Iterable[str]:
        """Tokens in the order of their ids."""
        yield from _steps("DIFFICULTY", self.min_difficculty, self.max_difficulty, self.difficulty_step, 1)
        yield from (f"[YEAR_{year}]" for year in range(self.min_year, self.max_year + 1))
        yield from (f"[MODE_{name}]" for name in self.modes.values())
        yield from (f"[STATUS_{name}]" for name in self.statuses.values())
        yield from (f"[MAPPER_{mapper}]" for mapper in self.mappers)
        yield from _steps("CS", 0, _MAX_CIRCLE_SIZE, self.difficulty_step, 1)
        yield from ("[HITSOUNDED_TRUE]", "[HITSOUNDED_FALSE]")
        yield from _steps("SONG_LENGTH", 0, self.max_song_length, self.song_length_step, 0)
        yield from _steps("SONG_POSITION", 0, 1, self.song_position_step, 2)
        yield from _steps("GLOBAL_SV", *_GLOBAL_SV_RANGE, self.global_sv_step, 2)
        yield from (f"[MANIA_KEYCOUNT_{keys}]" for keys in range(1, _MAX_KEYS + 1))
        yield from _steps("HOLD_NOTE_RATIO", 0, 1, self.hold_note_ratio_step, 1)
        yield from _steps("SCROLL_SPEED_RATIO", 0, 1, self.scroll_speed_ratio_step, 1)
        uses = Counter(tag["name"] for tag in self.tags.values())
        for tag in self.tags.values():
            yield _tag_token(tag, with_ruleset=unique_tag_ids and uses[tag["name"]] > 1)

    def _index_names(self) -> None:
        self._mode_ids = {name: key for key, name in self.modes.items()}
        self._status_ids = {name: key for key, name in self.statuses.items()}
        self._mapper_ids = {name: key for key, name in self.mappers.items()}
        self._tag_tokens: dict[int, str] = {}
        self._tags_by_name: dict[str, list[int]] = {}
        for key, tag in self.tags.items():
            own = _tag_token(tag, with_ruleset=True)
            self._tag_tokens[key] = own if own in self._ids else _tag_token(tag)
            self._tags_by_name.setdefault(str(tag["name"]), []).append(key)
        self.unique_tag_ids = len(set(self._tag_tokens.values())) == len(self.tags)

    def __call__(
        self,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        padding: bool | str | None = False,
        truncation: bool | str | None = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> Encoding:
        """Encode the metadata of a beatmap, or of several.

        Args:
            metadata: One dictionary, or a list of them.
            padding: See :func:`~cm3p.tokens.encoding.encode_batch`.
            truncation: See :func:`~cm3p.tokens.encoding.encode_batch`.
            max_length: See :func:`~cm3p.tokens.encoding.encode_batch`.
            return_tensors: See :func:`~cm3p.tokens.encoding.encode_batch`.
            kwargs: Options of transformers' method; they change nothing.

        Returns:
            ``input_ids`` and ``attention_mask``: lists of one dictionary, or (B, L) of several. A tensor is always
            (B, L).

        Raises:
            UsageError: The list is empty, or an option is unknown.
            InputError: A value is of the wrong type; the message names the field.
        """
        single = isinstance(metadata, Mapping)
        entries: Any = [metadata] if single else metadata
        if not entries:
            raise UsageError(
                "there is no metadata to encode; unknown metadata is an empty dictionary in a list"
            )
        encoding = self.pad(
            [self.encode(entry) for entry in entries],
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
        )
        if single and return_tensors is None:
            return Encoding({name: rows[0] for name, rows in encoding.items()})
        return encoding

    def encode(self, metadata: Mapping[str, Any]) -> list[int]:
        """Return the ids of a dictionary; errors as :meth:`tokenize`."""
        return [self._ids[token] for token in self.tokenize(metadata)]

    def tokenize(self, metadata: Mapping[str, Any]) -> list[str]:
        """Return the tokens of a dictionary.

        Raises:
            InputError: A value is of the wrong type; the message names the field.
        """
        tokens = ["[CLS]"] if self.add_cls_token else []
        tokens.append("[BOS]")
        for field in FIELDS[:-1]:
            value = metadata.get(field)
            token = None if is_null(value) else self._field_token(field, value)
            tokens.append(token if token is not None and token in self._ids else _UNKNOWN[field])
        known = [self._tag_tokens[tag] for tag in self.known_tags(metadata)]
        tokens.extend([token for token in known if token in self._ids] or [_UNKNOWN["tags"]])
        return [*tokens, "[EOS]"]

    def _field_token(self, field: str, value: Any) -> str | None:
        """The token of a value that is not null, or None where there is none."""
        match field:
            case "mode":
                name = self.modes.get(self._id_of(value, self._mode_ids, python_integers=True))
                return None if name is None else f"[MODE_{name}]"
            case "status":
                name = self.statuses.get(self._id_of(value, self._status_ids, python_integers=True))
                return None if name is None else f"[STATUS_{name}]"
            case "mapper":
                return f"[MAPPER_{self._id_of(value, self._mapper_ids)}]"
            case "hitsounded":
                return "[HITSOUNDED_TRUE]" if value else "[HITSOUNDED_FALSE]"
        number = _number(field, value)
        if not math.isfinite(number):
            return None
        match field:
            case "year":
                return f"[YEAR_{int(_clip(number, self.min_year, self.max_year))}]"
            case "difficulty":
                low, high, step, decimals = self.min_difficculty, self.max_difficulty, self.difficulty_step, 1
            case "cs":
                low, high, step, decimals = 0, _MAX_CIRCLE_SIZE, self.difficulty_step, 1
            case "song_length":
                low, high, step, decimals = 0, self.max_song_length, self.song_length_step, 0
            case "song_position":
                low, high, step, decimals = 0, 1, self.song_position_step, 2
            case "global_sv":
                (low, high), step, decimals = _GLOBAL_SV_RANGE, self.global_sv_step, 2
            case "mania_keycount":
                return f"[MANIA_KEYCOUNT_{_clip(int(number), 1, _MAX_KEYS)}]"
            case _:
                low, high, step, decimals = 0, 1, getattr(self, f"{field}_step"), 1
        rounded = round(_clip(number, low, high) / step) * step
        return f"[{field.upper()}_{_format(rounded, decimals)}]"

    def _id_of(self, value: Any, ids: Mapping[str, int], *, python_integers: bool = False) -> Any:
        """The id that a name or an id stands for; None where there is none."""
        if isinstance(value, str):
            return ids.get(value)
        if python_integers and not self.numpy_integers and not isinstance(value, int):
            return None
        return _as_integer(value)

    def known_mode(self, metadata: Mapping[str, Any]) -> int | None:
        """Return the id of the metadata's mode, None where it is unknown."""
        mode = self._id_of(metadata.get("mode"), self._mode_ids, python_integers=True)
        return mode if mode in self.modes else None

    def known_status(self, metadata: Mapping[str, Any]) -> int | None:
        """Return the id of the metadata's status, None where it is unknown."""
        status = self._id_of(metadata.get("status"), self._status_ids, python_integers=True)
        return status if status in self.statuses else None

    def known_mapper(self, metadata: Mapping[str, Any]) -> int | None:
        """Return the id of the metadata's mapper, None where it is unknown."""
        mapper = self._id_of(metadata.get("mapper"), self._mapper_ids)
        return mapper if mapper in self.mappers else None

    def known_tags(self, metadata: Mapping[str, Any]) -> list[int]:
        """Return the ids of the metadata's known tags, in their order."""
        tags = metadata.get("tags")
        if is_null(tags):
            return []
        if isinstance(tags, str) or not isinstance(tags, Iterable):
            raise InputError(f"tags is {tags!r}; allowed: a list of ids or names, or null")
        keys = [self._tag_key(tag, metadata) for tag in tags]
        return [key for key in keys if key is not None]

    def _tag_key(self, tag: Any, metadata: Mapping[str, Any]) -> int | None:
        if not isinstance(tag, str):
            key = _as_integer(tag)
            return key if key in self.tags else None
        keys = self._tags_by_name.get(tag, [])
        if len(keys) > 1:
            mode = self.known_mode(metadata)
            keys = [key for key in keys if self.tags[key].get("ruleset_id") == mode] or keys
        return keys[0] if keys else None

    def metadata_variations(
        self, metadata: Mapping[str, Any], count: int
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield variants that differ in one field; see :func:`~cm3p.tokens.variations.metadata_variations`."""
        return metadata_variations(self, metadata, count)

    @classmethod
    def _from_stored(
        cls, config: dict[str, Any], vocabulary: dict[str, int], special_token_ids: dict[str, int]
    ) -> Self:
        config = {"numpy_integers": False, **config}
        return cls(**config, base_vocabulary=vocabulary, special_token_ids=special_token_ids)


def _with_integer_keys(name: str, table: Mapping[Any, Any] | None) -> dict[int, Any]:
    """A table with the ids as integers: in JSON they are text."""
    try:
        return {int(key): value for key, value in (table or {}).items()}
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must map whole numbers, the ids, to names") from None


def _tag_token(tag: Mapping[str, Any], *, with_ruleset: bool = False) -> str:
    ruleset = tag.get("ruleset_id")
    if not with_ruleset or ruleset is None:
        return f"[TAG_{tag['name']}]"
    name = RULESETS[ruleset] if 0 <= ruleset < len(RULESETS) else f"ruleset {ruleset}"
    return f"[TAG_{tag['name']} ({name})]"


def _steps(name: str, low: float, high: float, step: float, decimals: int) -> Iterator[str]:
    first = round(low / step)
    count = round(high / step) - first + 1
    return (f"[{name}_{_format((first + index) * step, decimals)}]" for index in range(count))


def _format(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if decimals else str(int(value))


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _number(field: str, value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        raise InputError(f"{field} of the metadata is {value!r}; allowed: a number, or null") from None


def _as_integer(value: Any) -> int | None:
    """The integer that an id stands for: an integer of any kind, or a float without a fraction."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == value else None
