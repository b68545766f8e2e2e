"""``omar-rq probe``: every task through the real command line, on music that a few lines of numpy play from a score.

A recording has a key, a chord for each bar, beats, sections and one of two timbres; so all labels are exact.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omar_rq import cli
from omar_rq.probing import store
from omar_rq.probing.data.labelled_folder import read_labelled_folder
from omar_rq.probing.saved import SavedProbe
from omar_rq.probing.task_list import TASKS
from omar_rq.weights import from_pretrained

RATE = 16_000
ROOTS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
TIMBRES = {"flute": (1.0, 0.1), "reed": (1.0, 0.0, 0.6, 0.0, 0.4)}
SPLITS = ("train",) * 6 + ("valid",) * 2 + ("test",) * 2


def play(notes: list[tuple[float, float, int]], clicks: list[tuple[float, float]], timbre, seconds: float):
    """Sum of harmonic tones and clicks."""
    sound = np.zeros(round(seconds * RATE))
    t = np.arange(len(sound)) / RATE
    for start, end, pitch in notes:
        inside = (t >= start) & (t < end)
        phase = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * t[inside]
        sound[inside] += 0.08 * sum(a * np.sin((n + 1) * phase) for n, a in enumerate(timbre))
    for time_s, level in clicks:
        place = round(time_s * RATE)
        burst = np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * 1.3)
        sound[place : place + 400] += level * burst[: len(sound) - place]
    return sound


def write_recording(root: Path, number: int, split: str) -> None:
    rng = np.random.default_rng(number)
    instrument = ("flute", "reed")[number % 2]
    tonic, minor = int(rng.integers(12)), number % 4 in (1, 2)
    beat, bars = (0.3, 0.4)[number % 2], 4
    sections = ["verse", "verse", "chorus", "chorus"]
    steps = {"verse": (0, 5), "chorus": (7, 0)}
    notes, chords, beats = [], [], []
    for bar, section in enumerate(sections):
        root_pitch = (tonic + steps[section][bar % 2]) % 12
        start, end = 3 * beat * bar, 3 * beat * (bar + 1)
        third = 3 if minor else 4
        notes += [(start, end, 48 + root_pitch + step) for step in (0, third, 7)]
        chords.append([start, end, f"{ROOTS[root_pitch]}:{'min' if minor else 'maj'}"])
        beats += [[start + beat * place, place + 1] for place in range(3)]
    seconds = 3 * beat * bars
    clicks = [(time_s, 0.5 if place == 1 else 0.2) for time_s, place in beats]
    name = f"piece{number}"
    soundfile.write(root / "audio" / f"{name}.flac", play(notes, clicks, TIMBRES[instrument], seconds), RATE)
    labels = {
        "split": split,
        "group": name,
        "tags": [instrument, "minor" if minor else "major"],
        "genre": instrument,
        "key": f"{ROOTS[tonic]} {'minor' if minor else 'major'}",
        "chords": chords,
        "beats": beats,
        "meter": "3/4",
        "instruments": [instrument] if number % 4 else [instrument, "drums"],
        "sections": [[3 * beat * bar, 3 * beat * (bar + 2), sections[bar]] for bar in range(0, bars, 2)],
        "notes": [[*note, 0] for note in notes],
        "tempo": 60 / beat,
        "difficulty": 1 + number % 4,
        "emotion": {
            "arousal": float(instrument == "reed") + 0.01 * number,
            "valence": float(minor) - 0.01 * number,
        },
    }
    (root / "labels" / f"{name}.json").write_text(json.dumps(labels))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "audio").mkdir()
    (root / "labels").mkdir()
    for number, split in enumerate(SPLITS):
        write_recording(root, number, split)
    return root


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    """One store of features for all tests."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def probe(monkeypatch, capsys, decode_here, features):
    """``probe(*overrides) -> (exit code, standard output, standard error)``."""

    def run(*overrides: object) -> tuple[int, str, str]:
        words = ["omar-rq", "probe", "experiment=debug", f"store_dir={features}", *map(str, overrides)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


# Task -> overrides, and a system that the probe must beat in a metric on the test split.
CASES = {
    "tagging": (("head.pooling=attention",), ("average_precision", "trivial")),
    "genre": ((), ("accuracy", "trivial")),
    "key": (("fit.learning_rates=[1e-2,3e-2]",), None),
    "pitch": (("fit.steps=40",), ("average_precision", "trivial")),
    "instrument": (("features.chunk_s=2", "baselines=false", "seeds=2"), None),
    "chord": (("fit.steps=40",), None),
    "beat": (("fit.steps=60", "head.hidden=32"), ("downbeat_f", "trivial")),
    "structure": (("head.hidden=16",), None),
    "difficulty": (("head.model=mlp", "head.hidden=16"), None),
    "emotion": (("fit.steps=60",), ("r2_arousal", "trivial")),
}


def test_every_task_has_a_case() -> None:
    assert set(CASES) == set(TASKS)


@pytest.mark.parametrize("task", CASES)
def test_a_task_from_end_to_end(probe, data, tmp_path, task) -> None:
    overrides, beaten = CASES[task]
    run = tmp_path / "run"
    code, out, err = probe(f"task={task}", f"data.root={data}", f"run_dir={run}", *overrides)
    assert code == 0, err
    results = json.loads((run / "results.json").read_text())
    assert (run / "results.md").read_text() == out
    assert results["task"] == task and list(results["layers"]) == ["0", "1", "2", "3", "4"]
    assert abs(sum(results["layers"].values()) - 1) < 1e-5
    baselines = [] if "baselines=false" in overrides else ["log-mel", "untrained network"]
    assert list(results["systems"]) == ["probe", *baselines, "trivial"]
    assert list(results["differences"]) == [*baselines, "trivial"]
    for system in results["systems"].values():
        assert list(system) == results["metrics"]
        for value in system.values():
            if value["value"] is not None and value["low"] is not None:
                assert value["low"] <= value["high"]
    if beaten is not None:
        metric, other = beaten
        assert results["systems"]["probe"][metric]["value"] > results["systems"][other][metric]["value"]
    saved = SavedProbe.load(run / "probe")
    assert saved.task == task and saved.about["results"] == results["systems"]["probe"]
    model = from_pretrained("omar-rq-tiny")
    prediction = saved.predict_file(model, data / "audio" / "piece9.flac")
    n_tokens = len(prediction.times)
    assert prediction.values.shape == (n_tokens, len(saved.labels)) and np.isfinite(prediction.values).all()
    assert (n_tokens > 40) == (saved.granularity == "frame")


def test_a_saved_probe_gives_the_tested_result(probe, data, tmp_path) -> None:
    run = tmp_path / "run"
    assert probe("task=genre", f"data.root={data}", f"run_dir={run}")[0] == 0
    results = json.loads((run / "results.json").read_text())
    saved, model = SavedProbe.load(run / "probe"), from_pretrained("omar-rq-tiny")
    right = []
    for recording in read_labelled_folder(data).of("test"):
        values = saved.predict_file(model, recording.path).values[0]
        right.append(saved.labels[int(values.argmax())] == recording.labels.genre)
    assert np.mean(right) in results["systems"]["probe"]["accuracy"]["seeds"]


def test_another_run_computes_nothing_again(probe, data, tmp_path, monkeypatch) -> None:
    words = ("task=genre", f"data.root={data}", f"run_dir={tmp_path / 'run'}")
    assert probe(*words)[0] == 0
    first = (tmp_path / "run" / "results.json").read_bytes()
    monkeypatch.setattr("omar_rq.probing.run.fit_head", lambda *_, **__: pytest.fail("fitted again"))
    monkeypatch.setattr(
        "omar_rq.probing.store.open_audio", lambda *_, **__: pytest.fail("features computed again")
    )
    assert probe(*words)[0] == 0
    assert (tmp_path / "run" / "results.json").read_bytes() == first
    code, _, err = probe(*words, "fit.steps=30")
    assert code == 2 and "steps 20, not 30" in err and "choose another run_dir" in err


def test_damaged_features_are_computed_again(probe, data, tmp_path) -> None:
    words = ("task=genre", f"data.root={data}", f"store_dir={tmp_path / 'store'}", "baselines=false")
    assert probe(*words, f"run_dir={tmp_path / 'one'}")[0] == 0
    first, second, *_ = sorted((tmp_path / "store").rglob("*.npy"))
    first.write_bytes(first.read_bytes()[:-4])
    second.write_bytes(b"")
    assert probe(*words, f"run_dir={tmp_path / 'two'}")[0] == 0
    same = [json.loads((tmp_path / name / "results.json").read_text())["systems"] for name in ("one", "two")]
    assert same[0] == same[1]


def test_bad_recordings_are_named_and_cost_no_other(probe, data, tmp_path) -> None:
    root = tmp_path / "data"
    for folder, suffix in (("audio", ".flac"), ("labels", ".json")):
        (root / folder).mkdir(parents=True)
        for number in (0, 1, 6, 7, 8):
            name = f"piece{number}{suffix}"
            (root / folder / name).hardlink_to(data / folder / name)
    (root / "audio" / "bad.wav").write_bytes(b"RIFF")
    (root / "labels" / "bad.json").write_text('{"split": "test", "genre": "flute"}')
    (root / "labels" / "lost.json").write_text('{"split": "train", "genre": "flute"}')
    (root / "labels" / "unlabelled.json").write_text('{"split": "train"}')
    soundfile.write(root / "audio" / "short.wav", np.zeros(50), RATE)
    (root / "labels" / "short.json").write_text('{"split": "valid", "genre": "reed"}')
    words = ("task=genre", f"data.root={root}", f"run_dir={tmp_path / 'run'}", "baselines=false")
    code, _, err = probe(*words)
    assert code == 3 and "3 of 8 inputs failed" in err
    for name in ("bad.wav", "lost.flac", "short.wav"):
        assert name in err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["failed"] == 3
    assert results["data"]["recordings"] == {"train": 2, "valid": 2, "test": 1}


def test_a_stopped_run_continues_with_what_it_had(probe, data, tmp_path, monkeypatch) -> None:
    """Stopped at the fourth recording: three have features, which are not computed again."""
    words = ("task=genre", f"data.root={data}", "baselines=false")
    real, opened = store.open_audio, []

    def stop_at_the_fourth(path, **options):
        opened.append(path.name)
        if len(opened) == 4:
            raise KeyboardInterrupt
        return real(path, **options)

    monkeypatch.setattr(store, "open_audio", stop_at_the_fourth)
    places = (f"store_dir={tmp_path / 'store'}", f"run_dir={tmp_path / 'run'}")
    assert probe(*words, *places)[0] == 130
    assert not (tmp_path / "run" / "results.json").exists()
    assert probe(*words, *places)[0] == 0
    assert len(opened) == len(SPLITS) + 1 and len(set(opened)) == len(SPLITS)
    assert probe(*words, f"run_dir={tmp_path / 'whole'}")[0] == 0
    found = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "whole")]
    assert found[0]["systems"] == found[1]["systems"] and found[0]["layers"] == found[1]["layers"]


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (("task=genre", "data.root=nowhere"), 1, "data.root=nowhere is not a folder"),
        (("task=genre", "data.name=no", "data.root=."), 2, "there is no data set 'no'"),
        (("task=genre", "data.root=."), 1, "audio is missing"),
        (("data.root=.",), 1, "task"),
        (("task=genre", "data.root=.", "fit.loss=cosine"), 1, "allowed: auto, binary"),
        (("task=genre", "data.root=.", "seeds=0"), 1, "seeds is too small"),
        (("task=genre", "data.root=.", "steps=1"), 1, "steps"),
        (("task=key", "data.name=gtzan_genre", "data.source=folder", "data.root=."), 2, "allowed: mirdata"),
    ],
)
def test_words_that_cannot_be_used(probe, tmp_path, monkeypatch, overrides, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = probe(*overrides)
    assert found == code and message in err, err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("task=chord", "features.chunk_s=2"), "needs a pooling"),
        (("task=genre", "features.layers=7"), "layer 7 of a trunk with 5 layers"),
        (("task=genre", "head.model=forest"), "head.model is 'forest'"),
        (("task=pitch", "data.name=nsynth"), "nsynth-train/audio is missing"),
    ],
)
def test_options_that_contradict_each_other(probe, data, tmp_path, overrides, message) -> None:
    code, _, err = probe(*overrides, f"data.root={data}", f"run_dir={tmp_path / 'run'}")
    assert code in (1, 2) and message in err, err


def test_the_list_of_tasks(monkeypatch, capsys) -> None:
    for words, as_json in (("--list",), False), (("--list", "--json"), True):
        monkeypatch.setattr(sys, "argv", ["omar-rq", "probe", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        text = capsys.readouterr().out
        if as_json:
            found = {each["task"]: each for each in json.loads(text)}
            assert set(found) == set(TASKS)
            assert all(data["licence"] and data["split"] for each in found.values() for data in each["data"])
        else:
            assert "chord: the chord at each time" in text and "licence: CC BY 4.0" in text


@pytest.mark.slow
def test_a_killed_run_continues_with_what_it_had(data, tmp_path) -> None:
    """Killed while it computes features: those that were written are not computed again, and the result is the same."""
    words = [
        *(sys.executable, "-P", "-c", "from omar_rq.cli import main; main()", "probe", "task=genre"),
        *("experiment=debug", f"data.root={data}", "baselines=false"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def places(name: str) -> list[str]:
        return [f"store_dir={tmp_path / name / 'store'}", f"run_dir={tmp_path / name / 'run'}"]

    killed = subprocess.Popen([*words, *places("killed")], env=environment, stderr=subprocess.DEVNULL)
    folder = tmp_path / "killed" / "store"
    while len(stored := list(folder.rglob("*.npy"))) < 3 and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "run" / "results.json").exists()
    times = {path: path.stat().st_mtime_ns for path in stored}
    for name in ("killed", "whole"):
        subprocess.run([*words, *places(name)], env=environment, check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())
    assert len(list(folder.rglob("*.npy"))) == len(SPLITS)
    found = [
        json.loads((tmp_path / name / "run" / "results.json").read_text()) for name in ("killed", "whole")
    ]
    assert found[0]["systems"] == found[1]["systems"] and found[0]["layers"] == found[1]["layers"]
