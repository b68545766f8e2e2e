"""The folder of generated pieces: what is in it, and what a second run does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notagen.generation import best_of, piece_folder
from notagen.generation.decoding import Limits, Request
from notagen.generation.piece_folder import fingerprint, write_pieces
from notagen.generation.sampling import Sampling
from notagen.sound import sound_file
from notagen.weights import load_file
from pentatonic.errors import InputError, UsageError

GOLDENS = Path(__file__).parent / "goldens" / "generation_e2e"
PROMPT = "%Classical\n%Anon, A.\n%Art Song\n"
CASE = json.loads((GOLDENS / "cases.json").read_text())["cases"][1]


@pytest.fixture(scope="module")
def model():
    return load_file(GOLDENS / "weights.safetensors")


@pytest.fixture
def write(model, tmp_path):
    def run(*seeds: int, model=model, **changes):
        options = {
            "model_name": "dir/golden.pth",
            "formats": ["abc"],
            "sampling": Sampling(),
            "limits": Limits(),
            "constrained": False,
            "batch_size": 2,
        }
        prompt, bars = changes.pop("prompt", PROMPT), changes.pop("bars", None)
        requests = [Request(prompt, seed=seed, bars=bars) for seed in seeds]
        return write_pieces(model, requests, tmp_path / "out", **{**options, **changes})

    run.out = tmp_path / "out"
    return run


def statuses(report):
    return [entry["status"] for entry in report.entries]


def test_what_is_written(write):
    heard = []
    pieces, report = write(1, 0, formats=["abc", "musicxml", "midi"], watch=heard.append)
    assert statuses(report) == ["done", "done"] and [piece["seed"] for piece in pieces] == [1, 0]
    piece = json.loads((write.out / "1.json").read_text())
    assert piece == json.loads(json.dumps(pieces[0]))
    assert piece["text"] == CASE["original"] and piece["status"] == "finished" and piece["prompt"] == PROMPT
    assert piece["report"]["bars"] == 3 and piece["errors"] == {}
    assert PROMPT + "".join(news.text for news in heard if news.index == 0) == piece["text"]
    assert piece["files"] == {"abc": ["1.abc"], "musicxml": ["1.musicxml"], "midi": ["1.mid"]}
    assert sorted(path.name for path in write.out.iterdir()) == sorted(
        [
            "manifest.json",
            *(f"{seed}.{suffix}" for seed in (0, 1) for suffix in ("abc", "json", "mid", "musicxml")),
        ]
    )
    manifest = json.loads((write.out / "manifest.json").read_text())
    assert manifest["model"] == "dir/golden.pth" and manifest["settings"]["sampling"]["top_k"] == 9
    assert [piece["seed"] for piece in manifest["pieces"]] == [0, 1]
    assert "text" not in manifest["pieces"][0] and manifest["pieces"][0]["report"]["bars"] == 3
    assert manifest["versions"]["python"]


def test_finished_pieces_are_not_written_again(write, monkeypatch):
    write(0, 1)
    before = {path: path.stat().st_mtime_ns for path in write.out.glob("[01].*")}
    wanted = []
    inner = best_of.stream

    def stream(model, requests, **options):
        wanted.extend(request.seed for request in requests)
        return inner(model, requests, **options)

    monkeypatch.setattr(best_of, "stream", stream)
    pieces, report = write(0, 1, 2, batch_size=1)
    assert statuses(report) == ["skipped", "skipped", "done"] and wanted == [2]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [piece["seed"] for piece in pieces] == [0, 1, 2]
    write(7)
    manifest = json.loads((write.out / "manifest.json").read_text())
    assert [piece["seed"] for piece in manifest["pieces"]] == [0, 1, 2, 7]


def test_more_formats_and_lost_files_are_written_from_the_text(write, monkeypatch):
    write(0)
    (write.out / "0.abc").unlink()
    monkeypatch.setattr(best_of, "stream", lambda model, requests, **options: iter(requests and 1 / 0))
    pieces, report = write(0, formats=["abc", "midi"])
    assert statuses(report) == ["done"] and pieces[0]["files"] == {"abc": ["0.abc"], "midi": ["0.mid"]}
    assert (write.out / "0.abc").is_file() and (write.out / "0.mid").is_file()
    assert statuses(write(0, formats=["midi"])[1]) == ["skipped"]


def test_sound_of_another_soundfont_is_written_again(write, monkeypatch):
    fonts = []
    monkeypatch.setattr(
        sound_file, "render_audio", lambda *_, soundfont, **__: fonts.append(soundfont) or torch.zeros(1, 9)
    )
    font = Path("a.sf2")
    for soundfont, status in (
        (None, "done"),
        (None, "skipped"),
        (font, "done"),
        (font, "skipped"),
        (None, "done"),
    ):
        assert statuses(write(0, formats=["wav"], soundfont=soundfont)[1]) == [status]
    assert fonts == [None, font, None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampling": Sampling(top_k=3)}, "was made with top_k 9, not 3; choose another folder"),
        ({"limits": Limits(patches=99)}, "was made with no patches, now 99;"),
        ({"sampling": Sampling(top_p=1.0), "constrained": True}, "top_p 0.9, not 1.0; constrained False,"),
        ({"constrained": True}, "constrained False, not True"),
    ],
)
def test_other_settings_need_another_folder(write, change, said):
    write(0)
    before = (write.out / "manifest.json").read_text()
    with pytest.raises(UsageError, match=said):
        write(0, **change)
    assert (write.out / "manifest.json").read_text() == before


def test_another_model_needs_another_folder(write, model):
    write(0)
    with pytest.raises(UsageError, match="was made with another model"):
        write(0, model=load_file(GOLDENS / "weights.safetensors").to(torch.bfloat16))


def test_a_folder_of_something_else_is_not_taken(write):
    write.out.mkdir()
    (write.out / "manifest.json").write_text("[]")
    with pytest.raises(UsageError, match="was not written by this command"):
        write(0)


def test_a_damaged_record_is_written_again(write):
    write(0)
    for damaged in ("{", "[]", '{"made_by": 1}'):
        (write.out / "0.json").write_text(damaged)
        assert statuses(write(0)[1]) == ["done"]
    assert statuses(write(0)[1]) == ["skipped"]


def test_a_piece_of_another_prompt_or_length_is_not_overwritten(write, model):
    write(0)
    before = {path: path.read_bytes() for path in write.out.iterdir()}
    with pytest.raises(UsageError, match=r"0\.json was made from another prompt; choose another folder"):
        write(1, 0, prompt="%Classical\n")
    with pytest.raises(UsageError, match=r"0\.json was made with no bars, now 3; choose"):
        write(0, bars=3)
    assert {path: path.read_bytes() for path in write.out.iterdir()} == before
    assert statuses(write(1, prompt="%Classical\n")[1]) == ["done"]  # another seed is another piece


def test_a_failed_export_is_named_and_costs_nothing_else(write, monkeypatch):
    inner = piece_folder.write_piece

    def write_piece(text, stem, formats, **options):
        if stem.name == "0" and "midi" in formats:
            raise InputError("bar 3 is strange")
        return inner(text, stem, formats, **options)

    monkeypatch.setattr(piece_folder, "write_piece", write_piece)
    pieces, report = write(0, 1, formats=["midi", "abc"])
    assert statuses(report) == ["failed", "done"]
    assert report.entries[0]["reason"] == "midi: bar 3 is strange"
    assert pieces[0]["errors"] == {"midi": "bar 3 is strange"} and list(pieces[0]["files"]) == ["abc"]
    assert json.loads((write.out / "manifest.json").read_text())["pieces"][0]["errors"] == pieces[0]["errors"]
    assert statuses(write(0, 1, formats=["abc"])[1]) == ["skipped", "skipped"]
    monkeypatch.setattr(piece_folder, "write_piece", inner)
    pieces, report = write(0, 1, formats=["midi", "abc"])
    assert statuses(report) == ["done", "skipped"] and pieces[0]["errors"] == {}


def test_an_interrupted_run_keeps_what_is_finished(write):
    def interrupt(update):
        if update.index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(0, 1, batch_size=1, watch=interrupt)
    assert [piece["seed"] for piece in json.loads((write.out / "manifest.json").read_text())["pieces"]] == [0]
    assert statuses(write(0, 1)[1]) == ["skipped", "done"]


def test_pieces_do_not_depend_on_batches(write, tmp_path, monkeypatch):
    options = {"sampling": Sampling(top_k=0, top_p=1.0, temperature=1.5), "limits": Limits(patches=12)}
    alone = [write(seed, batch_size=1, **options)[0][0]["text"] for seed in range(3)]
    write.out.rename(tmp_path / "other")
    assert [piece["text"] for piece in write(0, 1, 2, batch_size=3, **options)[0]] == alone
    assert len(set(alone)) == 3


def test_the_best_of_several_candidates(write, tmp_path):
    options = {"sampling": Sampling(top_k=0, top_p=1.0, temperature=1.5), "limits": Limits(patches=12)}
    pieces, _ = write(0, 1, best_of=3, **options)
    record = json.loads((write.out / "1.json").read_text())
    assert record["candidates"] == pieces[1]["candidates"] and record["made_by"]["best_of"] == 3
    with pytest.raises(UsageError, match="best_of 3, now without"):
        write(0, **options)
    write.out.rename(tmp_path / "best")
    for piece in pieces:
        scores = [candidate["score"] for candidate in piece["candidates"]]
        ends = [candidate["status"] == "finished" for candidate in piece["candidates"]]
        best = max(range(3), key=lambda i: (ends[i], scores[i]))
        assert piece["chosen"] == best and len(set(scores)) == 3
        kept = piece["candidates"][piece["chosen"]]
        again = write(kept["seed"], **options)[0][0]
        assert (again["text"], again["status"]) == (piece["text"], kept["status"])
        assert [(each["seed"], each["score"]) for each in again["candidates"]] == [(kept["seed"], None)]


def test_the_layout_of_the_original(write):
    pieces, _ = write(5, upstream_layout=True)
    original, interleaved = pieces[0]["files"]["upstream"]
    folder = "golden_k_9_p_0.9_temp_1.2"
    assert original.startswith(f"original/{folder}/") and interleaved.startswith(f"interleaved/{folder}/")
    stamp, seconds, number = Path(original).stem.rsplit("_", 2)
    assert len(stamp) == 15 and float(seconds) > 0 and number == "5"
    assert Path(original).name == Path(interleaved).name
    assert (write.out / original).read_text() == CASE["original"]
    assert (write.out / interleaved).read_text() == CASE["completed"]


def test_seeds_must_differ(write):
    with pytest.raises(UsageError, match="same seed"):
        write(1, 1)


def test_fingerprints(model):
    assert fingerprint(model) == fingerprint(load_file(GOLDENS / "weights.safetensors"))
    other = load_file(GOLDENS / "weights.safetensors")
    other.config = replace(other.config, dropout=0.2)
    assert fingerprint(other) != fingerprint(model)
    other = load_file(GOLDENS / "weights.safetensors")
    with torch.no_grad():
        other.patch_decoder.embed_bias[0] += 1
    assert fingerprint(other) != fingerprint(model)
