"""An output that cannot be written, or is an input, is wrong usage, status 2, in every command, before any work."""

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
    ("cm3p", "evaluate maps=[map.osu] out=", "/quality.json"),
    ("cm3p", "evaluate maps=[map.osu] page=", "/quality.html"),
    ("rc_audioldm", "evaluate runs systems=[model] out=", ""),
    ("rc_audioldm", "evaluate reference recordings=model out=", "/r.safetensors"),
    ("rc_audioldm", "evaluate listening-test systems=[model] out=", ""),
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
    for name in ("a.wav", "index.jsonl", "map.osu", "file"):
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


# Commands that would write what they read. The first word after the package says what must stay as it is.
ONTO_INPUTS = [
    ("omar_rq", "model", "export model --out model"),
    ("omar_rq", "model", "convert model --out model"),
    ("myna_rpe", "model", "export model --out model"),
    ("myna_rpe", "model", "convert model --out ./model"),
    ("myna_rpe", "list.m3u8", "playlist page list.m3u8 --out list.m3u8"),
    ("notagen", "model", "export model --out model"),
    ("notagen", "tune.abc", "infill tune.abc --bars 1 --out tune.abc"),
    ("notagen", "tune.abc", "validate tune.abc --repair --out ."),
    ("cm3p", "map.osu", "embed map.osu --no-audio --out map.osu"),
    ("cm3p", "map.osu", "embed map.osu --no-audio --out link.osu"),
    ("cm3p", "e.parquet", "explore e.parquet --out e.parquet"),
    ("cm3p", "map.csv", "faults map.csv --out map.csv"),
    ("cm3p", "map.svg", "inspect map.svg --picture map.svg"),
    ("cm3p", "map.svg", "validate map.svg --figure map.svg"),
    ("cm3p", "e.json", "evaluate embeddings=e.json out=e.json"),
    ("cm3p", "e.json", "evaluate maps=[map.osu] metadata=e.json out=e.json"),
    ("cm3p", "model", "convert model --out model"),
    ("rc_audioldm", "model", "bank build model --model m --out model"),
    ("rc_audioldm", "model", "bank audit model --model m --out model"),
    ("rc_audioldm", "list.jsonl", "prepare audit list.jsonl --out list.jsonl"),
    ("rc_audioldm", "list.jsonl", "prepare prune list.jsonl --audit e.json --out list.jsonl"),
    ("rc_audioldm", "model", "evaluate reference recordings=model out=model"),
    ("rc_audioldm", "list.jsonl", "prepare union a=list.jsonl --out list.jsonl"),
]


@pytest.mark.parametrize(
    ("package", "kept", "words"), ONTO_INPUTS, ids=[words for _, _, words in ONTO_INPUTS]
)
def test_nothing_is_written_onto_what_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    kept: str,
    words: str,
) -> None:
    if "=" in words:
        pytest.importorskip("hydra")
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    (Path("model") / "file").write_text("mine")
    for name in ("map.osu", "map.csv", "map.svg", "e.parquet", "e.json", "list.jsonl", "list.m3u8"):
        Path(name).write_text("mine")
    Path("tune.abc").write_text("X:1\nL:1/8\nM:4/4\nK:C\nCDEF GABc|\n")
    Path("link.osu").hardlink_to("map.osu")
    before = {path: path.read_bytes() for path in Path(kept).parent.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        run(import_module(f"{package}.cli").app, words.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "is an input, which would be lost" in error, error
    assert {path: path.read_bytes() for path in Path(kept).parent.rglob("*") if path.is_file()} == before
