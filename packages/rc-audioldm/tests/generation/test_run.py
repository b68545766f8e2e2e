"""``rc-audioldm generate`` and ``convert``: the run folder, resuming, failures, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from rc_audioldm.denoising.sampling import sample
from rc_audioldm.evaluation.systems import read_system
from rc_audioldm.generation.generate import Maker
from rc_audioldm.generation.run_folder import JOURNAL
from rc_audioldm.knob.dose_response import DoseResponse
from rc_audioldm.ledger.files import read_ledger
from rc_audioldm.weights import licence_of_weights, load_directory

CLIPS = {"piano.wav", "violin.wav", "drums.wav", "flute.wav"}
PROMPTS = ["drum", "a harp", "bass", "flute and cello"]
FAST = ("--steps", 2, "--seconds", 0.01675, "--device", "cpu", "--no-report", "--batch-size", 2)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sounds(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "wav").iterdir())}


def test_a_run_with_a_bank(options: Any, command: Any, tmp_path: Path, capsys: Any) -> None:
    file, out = tmp_path / "prompts.jsonl", tmp_path / "run"
    rows: list[dict[str, Any]] = [{"prompt": prompt} for prompt in PROMPTS[1:]]
    rows[0] |= {"strength": 0, "negative": "hiss"}
    file.write_text("\n".join(map(json.dumps, rows)))
    assert command(*options, "--out", out, "--prompts", file, "--variants", 2, "--knob", PROMPTS[0]) == 0
    shown = capsys.readouterr()
    assert "the licence of the weights is unknown" in shown.err and "8 done" in shown.err
    items = lines(out / "items.jsonl")
    assert [each["id"] for each in items] == [f"{i:03d}_v{v}" for i in range(4) for v in range(2)]
    assert items[0]["file"] == "wav/000__drum__v0.wav" and items[7]["prompt"] == "flute and cello"
    for item in items:
        sound, rate = soundfile.read(out / item["file"])
        assert rate == 16000 and len(sound) == 268
        assert soundfile.info(out / item["file"]).subtype == "PCM_16"
        ledger = read_ledger(out / item["file"])
        assert [each.as_dict() for each in ledger.influences] == item["influences"]
        assert (ledger.seed, ledger.mode, ledger.strength) == (item["seed"], "clap-in", item["strength"])
        assert (out / item["file"]).with_suffix(".ledger.json").is_file()
        assert item["influences"] or item["strength"] == 0
    assert items[2]["strength"] == 0 and items[2]["negative"] == "hiss" and items[2]["influences"] == []
    assert -1 <= items[0]["cos_style"] < 1 and -1 <= items[0]["clap_style"] <= 1
    config = json.loads((out / "run_config.json").read_text())
    assert config["command"].startswith("rc-audioldm generate") and config["settings"]["variants"] == 2
    assert config["seeds"]["000"] == [items[0]["seed"], items[1]["seed"]]
    assert -1 <= config["clap_agreement"] < 1
    assert json.loads((out / "hardware.json").read_text())["torch"] == version("torch")
    assert lines(out / "prompts_used.jsonl")[1]["negative"] == "hiss"
    styles = np.load(out / "style_vectors.npy")
    assert styles.shape == (8, 16) and np.linalg.norm(styles, axis=1) == pytest.approx(1)
    # What `evaluate runs` reads.
    system = read_system("A", out)
    assert system.listed and len(system.items) == 8 and system.styles is not None
    table = (out / "metrics/per_item.csv").read_text().splitlines()
    assert len(table) == 9 and table[0].startswith("id,index,variant,file,prompt,clap_text,clap_style,")
    summary = json.loads((out / "metrics/summary.json").read_text())
    assert summary["n_items"] == 8 and summary["metrics"]["clap_style"]["clips"] == 8
    assert summary["diversity"]["recordings"] == 8
    assert len(list((out / "knob").iterdir())) == 4 * 3
    knob = json.loads((out / "knob.json").read_text())
    assert knob.keys() == {f"{i:03d}_v0" for i in range(4)}
    response = DoseResponse.from_dict(knob["000_v0"])
    assert [dose.strength for dose in response.doses] == [0.0, 0.5, 1.0]
    assert all(dose.clap_reference is not None and dose.timbre is not None for dose in response.doses)
    copies = json.loads((out / "copies.json").read_text())
    assert len(copies) == 8 and {each["clip"] for each in copies["000_v0"]} == CLIPS


def test_a_run_goes_on_and_refuses_other_settings(
    options: Any, command: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert command(*options, "--out", out, *PROMPTS) == 0
    first = sounds(out)
    # A clip was lost, another one altered, and a kill has cut the journal.
    (out / "wav/000__drum.wav").unlink()
    (out / "wav/002__bass.wav").write_bytes(b"RIFF")
    text = (out / JOURNAL).read_text()
    (out / JOURNAL).write_text(text[:-40])
    capsys.readouterr()
    assert command(*options, "--out", out, *PROMPTS) == 0
    assert "3 done, 1 skipped" in capsys.readouterr().err
    assert sounds(out) == first
    assert len(lines(out / "items.jsonl")) == 4
    made = []
    monkeypatch.setattr(Maker, "make", lambda *rest: made.append(rest) or iter(()))
    assert command(*options, "--out", out, *PROMPTS) == 0 and made == []
    monkeypatch.undo()


def test_a_folder_of_other_settings(options: Any, command: Any, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    assert command(*options, "--out", out, *PROMPTS[:2]) == 0
    first = sounds(out)
    assert command(*options, "--out", out, "--seed", 1, *PROMPTS[:2]) == 2
    assert "seed 42, not 1" in capsys.readouterr().err and sounds(out) == first
    assert command(*options, "--out", out, "--seed", 1, "--overwrite", "drum") == 0
    assert sounds(out).keys() == {"000__drum.wav", "000__drum.ledger.json"}
    assert sounds(out)["000__drum.wav"] != first["000__drum.wav"]
    assert [each["id"] for each in lines(out / "items.jsonl")] == ["000_v0"]


def test_one_failure_costs_no_other(
    options: Any, command: Any, tmp_path: Path, clips: Path, capsys: Any
) -> None:
    file, out = tmp_path / "prompts.jsonl", tmp_path / "run"
    rows = [
        {"prompt": "drum"},
        {"prompt": "bass", "reference": "none.wav"},
        {"prompt": "a harp", "reference": str(clips / "piano.wav")},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert command(*options, "--out", out, "--prompts", file) == 3
    shown = capsys.readouterr().err
    assert "001_v0 bass" in shown and "none.wav" in shown and "2 done, 0 skipped, 1 failed" in shown
    assert [each["index"] for each in lines(out / "items.jsonl")] == [0, 2]
    assert not list((out / "wav").glob("001*"))
    report = json.loads((out / "report.json").read_text())
    assert report["counts"] == {"done": 2, "skipped": 0, "failed": 1}


@pytest.mark.parametrize(("value", "named"), [(float("nan"), "NaN"), (0.0, "silence")])
def test_what_cannot_be_heard_is_not_written(
    options: Any,
    command: Any,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    named: str,
) -> None:
    from dataclasses import replace

    def broken(*arguments: Any, **more: Any) -> Any:
        for clip in sample(*arguments, **more):
            yield replace(clip, audio=torch.full_like(clip.audio, value)) if clip.item.index == 1 else clip

    monkeypatch.setattr("rc_audioldm.generation.batches.sample", broken)
    out = tmp_path / "run"
    assert command(*options, "--out", out, *PROMPTS[:3]) == 3
    assert named in capsys.readouterr().err
    assert [each["index"] for each in lines(out / "items.jsonl")] == [0, 2]
    # The same command makes what failed once it can, and nothing else changes.
    before = sounds(out)
    monkeypatch.undo()

    assert command(*options, "--out", out, *PROMPTS[:3]) == 0
    after = sounds(out)
    assert len(after) == 6 and {name: after[name] for name in before} == before


def start(arguments: tuple[object, ...]) -> subprocess.Popen[str]:
    code = "import sys; from rc_audioldm.cli import main; sys.argv[0] = 'rc-audioldm'; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    options: Any, command: Any, tmp_path: Path, number: signal.Signals
) -> None:
    prompts = [f"{PROMPTS[i % 4]} {i}" for i in range(8)]
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert command(*options, "--out", whole, *prompts) == 0
    process = start((*options, "--out", out, *prompts))
    while process.poll() is None and len(list((out / "wav").glob("*.wav"))) < 2:
        time.sleep(0.005)
    process.send_signal(number)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else -number), messages
    if number == signal.SIGINT:
        assert "not done" in messages and "Traceback" not in messages
        # The second sound may have been written without its ledger, and is made again.
        assert 1 <= len(lines(out / "items.jsonl")) < 8
    assert command(*options, "--out", out, *prompts) == 0
    assert sounds(out) == sounds(whole)
    for name in ("items.jsonl", "prompts_used.jsonl"):
        one, other = lines(whole / name), lines(out / name)
        for each in (*one, *other):
            each.pop("seconds_taken", None)
        assert one == other
    assert (out / "style_vectors.npy").read_bytes() == (whole / "style_vectors.npy").read_bytes()
    assert (out / "metrics/per_item.csv").read_bytes() == (whole / "metrics/per_item.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        ((), 2, "there is nothing to make"),
        ((__file__,), 2, "test_run.py: is a file, which is no prompt"),
        (("--prompts", "none.txt"), 2, "no such file or folder: none.txt"),
        (("drum", "--bank", "none"), 2, "no such file or folder: none"),
        (("drum", "--scheduler", "plms"), 2, "scheduler is 'plms'; allowed: checkpoint, ddim"),
        (("drum", "--mode", "lm-mix"), 2, "which audioldm cannot do"),
        (("drum", "--mode", "clapin"), 2, "mode is 'clapin'"),
        (("drum", "--strength", "2"), 2, "strength is 2.0; allowed: 0 to 1"),
        (("drum", "--seconds", "0"), 2, "the length is 0.0 s"),
        (("drum", "--steps", "0"), 2, "steps is 0"),
        (("drum", "--batch-size", "0"), 2, "the batch size is 0"),
        (("drum", "--variants", "0"), 2, "variants are 0"),
        (("drum", "--mode", "clap-in"), 2, "needs a bank or a reference"),
        (("drum", "--model", "/nowhere"), 1, "/nowhere"),
    ],
)
def test_wrong_command_lines(
    model_folder: Any, command: Any, tmp_path: Path, capsys: Any, arguments: Any, status: int, named: str
) -> None:
    start = ("generate", "--model", model_folder("audioldm"), "--out", tmp_path / "run", *FAST)
    assert command(*start, *arguments) == status
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run/items.jsonl").exists()


def test_an_empty_bank_and_one_of_another_model(
    options: Any, command: Any, bank_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    import shutil

    shutil.copytree(bank_folder, tmp_path / "bank")
    path = tmp_path / "bank/bank.json"
    values = json.loads(path.read_text())
    values["header"]["weights"] = "another"
    path.write_text(json.dumps(values))
    changed = (*options, "--bank", tmp_path / "bank", "--out", tmp_path / "run", "drum")
    assert command(*changed) == 1
    assert "weights 'another' instead of" in capsys.readouterr().err
    np.save(tmp_path / "bank/vectors.npy", np.zeros((0, 16), np.float32))
    assert command(*changed) == 1
    assert "the bank is empty" in capsys.readouterr().err


def test_a_prompt_alone_needs_no_clap_model(model_folder: Any, command: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert command("generate", "--model", model_folder("audioldm"), "--out", out, *FAST, "drum") == 0
    (item,) = lines(out / "items.jsonl")
    assert item["mode"] == "prompt" and item["clap_text"] is None and item["influences"] == []
    assert not (out / "style_vectors.npy").exists()


def test_help_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys; import rc_audioldm.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_model_is_converted(
    model_folder: Any, command: Any, tmp_path: Path, family: str, dtype: str, capsys: Any
) -> None:
    source, out = model_folder(family), tmp_path / "model"
    assert command("convert", source, "--out", out, "--dtype", dtype) == 0
    stored = load_file(out / "unet/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32 if dtype == "fp32" else torch.float16}
    expected = load_directory(source).unet.state_dict()
    for name, value in load_directory(out).unet.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=0 if dtype == "fp32" else 1e-3, rtol=1e-3)
    assert licence_of_weights(out) == "unknown"
    (out / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n")
    assert licence_of_weights(out) == "CC BY-NC-SA 4.0"
    assert command("convert", source, "--out", source) == 2
    assert "which is the source itself" in capsys.readouterr().err


def test_a_prompt_longer_than_any_path_is_a_prompt(model_folder: Any, command: Any, tmp_path: Path) -> None:
    start = ("generate", "--model", model_folder("audioldm"), "--out", tmp_path / "run", *FAST)
    assert command(*start, "drum " * 1000) == 0
    assert len(lines(tmp_path / "run/items.jsonl")) == 1
