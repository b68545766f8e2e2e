"""Systems, pairs of recordings, and paired statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy import stats

from pentatonic.errors import ConfigError, FormatError, InputError, UsageError
from rc_audioldm.evaluation.comparison import compare_pairs, holm, signed_rank
from rc_audioldm.evaluation.systems import Item, System, pair_items, read_system


def system(name: str, ids: str, *, listed: bool = True, prompt: str | None = None) -> System:
    items = tuple(Item(each, Path(name, f"{each}.wav"), prompt) for each in ids)
    return System(name, Path(name), items, listed)


def write_items(folder: Path, *rows: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder


def test_items_of_a_run_keep_their_ids_and_prompts(tmp_path: Path) -> None:
    run = write_items(
        tmp_path / "run", {"id": 7, "file": "wav/x.wav", "prompt": "bells"}, {"id": "b", "path": "y.wav"}
    )
    np.save(run / "style_vectors.npy", np.ones((2, 4), np.float32))
    found = read_system("mine", run)
    assert [(item.id, item.prompt) for item in found.items] == [("7", "bells"), ("b", None)]
    assert found.items[0].path == run / "wav" / "x.wav"
    assert found.listed and found.styles is not None and found.styles.shape == (2, 4)


@pytest.mark.parametrize(
    ("row", "error", "match"),
    [
        ({"file": "x.wav"}, FormatError, ":2: id is None"),
        ({"id": True, "file": "x.wav"}, FormatError, "whole number"),
        ({"id": 1}, FormatError, "file is None"),
        ({"id": 0, "file": "x.wav"}, FormatError, "again"),
        ({"id": 1, "file": "x.wav", "prompt": 3}, FormatError, "prompt is 3"),
        ({"id": 1, "file": "../x.wav"}, ConfigError, "items.jsonl:2"),
        ([], FormatError, "an object"),
    ],
)
def test_items_that_cannot_be_used(tmp_path: Path, row: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        read_system("x", write_items(tmp_path / "run", {"id": "0", "file": "a.wav"}, row))


def test_other_folders_have_their_files_in_natural_order_and_prompts_from_a_list(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    for name in ("10", "2", "1"):
        soundfile.write(tmp_path / "wav" / f"{name}.wav", np.zeros(10), 8000)
    soundfile.write(tmp_path / "other.wav", np.zeros(10), 8000)
    found = read_system("x", tmp_path, prompts=["one", "two", "ten"])
    assert [(item.id, item.prompt) for item in found.items] == [
        ("1.wav", "one"),
        ("2.wav", "two"),
        ("10.wav", "ten"),
    ]
    with pytest.raises(InputError, match="3 recordings, and there are 1 prompts"):
        read_system("x", tmp_path, prompts=["one"])
    np.save(tmp_path / "short.npy", np.zeros((2, 4)))
    with pytest.raises(InputError, match="2 style vectors"):
        read_system("x", tmp_path, styles=tmp_path / "short.npy")
    (tmp_path / "wrong.npy").write_text("no array")
    with pytest.raises(InputError, match="not an array"):
        read_system("x", tmp_path, styles=tmp_path / "wrong.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no recordings"):
        read_system("x", tmp_path / "empty")


def test_recordings_are_paired_by_id_then_name_then_position() -> None:
    by_id = pair_items([system("a", "123"), system("b", "321x")])
    assert (by_id.keys, by_id.rule) == (("1", "2", "3"), "id")
    assert by_id.items["b"]["1"].path == Path("b/1.wav")
    assert by_id.notes == ("1 of 4 recordings of b have no partner in every other system",)
    by_name = pair_items([system("a", "12", listed=False), system("b", "21")])
    assert (by_name.rule, by_name.items["b"]["1"].path) == ("file name", Path("b/1.wav"))
    by_place = pair_items([system("a", "12", listed=False), system("b", "78", listed=False)])
    assert (by_place.rule, by_place.items["b"]["0"].path) == (
        "position in the natural order",
        Path("b/7.wav"),
    )
    assert "not by ids" in by_place.notes[0]
    nothing = pair_items([system("a", "12", listed=False), system("b", "7", listed=False)])
    assert not nothing.keys and "a 2, b 1" in nothing.notes[0]


def test_pairs_with_different_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="'bells', 'drums'"):
        pair_items([system("a", "1", prompt="bells"), system("b", "1", prompt="drums")])


def test_a_constant_difference_between_noisy_items_is_found_by_pairs() -> None:
    level = np.random.default_rng(0).normal(size=20)
    values = {"a": {"x": level + 0.1}, "b": {"x": level}}
    (found,) = compare_pairs(values, range(20), resamples=100)
    assert found.difference.value == pytest.approx(0.1)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.1, 0.1))
    assert found.p_value < 1e-3
    unpaired: Any = stats.ttest_ind(values["a"]["x"], values["b"]["x"])
    assert unpaired.pvalue > 0.3


def test_items_of_one_prompt_count_once() -> None:
    values = {"a": {"x": [1.0, 3, 5, np.nan]}, "b": {"x": [0.0, 0, 0, 0]}}
    (found,) = compare_pairs(values, ["p", "p", "q", "r"], resamples=50)
    assert (found.items, found.groups, found.difference.value) == (3, 2, 3.5)
    with pytest.raises(UsageError, match="for 3 items"):
        compare_pairs(values, "pqr")


def test_all_tests_of_a_comparison_are_corrected_together() -> None:
    rng = np.random.default_rng(1)
    values = {name: {"x": rng.normal(size=12), "y": rng.normal(size=12)} for name in "abc"}
    found = compare_pairs(values, range(12), resamples=20)
    assert [(each.metric, each.first + each.second) for each in found] == [
        (metric, pair) for pair in ("ab", "ac", "bc") for metric in "xy"
    ]
    assert [each.p_holm for each in found] == holm([each.p_value for each in found])


def test_holm_and_signed_ranks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []
    assert signed_rank(np.zeros(5)) == 1
    assert signed_rank(np.arange(1.0, 7)) == pytest.approx(2 / 64)
