"""An output that cannot be written is wrong usage, status 2, in every command, before any work."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import pytest

from pentatonic.cli import run

# Package, words before the place that cannot be written, and what follows it.
COMMANDS = [
    ("omar_rq", "embed a.wav --out ", ""),
    ("omar_rq", "tokenize a.wav --out ", ""),
    ("omar_rq", "demo a.wav --out ", ""),
    ("omar_rq", "export omar-rq-tiny --out ", "/model"),
    ("omar_rq", "convert model --out ", "/model"),
    ("omar_rq", "prepare input=. output=", ""),
    ("omar_rq", "stats model=debug root=. output=", "/stats.json"),
    ("omar_rq", "train experiment=tiny data.root=. run_dir=", ""),
    ("myna_rpe", "embed a.wav --out ", ""),
    ("myna_rpe", "export myna-rpe-tiny --out ", "/model"),
    ("myna_rpe", "convert model --out ", "/model"),
    ("myna_rpe", "probe data.name=gtzan data.root=. out=", "/result.json"),
    ("myna_rpe", "prepare input=. output=", ""),
    ("myna_rpe", "train experiment=tiny data.root=. run_dir=", ""),
    ("rc_audioldm", "generate drum --out ", ""),
    ("rc_audioldm", "convert model --out ", "/model"),
    ("notagen", "generate --out ", ""),
    ("notagen", "generate --out made --page ", "/page.html"),
    ("notagen", "infill tune.abc --bars 1 --out ", "/tune.abc"),
    ("notagen", "convert tune.abc --to midi --out ", ""),
    ("notagen", "validate tune.abc --repair --out ", ""),
    ("notagen", "export notagen-tiny --out ", "/model"),
    ("notagen", "preprocess data.source=. data.out=", ""),
    ("notagen", "evaluate model=notagen-tiny data.index=index.jsonl out=", "/numbers.json"),
    ("notagen", "train data.train=index.jsonl run_dir=", ""),
]


@pytest.mark.parametrize(("package", "words", "rest"), COMMANDS, ids=[words for _, words, _ in COMMANDS])
@pytest.mark.parametrize("obstacle", ["file", "read-only"])
def test_an_output_that_cannot_be_written_is_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    words: str,
    rest: str,
    obstacle: str,
) -> None:
    pytest.importorskip("hydra")
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "index.jsonl", "file"):
        Path(name).touch()
    Path("tune.abc").write_text("X:1\nL:1/8\nM:4/4\nK:C\nCDEF GABc|\n")
    Path("model").mkdir()
    Path("read-only").mkdir()
    # The user who runs the tests may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK or Path(path).name != "read-only")
    with pytest.raises(SystemExit) as stop:
        run(import_module(f"{package}.cli").app, f"{words}{obstacle}{rest}".split())
    error = capsys.readouterr().err
    assert stop.value.code == 2, error
    option = words.rsplit(maxsplit=1)[-1]
    assert f"Error: {option if '=' in option else f'{option} '}{obstacle}{rest}" in error
    assert "that can be written" in error and "Traceback" not in error
    assert list(Path("read-only").iterdir()) == []
