"""``cm3p evaluate``: everything in one document, stored embeddings, baselines, bad maps, wrong use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cm3p.commands.evaluate import EvaluateConfig

MODEL = Path(__file__).parent.parent / "goldens" / "saved_full"
Command = Callable[..., tuple[int, str, str]]


def evaluate(command: Command, *overrides: str) -> tuple[int, str, str]:
    return command("evaluate", *overrides, f"model={MODEL}", "audio=false", "resamples=10")


def test_everything_in_one_document(data_set: Path, tmp_path: Path, cm3p_command: Command) -> None:
    out, page = tmp_path / "made" / "report.json", tmp_path / "made" / "report.html"
    options = ("start=2", "untrained=true", "baseline_train=0:2", "probe=true", f"against=[{data_set}]")
    status, text, messages = evaluate(
        cm3p_command, f"maps=[{data_set}]", *options, f"out={out}", f"page={page}"
    )
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
    assert document["config"] == asdict(
        EvaluateConfig(
            maps=[str(data_set)],
            model=str(MODEL),
            start=2,
            audio=False,
            untrained=True,
            baseline_train="0:2",
            probe=True,
            against=[str(data_set)],
            resamples=10,
            out=str(out),
            page=str(page),
        )
    )
    for heading in ("Retrieval", "Labels", "Difficulty", "Fréchet"):
        assert f"{heading}" in text and heading in page.read_text(encoding="utf-8")


def test_the_same_call_gives_the_same_numbers(data_set: Path, cm3p_command: Command) -> None:
    one, other = (
        json.loads(evaluate(cm3p_command, f"maps=[{data_set}]", "json=true", f"batch_size={size}")[1])
        for size in (16, 16)
    )
    for name in ("maps", "spaces", "labels"):
        assert one[name] == other[name]


def test_stored_embeddings_give_the_retrieval_of_the_model(
    data_set: Path, tmp_path: Path, cm3p_command: Command
) -> None:
    stored = tmp_path / "stored.parquet"
    assert cm3p_command("embed", data_set, "--out", stored, "--model", MODEL, "--no-audio")[0] == 0
    of_model = json.loads(evaluate(cm3p_command, f"maps=[{data_set}]", "json=true")[1])
    status, text, _ = evaluate(cm3p_command, f"embeddings={stored}", f"against=[{stored}]", "json=true")
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
    status, text, _ = evaluate(cm3p_command, f"maps=[{data_set}/data]", "json=true")
    document = json.loads(text)
    assert status == 0
    fields = {each["field"]: each for each in document["spaces"][0]["retrieval"]}
    assert fields["mode"]["queries"] == 12 and fields["year"]["queries"] == 0
    assert {each["field"] for each in document["labels"][0]["labels"]} == {"mode"}
    assert document["labels"][0]["stars"] is None
    table = data_set / "metadata.parquet"
    overrides = (f"maps=[{data_set}/data]", f"metadata={table}", "json=true")
    filled = json.loads(evaluate(cm3p_command, *overrides)[1])
    assert filled["labels"][0]["stars"]["maps"] == 12


def test_a_bad_map_does_not_stop_the_others(data_set: Path, tmp_path: Path, cm3p_command: Command) -> None:
    (data_set / "data" / "set 0" / "0.osu").write_text("no map", encoding="utf-8")
    out = tmp_path / "report.json"
    status, _, messages = evaluate(cm3p_command, f"maps=[{data_set}]", f"out={out}")
    assert status == 3 and "0.osu" in messages
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["maps"]["maps"] == 11 and document["counts"]["failed"] == 1


def test_one_map_alone_can_be_evaluated(data_set: Path, cm3p_command: Command) -> None:
    status, text, messages = evaluate(
        cm3p_command, f"maps=[{next(data_set.rglob('0.osu'))}]", "untrained=true"
    )
    assert status == 0, messages
    assert text.startswith("1 maps of 1 sets")


def test_maps_whose_names_need_quotes(save_map: Any, tmp_path: Path, cm3p_command: Command) -> None:
    paths = [save_map(tmp_path / "one, two" / name) for name in ("it's [Hard] (1).osu", "café = 3.osu")]
    quoted = ",".join(f'"{path}"' for path in paths)
    status, text, messages = evaluate(cm3p_command, f"maps=[{quoted}]")
    assert status == 0, messages
    assert text.startswith("2 maps of ")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("", "give either maps=[PATH,...] or embeddings=FILE"),
        ("maps=[{data}] embeddings={data}/metadata.parquet", "give either maps"),
        ("embeddings={data}/metadata.parquet untrained=true", "need maps and a model, not embeddings"),
        ("embeddings={data}/metadata.parquet split=test", "need maps and a model, not embeddings"),
        ("embeddings={data}/metadata.parquet against=[{data},{data}]", "allowed is one file of embeddings"),
        ("maps=[{data}] start=3 end=3", "end is 3; allowed: more than start, 3"),
        ("maps=[{data}] start=-1", "start is -1; allowed: 0 or more"),
        ("maps=[{data}] seed=-1", "seed is -1; allowed: 0 or more"),
        ("maps=[{data}] most_candidates=1", "most_candidates is 1; allowed: 2 or more"),
        ("maps=[{data}] batch_size=0", "batch_size is 0; allowed: 1 or more"),
        ("maps=[{data}] max_windows=0", "max_windows is 0; allowed: 1 or more"),
        ("maps=[{data}] device=tpu", "device is 'tpu'; allowed: auto, cpu, cuda, mps"),
        ("maps=[{data}] dtype=fp16", "dtype is 'fp16'; allowed: auto, fp32, bf16"),
        ("maps=[{data}] probe=true", "probe needs baseline_train"),
        ("maps=[{data}] baseline_train=3:1", "baseline_train is '3:1'; allowed: FIRST:END"),
        ("maps=[{data}] baseline_train=0:1", "baseline_train: 1 of its sets are evaluated, too"),
        ("maps=[{data}] split=test baseline_train=test", "baseline_train: 2 of its sets are evaluated, too"),
        ("maps=[{data}] out=report.txt", "out is report.txt; allowed: a name that ends in .json"),
        ("maps=[{data}] page=report.json", "page is report.json; allowed: a name that ends in .html"),
        ("maps=[{data}] against=[nowhere]", "no such file or folder: nowhere"),
    ],
    ids=lambda each: each,
)
def test_wrong_use(overrides: str, said: str, data_set: Path, cm3p_command: Command) -> None:
    filled = [each.replace("{data}", str(data_set)) for each in overrides.split()]
    status, _, message = evaluate(cm3p_command, *filled)
    assert status == 2 and said in message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nope=1", "unknown key 'nope'; the configuration has maps, model, revision, "),
        ("+nope=1", "unknown key 'nope'"),
        ("resamples=many", "'resamples': "),
        ("maps={data}", "'maps': "),
        ("data", "'data'"),
    ],
)
def test_a_wrong_override_is_one_sentence(
    override: str, said: str, data_set: Path, cm3p_command: Command
) -> None:
    status, _, message = cm3p_command("evaluate", override.replace("{data}", str(data_set)))
    assert status == 1 and said in message
    assert message.startswith("Error: cm3p.conf.evaluation/evaluate: ") and message.count("\n") == 1


def test_failures(data_set: Path, cm3p_command: Command) -> None:
    status, _, message = evaluate(cm3p_command, f"maps=[{data_set}]", "split=valid")
    assert status == 1 and "no maps of the split 'valid'" in message
    status, _, message = evaluate(cm3p_command, f"embeddings={data_set}/metadata.parquet")
    assert status == 1 and "not a file of embeddings" in message
    status, _, message = cm3p_command("evaluate", f"maps=[{data_set}]", f"model={MODEL}")
    assert status == 1 and "none of the 12 maps can be used" in message  # there are no songs
    classifier = MODEL.with_name("saved_classifier")
    status, _, message = cm3p_command("evaluate", f"maps=[{data_set}]", f"model={classifier}", "audio=false")
    assert status == 2 and "has no embeddings" in message
