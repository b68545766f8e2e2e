"""The loop of ``notagen dpo`` with a policy and a judge that are made in seconds."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from notagen.clamp2.config import ClampConfig, EncoderConfig
from notagen.clamp2.model import Clamp
from notagen.clamp2.weights import save_pretrained as save_scorer
from notagen.dpo import iterations
from notagen.dpo.config import FloorsConfig
from notagen.dpo.encoding import fixed_crops
from notagen.dpo.iterations import FloorReached, main
from notagen.dpo.measuring import broken_floors, measure_pieces, pairwise_cosine
from notagen.dpo.steps import Steps
from notagen.model import NotaGenConfig
from notagen.notation.countdown import with_countdown
from notagen.training.objective import NotaGenTraining
from notagen.vocabulary import collect_vocabulary
from notagen.weights import from_pretrained, save_pretrained
from pentatonic.errors import ConfigError, InputError, UsageError

from .made_music import leaps, walk

pytest.importorskip("accelerate")
pytest.importorskip("hydra")
PROMPT = "%Folk\n%Anon\n%Fiddle\n"
COMPARED = (
    "samples.jsonl",
    "features.safetensors",
    "scores.csv",
    "measures.json",
    "preference.json",
    "preference_report.csv",
    "ref_logps.safetensors",
    "metrics.jsonl",
    "policy/model.safetensors",
)


def _counted(text):
    lines = text.rstrip("\n").split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("[V:"))
    return PROMPT + "\n".join(lines[:start] + with_countdown(lines[start:])) + "\n"


# For runs that are not compared with the finished one.
SHORT = ("samples=8", "training.trainer.max_steps=4")


@pytest.fixture(autouse=True)
def without_pages(monkeypatch):
    """Pages take a third of a run; that of the finished one is looked at."""
    monkeypatch.setattr(iterations, "write_page", lambda *_: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two styles of music, a policy that writes both of them, and a scorer without training."""
    folder = tmp_path_factory.mktemp("made")
    for name, make, count in (("steps", walk, 16), ("leaps", leaps, 8)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"{number:02d}.abc").write_text("X:1\n" + make(number))
    texts = [make(number, bars=6) for make in (walk, leaps) for number in range(16)]
    torch.manual_seed(0)
    config = NotaGenConfig(patch_layers=2, char_layers=1, width=32, heads=2, patch_length=64, dropout=0.0)
    policy = NotaGenTraining(config)
    pieces = [torch.tensor(fixed_crops(_counted(text), 64)[0]) for text in texts]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    for step in range(100):
        batch = [pieces[(7 * step + 5 * i) % len(pieces)] for i in range(8)]
        loss = policy([(piece[None], torch.ones(1, len(piece), dtype=torch.bool)) for piece in batch])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.vocabulary = collect_vocabulary(texts)
    save_pretrained(policy, folder / "policy")
    music = EncoderConfig(layers=1, width=16, heads=2, mlp_width=32, length=64)
    scorer = Clamp(ClampConfig(family="clamp2", projection=12, music=music))
    save_scorer(scorer, folder / "scorer")
    return folder


@pytest.fixture(scope="module")
def overrides(made):
    def build(run, *more):
        return [
            "experiment=debug",
            f"init={made / 'policy'}",
            "scorer=ngrams",
            f"judge={made / 'scorer'}",
            f"data.references={made / 'steps'}",
            f"data.other_style={made / 'leaps'}",
            "writing.prompts=[Folk / Anon / Fiddle]",
            "writing.max_patches=48",
            "samples=12",
            "training.optim.lr=1e-3",
            "training.trainer.max_steps=20",
            f"run_dir={run}",
            *more,
        ]

    return build


@pytest.fixture(scope="module")
def finished(overrides, tmp_path_factory):
    """A run of two iterations."""
    run = tmp_path_factory.mktemp("runs") / "straight"
    main(overrides(run))
    return run


def _assert_same(one, other):
    for number in range(3):
        for name in COMPARED[: None if number else 4]:
            first, second = (run / f"iter_{number:02d}" / name for run in (one, other))
            assert first.read_bytes() == second.read_bytes(), (number, name)
    for name in ("judge.json", "references.safetensors", "summary.csv", "summary.md"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_run_makes_the_policy_better(finished):
    with (finished / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["0", "1", "2", "held-out references"]
    assert float(rows[2]["held_out_score"]) > float(rows[0]["held_out_score"])
    for row in rows[:3]:
        low, value, high = (float(row[f"score{end}"]) for end in ("_low", "", "_high"))
        assert low <= value <= high
        assert float(row["valid"]) == 1 and int(row["pieces"]) == 12
    # Training made chosen pieces likelier against rejected ones.
    gaps = [
        [float(rows[1][f"{kind}_log_probability{when}"]) for kind in ("chosen", "rejected")]
        for when in ("_before", "")
    ]
    assert gaps[1][0] - gaps[1][1] > gaps[0][0] - gaps[0][1]
    table = (finished / "summary.md").read_text()
    assert "| K | score | held-out score | other judge |" in table
    assert "other judge: scorer" in table


def test_layout_of_a_run(finished):
    assert json.loads((finished / "judge.json").read_text())["scorer"]["passes"]
    assert (finished / "config.yaml").is_file()
    samples = [json.loads(line) for line in (finished / "iter_00/samples.jsonl").read_text().splitlines()]
    assert len({sample["name"] for sample in samples}) == 12
    preferences = json.loads((finished / "iter_01/preference.json").read_text())
    assert len(preferences["rejected"]) == 3 and preferences["separation"]["auc"] >= 0.5
    texts = {sample["name"]: sample["text"] for sample in samples}
    for path in (*preferences["chosen"], *preferences["rejected"]):
        assert (finished / path).read_text() == texts[(finished / path).stem]
    assert len((finished / "iter_02/metrics.jsonl").read_text().splitlines()) == 20
    first = json.loads((finished / "iter_02/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert not (finished / "iter_01/checkpoints").exists()
    policy, start = from_pretrained(finished / "iter_02/policy"), from_pretrained(finished / "iter_01/policy")
    assert policy.vocabulary == start.vocabulary
    assert not torch.equal(policy.char_decoder.embed.weight, start.char_decoder.embed.weight)


def test_the_page_of_an_iteration(finished):
    pytest.importorskip("matplotlib")
    page = (finished / "iter_01/report.html").read_text()
    assert page.count("<audio") == 5
    assert "Histograms of the scores by ngrams (optimised) and by scorer" in page


def test_failed_after_each_step_and_resumed_is_the_same(finished, overrides, tmp_path, monkeypatch):
    """Every step is done, but leaves no mark at first, as when the power fails before it is written."""
    run, marked, failures = Steps.run, set(), []

    def failing(self, name, made_from, work):
        def fail_once():
            work()
            if (key := (self.folder.name, name)) not in marked:
                marked.add(key)
                raise RuntimeError(name)

        return run(self, name, made_from, fail_once)

    monkeypatch.setattr(Steps, "run", failing)
    for _ in range(50):
        try:
            main(overrides(tmp_path / "run"))
            break
        except RuntimeError as error:
            failures.append(str(error))
    first = ["check the judge", "write", "judge", "measure"]
    assert failures == [*first, *2 * ["choose", "train", *first[1:]]]
    _assert_same(finished, tmp_path / "run")


def test_killed_in_training_and_resumed_is_the_same(finished, overrides, tmp_path):
    run = tmp_path / "run"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-P", "-m", "notagen", "dpo", *overrides(run)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics, lines = run / "iter_01" / "metrics.jsonl", 0
    while process.poll() is None and lines < 4:
        lines = len(metrics.read_bytes().splitlines()) if metrics.is_file() else 0
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert "train" not in json.loads((run / "iter_01/steps.json").read_text())
    main(overrides(run))
    _assert_same(finished, run)


def test_more_iterations_and_other_settings(overrides, tmp_path, capsys):
    main(overrides(tmp_path, *SHORT, "iterations=1"))
    capsys.readouterr()
    main(overrides(tmp_path, *SHORT, "iterations=2"))
    said = capsys.readouterr().out
    assert "iter_02: train" in said and "iter_01: train" not in said
    with pytest.raises(UsageError, match=r"samples 8, not 14; choose another run_dir"):
        main(overrides(tmp_path, *SHORT, "samples=14"))
    with pytest.raises(UsageError, match="choose another run_dir"):
        main(overrides(tmp_path, *SHORT, "training.optim.lr=1e-4"))


def test_a_blind_judge_is_refused_unless_forced(made, overrides, tmp_path, monkeypatch):
    blind = [
        *SHORT,
        f"scorer={made / 'scorer'}",
        f"data.other_style={made / 'steps'}",
        "iterations=1",
        "selection.similarity=1",
    ]
    with pytest.raises(InputError, match=r"scorer is blind: .*style.*; force=true trains on it all the same"):
        main(overrides(tmp_path, *blind))
    assert not (tmp_path / "iter_00").exists()
    result = main(overrides(tmp_path, *blind, "force=true"))
    assert len(result.rows) == 2
    assert "trained all the same (force=true)" in (tmp_path / "summary.md").read_text()


def test_a_broken_floor_stops_the_run(overrides, tmp_path):
    with pytest.raises(
        FloorReached, match=r"stopped after iteration 1: mean length is .* on_floor=warn goes on"
    ):
        main(overrides(tmp_path, *SHORT, "on_floor=stop", "floors.longest=0.01"))
    assert not (tmp_path / "iter_02").exists()
    assert "iteration 1: mean length" in (tmp_path / "summary.md").read_text()
    assert len(main(overrides(tmp_path, *SHORT, "on_floor=warn", "floors.longest=0.01")).rows) == 3


def test_a_signal_in_training(overrides, tmp_path, monkeypatch):
    monkeypatch.setattr(iterations, "train_policy", lambda *_, **__: type("R", (), {"interrupted": True})())
    result = main(overrides(tmp_path, *SHORT))
    assert result.interrupted and len(result.rows) == 1


def test_ratings_in_place_of_scores(finished, made, overrides, tmp_path):
    """A listener who wants leaps gets them, whatever the judge says."""
    pieces = sorted((finished / "iter_00/original").glob("*.abc"))
    share = {path: path.read_text().count("3 ") for path in pieces}
    wanted = sorted(pieces, key=lambda path: share[path])
    lines = [
        {"first": str(wanted[-1 - i]), "second": str(wanted[j]), "better": "first"}
        for i in range(4)
        for j in range(4)
    ]
    ratings = tmp_path / "ratings.jsonl"
    ratings.write_text("".join(json.dumps(line) + "\n" for line in lines))
    blind = [f"scorer={made / 'scorer'}", f"data.other_style={made / 'steps'}"]
    result = main(overrides(tmp_path / "run", f"ratings={ratings}", "iterations=1", *blind))
    texts = [
        [
            json.loads(line)["text"]
            for line in (tmp_path / f"run/iter_0{i}/samples.jsonl").read_text().splitlines()
        ]
        for i in range(2)
    ]
    before, after = (sum(text.count("3 ") for text in each) for each in texts)
    assert after > before and len(result.rows) == 2
    preferences = json.loads((tmp_path / "run/iter_01/preference.json").read_text())
    assert preferences["ratings"] == len(preferences["pairs"]) == 16
    assert not (tmp_path / "run/iter_01/preference_report.csv").exists()
    assert "it only reports here" in (tmp_path / "run/summary.md").read_text()
    with pytest.raises(ConfigError, match="iterations is 2, but must be 1 where there are ratings"):
        main(overrides(tmp_path / "run", f"ratings={ratings}"))


def test_floors():
    first = {"pairwise_cosine_judge": 0.5, "length": 100.0, "valid": 1.0, "repeated_bars": 0.1}
    assert broken_floors(first, first, FloorsConfig()) == []
    row = {"pairwise_cosine_judge": 0.8, "length": 40.0, "valid": 0.8, "repeated_bars": 0.5}
    assert broken_floors(row, first, FloorsConfig()) == [
        "diversity (1 - mean cosine of two pieces) is 0.2, below its floor of 0.25",
        "mean length is 40, below its floor of 50",
        "share of valid pieces is 0.8, below its floor of 0.9",
        "share of repeated bars is 0.5, above its limit of 0.3",
    ]
    assert broken_floors(first | {"length": 201.0}, first, FloorsConfig()) == [
        "mean length is 201, above its limit of 200"
    ]


def test_measures_of_pieces():
    texts = [walk(1, bars=4), walk(1, bars=4), "no music"]
    found = measure_pieces(texts, [True, False, True], None)
    assert found["valid"] == pytest.approx(2 / 3) and found["finished"] == pytest.approx(2 / 3)
    assert found["bars"] == pytest.approx(8 / 3) and found["duplicates"] == pytest.approx(2 / 3)
    assert "copies" not in found
    assert pairwise_cosine(torch.tensor([[1.0, 0], [0, 1], [1, 0]]).numpy()) == pytest.approx(1 / 3)
    assert pairwise_cosine(torch.ones(1, 3).numpy()) == 1


def test_settings_are_checked(overrides, tmp_path):
    with pytest.raises(ConfigError, match="iterations is 0, but must be at least 1"):
        main(overrides(tmp_path, "iterations=0"))
    with pytest.raises(ConfigError, match=r"on_floor is 'go', but must be 'stop' or 'warn'"):
        main(overrides(tmp_path, "on_floor=go"))
    with pytest.raises(ConfigError, match=r"data.style needs an index with prompts"):
        main(overrides(tmp_path, "data.style=Choral"))
    with pytest.raises(InputError, match="2 references, of which 1 would be held out"):
        main(overrides(tmp_path, "data.references=" + str(_two_pieces(tmp_path))))


def _two_pieces(folder):
    (folder / "two").mkdir()
    for number in range(2):
        (folder / "two" / f"{number}.abc").write_text("X:1\n" + walk(number))
    return folder / "two"
