"""``cm3p evaluate``: everything in one document, stored embeddings, baselines, bad maps, wrong use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODEL = Path(__file__).parent.parent / "goldens" / "saved_full"
Command = Callable[..., tuple[int, str, str]]


def evaluate(command: Command, *arguments: object) -> tuple[int, str, str]:
    return command("evaluate", *arguments, "--model", MODEL, "--no-audio", "--resamples", 10)


def test_everything_in_one_document(data_set: Path, tmp_path: Path, cm3p_command: Command) -> None:
    out, page = tmp_path / "made" / "report.json", tmp_path / "made" / "report.html"
    options = ("--start", 2, "--untrained", "--baseline-train", "0:2", "--probe", "--against", data_set)
    status, text, messages = evaluate(cm3p_command, data_set, *options, "--out", out, "--page", page)
    assert status == 0, messages
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["maps"]["maps"] == 8 and document["maps"]["sets"] == 4
    assert document["about"]["evaluated"]["start"] == 2 and document["about"]["train_maps"]["maps"] == 4
    assert document["about"]["vectors"]["dimension"] == 8
    systems = ["model", "untrained network", "bag of tokens"]
    assert [each["system"] for each in document["spaces"]] == systems
    for space in document["spaces"]:
        assert {each["field"] for each in space["retrieval"]} >= {
            "set",
            "mode",
            "mapper",
            "year",
            "difficulty",
        }
        assert space["distance"]["maps"] == [8, 12]
    ways = [(each["system"], each["way"]) for each in document["labels"]]
    zero_shot = ("alone", "exchanged", "exchanged, without the map")
    assert ways == [
        *(("model", way) for way in zero_shot),
        *(("untrained network", way) for way in zero_shot),
        *((system, "trained") for system in ("bag of tokens", "model", "untrained network")),
    ]
    assert document["counts"] == {"done": 24, "skipped": 0, "failed": 0}
    assert document["run"]["versions"]["cm3p"]
    for heading in ("Retrieval", "Labels", "Difficulty", "Fréchet"):
        assert f"{heading}" in text and heading in page.read_text(encoding="utf-8")


def test_the_same_call_gives_the_same_numbers(data_set: Path, cm3p_command: Command) -> None:
    one, other = (
        json.loads(evaluate(cm3p_command, data_set, "--json", "--batch-size", size)[1]) for size in (16, 16)
    )
    for name in ("maps", "spaces", "labels"):
        assert one[name] == other[name]


def test_stored_embeddings_give_the_retrieval_of_the_model(
    data_set: Path, tmp_path: Path, cm3p_command: Command
) -> None:
    stored = tmp_path / "stored.parquet"
    assert cm3p_command("embed", data_set, "--out", stored, "--model", MODEL, "--no-audio")[0] == 0
    of_model = json.loads(evaluate(cm3p_command, data_set, "--json")[1])
    status, text, _ = evaluate(cm3p_command, "--embeddings", stored, "--against", stored, "--json")
    of_file = json.loads(text)
    assert status == 0 and of_file["maps"] == of_model["maps"] and of_file["labels"] == []
    (space,) = of_file["spaces"]
    assert _rounded(space["retrieval"]) == _rounded(of_model["spaces"][0]["retrieval"])
    assert space["distance"]["distance"] == pytest.approx(0, abs=1e-6)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def test_plain_folders_are_judged_by_what_maps_say(data_set: Path, cm3p_command: Command) -> None:
    status, text, _ = evaluate(cm3p_command, data_set / "data", "--json")
    document = json.loads(text)
    assert status == 0
    fields = {each["field"]: each for each in document["spaces"][0]["retrieval"]}
    assert fields["mode"]["queries"] == 12 and fields["year"]["queries"] == 0
    assert {each["field"] for each in document["labels"][0]["labels"]} == {"mode"}
    assert document["labels"][0]["stars"] is None
    table = data_set / "metadata.parquet"
    filled = json.loads(evaluate(cm3p_command, data_set / "data", "--metadata", table, "--json")[1])
    assert filled["labels"][0]["stars"]["maps"] == 12


def test_a_bad_map_does_not_stop_the_others(data_set: Path, tmp_path: Path, cm3p_command: Command) -> None:
    (data_set / "data" / "set 0" / "0.osu").write_text("no map", encoding="utf-8")
    out = tmp_path / "report.json"
    status, _, messages = evaluate(cm3p_command, data_set, "--out", out)
    assert status == 3 and "0.osu" in messages
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["maps"]["maps"] == 11 and document["counts"]["failed"] == 1


def test_one_map_alone_can_be_evaluated(data_set: Path, cm3p_command: Command) -> None:
    status, text, messages = evaluate(cm3p_command, next(data_set.rglob("0.osu")), "--untrained")
    assert status == 0, messages
    assert text.startswith("1 maps of 1 sets")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("{data}", "--embeddings", "{data}/metadata.parquet"),
        ("--embeddings", "{data}/metadata.parquet", "--untrained"),
        ("{data}", "--start", 3, "--end", 3),
        ("{data}", "--probe"),
        ("{data}", "--baseline-train", "3:1"),
        ("{data}", "--baseline-train", "0:1"),
        ("{data}", "--split", "test", "--baseline-train", "test"),
        ("{data}", "--out", "report.txt"),
        ("{data}", "--against", "nowhere"),
    ],
    ids=str,
)
def test_wrong_use(arguments: tuple[object, ...], data_set: Path, cm3p_command: Command) -> None:
    filled = [str(each).replace("{data}", str(data_set)) for each in arguments]
    assert evaluate(cm3p_command, *filled)[0] == 2


def test_failures(data_set: Path, tmp_path: Path, cm3p_command: Command) -> None:
    status, _, message = evaluate(cm3p_command, data_set, "--split", "valid")
    assert status == 1 and "no maps of the split 'valid'" in message
    status, _, message = evaluate(cm3p_command, "--embeddings", data_set / "metadata.parquet")
    assert status == 1 and "not a file of embeddings" in message
    status, _, message = cm3p_command("evaluate", data_set, "--model", MODEL)
    assert status == 1 and "none of the 12 maps can be used" in message  # there are no songs
    classifier = MODEL.with_name("saved_classifier")
    status, _, message = cm3p_command("evaluate", data_set, "--model", classifier, "--no-audio")
    assert status == 2 and "has no embeddings" in message
