"""The pipeline from folders of scores to training data."""

import json
from pathlib import Path

import pytest

from notagen.notation.keys import MAJOR_KEYS
from notagen.training.augment import convert_file
from notagen.training.index import Index
from notagen.training.preprocess import PreprocessConfig, main, preprocess
from pentatonic.cli import PartialFailure
from pentatonic.errors import ConfigError, UsageError

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
BARS = "c2|d2|e2|f2|g2|a2|b2|"


def tune(number, last, key="G"):
    return f"X:{number}\nT:Tune {number}\nM:2/8\nL:1/8\nK:{key}\n{BARS}{last}|]\n"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "works").mkdir(parents=True)
    (folder / "works" / "one.abc").write_text(tune(1, "c'2"))
    (folder / "works" / "two.abc").write_text(tune(1, "d'2"))
    (folder / "book.abc").write_text(
        "\n".join([tune(1, "e'2"), tune(2, "X"), tune(3, "f'2", "H"), tune(4, "g'2"), tune(5, "^c2")])
    )
    (folder / "copy.abc").write_text(tune(9, "!trill!e'2").replace("c2|d2", "c2||d2"))
    (folder / "short.abc").write_text("K:C\nc8|]\n")
    (folder / "broken.mxl").write_bytes(b"no zip")
    (folder / "prompts.jsonl").write_text(
        '{"path": "works", "prompt": ["Romantic", "Anon", "Ké"]}\n{"path": "", "prompt": ["Folk"]}\n'
    )
    return folder


def run(source, out, **data):
    config = PreprocessConfig(jobs=data.pop("jobs", 1))
    config.data.source, config.data.out = str(source), str(out)
    for name, value in data.items():
        setattr(config.data, name, value)
    return preprocess(config)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*.abc*")) + sorted(folder.glob("augmented*.jsonl"))
    }


def test_everything_is_written_and_what_is_not_is_named(source, tmp_path):
    out = tmp_path / "out"
    report = run(source, out, eval_share=0.4)
    index = Index(out / "augmented.jsonl")
    names = [entry.path for entry in index.entries]
    assert names == [
        f"augmented/{n}" for n in ("book__1", "book__2", "book__4", "book__5", "works_one", "works_two")
    ]
    assert [entry.prompt for entry in index.entries[3:5]] == [("Folk",), ("Romantic", "Anon", "Ke")]
    for name in ("book__1", "works_one"):
        assert (out / "interleaved" / f"{name}.abc").is_file()
        for key in MAJOR_KEYS:
            assert f"K:{key}\n" in (out / "augmented" / key / f"{name}_{key}.abc").read_text()
    fates = {entry["path"]: entry for entry in json.loads((out / "report.json").read_text())["inputs"]}
    assert fates["copy.abc"]["reason"] == "duplicate"
    assert not list(out.rglob("copy*.abc"))
    assert "min_bars=8" in fates["short.abc"]["reason"]
    assert fates["book.abc#3"]["error"] == "FormatError" and fates["broken.mxl"]["status"] == "failed"
    assert report.count("failed") == 2 and report.count("done") == 6
    assert json.loads((out / "report.json").read_text())["passed_over"] == {".jsonl": 1}
    assert not list(out.rglob(".*"))


def test_groups_are_not_split_and_the_seed_decides(source, tmp_path):
    splits = set()
    for seed in range(4):
        config = PreprocessConfig(jobs=1, seed=seed)
        config.data.source, config.data.out, config.data.eval_share = str(source), str(tmp_path / "out"), 0.4
        preprocess(config)
        parts = []
        for split in ("train", "eval"):
            parts.append(
                [entry.path for entry in Index(tmp_path / "out" / f"augmented_{split}.jsonl").entries]
            )
        train, held_out = parts
        assert len(train) == 4 and len(held_out) == 2
        assert len({"augmented/works_one", "augmented/works_two"} & set(train)) != 1
        splits.add(tuple(held_out))
    assert len(splits) > 1


def test_the_output_does_not_depend_on_the_number_of_processes(source, tmp_path):
    run(source, tmp_path / "a", jobs=1)
    run(source, tmp_path / "b", jobs=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_process_that_crashes_costs_one_file_which_the_next_run_reads_again(source, tmp_path, monkeypatch):
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "crashing.py").write_text(
        "import os\nfrom notagen.training import augment\n"
        "def convert(request):\n"
        "    if request.value['file'].endswith('two.abc'):\n        os._exit(9)\n"
        "    return augment.convert_in_child(request)\n"
    )
    monkeypatch.syspath_prepend(modules)
    with monkeypatch.context() as patch:
        patch.setattr("notagen.training.preprocess._CHILD", "crashing:convert")
        report = run(source, tmp_path / "out", jobs=2)
    fates = {entry["path"]: entry for entry in report.entries}
    assert fates["works/two.abc"]["reason"] == "the process ended with status 9; out of memory?"
    assert fates["works/one.abc"]["status"] == "done" and report.count("done") == 5
    run(source, tmp_path / "out", jobs=1)
    run(source, tmp_path / "whole", jobs=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_second_run_reads_only_what_is_new(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(source, out)
    before = contents(out)
    (source / "works" / "three.abc").write_text(tune(1, "A2"))
    calls = []

    def spy(file, name, **options):
        calls.append(file.name)
        return convert_file(file, name, **options)

    monkeypatch.setattr("notagen.training.preprocess.convert_file", spy)
    run(source, out)
    # The duplicate's files are gone, so it is read again.
    assert calls == ["copy.abc", "three.abc"]
    after = contents(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert all("three" in name or name.endswith(".jsonl") for name in changed)
    calls.clear()
    with (out / "tunes.jsonl").open("a") as journal:
        journal.write('{"file": "cut')
    run(source, out, min_bars=7)
    assert len(calls) == 7


def test_a_file_that_takes_too_long_is_named(source, tmp_path, monkeypatch):
    def endless(text):
        while True:
            pass

    monkeypatch.setattr("notagen.training.augment.prepare_tune", endless)
    (fate,) = convert_file(source / "works" / "one.abc", "one", out=tmp_path, min_bars=1, timeout_s=0.05)
    assert fate.error == ("InputError", "took longer than 0.05 s")


def test_names_do_not_collide(tmp_path):
    last = iter("cdefgab")
    for name in ("a/b.abc", "a_b.abc", "A b.abc", "a_b_1.abc", "a_b__2.abc"):
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(tune(1, f"{next(last)}2"))
    (tmp_path / "source" / "a_b.abc").write_text(tune(1, "A2") + "\n" + tune(2, "B2"))
    run(tmp_path / "source", tmp_path / "out")
    names = [entry.path for entry in Index(tmp_path / "out" / "augmented.jsonl").entries]
    assert len({name.lower() for name in names}) == len(names) == 6


def test_goldens_as_files(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    cases = [case for case in GOLDENS if case["augmented"] and case["name"] != "all_rest_bar"]
    for case in cases:
        (source / f"{case['name']}.abc").write_text(case["input"])
    run(source, tmp_path / "out", min_bars=1)
    index = Index(tmp_path / "out" / "augmented.jsonl")
    found = {entry.path.split("/")[1]: position for position, entry in enumerate(index.entries)}
    for case in cases:
        position = found[case["name"]]
        assert index.entries[position].key == case["ori_key"]
        assert {key: index.read(position, key) for key in MAJOR_KEYS} == case["augmented"]


def test_the_command(source, tmp_path):
    pytest.importorskip("hydra")
    options = [f"data.source={source}", f"data.out={tmp_path / 'out'}", "jobs=1"]
    with pytest.raises(PartialFailure, match="2 of 10"):
        main(options)
    with pytest.raises(ConfigError, match=r"unknown key 'data\.sauce'"):
        main(["data.sauce=x"])
    main([f"data.source={source / 'works'}", f"data.out={tmp_path / 'clean'}", "jobs=1"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eval_share": 1.0}, "eval_share"),
        ({"jobs": -1}, "jobs"),
        ({"group": "("}, "regular expression"),
        ({"group": "a"}, "no group"),
    ],
)
def test_wrong_options_are_named(source, tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        run(source, tmp_path / "out", **options)


def test_a_source_without_scores_is_refused(tmp_path):
    for source in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError):
            run(source, tmp_path / "out")
