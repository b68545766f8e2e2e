"""The commands of ``rc-audioldm bank``, from a folder of clips to neighbours and styles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rc_audioldm.bank import StyleBank
from rc_audioldm.cli import main


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["rc-audioldm", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def bank(clips_folder: Path, clap_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    out = tmp_path / "bank"
    options = ("--out", out, "--model", clap_folder, "--random-weights", "--near-duplicates", 2)
    assert command(monkeypatch, "bank", "build", clips_folder, *options) == 0
    return out


def test_a_bank_is_built_and_shown(bank: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    capsys.readouterr()
    assert command(monkeypatch, "bank", "info", bank, "--json") == 0
    about = json.loads(capsys.readouterr().out)
    assert about["clips"] == 6 and about["licences"] == {"unknown": 5, "CC BY 3.0": 1}
    (bank / "mapping.jsonl").write_text((bank / "mapping.jsonl").read_text().replace("CC BY", "CC0  "))
    assert command(monkeypatch, "bank", "info", bank) == 1
    assert "mapping.jsonl: the content was altered" in capsys.readouterr().err


def test_neighbours_of_texts_recordings_and_banks(
    bank: Path,
    clips_folder: Path,
    clap_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\ufeff# prompts\n\na drum\n", encoding="utf-8")
    model = ("--model", clap_folder, "--random-weights")
    options = (
        "--text",
        "piano",
        "--prompts",
        prompts,
        "--audio",
        clips_folder / "2.wav",
        "--top-k",
        3,
        "--json",
    )
    capsys.readouterr()
    for number, extra in enumerate(((), ("--centre",))):
        out = tmp_path / f"out{number}"
        assert command(monkeypatch, "bank", "neighbors", bank, "--out", out, *model, *options, *extra) == 0
        about = json.loads(capsys.readouterr().out)
        assert [each["query"] for each in about["queries"]] == [
            "piano",
            "a drum",
            str(clips_folder / "2.wav"),
        ]
        nearest = about["queries"][2]["nearest"][0]
        assert nearest["path"] == "2.wav" and nearest["similarity"] == pytest.approx(1, abs=1e-5)
        assert np.load(out / "agg_emb.npy").shape == (3, StyleBank.open(bank).dimension)
        assert len((out / "neighbors.jsonl").read_text().splitlines()) == 3
    few = tmp_path / "few"
    assert (
        command(
            monkeypatch,
            "bank",
            "neighbors",
            bank,
            "--out",
            few,
            "--queries",
            bank,
            "--terms",
            "known",
            "--pairs",
        )
        == 0
    )
    found = [json.loads(line) for line in (few / "neighbors.jsonl").read_text().splitlines()]
    assert {n["path"] for each in found for n in each["neighbors"]} == {"kit/tagged.ogg"} and len(found) == 6
    assert (few / "pairs" / "style_topM.npy").is_file()


def test_an_index_is_chosen_and_used(bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    assert command(monkeypatch, "bank", "index", bank, "--kind", "faiss-flat") == 0
    assert command(monkeypatch, "bank", "neighbors", bank, "--out", tmp_path / "n", "--queries", bank) == 0
    assert json.loads((tmp_path / "n" / "run.json").read_text())["search"] == "faiss-flat"


def test_an_audit_writes_another_bank(
    bank: Path, clap_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ("--model", clap_folder, "--random-weights")
    out = tmp_path / "musical"
    options = ("--keep-margin", -2, "--max-keep", 4)
    assert command(monkeypatch, "bank", "audit", bank, "--out", out, *model, *options) == 0
    kept, before = StyleBank.open(out), StyleBank.open(bank)
    margins = [json.loads(line) for line in (tmp_path / "musical.margins.jsonl").read_text().splitlines()]
    ranked = sorted(margins, key=lambda line: line["speech"] - line["music"])
    assert [clip.path for clip in kept.clips] == [line["path"] for line in ranked[:4]]
    for row, clip in enumerate(kept.clips):
        old = [each.path for each in before.clips].index(clip.path)
        np.testing.assert_allclose(kept.rows([row]), before.rows([old]), atol=1e-6)
        assert kept.audio_path(row).samefile(before.audio_path(old))


def test_wrong_usage_and_failures_have_their_status(
    bank: Path,
    clips_folder: Path,
    clap_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    model = ("--model", clap_folder)
    assert command(monkeypatch, "bank", "neighbors", bank, "--out", tmp_path / "n") == 2
    assert command(monkeypatch, "bank", "neighbors", bank, "--out", tmp_path / "n", "--text", "x") == 2
    assert "give --model" in capsys.readouterr().err
    assert command(monkeypatch, "bank", "build", tmp_path / "none", "--out", tmp_path / "b", *model) == 2
    assert command(monkeypatch, "bank", "build", clips_folder, "--out", clips_folder / "0.wav", *model) == 2
    other = ("--out", bank, *model, "--random-weights", "--windows", "clapback-embed")
    assert command(monkeypatch, "bank", "build", clips_folder, *other) == 1
    assert "windows '1 s, hop 0.5 s" in capsys.readouterr().err
    (clips_folder / "bad.wav").write_bytes(b"")
    assert command(monkeypatch, "bank", "build", clips_folder, "--out", bank, *model, "--random-weights") == 3
    assert "bad.wav" in capsys.readouterr().err


def test_help_imports_no_torch() -> None:
    program = (
        "import sys; import rc_audioldm.cli; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
