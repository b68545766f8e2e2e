"""The scorer that comes with the package: it works without a network, and hears what a judge must hear.

The pieces are some of those that it was not trained on, in the public domain; see its card.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from notagen import cli
from notagen.clamp2.commands import DEFAULT_ENCODER
from notagen.clamp2.scores import clamp2_scores
from notagen.clamp2.weights import BUNDLED, from_pretrained
from notagen.dpo.config import DpoConfig
from notagen.dpo.judge import load_judge
from notagen.dpo.judge_checks import check_judge
from pentatonic import hub
from pentatonic.checkpoint import load_tensors

PIECES = json.loads((Path(__file__).parents[1] / "goldens" / "held_out_pieces.json").read_text("utf-8"))
TUNES, CHORALES = ([*PIECES[kind].values()] for kind in ("tunes", "chorales"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "_download", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(*arguments) -> (exit code, standard output, standard error)``."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["notagen", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return (exit.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Files of tunes and of chorales."""
    folder = tmp_path_factory.mktemp("files")
    for kind, pieces in (("tunes", TUNES[:12]), ("chorales", CHORALES[:6])):
        (folder / kind).mkdir()
        for number, text in enumerate(pieces):
            (folder / kind / f"{number}.abc").write_text(text)
    return folder


def test_it_is_small_and_loads_as_music_alone():
    folder = BUNDLED[DEFAULT_ENCODER]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4e6
    assert {str(tensor.dtype) for tensor in load_tensors(folder / "model.safetensors").values()} == {
        "torch.float16"
    }
    model = from_pretrained(DEFAULT_ENCODER)
    assert not model.training and model.text is None
    assert DpoConfig().scorer == DEFAULT_ENCODER


@pytest.mark.parametrize("kind", ["tunes", "chorales"])
def test_it_is_not_blind(kind):
    judge = load_judge(DEFAULT_ENCODER)
    own, others = (TUNES, CHORALES) if kind == "tunes" else (CHORALES, TUNES)
    half = len(own) // 2
    report = check_judge(judge, own[:half], judge.embed(own[half:]), others=others)
    assert report.passes, report.lines()


def test_styles_are_apart():
    judge = load_judge(DEFAULT_ENCODER)
    tunes, chorales = judge.embed(TUNES), judge.embed(CHORALES)
    assert clamp2_scores(tunes[:18], tunes[18:]).min() > clamp2_scores(chorales, tunes[18:]).mean()
    assert clamp2_scores(chorales[:7], chorales[7:]).min() > clamp2_scores(tunes, chorales[7:]).mean()


def test_embed_search_and_score_take_it_by_default(command, files, tmp_path):
    index = tmp_path / "all.parquet"
    code, out, err = command("embed", files, "--out", index)
    assert code == 0 and "18 done" in err, err
    code, out, _ = command("search", files / "tunes" / "3.abc", "--index", index, "--count", 3, "--json")
    found = json.loads(out)["queries"][0]["found"]
    assert code == 0 and len(found) == 3
    assert found[0]["name"].startswith("tunes/3") and found[0]["score"] == pytest.approx(1, abs=1e-5)
    scores = {}
    for kind in ("tunes", "chorales"):
        code, out, err = command("score", files / kind, "--references", files / "tunes", "--json")
        assert code == 0, err
        scores[kind] = json.loads(out)["average_score"]
    assert scores["tunes"] > scores["chorales"] + 0.3


def test_texts_need_another_model(command, files, tmp_path):
    index = tmp_path / "all.parquet"
    assert command("embed", files / "tunes", "--out", index)[0] == 0
    code, _, err = command("search", "--text", "a slow air", "--index", index, "--model", DEFAULT_ENCODER)
    assert code == 2 and "no text encoder, as clamp2 has (--model clamp2)" in err


def test_features_are_finite_for_any_length():
    judge = load_judge(DEFAULT_ENCODER)
    line = "[V:1]CDEF GABc|\n"
    vectors = judge.embed(["X:1\n", "L:1/8\nK:C\n" + line, "L:1/8\nK:C\n" + 700 * line])
    assert np.isfinite(vectors).all() and (np.linalg.norm(vectors, axis=1) > 0).all()
