"""``notagen dpo experiment=smoke`` with nothing but what the package carries, shortened as its file says."""

import re
from importlib.resources import files

import pytest

from notagen.dpo.collection import BUNDLED, read_pieces
from notagen.dpo.judge import NgramJudge
from notagen.dpo.judge_checks import check_judge
from notagen.notation.validation import validate
from pentatonic.errors import InputError

SMOKE = files("notagen.conf.dpo") / "experiment" / "smoke.yaml"


def test_one_command_runs_the_loop(tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    pytest.importorskip("hydra")
    from notagen.dpo.iterations import main

    monkeypatch.chdir(tmp_path)  # a fresh installation: there is no music beside it
    (words,) = re.findall(r"^#   notagen dpo (.*)$", SMOKE.read_text(encoding="utf-8"), re.MULTILINE)
    main([*words.split(), "training.trainer.save_every=100"])
    run = tmp_path / "runs" / "notagen" / "dpo-smoke"
    table = (run / "summary.md").read_text(encoding="utf-8")
    assert [line.split()[1] for line in table.splitlines() if re.match(r"\| [\dh]", line)] == [
        "0",
        "1",
        "held-out",
    ]
    assert "other judge: ngrams, the same one, so that it proves nothing" in table
    assert len(list((run / "iter_01" / "original").glob("*.abc"))) == 7


def test_the_music_that_the_package_carries():
    styles = {name: read_pieces(name) for name in BUNDLED}
    assert {name: len(pieces) for name, pieces in styles.items()} == {
        "notagen:chorales": 48,
        "notagen:fiddle-tunes": 32,
    }
    texts = {name: [piece.text for piece in pieces] for name, pieces in styles.items()}
    for pieces in texts.values():
        assert len(set(pieces)) == len(pieces) and all(validate(text).valid for text in pieces)
    judge, chorales = NgramJudge(), texts["notagen:chorales"]
    report = check_judge(
        judge, chorales[:24], judge.embed(chorales[24:]), others=texts["notagen:fiddle-tunes"]
    )
    assert report.passes, report.lines()
    with pytest.raises(InputError):
        read_pieces("notagen:masses")
