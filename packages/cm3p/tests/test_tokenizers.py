"""Tokenizers of beatmaps and of metadata: goldens, options, and values that no token stands for."""

from __future__ import annotations

import json
import math
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cm3p.events.groups import EventType, Group
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from pentatonic.errors import ConfigError, InputError, UsageError

GOLDENS = Path(__file__).parent / "goldens"


@cache
def golden(name: str) -> Any:
    return json.loads((GOLDENS / name / "cases.json").read_text(encoding="utf-8"))


@cache
def beatmap_tokenizer(config: str = "v7") -> CM3PBeatmapTokenizer:
    return CM3PBeatmapTokenizer(**golden("parser_snippets")["tokenizer_configs"][config])


@cache
def metadata_tokenizer(**options: Any) -> CM3PMetadataTokenizer:
    return CM3PMetadataTokenizer(**golden("metadata_tokenizer")["config"], **options)


def original() -> CM3PMetadataTokenizer:
    return metadata_tokenizer(unique_tag_ids=False, numpy_integers=False)


def tokens_of(config: str = "v7", /, **fields: Any) -> list[str]:
    """Tokens of one event without [CLS], [BOS], its type and [EOS]."""
    tokenizer = beatmap_tokenizer(config)
    return tokenizer.tokenize([Group(EventType.BEAT, **{"time": 0, **fields})])[
        2 + tokenizer.add_cls_token : -1
    ]


def test_values_of_events() -> None:
    primitives = golden("tokenizer_primitives")
    for time, token in primitives["time_shift"].items():
        assert tokens_of(time=int(time), has_time=True) == [token]
    for config, name in (("v7", "position"), ("v5", "position_joint")):
        for position, tokens in primitives[name].items():
            x, y = map(int, position.split(","))
            assert tokens_of(config, x=x, y=y) == tokens
    for field, name in (
        ("distance", "distance"),
        ("scroll_speed", "scroll_speed"),
        ("mania_column", "mania_column"),
    ):
        for value, token in primitives[name].items():
            assert tokens_of(**{field: float(value)}) == [token]
    for value, token in primitives["hitsound"].items():
        bits, sample_set, addition = map(int, value.split(","))
        sound = {"hitsounds": [bits], "samplesets": [sample_set], "additions": [addition], "volumes": [7]}
        assert tokens_of(**sound) == [token, "[VOLUME_7]"]


def test_vocabularies_of_beatmaps() -> None:
    primitives = golden("tokenizer_primitives")
    tokenizer = beatmap_tokenizer()
    for token, index in primitives["vocab_anchor"].items():
        assert tokenizer.convert_tokens_to_ids(token) == index
        assert tokenizer.convert_ids_to_tokens(index) == token
    sizes = primitives["vocab_sizes"]
    assert CM3PBeatmapTokenizer().vocab_size == sizes["class_defaults"]
    assert beatmap_tokenizer("v1").vocab_size == sizes["v1..v4"]
    assert beatmap_tokenizer("v5").vocab_size == sizes["v5"]
    assert tokenizer.vocab_size == len(tokenizer) == sizes["v6,v6_mask,v6.1,v7,v7_classifier"]
    assert tokenizer.convert_tokens_to_ids("[NOTHING]") is primitives["unknown_token_id"] is None
    assert tokenizer.convert_ids_to_tokens(99999) == primitives["unknown_id_token"]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.audio_token_id) == (3962, 3964, 3967)


def test_calls_of_the_beatmap_tokenizer() -> None:
    tokenizer = beatmap_tokenizer()
    window = [Group(EventType.CIRCLE, 500, has_time=True, new_combo=True)]
    batch = tokenizer([window, []], [400, 0], [2, 0], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == [
        [3965, 3967, 3967, 3966, 3963, 3958, 23, 35, 3959],
        [3963, 3958, 3959, *[3962] * 6],
    ]
    assert batch.attention_mask.sum().item() == 12
    assert tokenizer.decode(batch["input_ids"][1], skip_special_tokens=True) == ""
    assert tokenizer.batch_decode(batch["input_ids"])[1].startswith("[CLS] [BOS] [EOS] [PAD]")
    assert tokenizer(window)["input_ids"] == [3963, 3958, 23, 75, 3959]
    assert tokenizer(window, truncation=True, max_length=3)["input_ids"] == [3963, 3958, 23]
    assert tokenizer([window], return_tensors="np", padding="max_length", max_length=9)[
        "input_ids"
    ].shape == (1, 9)
    with pytest.raises(UsageError, match="no windows"):
        tokenizer([])
    with pytest.raises(UsageError, match="different lengths"):
        tokenizer([window, []], return_tensors="pt")
    with pytest.raises(UsageError, match="longest, max_length, do_not_pad"):
        tokenizer([window], padding="short")
    with pytest.raises(UsageError, match="2 values for 1 windows"):
        tokenizer([window], [0, 1])
    with pytest.raises(ConfigError, match="time_step"):
        CM3PBeatmapTokenizer(time_step=0)
    assert pickle.loads(pickle.dumps(tokenizer))(window) == tokenizer(window)


@pytest.mark.parametrize("field", ["scroll_speed", "x", "distance", "time"])
def test_nan_never_becomes_a_token(field: str) -> None:
    values = {"x": 1.0, "y": 1.0, "has_time": True, field: math.nan}
    with pytest.raises(InputError, match=f"^{field} of an event is nan"):
        tokens_of(**values)


def test_infinite_values_are_clipped() -> None:
    assert tokens_of(scroll_speed=math.inf) == ["[SCROLL_SPEED_10.00]"]
    assert tokens_of(x=-math.inf, y=1e300) == ["[POS_X_-256]", "[POS_Y_640]"]


def test_a_token_that_the_vocabulary_lacks_is_named(tmp_path: Path) -> None:
    beatmap_tokenizer().save_pretrained(tmp_path)
    tokenizer = CM3PBeatmapTokenizer(tmp_path / "vocab.json", max_time=16000, time_step=4)
    with pytest.raises(InputError, match=r"^time of an event: the vocabulary has no token \[TIME_SHIFT_4\]"):
        tokenizer.encode([Group(EventType.BEAT, 4, has_time=True)])
    (tmp_path / "vocab.json").write_text('{"[BEAT]": -1}')
    with pytest.raises(ConfigError, match=r"vocab\.json"):
        CM3PBeatmapTokenizer.from_pretrained(tmp_path)


def test_vocabulary_of_metadata_as_the_original_makes_it() -> None:
    data = golden("metadata_tokenizer")
    tokenizer = original()
    assert tokenizer.vocab == data["vocab"]
    assert tokenizer.added_tokens == data["added_tokens"]
    for name in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id"):
        assert getattr(tokenizer, name) == data[name]


def metadata_of(name: str) -> dict[str, Any]:
    case = next(case for case in golden("metadata_tokenizer")["cases"] if case["name"] == name)
    return {
        key: np.int64(0) if value == "NUMPY_INT64_0" else value for key, value in case["metadata"].items()
    }


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for case in golden("metadata_tokenizer")["cases"]]
)
def test_metadata(case: dict[str, Any]) -> None:
    tokens, ids = case["result"]["tokens"], case["result"]["ids"]
    if case["name"] == "year_float":  # the original has no token for 2015.0
        tokens, ids = (
            [token.replace("2015.0", "2015") for token in tokens],
            [149 if id is None else id for id in ids],
        )
    assert original().tokenize(metadata_of(case["name"])) == tokens
    assert original().encode(metadata_of(case["name"])) == ids


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batch_longest", {"padding": True}),
        ("batch_max_length_24", {"padding": "max_length", "max_length": 24}),
        ("truncate_10", {"truncation": True, "max_length": 10}),
    ],
)
def test_batches_of_metadata(name: str, options: dict[str, Any]) -> None:
    expected = golden("metadata_tokenizer")[name]
    batch = original()([metadata_of(entry) for entry in expected["inputs"]], **options)
    assert batch["input_ids"] == expected["input_ids"]
    assert batch["attention_mask"] == expected.get("attention_mask", [[1] * 10])


@pytest.mark.parametrize(("name", "count"), [("full_std", 40), ("by_names", 12)])
def test_variations(name: str, count: int) -> None:
    metadata = metadata_of(name)
    np.random.seed(0)
    found = []
    for variant, kind in original().metadata_variations(metadata, count):
        changed = {key: value for key, value in variant.items() if value != metadata.get(key)}
        found.append({"cls": kind, "changed": changed if variant else "EMPTY"})
    assert found == golden("metadata_tokenizer")["variations"][f"{name}_{count}"]
    assert metadata == metadata_of(name)


def test_unknown_metadata_has_no_variations() -> None:
    kinds = [kind for _, kind in original().metadata_variations({"year": None, "mapper": "nobody"}, 4)]
    assert kinds == golden("metadata_tokenizer")["variations"]["all_none_4_classes"]


def test_names_of_mappers_are_known_after_loading(tmp_path: Path) -> None:
    """The original loses them; see reload_differences of the golden."""
    (difference,) = golden("metadata_tokenizer")["reload_differences"]
    original().save_pretrained(tmp_path)
    loaded = CM3PMetadataTokenizer.from_pretrained(tmp_path)
    assert loaded.tokenize(metadata_of(difference["name"])) == difference["before"]["tokens"]
    assert loaded.get_vocab() == original().get_vocab()
    assert not loaded.numpy_integers and not loaded.unique_tag_ids


def test_tags_of_new_vocabularies_have_ids_of_their_own(tmp_path: Path) -> None:
    tokenizer = metadata_tokenizer()
    assert len(set(tokenizer.get_vocab().values())) == len(tokenizer) == tokenizer.vocab_size == 822
    tokenizer.save_pretrained(tmp_path)
    for tokenizer in (metadata_tokenizer(), CM3PMetadataTokenizer.from_pretrained(tmp_path)):
        assert tokenizer.tokenize({"mode": "mania", "tags": ["tech/complex sv", 124, 2]})[15:-1] == [
            "[TAG_tech/complex sv (mania)]",
            "[TAG_tech/complex sv (taiko)]",
            "[TAG_rhythm/simple]",
        ]
        assert tokenizer.tokenize({"mode": np.int64(3)})[4] == "[MODE_mania]"
        np.random.seed(0)
        variants = [
            variant for variant, kind in tokenizer.metadata_variations({"tags": [124]}, 99) if kind == 3
        ]
        assert {len(variant["tags"]) for variant in variants} == {1, 2}
        assert {tag for variant in variants for tag in variant["tags"]} == set(tokenizer.tags)


@pytest.mark.parametrize("null", [None, math.nan, np.float32("nan"), np.datetime64("NaT"), math.inf])
def test_null_fields_are_unknown(null: Any) -> None:
    fields = ["difficulty", "year", "cs", "song_length", "song_position", "global_sv", "mania_keycount"]
    fields += ["hold_note_ratio", "scroll_speed_ratio"]
    if null is not math.inf:
        fields += ["mode", "status", "mapper", "hitsounded", "tags"]
    assert metadata_tokenizer().encode(dict.fromkeys(fields, null)) == metadata_tokenizer().encode({})
    assert metadata_tokenizer().encode({"tags": [null]}) == metadata_tokenizer().encode({})


def test_wrong_types_are_named() -> None:
    with pytest.raises(InputError, match=r"^difficulty of the metadata is 'hard'"):
        original().encode({"difficulty": "hard"})
    with pytest.raises(InputError, match=r"^tags is 'style/messy'"):
        original().encode({"tags": "style/messy"})
    with pytest.raises(ConfigError, match="song_length_step"):
        CM3PMetadataTokenizer(song_length_step=0)
    with pytest.raises(ConfigError, match="modes must map"):
        CM3PMetadataTokenizer(modes={"osu": "osu"})


def test_encodings_move_like_tensors() -> None:
    encoding = original()([metadata_of("empty")], return_tensors="pt")
    encoding["features"] = torch.zeros(2)
    moved = encoding.to("cpu", torch.float16)
    assert moved.features.dtype == torch.float16
    assert moved.input_ids.dtype == torch.int64
    with pytest.raises(AttributeError):
        _ = encoding.nothing
