"""Events and tokens of real maps equal the goldens. The maps are not part of the project.

``CM3P_REAL_MAPS`` names a folder with ``osu/`` (the maps) and ``goldens/`` (what is made from them).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cm3p.beatmap import read_beatmap
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.metadata import get_metadata
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.windows import groups_in_windows, window_starts

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="module")
def real_maps() -> Path:
    folder = os.environ.get("CM3P_REAL_MAPS")
    if not folder:
        pytest.skip("CM3P_REAL_MAPS is not set: real maps are not part of the project")
    return Path(folder)


@pytest.fixture(scope="module")
def configs() -> dict[str, tuple[CM3PBeatmapParser, CM3PBeatmapTokenizer]]:
    snippets = json.loads((GOLDENS / "parser_snippets" / "cases.json").read_text(encoding="utf-8"))
    return {
        name: (
            CM3PBeatmapParser(**snippets["parser_configs"][name]),
            CM3PBeatmapTokenizer(**snippets["tokenizer_configs"][name]),
        )
        for name in ("v7", "v1")
    }


def sha256(ids: Sequence[int]) -> str:
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def test_sample_map(real_maps: Path, configs: dict[str, Any]) -> None:
    golden = json.loads(
        (real_maps / "goldens" / "parser_real_map" / "cases.json").read_text(encoding="utf-8")
    )
    beatmap = read_beatmap(real_maps / "osu" / "aoki_kotou_no_anguis_ardens_spes.osu", strict=True)
    parser, tokenizer = configs["v7"]
    groups = parser.parse_beatmap(beatmap)
    fields = golden["group_fields"]
    rows = [[str(group.event_type), *(getattr(group, field) for field in fields[1:])] for group in groups]
    assert rows == golden["results"]["v7"]["groups"]
    for name, (parser, tokenizer) in configs.items():
        assert tokenizer.encode(parser.parse_beatmap(beatmap)) == golden["results"][name]["ids"]


def test_all_maps(real_maps: Path, configs: dict[str, Any]) -> None:
    golden = json.loads((real_maps / "goldens" / "real_maps" / "cases.json").read_text(encoding="utf-8"))
    checked = 0
    for case in golden["cases"]:
        if isinstance(case["repairs"], str):  # the golden has no numbers
            continue
        beatmap = read_beatmap(real_maps / "osu" / case["map"])
        assert (beatmap.mode, len(beatmap.hit_objects)) == (case["mode"], case["objects"]), case["map"]
        metadata = {name: value for name, value in get_metadata(beatmap=beatmap).items() if value is not None}
        assert metadata == case["metadata"], case["map"]
        for name, (parser, tokenizer) in configs.items():
            check_map(case, name, parser, tokenizer, beatmap)
        checked += 1
    assert checked == 143


def check_map(case: dict[str, Any], name: str, parser: Any, tokenizer: Any, beatmap: Any) -> None:
    expected, place = case[name], f"{case['map']} with {name}"
    groups = parser.parse_beatmap(beatmap)
    assert len(groups) == expected["groups"], place
    if "event_types" in expected:
        assert Counter(str(group.event_type) for group in groups) == expected["event_types"], place
    ids = tokenizer.encode(groups)
    other_cpu = expected.get("no_avx512", {})
    assert sha256(ids) in (expected["ids_sha256"], other_cpu.get("ids_sha256")), place
    if "window_ids" not in expected:
        return
    starts_s = window_starts(case["song_length"], 16.0, 1.0)
    windows = groups_in_windows(groups, starts_s, 16.0, 16.0)
    sequences = [
        tokenizer.encode(*window)
        for window in zip(windows, [1000 * start for start in starts_s], strict=True)
    ]
    assert [len(sequence) for sequence in sequences] == expected["window_ids"], place
    joined = sha256([index for sequence in sequences for index in sequence])
    assert joined in (expected["windows_sha256"], other_cpu.get("windows_sha256")), place
