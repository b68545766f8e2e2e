"""Exit codes, JSON output, progress, batch reports and run manifests, mostly through real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from pentatonic.cli import (
    BatchReport,
    JsonFlag,
    PartialFailure,
    ProgressBar,
    emit_json,
    make_app,
    make_output_folder,
    make_output_place,
    passed_over_text,
    pick_device,
    progress,
    run,
    run_manifest,
    show,
    training_extra,
)
from pentatonic.errors import CorruptAudio, MissingExtra, PentatonicError, UsageError
from pentatonic.progress import show_detail

ERRORS = {
    "none": None,
    "failure": PentatonicError("the bank has no vectors"),
    "usage": UsageError("--layers: 12 is not in 0..11"),
    "partial": PartialFailure("1 of 3 inputs failed"),
    "interrupt": KeyboardInterrupt(),
    "system": OSError(28, "No space left on device", "out.npy"),
    "defect": RuntimeError("an assumption broke"),
}


def toy_app() -> typer.Typer:
    app = make_app("toy", "A toy. Needs toy[extra].")

    @app.command()
    def go(kind: str, as_json: JsonFlag = False) -> None:
        """Do it with toy[extra]."""
        if (error := ERRORS[kind]) is not None:
            raise error
        if as_json:
            emit_json({"kind": kind})

    return app


def outcome(*args: str) -> object:
    with pytest.raises(SystemExit) as stop:
        run(toy_app(), list(args))
    return stop.value.code


def python(code: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        env=os.environ | env,
        timeout=60,
        check=False,
    )


# --- exit codes and output --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("none", 0, ""),
        ("failure", 1, "Error: the bank has no vectors\n"),
        ("usage", 2, "Error: --layers: 12 is not in 0..11\n"),
        ("partial", 3, "Error: 1 of 3 inputs failed\n"),
        ("interrupt", 130, ""),
        ("system", 1, "Error: [Errno 28] No space left on device: 'out.npy'\n"),
    ],
)
def test_outcome_decides_the_exit_code(
    kind: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome("go", kind) == code
    assert capsys.readouterr() == ("", message)


def test_debug_variable_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENTATONIC_DEBUG", "1")
    assert outcome("go", "failure") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("Error: the bank has no vectors\n")


def test_defects_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("go", "defect") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "RuntimeError: an assumption broke" in err


@pytest.mark.parametrize("args", [["go"], ["go", "none", "--no-such-option"], ["no-such-command"]])
def test_wrong_usage_exits_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(*args) == 2
    assert capsys.readouterr().out == ""


def test_of_several_processes_the_first_prints_the_errors_they_share(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    printed = {}
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back at the end
        assert [outcome("go", kind) for kind in ("usage", "failure")] == [2, 1]
        outcome("--help")
        printed[rank] = capsys.readouterr()
    assert "Usage:" in printed["0"].out and "--layers" in printed["0"].err
    # What happens to one process alone is printed by it, whichever it is.
    assert printed["1"] == ("", "Error: the bank has no vectors\n")
    assert len(waited) == 1  # the first process has time to print before a launcher ends it


def test_help_keeps_square_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("--help") == 0
    assert "Needs toy[extra]." in capsys.readouterr().out
    assert outcome("go", "-h") == 0
    assert "Do it with toy[extra]." in capsys.readouterr().out


def test_version_option_names_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(make_app("pentatonic", "Shared."), ["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("pentatonic 0.")


def test_json_flag_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("go", "none", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"kind": "none"}


def test_loading_the_module_stays_light() -> None:
    heavy = "{'torch', 'numpy', 'rich', 'jinja2'}"
    result = python(f"import sys, pentatonic.cli; print({heavy} & set(sys.modules))")
    assert result.stdout.strip() == "set()", result.stderr


def test_error_messages_neither_leak_secrets_nor_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_API_KEY", "canary-4711")
    for kind, error in (("evil", PentatonicError), ("bug", ValueError)):
        monkeypatch.setitem(ERRORS, kind, error("\x1b[2J refused canary-4711"))
        assert outcome("go", kind) == 1
        assert "canary-4711" not in capsys.readouterr().err
    outcome("go", "evil")
    assert capsys.readouterr().err == "Error: \\x1b[2J refused ***\n"


def test_emit_json_converts_what_results_are_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Hit:
        path: Path
        score: float

    emit_json(
        {
            "hit": Hit(Path("a/\u304b.wav"), float("nan")),
            "array": np.array([1.5, np.inf], dtype=np.float32),
            "scalar": np.int64(3),
            "tensor": torch.tensor([[1, 2]]),
            "tuple": (True, None),
            2: "key",
        }
    )
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {
        "hit": {"path": "a/\u304b.wav", "score": None},
        "array": [1.5, None],
        "scalar": 3,
        "tensor": [[1, 2]],
        "tuple": [True, None],
        "2": "key",
    }


def test_emit_json_carries_undecodable_file_names(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"bad-\xff.wav")
    emit_json([Path(name)])
    assert json.loads(capsys.readouterr().out) == [name]


def test_emit_json_refuses_what_has_no_json_form(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        emit_json({"x": object()})
    assert capsys.readouterr().out == ""


# --- progress ---------------------------------------------------------------------------------------------


def test_plain_progress_prints_first_and_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([10, 20, 30], "embedding")) == [10, 20, 30]
    out, err = capsys.readouterr()
    first, last = err.splitlines()
    assert out == ""
    assert first == "embedding: 0/3 (0%), started"
    assert last.startswith("embedding: 3/3 (100%), ")
    assert last.endswith(" s, done")


def test_plain_progress_prints_at_intervals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgressBar, "PLAIN_INTERVAL_S", 0.0)
    with progress(4, "training") as bar:
        bar.advance(1, note="loss 1.23")
        bar.describe("validating")
        bar.advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "training: 0/4 (0%)",
        "training: 1/4 (25%)",
        "validating: 1/4 (25%)",
        "validating: 4/4 (100%)",
        "validating: 4/4 (100%)",
    ]
    assert all("loss 1.23" in line for line in lines[1:])


def test_plain_progress_without_a_total(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(None, "reading") as bar:
        bar.advance(5)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "reading: 0, started"
    assert last.startswith("reading: 5, ")


def test_progress_inside_a_step(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressBar, "PLAIN_INTERVAL_S", 0.0)
    show_detail("nobody asked")
    with progress(1, "embedding") as bar:
        show_detail("a.wav: 30 s")
        with progress(None, "reading"):
            show_detail("b.wav: 5 s")
        show_detail("a.wav: 60 s")
        bar.advance(1, note="a.wav")
    lines = [line.split(", ") for line in capsys.readouterr().err.splitlines()]
    assert [(line[0], line[2]) for line in lines if len(line) == 3] == [
        ("embedding: 0/1 (0%)", "a.wav: 30 s"),
        ("reading: 0", "b.wav: 5 s"),
        ("embedding: 0/1 (0%)", "a.wav: 60 s"),
        ("embedding: 1/1 (100%)", "a.wav"),
    ]
    show_detail("nobody asked")
    assert capsys.readouterr().err == ""


def test_progress_over_a_generator_has_no_total() -> None:
    bar = progress((n for n in range(3)), "reading")
    assert bar.total is None
    assert list(bar) == [0, 1, 2]
    assert bar.done == 3


def test_progress_without_items_cannot_be_iterated() -> None:
    with pytest.raises(TypeError, match="no items"):
        list(progress(None, "reading"))


def test_interrupted_progress_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), progress(9, "training") as bar:
        bar.advance(2)
        raise ValueError
    assert capsys.readouterr().err.splitlines()[-1].endswith("stopped")


def test_only_rank_zero_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with progress(2, "training") as bar:
        bar.advance(2)
    assert bar.done == 2
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals on this system")
def test_terminal_shows_nested_bars_and_results_stay_on_stdout() -> None:
    code = (
        "from pentatonic.cli import progress\n"
        "with progress(2, 'outer [1/2]') as outer:\n"
        "    for path in progress(['a', 'b'], 'inner'):\n"
        "        print('result', path)\n"
        "        outer.advance(note='at \\x1b' + path)\n"
        "with progress(1, 'second') as again:\n"
        "    again.advance()\n"
    )
    terminal, theirs = os.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    result = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=env, timeout=60, check=True
    )
    shown = os.read(terminal, 1 << 20).decode()
    os.close(theirs)
    os.close(terminal)
    assert result.stdout == b"result a\nresult b\n"
    for text in ("outer [1/2]", "inner", "2/2", "at \\x1bb", "second", "1/1"):
        assert text in shown


# --- batches ----------------------------------------------------------------------------------------------


@pytest.fixture
def batch() -> BatchReport:
    report = BatchReport()
    report.done("a.wav", duration_s=2.5)
    report.skipped(Path("b.wav"))
    report.failed("c.wav", CorruptAudio("c.wav", "frame 3 is damaged"))
    report.failed("\x1bd.wav", "no permission")
    return report


def test_batch_report_names_each_failure_once(batch: BatchReport, capsys: pytest.CaptureFixture[str]) -> None:
    batch.print_summary()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "failed  c.wav      CorruptAudio  frame 3 is damaged",
        "failed  \\x1bd.wav  Failure       no permission",
        "1 done, 1 skipped, 2 failed",
    ]


def test_batch_report_decides_the_exit_code(batch: BatchReport) -> None:
    assert batch.exit_code == 3
    with pytest.raises(PartialFailure, match="2 of 4 inputs failed"):
        batch.raise_for_failures()


def test_clean_batch_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    report = BatchReport()
    report.done("a.wav")
    report.raise_for_failures()
    report.print_summary()
    assert report.exit_code == 0
    assert capsys.readouterr().err == "1 done, 0 skipped, 0 failed\n"


def test_batch_report_is_written_as_json(batch: BatchReport, tmp_path: Path) -> None:
    batch.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["counts"] == {"done": 1, "skipped": 1, "failed": 2}
    assert written["inputs"][0] == {"status": "done", "path": "a.wav", "duration_s": 2.5}
    assert written["inputs"][2]["reason"] == "frame 3 is damaged"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_batch_report_that_cannot_be_written_leaves_the_old_one(batch: BatchReport, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    batch.done("e.wav", model=object())
    with pytest.raises(TypeError):
        batch.write(path)
    assert path.read_text() == "old"


def test_interrupted_batch_says_what_is_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = BatchReport()
    inputs = [Path("a.wav"), Path("b.wav"), Path("c.wav"), Path("d.wav")]

    def work() -> None:
        with report.interruptible(inputs, tmp_path / "report.json"):
            report.done(inputs[0])
            report.failed(inputs[1], "no audio")
            raise KeyboardInterrupt

    app = make_app("toy", "A toy.")
    app.command("work")(work)
    with pytest.raises(SystemExit) as stop:
        run(app, ["work"])
    assert stop.value.code == 130
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "failed  b.wav  Failure  no audio",
        "1 done, 0 skipped, 1 failed, 2 not done",
    ]
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["counts"] == {"done": 1, "skipped": 0, "failed": 1, "not done": 2}
    assert written["inputs"][2:] == [{"status": "not done", "path": name} for name in ("c.wav", "d.wav")]


def test_only_interrupts_are_taken_for_interrupts() -> None:
    report = BatchReport()
    with pytest.raises(KeyError), report.interruptible(["a"]):
        raise KeyError
    with report.interruptible(["a"]):
        pass
    assert report.entries == [] and "not done" not in report.counts


def test_hostile_names_stay_on_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report = BatchReport()
    names = [
        "short.wav",
        "x" * 250 + ".wav",
        "line\nfailed  z.wav",
        "clear\x1b[2J",
        "latin-\udce9",
        "sep\u2028",
    ]
    for name in names:
        report.failed(name, CorruptAudio(name, f"no audio in\n{name}"))
    report.print_summary()
    lines = capsys.readouterr().err.split("\n")
    assert lines[-2:] == ["0 done, 0 skipped, 6 failed", ""] and len(lines) == 8
    assert lines[0] == f"failed  {'short.wav':<19}  CorruptAudio  no audio in short.wav"
    assert lines[1].startswith(f"failed  {names[1]}  CorruptAudio  no audio in xxx")
    shown = [r"line\nfailed  z.wav", r"clear\x1b[2J", r"latin-\udce9", r"sep\u2028"]
    for line, name in zip(lines[2:6], shown, strict=True):
        assert line.startswith(f"failed  {name:<19}  CorruptAudio  no audio in ")
        assert line.isprintable()


def test_hostile_names_stay_on_their_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    name = "line\nend\x1b[2J\udce9"
    show({}, False, lambda: [name, "next"])
    with progress(1, name) as bar:
        bar.advance(1, note=name)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [r"line\nend\x1b[2J\udce9", "next"]
    assert len(printed.err.splitlines()) == 2 and all(map(str.isprintable, printed.err.splitlines()))


@pytest.mark.parametrize("place", ["file", "file/below", "closed/below"])
def test_output_folders_that_cannot_be_written_are_wrong_usage(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed" / "below").mkdir(parents=True)
    # The user who runs the tests may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(tmp_path / "closed"))
    with pytest.raises(UsageError, match=r"^--out .* is not a folder that can be written: "):
        make_output_folder(tmp_path / place)
    with pytest.raises(UsageError, match=r"^output=.* is not a file that can be written"):
        make_output_place(tmp_path / place / "out.abc", "output=")


def test_output_folders_are_made(tmp_path: Path) -> None:
    make_output_folder(tmp_path / "a" / "b")
    make_output_place(tmp_path / "c" / "d" / "out.abc")
    assert (tmp_path / "a" / "b").is_dir() and list((tmp_path / "c" / "d").iterdir()) == []
    with pytest.raises(UsageError, match="it is a folder"):
        make_output_place(tmp_path / "a")


def test_flags_and_files_passed_over_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = BatchReport()
    report.done("a\n.wav", flags=["quiet (silence)", "short (0.50 s)"])
    report.done("b.wav")
    report.passed_over = {".txt": 3, "": 1}
    report.print_summary()
    assert capsys.readouterr().err.splitlines() == [
        "flagged  a\\n.wav  quiet (silence), short (0.50 s)",
        "4 files passed over for their suffix: 3 .txt, 1 without one",
        "2 done, 0 skipped, 0 failed",
    ]
    report.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == report.document()
    assert written["passed_over"] == {".txt": 3, "": 1}
    assert written["inputs"][0]["flags"] == ["quiet (silence)", "short (0.50 s)"]


def test_of_many_suffixes_the_first_eight_are_named() -> None:
    said = passed_over_text({f".{i}\x1b": 2 for i in range(10)})
    assert said.startswith("20 files passed over for their suffix: 2 .0\\x1b, 2 .1") and said.endswith(
        "4 others"
    )
    assert said.count(",") == 8
    assert passed_over_text({".txt": 1}) == "1 file passed over for its suffix: 1 .txt"


def test_failure_without_a_message_has_a_reason() -> None:
    report = BatchReport()
    report.failed("a.wav", MemoryError())
    assert report.entries[0]["reason"] == "MemoryError"


# --- provenance -------------------------------------------------------------------------------------------


def test_manifest_describes_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/omar-rq", "embed", "a song.wav", "--max-tokens", "5"])
    manifest = run_manifest()
    assert manifest["command"] == "omar-rq embed 'a song.wav' --max-tokens 5"
    assert manifest["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert manifest["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert {"pentatonic", "numpy"} <= set(manifest["versions"])
    assert manifest["hardware"]["cpus"] >= 1
    assert json.loads(json.dumps(manifest)) == manifest


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--hf-token", "canary-4711", "x"], "--hf-token '***' x"),
        (["--api-key=canary-4711"], "'--api-key=***'"),
        (["+tracker.api_key=canary-4711"], "'+tracker.api_key=***'"),
        (["tracker={token: canary-4711}"], "'tracker={token:***'"),
        (["https://me:canary-4711@host/x"], "'https://***@host/x'"),
        (["note=canary-4711"], "'note=***'"),
        (["max_tokens=5", "tokens", "mask.token_rate=2"], "max_tokens=5 tokens mask.token_rate=2"),
    ],
)
def test_manifest_hides_secrets_in_the_command(
    words: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[0].startswith("note"):  # recognised by value alone
        monkeypatch.setenv("SPOTIFY_CLIENT_SECRET", "canary-4711")
    monkeypatch.setattr(sys, "argv", ["omar-rq", *words])
    manifest = run_manifest()
    assert "canary-4711" not in json.dumps(manifest)
    assert manifest["command"] == f"omar-rq {shown}"


def test_manifest_of_a_script_names_the_interpreter() -> None:
    code = "from pentatonic.cli import run_manifest; print(run_manifest()['command'])"
    result = python(code, "x y")
    assert result.stdout.startswith(f"{Path(sys.executable).name} -c "), result.stderr
    assert result.stdout.rstrip().endswith("'x y'")


def test_git_commit_is_that_of_the_code(tmp_path: Path) -> None:
    # A copy of the module inside a repository: unknown until it is tracked, then the commit, then changed.
    source = Path(sys.modules["pentatonic.provenance"].__file__ or "")
    copy = tmp_path / "copied.py"
    copy.write_text(source.read_text())

    def git(*args: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *args], cwd=tmp_path, check=True, capture_output=True)

    def commit() -> str:
        code = "import sys; sys.path.insert(0, sys.argv[1]); import copied; print(copied._git_commit())"
        return python(code, str(tmp_path), PYTHONDONTWRITEBYTECODE="1").stdout.strip()

    git("init", "--quiet")
    assert commit() == "None"
    git("add", "copied.py")
    git("commit", "--quiet", "--message", "first")
    assert len(commit()) == 40
    copy.write_text(copy.read_text() + "\n")
    assert commit().endswith("-dirty")


@pytest.mark.parametrize(
    "error",
    [MissingExtra("Composing", "pentatonic[train]"), ModuleNotFoundError("no hydra", name="hydra.core")],
)
def test_the_extra_of_the_package_is_named_not_that_of_what_is_below(error: Exception) -> None:
    with pytest.raises(MissingExtra, match=r"Training needs the extra 'notagen\[train\]'"):  # noqa: SIM117
        with training_extra("Training", "notagen[train]"):
            raise error


@pytest.mark.parametrize(
    "error", [MissingExtra("A page", "pentatonic[report]"), ModuleNotFoundError("no x", name="x")]
)
def test_other_missing_modules_are_passed_on(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error).split("'")[0]):  # noqa: SIM117
        with training_extra("Training", "notagen[train]"):
            raise error


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert (pick_device("auto"), pick_device("cpu")) == ("cpu", "cpu")
    for name in ("cuda", "mps"):
        with pytest.raises(UsageError, match=f"is {name}, but there is no usable GPU.*here: auto, cpu$"):
            pick_device(name)
        with pytest.raises(UsageError, match=f"^device is {name}, but"):
            pick_device(name, "device=")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [pick_device(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    with pytest.raises(UsageError, match=r"here: auto, cpu, cuda$"):
        pick_device("mps")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert pick_device("mps") == "mps"
