"""The command line: exit codes, JSON, what is imported when, and what reaches the library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import notagen
from notagen import cli
from notagen.generation.sampling import Sampling
from notagen.weights import load_file, save_pretrained

GOLDENS = Path(__file__).parent / "goldens" / "generation_e2e"
CASES = json.loads((GOLDENS / "cases.json").read_text())["cases"]
PROMPTS = {"Classical": {"Anon, A.": ["Art Song"], "Nobody": ["Choral", "Keyboard"]}}
TUNE = "X:1\nT:Scale\n%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:1\nCDEF GABc|c8|]\n"
BAD = "%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\n[V:1]CDEF GABc|\n[V:1]c9|\n[V:1]c8|]\n"

TASKS = {
    "preprocess": "notagen.training.preprocess",
    "train": "notagen.training.train",
    "evaluate": "notagen.evaluation.evaluate",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model that has learnt two texts by heart."""
    folder = tmp_path_factory.mktemp("model") / "small"
    save_pretrained(load_file(GOLDENS / "weights.safetensors"), folder)
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(*arguments) -> (exit code, standard output, standard error)``."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["notagen", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return (exit.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def generate(command, model, tmp_path):
    """``generate(*options)``: one free piece into ``tmp_path / "out"``."""

    def run(*options: object) -> tuple[int, str, str]:
        words = ("generate", "--model", model, "--out", tmp_path / "out", "--free", "--formats", "abc")
        return command(*words, *options)

    return run


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_help_imports_no_torch():
    program = """
import sys
import notagen, notagen.cli
for words in (["--help"], ["generate", "--help"], ["train", "--help"], ["--version"]):
    try:
        notagen.cli.app(words)
    except SystemExit as exit:
        assert exit.code == 0
assert not {"torch", "numpy", "hydra", "omegaconf", "gradio"} & set(sys.modules), "imported too early"
"""
    text = python(program)
    for word in (
        "generate",
        "infill",
        "convert",
        "validate",
        "info",
        "demo",
        "preprocess",
        "train",
        "evaluate",
    ):
        assert f"\n  {word} " in text
    assert "debug" in text and "finetune" in text  # experiments


def test_the_console_script_is_this_main():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="notagen")
    assert script.load() is cli.main


def test_sampling_is_that_of_the_model_where_nothing_is_given(generate, model, monkeypatch):
    seen = []

    def write_pieces(loaded, requests, out, **options):
        seen.append((options["sampling"], options["best_of"]))
        return [], SimpleNamespace(print_summary=lambda: None, raise_for_failures=lambda: None)

    monkeypatch.setattr("notagen.generation.piece_folder.write_pieces", write_pieces)
    generate()
    generate("--best-of", 3, "--top-k", 0)
    monkeypatch.setattr(cli, "_load", lambda *_: SimpleNamespace(sampling=Sampling(temperature=0.8)))
    generate()
    generate("--temperature", 1.0)
    assert seen == [
        (Sampling(), 1),
        (Sampling(top_k=0), 3),
        (Sampling(temperature=0.8), 1),
        (Sampling(temperature=1.0), 1),
    ]
    assert generate("--temperature", 0)[0] != 0 and generate("--best-of", 0)[0] == 2


def test_generate(generate, tmp_path):
    out = tmp_path / "out"
    code, stdout, stderr = generate("--composer", "anon, a.", "--formats", "abc,musicxml,midi")
    assert code == 0 and "1 done" in stderr
    assert stdout == f"{out / '0'}: finished, 3 bars, valid: 0.abc 0.musicxml 0.mid\n"
    assert (out / "0.abc").read_text().startswith("X:1\n%%score 1 { 2 | 3 }\nL:1/8\n")
    assert "\nV:1\n" in (out / "0.abc").read_text()
    assert json.loads((out / "0.json").read_text())["text"] == CASES[1]["original"]
    assert "0 done, 1 skipped" in generate("--composer", "anon, a.", "--formats", "abc,musicxml,midi")[2]


def test_generate_json_and_seeds(generate):
    code, stdout, _ = generate("--composer", "Anon, A.", "--json", "-n", 2, "--seed", 5, "--batch-size", 1)
    pieces = json.loads(stdout)["pieces"]
    assert code == 0 and [piece["seed"] for piece in pieces] == [5, 6]
    assert all(piece["text"] == CASES[1]["original"] for piece in pieces)


def test_options_reach_the_library(generate, monkeypatch, model):
    seen = {}

    def write_pieces(model, requests, out, **options):
        seen.update(options, requests=requests)
        return [], SimpleNamespace(print_summary=lambda: None, raise_for_failures=lambda: None)

    monkeypatch.setattr("notagen.generation.piece_folder.write_pieces", write_pieces)
    options = ["--top-k", 3, "--top-p", 0.5, "--temperature", 0.7, "--max-patches", 9, "--max-seconds", 2.5]
    assert generate(*options, "--bars", 12, "--constrained", "--upstream-layout", "-n", 4)[0] == 0
    assert seen["sampling"] == Sampling(3, 0.5, 0.7) and seen["constrained"] is True
    assert (seen["limits"].patches, seen["limits"].seconds) == (9, 2.5) and seen["upstream_layout"] is True
    assert seen["model_name"] == str(model)
    # Without a prompt, those of the model take turns.
    lines = [request.prompt.split("\n")[2] for request in seen["requests"]]
    assert lines == ["%Art Song", "%Choral", "%Keyboard", "%Art Song"]
    assert {request.bars for request in seen["requests"]} == {12}


def test_limits_end_a_piece(generate, tmp_path):
    code, stdout, _ = generate("--composer", "Anon, A.", "--max-patches", 3)
    assert code == 0 and "stopped by --max-patches, 0 bars, not complete, " in stdout
    other = ["--out", tmp_path / "other", "--constrained", "--seed", 1, "--bars", 200]
    code, stdout, _ = generate("--composer", "Anon, A.", "--max-patches", 3, *other)
    assert code == 0 and "/1: stopped by --max-patches, " in stdout
    assert "bar, completed without the model: 1.abc" in stdout.replace("bars", "bar")


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_number_types(generate, dtype):
    code, stdout, stderr = generate("--composer", "Anon, A.", "--dtype", dtype)
    assert code == 0 and "finished, 3 bars" in stdout, stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--composer", "Nobodi"], "unknown composer 'Nobodi'; did you mean 'Nobody'?"),
        (["--composer", "Nobody"], "Nobody is not enough for a prompt; allowed: "),
        (["--formats", "abc,mp3"], "--formats has 'mp3'; allowed: abc, musicxml, midi"),
        (["--top-p", "2"], "top_p must be in (0, 1], got 2.0"),
        (["--prompt-file", "a", "--continue", "b"], "exclude each other"),
        (["--model", "no/thing"], "there is no model 'no/thing'"),
        (["--number", "0"], "'--number' / '-n'"),
        (["--seed", 2**32], "a seed must be 0 to 2^32 - 1"),
        (["--seed", 2**32 - 1, "-n", 2], f"the last seed would be {2**32}; a seed must be 0 to 2^32 - 1"),
        (["--max-seconds", 0], "--max-seconds is 0.0; allowed: a finite number above 0"),
        (["--max-seconds", "nan"], "--max-seconds is nan"),
        (["--max-seconds", "inf"], "--max-seconds is inf"),
        (["--out", __file__], f"--out {__file__} is not a folder that can be written"),
        (["--out", f"{__file__}/sub"], "test_cli.py/sub is not a folder that can be written"),
        (["--page", f"{__file__}/page.html"], "--page "),
        (["--page", Path(__file__).parent], "is not a file that can be written"),
        (["--dtype", "fp8"], "'fp8'"),
    ],
)
def test_refusals(generate, options, said):
    code, _, stderr = generate(*options)
    assert code in (1, 2) and said in stderr and "Traceback" not in stderr


@pytest.mark.parametrize(
    "options", [["--out", __file__], ["--page", Path(__file__).parent], ["--seed", 2**32]]
)
def test_refused_before_the_model_is_loaded(generate, monkeypatch, options):
    monkeypatch.setattr(cli, "_load", lambda *_: pytest.fail("too late"))
    assert generate(*options)[0] == 2


def test_another_prompt_needs_another_folder(generate, tmp_path):
    assert generate("--composer", "Anon, A.")[0] == 0
    text = (tmp_path / "out" / "0.abc").read_bytes()
    (tmp_path / "tune.abc").write_text(TUNE)
    code, _, stderr = generate("--continue", tmp_path / "tune.abc")
    assert code == 2 and "0.json was made from another prompt; choose another folder" in stderr
    assert (tmp_path / "out" / "0.abc").read_bytes() == text


def test_a_prompt_file_is_taken_as_it_is(generate, tmp_path):
    (tmp_path / "header.txt").write_text('%%score 1\nL:1/8\nQ:1/4=100\nM:2/4\nK:G\nV:1 treble nm="Flute"\n')
    code, stdout, _ = generate("--prompt-file", tmp_path / "header.txt", "--json", "--max-patches", 5)
    assert code == 0 and json.loads(stdout)["pieces"][0]["text"].startswith("%%score 1\nL:1/8\nQ:1/4=100\n")


def test_continuing_a_piece(generate, tmp_path):
    (tmp_path / "tune.abc").write_text(TUNE)
    code, stdout, stderr = generate(
        "--continue", tmp_path / "tune.abc", "--bars", 3, "--json", "--max-patches", 4
    )
    assert code == 0, stderr
    text = json.loads(stdout)["pieces"][0]["text"]
    assert "[r:0/4][V:1]CDEF GABc|\n[r:1/3][V:1]c8|\n" in text
    (tmp_path / "bad.abc").write_text(TUNE.replace("K:C", "K:Q"))
    code, _, stderr = generate("--continue", tmp_path / "bad.abc", "--constrained", "--out", tmp_path / "b")
    assert code == 1 and f"{tmp_path / 'bad.abc'}: K: key 'Q' does not" in stderr
    (tmp_path / "tune.abc").write_bytes(b"X:1\n\xff")
    code, _, stderr = generate("--continue", tmp_path / "tune.abc")
    assert code == 1 and "tune.abc: the tune has no K: line" in stderr
    assert "missing.abc: cannot be read" in generate("--continue", tmp_path / "missing.abc")[2]


def test_constrained_pieces_are_well_formed(command, model, tmp_path):
    words = [
        "generate",
        "--model",
        model,
        "--out",
        tmp_path,
        "--bars",
        3,
        "-n",
        3,
        "--top-k",
        0,
        "--top-p",
        1,
    ]
    code, stdout, stderr = command(*words, "--temperature", 3, "--max-patches", 150)
    assert code == 0, stderr
    # Whether a bar fits into the small context of this model depends on the seed; whether it is valid does not.
    records = [json.loads((tmp_path / f"{seed}.json").read_text()) for seed in range(3)]
    assert all(record["report"]["valid"] for record in records) and "valid: 2.abc" in stdout


def test_failed_exports_exit_3_and_are_named(generate, monkeypatch):
    from notagen.generation import piece_folder
    from pentatonic.errors import InputError

    def fail(text, stem, formats, **options):
        raise InputError("too strange")

    monkeypatch.setattr(piece_folder, "write_piece", fail)
    code, stdout, stderr = generate("--composer", "Anon, A.")
    assert (
        code == 3 and "0.json" in stderr and "abc: too strange" in stderr and "1 of 1 inputs failed" in stderr
    )
    assert "finished" in stdout


def test_ctrl_c_exits_130(generate, monkeypatch, tmp_path):
    from notagen.generation import best_of

    inner = best_of.stream

    def stream(*arguments, **options):
        for update in inner(*arguments, **options):
            if update.index == 1:
                raise KeyboardInterrupt
            yield update

    monkeypatch.setattr(best_of, "stream", stream)
    assert generate("--composer", "Anon, A.", "-n", 2, "--batch-size", 1)[0] == 130
    assert (tmp_path / "out" / "0.abc").is_file()


def test_validate(command, tmp_path):
    good, bad, missing = (tmp_path / name for name in ("good.abc", "bad.abc", "missing.abc"))
    good.write_text(TUNE)
    bad.write_text(BAD)
    code, stdout, _ = command("validate", good)
    assert code == 0 and stdout == f"{good}: valid (in the models' dialect), 2 bars\n"
    code, stdout, stderr = command("validate", good, bad)
    assert code == 3 and f"{bad}: not valid (legal ABC), 3 bars\n  line 7, bar 2: meter [bars]: " in stdout
    assert "1 done, 0 skipped, 1 failed" in stderr
    for words in (
        ["validate", good, missing],
        ["convert", missing, "--to", "midi", "--out", tmp_path / "midi"],
    ):
        code, stdout, stderr = command(*words)
        assert (code, stdout, stderr) == (2, "", f"Error: no such file or folder: {missing}\n")
    assert not (tmp_path / "midi").exists()
    files = json.loads(command("validate", bad, "--json")[1])["files"]
    assert files[0]["path"] == str(bad) and files[0]["issues"][0]["bar"] == 2


def test_validate_repairs(command, tmp_path):
    bad = tmp_path / "bad.abc"
    bad.write_text(BAD)
    code, stdout, stderr = command("validate", bad, "--repair", "--out", tmp_path / "repaired")
    assert code == 0 and "  repaired: " in stdout, stderr
    assert command("validate", tmp_path / "repaired" / "bad.abc")[0] == 0
    assert command("validate", bad, "--repair")[0] == 2
    code, _, stderr = command("validate", bad, bad, "--repair", "--out", tmp_path)
    assert code == 2 and "more than one file" in stderr


def test_levels(command, tmp_path):
    """Two voices without %%score are legal ABC in which the bars add up, and not in the dialect of the models."""
    path = tmp_path / "two.abc"
    path.write_text("X:1\nL:1/4\nM:4/4\nK:C\nV:1\nV:2\nV:1\nCDEF|GABc|]\nV:2\nZ2|]\n")
    code, stdout, _ = command("validate", path)
    assert (
        code == 0 and f"{path}: valid (legal ABC, bars add up), 2 bars\n  piece: score [dialect]: " in stdout
    )
    assert command("validate", path, "--level", "dialect")[0] == 3
    (result,) = json.loads(command("validate", path, "--json")[1])["files"]
    assert (result["valid"], result["level"]) == (True, "bars")
    path.write_text(path.read_text().replace("GABc", "GAB"))
    assert command("validate", path)[0] == 3 and command("validate", path, "--level", "abc")[0] == 0


def test_repair(command, tmp_path):
    bad = tmp_path / "bad.abc"
    bad.write_text(BAD)
    code, stdout, stderr = command("repair", bad, "--out", tmp_path / "repaired")
    assert code == 0 and "  repaired: " in stdout, stderr
    assert command("validate", tmp_path / "repaired" / "bad.abc", "--level", "dialect")[0] == 0
    assert command("repair", bad, "--out", tmp_path)[0] == 2  # it would replace its input


def test_a_book_of_tunes(command, tmp_path):
    path = tmp_path / "book.abc"
    path.write_text(TUNE + "\n" + TUNE.replace("X:1", "X:2").replace("c8", "c9|c8"))
    code, stdout, _ = command("validate", path)
    assert code == 3 and f"{path}, tune 1: valid" in stdout and f"{path}, tune 2: not valid" in stdout
    assert command("repair", path, "--out", tmp_path / "out")[0] == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["book-1.abc", "book-2.abc"]


def test_an_output_folder_that_is_a_file(command, tmp_path):
    path = tmp_path / "tune.abc"
    path.write_text(TUNE)
    for words in (["convert", path, "--to", "midi"], ["validate", path, "--repair"]):
        code, _, stderr = command(*words, "--out", path)
        assert (code, stderr) == (
            2,
            f"Error: --out {path} is not a folder that can be written: {path} is not a folder\n",
        )


def test_issues_of_standard_layout(command, tmp_path):
    path = tmp_path / "tune.abc"
    path.write_text(TUNE.replace("|c8|]", "|]"))
    assert ": valid (in the models' dialect), 1 bar\n" in command("validate", path)[1]
    path.write_text(TUNE.replace("c8", "c9|c8"))
    code, stdout, _ = command("validate", path)
    assert code == 3 and "\n  line 9, bar 2: meter [bars]: " in stdout


def test_info(command, model):
    code, stdout, _ = command("info", model, "--json")
    about = json.loads(stdout)
    assert code == 0 and about["context"] == load_file(GOLDENS / "weights.safetensors").config.patch_length
    assert about["prompts"][0] == ["Classical", "Anon, A.", "Art Song"] and about["licence"] == "not stated"
    code, stdout, _ = command("info", "notagen-large")
    assert code == 0 and str(515_738_880 - 1280) in stdout and "prompts       none" in stdout
    assert json.loads(command("info", "notagen-medium", "--json")[1])["parameters"] == 243_677_184 - 1024
    code, stdout, _ = command("info")
    assert code == 0 and "notagen-x " in stdout


def test_export(command, model, monkeypatch, tmp_path):
    out, pushed = tmp_path / "half", []
    monkeypatch.setattr("pentatonic.hub.push", lambda *a: pushed.append(a) or "the address")
    code, stdout, _ = command("export", model, "--out", out, "--dtype", "fp16")
    assert (code, stdout, pushed) == (0, f"{out}\n", [])
    assert json.loads((out / "prompts.json").read_text()) == PROMPTS
    assert "| weights | float16 |" in (out / "README.md").read_text()
    index = tmp_path / "index.jsonl"
    index.write_text('{"path": "a/b", "key": "C", "prompt": ["Folk", "Anon", "Flute"]}\n')
    code, _, stderr = command("export", model, "--out", out, "--index", index)
    assert code == 1 and "b_C.abc" in stderr  # the pieces themselves are needed, for the vocabulary
    (tmp_path / "a" / "C").mkdir(parents=True)
    (tmp_path / "a" / "C" / "b_C.abc").write_text(
        '%%score 1\nL:1/8\nM:2/4\nK:C\nV:1 treble\n[V:1]"_dolce"c3 z|]\n'
    )
    code, stdout, _ = command(
        "export", model, "--out", out, "--index", index, "--format", "upstream", "--push", "me/it"
    )
    assert code == 0 and stdout.endswith("the address\n") and pushed == [(out, "me/it")]
    assert json.loads((out / "prompts.json").read_text()) == {"Folk": {"Anon": ["Flute"]}}
    assert not (out / "generation_config.json").exists()
    assert command("export", model, "--out", out, "--temperature", 0.8)[0] == 0
    assert json.loads((out / "generation_config.json").read_text()) == {
        "top_k": 9,
        "top_p": 0.9,
        "temperature": 0.8,
    }
    code, _, stderr = command("export", model, "--out", out, "--temperature", 0)
    assert code == 2 and "temperature must be positive" in stderr
    command("export", model, "--out", out, "--index", index, "--format", "upstream")
    vocabulary = json.loads((out / "vocabulary.json").read_text())
    assert (vocabulary["texts"], vocabulary["lengths"], vocabulary["rests"]) == (["_dolce"], ["3"], ["z"])
    assert (out / "model.pth").is_file() and not (out / "config.json").exists()
    code, _, stderr = command("export", tmp_path / "nowhere", "--out", out)
    assert code == 1 and "nowhere" in stderr


@pytest.mark.parametrize("verb", ["preprocess", "train", "evaluate"])
def test_overrides_are_passed_on(command, monkeypatch, verb):
    given = []

    def main(overrides):
        given.extend(overrides)
        return SimpleNamespace(interrupted=True)

    monkeypatch.setitem(sys.modules, TASKS[verb], SimpleNamespace(main=main))
    assert command(verb, "a.b=3", "c=d")[0] == 130 and given == ["a.b=3", "c=d"]


@pytest.mark.parametrize("verb", ["preprocess", "train", "evaluate"])
def test_the_training_extra_is_named(command, monkeypatch, verb):
    class Module:
        def __getattr__(self, name):
            raise ModuleNotFoundError(f"No module named {name!r}", name="omegaconf.errors")

    monkeypatch.setitem(sys.modules, TASKS[verb], Module())
    code, _, stderr = command(verb)
    assert code == 1 and "pip install 'notagen[train]'" in stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines, which needs --user and"),
        (["--host", "example.org"], "needs --user and --password"),
        (["--user", "me"], "--user and --password must be given together"),
    ],
)
def test_the_demo_asks_for_a_login(command, model, options, said):
    code, _, stderr = command("demo", "--model", model, *options)
    assert code == 2 and said in stderr


def test_the_demo_names_an_address_it_cannot_have(command, model):
    code, _, stderr = command(
        "demo", "--model", model, "--host", "203.0.113.7", "--user", "a", "--password", "b", "--port", 0
    )
    assert code == 2 and stderr.startswith("Error: cannot listen at 203.0.113.7, port 0 (")
    assert stderr.count("\n") == 1


def test_public_names_resolve():
    assert all(getattr(notagen, name) is not None for name in notagen.__all__)


def test_infill(command, model, tmp_path):
    (tmp_path / "tune.abc").write_text(TUNE)
    words = ["infill", tmp_path / "tune.abc", "--model", model, "--out", tmp_path / "new.abc"]
    code, stdout, stderr = command(*words, "--bars", "2")
    assert code == 0 and stdout == f"{tmp_path / 'new.abc'}\n", stderr
    assert "\n CDEF GABc | " in (tmp_path / "new.abc").read_text()
    new = tmp_path / "made" / "new.abc"
    assert command(*words, "--bars", "2", "--out", new)[0] == 0 and new.is_file()
    code, _, stderr = command(*words, "--bars", "2", "--out", tmp_path)
    assert code == 2 and f"--out {tmp_path} is not a file that can be written" in stderr
    assert command(*words)[0] == 2
    for wrong in ("0", "5-3", "x", "1-2-3"):
        code, _, stderr = command(*words, "--bars", wrong)
        assert code == 2 and f"--bars is {wrong!r}" in stderr


def test_convert_there_and_back(command, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "tune.abc").write_text(TUNE)
    code, _, stderr = command("convert", source, "--to", "musicxml", "--out", tmp_path / "xml", "--jobs", 1)
    assert code == 0, stderr
    (written,) = (tmp_path / "xml").rglob("*.musicxml")
    shutil.copy(written, source / "copy.musicxml")
    assert (
        command("convert", source / "copy.musicxml", "--to", "abc", "--out", tmp_path / "abc", "--jobs", 1)[0]
        == 0
    )
    (back,) = (tmp_path / "abc").rglob("*.abc")
    assert "CDEF GABc" in back.read_text()


def test_rendering(command, tmp_path):
    source = tmp_path / "in" / "sub"
    source.mkdir(parents=True)
    (source / "tune.abc").write_text(TUNE)
    (source / "bad.txt").write_bytes(b"\xff")
    words = ["convert", tmp_path / "in", "--out", tmp_path / "out", "--to"]
    code, stdout, stderr = command(*words, "midi")
    assert code == 0 and stdout == f"{tmp_path / 'out' / 'sub' / 'tune.mid'}\n", stderr
    code, stdout, stderr = command(*words, "wav", source / "bad.txt", "--json")
    assert code == 3 and "bad.txt" in stderr
    assert [entry["status"] for entry in json.loads(stdout)["inputs"]] == ["failed", "done"]
    assert command("convert", tmp_path / "out", "--out", tmp_path, "--to", "midi")[0] == 2


def test_losses_are_printed_and_strict_ends_with_status_3(command, tmp_path):
    note = "<note><pitch><step>C</step><octave>4</octave></pitch><duration>4</duration></note>"
    shift = '<direction><direction-type><octave-shift type="down"/></direction-type></direction>'
    (tmp_path / "line.xml").write_text(
        f'<score-partwise><part-list/><part id="P1"><measure>{shift}{note}</measure></part></score-partwise>'
    )
    words = (
        "convert",
        tmp_path / "line.xml",
        "--to",
        "abc",
        "--out",
        tmp_path / "abc",
        "--jobs",
        1,
        "--json",
    )
    code, stdout, stderr = command(*words)
    assert code == 0 and "line.xml: not kept: octave line without a start or end: 1" in stderr
    assert json.loads(stdout)["inputs"][0]["losses"] == {"octave line without a start or end": 1}
    code, _, stderr = command(*words, "--strict")
    assert code == 3 and "1 of 1 inputs lost something" in stderr
    assert (tmp_path / "abc" / "line.abc").is_file()
