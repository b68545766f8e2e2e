"""Events and tokens of beatmaps equal the goldens."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cm3p.beatmap import read_beatmap
from cm3p.events.groups import Group
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from pentatonic.errors import InputError

GOLDENS = Path(__file__).parent / "goldens"


@cache
def golden(name: str) -> Any:
    return json.loads((GOLDENS / name / "cases.json").read_text(encoding="utf-8"))


@cache
def parser(config: str) -> CM3PBeatmapParser:
    return CM3PBeatmapParser(**golden("parser_snippets")["parser_configs"][config])


@cache
def tokenizer(config: str) -> CM3PBeatmapTokenizer:
    return CM3PBeatmapTokenizer(**golden("parser_snippets")["tokenizer_configs"][config])


def rows(groups: list[Group], fields: list[str]) -> list[list[Any]]:
    return [[str(group.event_type), *(getattr(group, field) for field in fields[1:])] for group in groups]


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=f"{case['name']}-{case['config']}") for case in golden(name)["cases"]]


def same(got: Any, expected: Any) -> bool:
    if isinstance(got, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    return got == expected or (isinstance(got, float) and math.isnan(got) and math.isnan(expected))


def groups_of(case: dict[str, Any], text: str, *, strict: bool) -> list[Group]:
    return parser(case["config"]).parse_beatmap(
        read_beatmap(text, strict=strict), case.get("speed", 1.0), case.get("song_length"), strict=strict
    )


def check(case: dict[str, Any], text: str, fields: list[str], *, strict: bool) -> None:
    expected = case["result"]
    groups = groups_of(case, text, strict=strict)
    got = rows(groups, fields)
    if "unstable" in case:  # the position of one group is rounding noise
        unstable = [index for index, row in enumerate(got) if row[0] == "repeat_end"]
        for index in unstable:
            got[index][5:7] = expected["groups"][index][5:7]
        assert same(got, expected["groups"])
        return
    assert same(got, expected["groups"])
    if "ids" in expected:
        assert tokenizer(case["config"]).encode(groups) == expected["ids"]
    if "tokens" in expected:
        assert tokenizer(case["config"]).tokenize(groups) == expected["tokens"]


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "tolerant"])
@pytest.mark.parametrize("case", cases("parser_snippets"))
def test_snippets(case: dict[str, Any], strict: bool) -> None:
    data = golden("parser_snippets")
    text = data["osu_texts"].get(case["osu_text_ref"]) or case["osu_text"]
    check(case, text, data["group_fields"], strict=strict)


@pytest.mark.parametrize("case", [*cases("parser_malformed"), *cases("reader_edge")])
def test_unusual_and_malformed_maps_in_strict_mode(case: dict[str, Any]) -> None:
    text, expected = case["osu_text"], case["result"]
    if "error" not in expected:
        check(case, text, golden("reader_edge")["group_fields"], strict=True)
    elif expected["stage"] == "parse":
        with pytest.raises(InputError):
            groups_of(case, text, strict=True)
    else:
        with pytest.raises(InputError, match="scroll_speed"):
            tokenizer(case["config"]).encode(groups_of(case, text, strict=True))


@pytest.mark.parametrize("case", [*cases("parser_malformed"), *cases("reader_edge")])
def test_unusual_and_malformed_maps_in_tolerant_mode(case: dict[str, Any]) -> None:
    text, expected = case["osu_text"], case["result"]
    if "error" not in expected:
        check(case, text, golden("reader_edge")["group_fields"], strict=False)
        return
    try:
        groups = groups_of(case, text, strict=False)
    except InputError:
        assert case["name"] in ("empty_string", "no_header")
        return
    numbers = [value for row in rows(groups, golden("reader_edge")["group_fields"]) for value in row]
    assert all(math.isfinite(value) for value in numbers if isinstance(value, float))
    assert tokenizer(case["config"]).encode(groups)[-1] == tokenizer(case["config"]).eos_token_id


@pytest.mark.parametrize("case", [case for case in cases("parser_snippets") if "mania" in case.id])
def test_mania_columns_by_option(case: dict[str, Any]) -> None:
    data = golden("parser_snippets")
    options = data["parser_configs"][case["config"]]
    beatmap = read_beatmap(data["osu_texts"][case["osu_text_ref"]])
    groups = CM3PBeatmapParser(**options, mania_columns=True).parse_beatmap(beatmap)
    columns = [None if group.mania_column is None else group.mania_column - 1 for group in groups]
    assert columns == case["result"]["column_attr_not_tokenised"]
    assert any(token.startswith("[MANIA_COLUMN_") for token in tokenizer(case["config"]).tokenize(groups))
