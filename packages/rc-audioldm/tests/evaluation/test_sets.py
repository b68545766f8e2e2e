"""Vectors of sets, their distances and diversity, and the original's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pentatonic.checkpoint import save_tensors
from pentatonic.cli import BatchReport
from pentatonic.errors import (
    AudioError,
    CorruptCheckpoint,
    FormatError,
    IncompatibleVectors,
    InputError,
    SilentAudio,
    UsageError,
)
from rc_audioldm.evaluation.diversity import diversity
from rc_audioldm.evaluation.embedded_set import EmbeddedSet, SetHeader, embed_files, load_set
from rc_audioldm.evaluation.embedders import MelEmbedder
from rc_audioldm.evaluation.set_distances import (
    TooFewVectors,
    audio_distance,
    compare_sets,
    distances_of_files,
)
from rc_audioldm.evaluation.sounds import Preparation, Sound, loudness_of, prepare
from rc_audioldm.evaluation.systems import natural_order
from rc_audioldm.legacy import set_metrics as legacy

RATE = 16_000
PREPARATION = Preparation(RATE)


def noise(seed: int, seconds: float = 1.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.05, round(seconds * RATE)).astype(np.float32)


def made_up(vectors: np.ndarray, *, per_file: int = 1, header: dict[str, str] | None = None) -> EmbeddedSet:
    """A set of vectors that no model made."""
    count = len(vectors) // per_file
    return EmbeddedSet(
        SetHeader({"kind": "made up"}, {**PREPARATION.describe(), **(header or {})}),
        tuple(map(str, range(count))),
        tuple(f"{i:064d}" for i in range(count)),
        vectors.astype(np.float32),
        np.repeat(np.arange(count), per_file),
        1.0,
    )


def golden_values(golden: Any, case: str) -> tuple[Any, Any]:
    found = golden(case)
    return json.loads((found.folder / "io.json").read_text()), found.tensors


def test_the_originals_distance(golden: Any) -> None:
    io, tensors = golden_values(golden, "fad")
    for case, tolerance in (("full_rank", 1e-8), ("rank_deficient", 1e-3)):
        first, second = (tensors[f"{case}/{side}"].numpy() for side in "AB")
        assert legacy.audio_distance(first, second) == pytest.approx(io[case]["fad"], rel=tolerance)
        assert 0 <= legacy.audio_distance(first, first) < 1e-9  # the original's may be negative


def test_the_originals_diversity_statistics_and_order(golden: Any) -> None:
    io, tensors = golden_values(golden, "diversity_stats")
    waves = tensors["waves_16k"].numpy().astype(np.float32) / 2**15
    found = legacy.mel_diversity(list(waves))
    assert found == pytest.approx({name: io["diversity"][name] for name in found}, rel=1e-5)
    assert found.keys() | {"model"} == io["diversity"].keys()
    inputs = io["stats_inputs"]
    compared = legacy.compare_pair(inputs["A"], inputs["B"], ("A", "B"))
    for metric, expected in io["stats"].items():
        size = expected.pop("effect_size")
        assert compared[metric].pop("effect_size") == size
        assert compared[metric] == pytest.approx(expected, rel=1e-5)
    assert natural_order(sorted(io["natural_sort"])) == io["natural_sort"]
    with pytest.raises(InputError, match="two or more"):
        legacy.compare_pair({"x": [1.0]}, {"x": [1.0, 2.0]}, ("A", "B"))


def test_silent_ends_change_no_vector(tmp_path: Path) -> None:
    sound = noise(0)
    soundfile.write(tmp_path / "plain.wav", sound, RATE, subtype="FLOAT")
    padded = np.pad(sound, (RATE // 3, 2 * RATE))
    soundfile.write(tmp_path / "padded.wav", padded, RATE, subtype="FLOAT")
    files = {name: tmp_path / f"{name}.wav" for name in ("plain", "padded")}
    found = embed_files(files, MelEmbedder(), PREPARATION, BatchReport())
    np.testing.assert_array_equal(found.of(0), found.of(1))
    assert found.of(0).shape == (1, 128)


def test_recordings_are_brought_to_one_rate_loudness_and_length() -> None:
    loud = Sound(np.stack([noise(1, 2), noise(2, 2)]), 2 * RATE)
    found = prepare(loud, Preparation(RATE, -30, 0.5), "loud")
    assert found.shape == (RATE // 2,)
    assert loudness_of(found, RATE) == pytest.approx(-30, abs=0.01)
    short = prepare(Sound(noise(1, 0.1)[None], RATE), Preparation(RATE, -30), "short")
    assert loudness_of(short, RATE) == pytest.approx(-30, abs=0.01)
    plain = prepare(Sound(noise(1)[None], RATE), Preparation(RATE, None), "plain")
    np.testing.assert_array_equal(plain, noise(1)[: len(plain)])
    with pytest.raises(AudioError, match="16000 Hz or more"):
        prepare(Sound(noise(1)[None], 8000), PREPARATION, "low")
    for level in (0, 1e-4):
        quiet = np.float32(level) * noise(1)
        with pytest.raises(SilentAudio):
            prepare(Sound(quiet[None], RATE), PREPARATION, "quiet")
    for wrong in ({"sample_rate": 0}, {"loudness_lufs": -80}, {"length_s": 0}):
        with pytest.raises(UsageError, match="allowed"):
            Preparation(**{"sample_rate": RATE, **wrong})


class Counted(MelEmbedder):
    """Counts what it embeds."""

    calls = 0

    def embed(self, samples: np.ndarray) -> np.ndarray:
        self.calls += 1
        return super().embed(samples)


def test_a_set_is_stored_and_its_vectors_are_used_again(tmp_path: Path) -> None:
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", noise(i), RATE)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    files = {path.stem: path for path in sorted(tmp_path.glob("*.wav"))}
    embedder, report = Counted(), BatchReport()
    found = embed_files(files, embedder, PREPARATION, report)
    assert found.names == ("0", "1", "2")
    assert [entry["path"] for entry in report.entries if entry["status"] == "failed"] == [
        str(files["broken"])
    ]
    found.save(tmp_path / "set.safetensors")
    stored = load_set(tmp_path / "set.safetensors")
    assert (stored.hash, stored.header, stored.names) == (found.hash, found.header, found.names)
    soundfile.write(files["1"], noise(9), RATE)
    again = embed_files(files, embedder, PREPARATION, BatchReport(), known=stored)
    assert embedder.calls == 4  # only the changed one again
    np.testing.assert_array_equal(again.of(2), found.of(2))
    assert again.hash != found.hash
    embed_files(files, embedder, Preparation(RATE, -20), BatchReport(), known=stored)
    assert embedder.calls == 7
    with pytest.raises(InputError, match="none of 1"):
        embed_files({"broken": files["broken"]}, embedder, PREPARATION, BatchReport())


def test_files_that_are_no_sets(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    with pytest.raises(CorruptCheckpoint):
        load_set(path)
    whole = made_up(np.ones((4, 3)))
    for wrong in (
        {"file_of": np.array([0, 2, 1, 3])},
        {"file_of": np.array([0, 1, 2, 2])},
        {"sha256": ("x",)},
        {"vectors": np.full((4, 3), np.nan, np.float32)},
    ):
        EmbeddedSet(
            **{**{name: getattr(whole, name) for name in EmbeddedSet.__dataclass_fields__}, **wrong}
        ).save(path)
        with pytest.raises(FormatError, match="fit together"):
            load_set(path)
    save_tensors(path, {}, {"set": '{"format": "other"}'})
    with pytest.raises(FormatError, match="format"):
        load_set(path)


def test_few_vectors_are_refused_or_shrunk_and_a_set_is_at_no_distance_from_itself() -> None:
    rng = np.random.default_rng(0)
    few, many = made_up(rng.normal(size=(5, 8))), made_up(rng.normal(size=(90, 8)))
    with pytest.raises(TooFewVectors, match="mine has 5 vectors of 8"):
        audio_distance(few, many, names=("mine", "theirs"))
    distance, notes = audio_distance(few, many, few="shrink")
    assert distance > 0 and "shrunk" in notes[0]
    found = compare_sets(few, many)
    assert found.frechet is None and found.extrapolated is None and found.kernel is not None
    assert "no Fréchet distance" in found.notes[0]
    itself = compare_sets(many, many)
    assert itself.frechet is not None and 0 <= itself.frechet < 1e-9
    assert itself.hashes[0] == itself.hashes[1] == many.hash
    other = compare_sets(made_up(rng.normal(size=(70, 8))), many)
    assert other.frechet is not None and other.extrapolated is not None
    assert abs(other.extrapolated) < other.frechet


def test_sets_that_were_made_in_different_ways_are_not_compared() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    for name in ("rate", "loudness", "length", "silence"):
        for compare in (audio_distance, compare_sets, distances_of_files):
            with pytest.raises(IncompatibleVectors, match=name):
                compare(made_up(vectors), made_up(vectors, header={name: "another"}))


def test_the_odd_recording_is_the_farthest_from_the_reference() -> None:
    rng = np.random.default_rng(1)
    reference = made_up(rng.normal(size=(100, 4)))
    vectors = rng.normal(size=(30, 4))
    vectors[20:] += 5
    found = distances_of_files(made_up(vectors, per_file=10), reference)
    assert max(found, key=found.__getitem__) == "2"
    assert found["2"] > 10 * max(found["0"], found["1"])
    with pytest.raises(TooFewVectors):
        distances_of_files(reference, made_up(vectors[:3]))


def test_diversity_of_copies_and_of_opposites() -> None:
    same = diversity(np.tile([3.0, 4.0], (3, 1)))
    assert (same.mean, same.largest, same.recordings) == pytest.approx((0, 0, 3))
    mixed = diversity(np.array([[1, 0], [2, 0], [-1, 0]], np.float32))
    assert (mixed.least, mixed.largest, mixed.mean) == pytest.approx((0, 2, 4 / 3))
    for wrong in (np.ones((1, 2)), np.zeros((2, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(InputError):
            diversity(wrong)
