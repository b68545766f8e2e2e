"""The verbs from the command line, with probes that know one recording by heart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omar_rq.probing.saved import SavedProbe

pytestmark = pytest.mark.usefixtures("decode_here")


def test_beats(studio: Path, tmp_path: Path, run) -> None:
    pytest.importorskip("mir_eval")
    known = tmp_path / "song.beats"
    known.write_text("".join(f"{0.25 + 0.5 * i}\t{i % 4 + 1}\n" for i in range(24)))
    status, out, err = run(
        "beats",
        studio / "song.wav",
        "--probe",
        studio / "beat",
        "--reference",
        tmp_path,
        "--out",
        tmp_path / "out",
        "--lab",
    )
    assert status == 0, err
    lines = out.splitlines()
    assert "24 beats, 4/4, 120" in lines[0] and lines[1].startswith("  tempo curve: 0 s 1")
    assert lines[-2].endswith("F 1.000, CMLt 1.000, AMLt 1.000, Acc1 1.000, Acc2 1.000")
    assert lines[-1].startswith("mean of 1 recordings: F 1.000")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["song.beats", "song.beats.json"]


def test_chords_on_beats_with_all_files(studio: Path, tmp_path: Path, run) -> None:
    for module in ("jams", "matplotlib"):
        pytest.importorskip(module)
    words = ["--probe", studio / "chord", "--probe", studio / "beat", "--out", tmp_path, "--lab", "--jams"]
    status, out, err = run("chords", studio / "song.wav", *words, "--picture", "svg")
    assert status == 0, err
    assert [line.split()[2] for line in out.splitlines()[1:]] == [
        "C:maj",
        "A:min",
        "F:maj",
        "G:maj",
        "C:maj",
        "A:min",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("song.beats", "song.chords.jams", "song.chords.json", "song.chords.lab", "song.chords.svg")
    ]
    document = json.loads((tmp_path / "song.chords.json").read_text())
    assert document["probes"]["chord"]["encoder"] == "omar-rq-tiny" and document["duration_s"] == 12.5
    starts = [chord["start"] for chord in document["chords"]]
    assert np.allclose(starts, [0, 2.25, 4.25, 6.25, 8.25, 10.25], atol=0.05)


def test_key_and_its_changes(studio: Path, run) -> None:
    status, out, err = run("key", studio / "song.wav", "--probe", studio / "key", "--changes", "--json")
    assert status == 0, err
    (document,) = json.loads(out)
    assert document["key"][0]["label"] == "C major" and document["keys"][0]["end"] == 12.5
    assert document["notes"] == ["pooling: mean over 195 tokens"]


def test_tags(studio: Path, run) -> None:
    status, out, _ = run("tag", studio / "song.wav", "--probe", studio / "tagging", "--start", 2)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].endswith("(pooling: mean over 164 tokens)") and len(lines) == 4
    assert {lines[1].split()[0], lines[2].split()[0]} == {"piano", "drums"} and lines[3].split()[0] == "voice"


def test_segments_need_no_probe(studio: Path, run) -> None:
    status, out, err = run("segments", studio / "song.wav", "--segments", 3, "--highlight", 5)
    assert status == 0, err
    lines = out.splitlines()
    assert "do not say which is a verse" in lines[0] and len(lines) == 5
    assert lines[1].split()[2] == "A" and lines[4].split()[0] == "highlight"
    start, end = map(float, lines[4].split()[1:3])
    assert end - start == pytest.approx(5)


def test_times_are_places_in_the_file(studio: Path, run) -> None:
    _, out, _ = run(
        "beats", studio / "song.wav", "--probe", studio / "beat", "--start", 4, "--duration", 5, "--json"
    )
    beats = json.loads(out)[0]["beats"]["beats"]
    assert all(4 <= beat["time"] <= 9 for beat in beats)
    assert min(abs(beat["time"] - 4.25) for beat in beats) < 0.06


def test_lead_sheet(studio: Path, tmp_path: Path, run) -> None:
    words = ["--probe", studio / "beat", "--probe", studio / "chord"]
    status, _, err = run("leadsheet", studio / "song.wav", *words, "--out", tmp_path / "x.abc")
    assert status == 0, err
    text = (tmp_path / "x.abc").read_text()
    assert text.endswith(
        '% bar 1, 0.25 s\n"C"x4 | "Am"x4 | "F"x4 | "G"x4 |\n% bar 5, 8.25 s\n"C"x4 | "Am"x4 |]\n'
    )
    assert "K:C\n" in text and "the key is that whose scale the chords fit best" in text


def test_bad_files_are_named_and_the_others_read(studio: Path, tmp_path: Path, run) -> None:
    music = tmp_path / "music"
    (music / "below").mkdir(parents=True)
    shutil.copy(studio / "song.wav", music / "below" / "song.wav")
    (music / "broken.wav").write_bytes(b"RIFF....WAVEnothing")
    (music / "notes.txt").write_text("text")
    soundfile.write(music / "empty.wav", np.zeros(0), 16000)
    soundfile.write(music / "short.wav", np.full(3200, 0.1), 16000)
    soundfile.write(music / "silent.wav", np.zeros(32000), 16000)
    words = ["--probe", studio / "beat", "--probe", studio / "chord", "--out", tmp_path / "out"]
    status, _, err = run("leadsheet", music, *words)
    assert status == 3
    for name, reason in (("broken", "Error"), ("empty", "no samples"), ("short", "a lead sheet needs beats")):
        assert any(f"{name}.wav" in line and reason.lower() in line.lower() for line in err.splitlines()) or (
            name == "broken" and "broken.wav" in err
        ), err
    assert "1 .txt" in err and (tmp_path / "out" / "below" / "song.abc").is_file()
    status, out, err = run("beats", music, "--probe", studio / "beat", "--json")
    read = {Path(each["file"]).name: each for each in json.loads(out)}
    assert status == 3 and set(read) >= {"song.wav", "short.wav", "silent.wav"} and "empty.wav" not in read
    assert "flagged" in err and "quiet (silence)" in err


def test_wrong_words_are_refused_before_any_work(studio: Path, tmp_path: Path, run) -> None:
    song, beat = studio / "song.wav", studio / "beat"
    for words, reason in (
        (["beats", song], "--probe is missing: this command needs a probe for beat"),
        (["beats", song, "--probe", "nothing"], "--probe nothing: no such probe"),
        (["beats", song, "--probe", studio / "key"], "is for the task key; allowed: beat"),
        (["beats", song, "--probe", beat, "--probe", beat], "there is another one for beat"),
        (["beats", song, "--probe", beat, "--bpm-range", "x"], "--bpm-range is 'x'"),
        (["beats", song, "--probe", beat, "--meter", "x"], "--meter is 'x'"),
        (["beats", song, "--probe", beat, "--prior", "x"], "--prior is 'x'"),
        (["beats", song, "--probe", beat, "--lab"], "--lab needs --out"),
        (["beats", tmp_path / "no.wav", "--probe", beat], "no such file or folder"),
        (["beats", song, "--probe", beat, "--reference", tmp_path / "no"], "no such file or folder"),
        (["segments", song, "--highlight", -3], "--highlight is -3"),
        (["segments", song, "--layer", 99], "--layer: "),
        (["tag", song], "--probe is needed once"),
        (["tag", song, "--probe", studio / "tagging", "--dry-run"], "--dry-run goes with --write"),
        (["leadsheet", song, "--probe", beat, "--out", tmp_path], "a probe for chord"),
        (["leadsheet", song, "--out", song], "is not a folder"),
        (["leadsheet", studio, "--out", tmp_path / "file" / "x.abc"], "--probe is missing"),
    ):
        status, out, err = run(*words)
        assert (status, out) == (2, "") and reason in err, (words, err)


def test_a_probe_of_another_encoder_is_refused(studio: Path, tmp_path: Path, run) -> None:
    shutil.copytree(studio / "beat", tmp_path / "beat")
    config = tmp_path / "beat" / "config.json"
    values = json.loads(config.read_text())
    values["encoder"]["sha256"] = "0" * 64
    config.write_text(json.dumps(values))
    status, _, err = run("beats", studio / "song.wav", "--probe", tmp_path / "beat")
    assert status == 1 and "belongs to the encoder" in err
    status, _, err = run(
        "chords", studio / "song.wav", "--probe", tmp_path / "beat", "--probe", studio / "chord"
    )
    assert status == 2 and "different encoders" in err


def test_a_recording_with_too_few_steps_costs_only_itself(studio: Path, tmp_path: Path, run) -> None:
    soundfile.write(tmp_path / "short.wav", np.full(8000, 0.1), 16000)
    shutil.copy(studio / "song.wav", tmp_path)
    status, out, err = run("segments", tmp_path, "--segments", 5)
    assert status == 3 and "5 segments; allowed for this recording: 1 to 1" in err and "song.wav" in out


def test_shipped_probes_have_names(
    studio: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omar_rq.reading import saved_probes

    shutil.copytree(studio / "beat", tmp_path / "probes" / "beat")
    monkeypatch.setattr(saved_probes.resources, "files", lambda package: tmp_path)
    assert list(saved_probes.bundled_probes()) == ["beat"]
    for words in ([], ["--probe", "beat"]):
        status, out, _ = run("beats", studio / "song.wav", *words)
        assert status == 0 and "24 beats" in out
    status, _, err = run("beats", studio / "song.wav", "--probe", "chords")
    assert status == 2 and "or one of beat" in err


def test_structure_probes_name_sections(studio: Path, run, monkeypatch: pytest.MonkeyPatch, tiny) -> None:
    from .conftest import fitted, song

    samples, _, _ = song()
    targets = np.zeros((195, 3))
    targets[:97, 1] = targets[97:, 2] = 1
    targets[97, 0] = 1
    fitted(tiny, "structure", ("boundary", "verse", "chorus"), samples, targets, "boundary+classes").save(
        studio / "structure"
    )
    status, out, _ = run("segments", studio / "song.wav", "--probe", studio / "structure", "--segments", 2)
    assert status == 0 and "names by the probe: verse, chorus" in out and " verse" in out.splitlines()[1]
    assert SavedProbe.load(studio / "structure").task == "structure"
