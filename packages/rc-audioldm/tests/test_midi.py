"""MIDI: cutting at bars, tokens on disk, notes, rendering."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic.audio.soundfont import find_soundfont
from pentatonic.errors import BackendUnavailable, ConfigError, FormatError, InputError, UsageError
from rc_audioldm.data.batch import Skipped
from rc_audioldm.data.manifest import ManifestRow, read_manifest
from rc_audioldm.data.midi import render
from rc_audioldm.data.midi.additive import render_additive
from rc_audioldm.data.midi.bars import chunk_at_bars
from rc_audioldm.data.midi.notes import NOTE, peak_polyphony, without_overlaps
from rc_audioldm.data.midi.render import RenderSettings, render_notes, render_tokens
from rc_audioldm.data.midi.token_files import Tokens, collect, read_tokens
from rc_audioldm.data.midi.tokenise import midi_manifest, tokenise_manifest
from rc_audioldm.data.midi.tokenizer import (
    BAR,
    N_TOKENS,
    decode_notes,
    make_tokenizer,
    midi_bytes,
    tokenise_file,
    with_state,
)

RATE = 8000
SECOND = np.array([(0.0, 1.0, 69, 100, 0, False)], NOTE)


def notes_of(*rows: tuple[float, float, int, int]) -> np.ndarray:
    return np.array([(*row, 0, False) for row in rows], NOTE)


# Cutting at bars


def test_chunks_as_the_original(golden: Any) -> None:
    io = json.loads((golden("bar_chunks").folder / "io.json").read_text())
    for case in io.values():
        ids = np.zeros(case["length"], np.int32)
        ids[case["bar_positions"]] = 4
        spans = list(chunk_at_bars(ids, 4, legacy=True))
        assert [stop - start for start, stop in spans] == case["chunk_lengths"]


@pytest.mark.parametrize("seed", range(20))
def test_chunks_begin_with_a_bar_where_they_can(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = (rng.random(rng.integers(1, 400)) < 0.08).astype(np.int32)
    spans = list(chunk_at_bars(ids, 1, longest=40, shortest=10))
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == len(ids)
    for start, stop in spans[:-1]:
        assert 10 <= stop - start <= 40
        if stop - start < 40:
            assert ids[stop] == 1
        assert not (ids[max(stop + 1, start + 10) : start + 41] == 1).any()  # none later would have fitted
    assert spans[-1][1] - spans[-1][0] <= 40
    with pytest.raises(UsageError, match="shortest is 41"):
        list(chunk_at_bars(ids, 1, longest=40, shortest=41))


def test_a_chunk_may_have_the_least_length() -> None:
    ids = np.zeros(60, np.int32)
    ids[10] = 1
    assert next(chunk_at_bars(ids, 1, longest=40, shortest=10)) == (0, 10)
    assert next(chunk_at_bars(ids, 1, longest=40, shortest=11)) == (0, 40)


# Notes


def test_polyphony_counts_notes_that_sound_at_once() -> None:
    assert peak_polyphony(notes_of()) == 0
    assert peak_polyphony(notes_of((0, 1, 60, 9), (1, 1, 60, 9), (2, 1, 60, 9))) == 1
    assert peak_polyphony(notes_of((0, 3, 60, 9), (1, 1, 61, 9), (1.5, 1, 62, 9), (2, 1, 63, 9))) == 3


def test_repeated_notes_are_kept_apart() -> None:
    notes = notes_of((1.0, 1, 60, 5), (0, 2, 60, 9), (0.5, 1, 61, 9), (1.005, 1, 60, 7), (3, 0.001, 62, 9))
    kept = without_overlaps(notes)
    assert [(n["start_s"], n["pitch"]) for n in kept] == [(0, 60), (0.5, 61), (1.005, 60)]
    assert kept["duration_s"] == pytest.approx([0.99, 1, 1])
    assert len(without_overlaps(notes_of())) == 0
    drum = np.array([(0, 1, 60, 9, 0, False), (0.1, 1, 60, 9, 0, True)], NOTE)
    assert without_overlaps(drum)["duration_s"].tolist() == [1, 1]  # other instruments


# Sound


def test_sines_have_the_pitch_and_the_place_of_the_note() -> None:
    sound = render_additive(notes_of((0.5, 1.0, 69, 127)), RATE, 10)
    assert len(sound) == pytest.approx(1.56 * RATE, abs=2)
    assert not sound[: RATE // 2].any()
    spectrum = np.abs(np.fft.rfft(sound[RATE // 2 : RATE // 2 + RATE]))
    assert spectrum.argmax() == pytest.approx(440, abs=1)
    quiet = render_additive(notes_of((0.5, 1.0, 69, 64)), RATE, 10)
    assert np.abs(quiet).max() < 0.3 * np.abs(sound).max()
    assert len(render_additive(notes_of((0.5, 1, 69, 9)), RATE, 0.25)) == RATE // 4
    assert np.array_equal(
        *(render_additive(np.array([(0, 1, 38, 99, 0, True)], NOTE), RATE, 1) for _ in "ab")
    )


@pytest.mark.parametrize(
    ("notes", "options", "reason"),
    [
        (notes_of(), {}, "no notes"),
        (notes_of((0, 1, 60, 5), (0, 1, 62, 9)), {}, "mean velocity 7.0 is below 8"),
        (notes_of((20, 1, 60, 99)), {}, "silent"),
        (notes_of((0, 0.001, 60, 99)), {"quiet_dbfs": 0.0}, "is below 0"),
    ],
)
def test_chunks_that_are_not_worth_keeping(notes: Any, options: Any, reason: str) -> None:
    found = render_notes(notes, replace(RenderSettings(sample_rate=RATE), **options))
    assert isinstance(found, Skipped)
    assert reason in found.reason


def test_sound_is_as_long_and_as_loud_as_promised() -> None:
    for seconds in (0.5, 3.0):
        sound = render_notes(SECOND, RenderSettings(sample_rate=RATE, seconds=seconds))
        assert isinstance(sound, np.ndarray)
        assert sound.dtype == np.float32
        assert len(sound) == seconds * RATE
        assert np.abs(sound).max() == pytest.approx(0.95, abs=1e-6)


def test_dense_chunks_are_rendered_from_the_notes_that_were_kept_apart(
    monkeypatch: Any, tmp_path: Path
) -> None:
    notes = notes_of(*((0.02 * i, 1.0, 60, 99) for i in range(30)))
    given: list[Any] = []

    def remember(midi: bytes, *rest: Any, **options: Any) -> np.ndarray:
        given.append((midi, options["polyphony"]))
        return np.ones((2, RATE), np.float32)

    monkeypatch.setattr(render, "midi_bytes", lambda played: played.tobytes())
    monkeypatch.setattr(render, "render_midi", remember)
    for threshold, expected, voices in ((20, without_overlaps(notes), 768), (64, notes, 512)):
        render_notes(notes, RenderSettings(dense_polyphony=threshold, sample_rate=RATE), tmp_path)
        assert given[-1] == (expected.tobytes(), voices)
    by_sines = render_notes(notes, RenderSettings(dense_polyphony=20, sample_rate=RATE))
    assert np.array_equal(by_sines, render_notes(without_overlaps(notes), RenderSettings(sample_rate=RATE)))


def test_a_missing_soundfont_is_an_error_only_where_it_was_asked_for(
    monkeypatch: Any, tmp_path: Path
) -> None:
    def missing(wanted: Path | None) -> Path:
        raise BackendUnavailable("no soundfont")

    monkeypatch.setattr(render, "find_soundfont", missing)
    assert render._soundfont(RenderSettings("auto"), None) is None
    assert render._soundfont(RenderSettings("additive"), tmp_path) is None
    for synthesiser, wanted in (("fluidsynth", None), ("auto", tmp_path)):
        with pytest.raises(BackendUnavailable):
            render._soundfont(RenderSettings(synthesiser), wanted)  # type: ignore[arg-type]


def test_wrong_settings_are_named() -> None:
    for options, named in (
        ({"synthesiser": "timidity"}, "allowed: auto, fluidsynth, additive"),
        ({"seconds": 0}, "rendering.seconds is 0"),
        ({"sample_rate": 1}, "rendering.sample_rate is 1"),
    ):
        with pytest.raises(ConfigError, match=named):
            RenderSettings(**options)  # type: ignore[arg-type]


# Tokens on disk


@pytest.fixture
def tokens() -> Tokens:
    first = [np.arange(10, dtype=np.int32), np.arange(20, 25, dtype=np.int32)]
    second = [np.arange(30, 37, dtype=np.int32)]
    return collect(
        [
            (ManifestRow("a", "a.mid", licence="CC0 1.0"), first, [[(0, 6), (6, 10)], [(0, 5)]]),
            (ManifestRow("b", "b.mid"), second, [[(0, 7)]]),
        ]
    )


def test_tokens_come_back(tmp_path: Path, tokens: Tokens) -> None:
    tokens.write(tmp_path)
    found = read_tokens(tmp_path)
    assert found.rows == tokens.rows
    assert found.fingerprint == tokens.fingerprint
    assert [row.id for _, row in found.chunk_rows()] == ["a", "a", "a", "b"]
    parts = [found.sequence_of(chunk) for chunk in range(4)]
    assert [ids[start:stop].tolist() for ids, start, stop in parts] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9],
        [20, 21, 22, 23, 24],
        [30, 31, 32, 33, 34, 35, 36],
    ]
    assert [len(ids) for ids, _, _ in parts] == [10, 10, 5, 7]
    nothing = collect([])
    nothing.write(tmp_path)
    assert len(read_tokens(tmp_path).chunks) == 0


def test_token_files_of_strangers(tmp_path: Path, tokens: Tokens) -> None:
    with pytest.raises(InputError, match="is missing"):
        read_tokens(tmp_path)
    tokens.write(tmp_path)
    whole = (tmp_path / "tokens.npz").read_bytes()
    good: dict[str, Any] = {
        "ids": tokens.ids,
        "sequence_offsets": tokens.sequence_offsets,
        "chunks": tokens.chunks,
    }
    for change, named in (
        ({"ids": np.array([{}], object)}, "not a file of tokens"),  # would need pickle
        ({"ids": tokens.ids.astype(float)}, "ids is float64"),
        ({"sequence_offsets": tokens.sequence_offsets[:-1]}, "do not divide"),
        ({"chunks": tokens.chunks + 100}, "a chunk is not a part"),
        ({"chunks": tokens.chunks[:-1]}, "do not name all chunks|follow"),
        ({"chunks": tokens.chunks[:, :1]}, "a chunk is not a part"),
    ):
        np.savez(tmp_path / "tokens.npz", **{**good, **change})
        with pytest.raises(FormatError, match=named):
            read_tokens(tmp_path)
    for content in (b"", whole[:50], b"x" * 100, whole[:-30]):
        (tmp_path / "tokens.npz").write_bytes(content)
        with pytest.raises(FormatError, match="not a file of tokens"):
            read_tokens(tmp_path)
    (tmp_path / "tokens.npz").write_bytes(whole)
    (tmp_path / "tokens.jsonl").write_text('{"id": "a", "path": "a.mid", "chunks": [0, "4"]}\n')
    with pytest.raises(FormatError, match="does not say which chunks"):
        read_tokens(tmp_path)


# With MidiTok


def write_midi(path: Path, n_bars: int, tempo: float = 90.0, n_tracks: int = 1) -> None:
    """Quarter notes, one after the other, rising."""
    symusic: Any = pytest.importorskip("symusic")
    score = symusic.Score(480)
    for number in range(n_tracks):
        track = symusic.Track(program=number)
        for beat in range(4 * n_bars):
            track.notes.append(symusic.Note(480 * beat, 480, 60 + beat % 12 + number, 80))
        score.tracks.append(track)
    score.tempos.append(symusic.Tempo(0, tempo))
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(score.dumps_midi())


@pytest.fixture
def midi_tokenizer() -> Any:
    pytest.importorskip("miditok")
    return make_tokenizer()


def test_tokens_are_those_of_the_original_and_become_notes_again(midi_tokenizer: Any, tmp_path: Path) -> None:
    assert len(midi_tokenizer) == N_TOKENS
    write_midi(tmp_path / "a.mid", 8, n_tracks=2)
    sequences = tokenise_file(tmp_path / "a.mid")
    assert len(sequences) == 2
    notes = decode_notes(sequences[0])
    assert notes["pitch"].tolist() == [60 + beat % 12 for beat in range(32)]
    np.testing.assert_allclose(np.diff(notes["start_s"]), 60 / 90, rtol=0.01)  # tempos are rounded
    (tmp_path / "again.mid").write_bytes(midi_bytes(notes))
    (again,) = tokenise_file(tmp_path / "again.mid")
    assert decode_notes(again)["pitch"].tolist() == notes["pitch"].tolist()
    with pytest.raises(InputError, match="outside of 0 to 625"):
        decode_notes([N_TOKENS])


def test_a_chunk_keeps_the_tempo_of_its_piece(midi_tokenizer: Any, tmp_path: Path) -> None:
    write_midi(tmp_path / "a.mid", 8)
    (ids,) = tokenise_file(tmp_path / "a.mid")
    whole = decode_notes(ids)
    bars = np.flatnonzero(ids == midi_tokenizer.vocab[BAR])
    for first, start in ((3, bars[3]), (3, bars[3] + 1), (0, 0)):
        chunk = decode_notes(with_state(ids, int(start), int(bars[6])))
        part = whole[4 * first : 24]
        assert chunk["pitch"].tolist() == part["pitch"].tolist()
        np.testing.assert_allclose(chunk["start_s"], part["start_s"] - part["start_s"][0], atol=1e-3)
    names = [
        "Bar_None",
        "TimeSig_4/4",
        "Position_0",
        "Tempo_89.61",
        "Bar_None",
        "TimeSig_3/4",
        "Position_0",
        "Pitch_60",
    ]
    tokens = np.array([midi_tokenizer.vocab[name] for name in names])
    changed = [
        names[i] for i in (4, 5, 2, 3, 6, 7)
    ]  # the chunk's own time signature, and the tempo before it
    for start in (4, 5):
        kept = with_state(tokens, start, len(tokens))
        assert kept.tolist() == [midi_tokenizer.vocab[name] for name in changed]
    without = decode_notes(ids[bars[3] : bars[6]])
    assert without["start_s"][4] < chunk["start_s"][4]  # at 120 quarters a minute


def test_files_are_tokenised_in_order_and_rendered(midi_tokenizer: Any, tmp_path: Path) -> None:
    midi = tmp_path / "midi"
    for name, n_bars in (("b/long.mid", 24), ("a.midi", 2), ("z.mid", 3)):
        write_midi(midi / name, n_bars)
    (midi / "._z.mid").write_bytes(b"\0\5\x16\7")  # what macOS leaves beside files
    (midi / "broken.mid").write_bytes(b"MThd nothing else")
    (midi / "empty.mid").touch()
    manifest = midi_manifest(midi)
    assert [row.path for row in manifest] == ["a.midi", "b/long.mid", "broken.mid", "empty.mid", "z.mid"]
    found, report = tokenise_manifest(manifest, longest=200, shortest=50, workers=1)
    assert [entry["status"] for entry in report.entries] == ["done", "done", "failed", "failed", "done"]
    assert [row.path for row in found.rows] == ["a.midi", "b/long.mid", "z.mid"]
    for number, row in enumerate(found.rows):
        (ids,) = tokenise_file(midi / row.path)
        assert (
            found.ids[found.sequence_offsets[number] : found.sequence_offsets[number + 1]].tolist()
            == ids.tolist()
        )
        assert len(row.more["sha256"]) == 64
    assert [row.path for _, row in found.chunk_rows()].count("b/long.mid") > 1

    settings = RenderSettings("additive", sample_rate=RATE, seconds=1.0)
    rows, report = render_tokens(found, tmp_path / "out", settings, workers=1)
    assert [row.path for row in rows] == [f"chunk_{i:06d}.flac" for i in range(len(found.chunks))]
    assert list(read_manifest(tmp_path / "out" / "rendered.jsonl")) == rows
    for row in rows:
        samples, rate = soundfile.read(tmp_path / "out" / row.path)
        assert (len(samples), rate) == (RATE, RATE)
    (tmp_path / "out" / rows[1].path).unlink()
    again, report = render_tokens(found, tmp_path / "out", settings, workers=1)
    assert again == rows
    assert [entry["status"] for entry in report.entries[:3]] == ["skipped", "done", "skipped"]
    with pytest.raises(UsageError, match="choose another folder"):
        render_tokens(found, tmp_path / "out", replace(settings, seconds=2.0))


@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="FluidSynth is not installed")
def test_fluidsynth_plays_the_notes(midi_tokenizer: Any) -> None:
    try:
        soundfont = find_soundfont()
    except BackendUnavailable:
        pytest.skip("no soundfont")
    sound = render_notes(SECOND, RenderSettings(sample_rate=RATE, seconds=1.0), soundfont)
    assert isinstance(sound, np.ndarray)
    assert len(sound) == RATE
    spectrum = np.abs(np.fft.rfft(sound))
    assert spectrum[435:446].max() > 0.5 * spectrum.max()
