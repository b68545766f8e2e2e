"""Training beside a teacher: targets of crops, changes of crops, and whole runs through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omar_rq.training.augment import AugmentConfig, augment
from omar_rq.training.data import MANIFEST, CropDataset, TaughtCrops, collate_taught, read_manifest
from omar_rq.training.distillation import DistillationConfig
from omar_rq.training.teacher import Teacher
from omar_rq.training.train import main
from pentatonic.checkpoint import model_directory
from pentatonic.errors import ConfigError, InputError
from pentatonic.training import ItemKey
from pentatonic.training.teacher import write_teacher_targets

RATE = 16000
TRACKS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A prepared folder of tones of two seconds, and a teacher who hears their pitch in patches of a second."""
    folder = tmp_path_factory.mktemp("prepared")
    time_s = np.arange(2 * RATE) / RATE
    entries, targets = [], []
    for number in range(TRACKS):
        tone = 0.3 * np.sin(2 * np.pi * 200 * (number + 1) * time_s)
        (tone * 32768).astype("<i2").tofile(folder / f"{number}.mmap")
        entry = {"path": f"{number}.mmap", "sample_rate": RATE, "samples": len(tone), "dtype": "int16"}
        entries.append(entry | {"source": f"{number}.wav"})
        pitch = np.full((2, 3), number, np.float32) + np.arange(2, dtype=np.float32)[:, None] / 4
        targets.append((pitch, np.full((2, 2), number / TRACKS)))
    (folder / MANIFEST).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        (folder / f"{split}.jsonl").write_text("".join(f'"{number}.mmap"\n' for number in numbers))
    sources = [entry["source"] for entry in entries]
    write_teacher_targets(folder, "judge", targets, 1.0, index=MANIFEST, sources=sources)
    return folder


def crops(folder: Path, **options) -> CropDataset:
    return CropDataset(read_manifest(folder), crop_s=0.5, sample_rate=RATE, **options)


def test_a_crop_has_what_the_teacher_says_about_its_place(data):
    taught = crops(data, teacher=Teacher(data, "judge"))
    plain = crops(data)
    seen = set()
    for epoch in range(8):
        item = taught[ItemKey(epoch, 3)]
        assert isinstance(item, TaughtCrops)
        torch.testing.assert_close(item.audio, plain[ItemKey(epoch, 3)], rtol=0, atol=0)
        start_s = int(np.random.default_rng((0, epoch, 3)).integers(int(1.5 * RATE) + 1)) / RATE
        patches = [patch for patch in (0, 1) if start_s < patch + 1 and start_s + 0.5 > patch]
        expected = 3 + np.mean(patches) / 4
        np.testing.assert_allclose(item.vectors, expected, rtol=1e-6)
        np.testing.assert_allclose(item.tags, 0.5, rtol=1e-3)
        seen.add(tuple(patches))
    assert len(seen) > 1
    batch = collate_taught([taught[ItemKey(0, number)] for number in (0, 5)])
    assert (batch.audio.shape, batch.vectors.shape, batch.tags.shape) == ((2, RATE // 2), (2, 3), (2, 2))


def test_folders_that_the_teacher_did_not_hear_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="omar-rq prepare"):
        Teacher(tmp_path, "judge")
    with pytest.raises(InputError, match="no targets of a teacher 'nobody'"):
        Teacher(data, "nobody")
    changed = tmp_path / "changed"
    shutil.copytree(data, changed)
    (changed / MANIFEST).write_text("".join((data / MANIFEST).read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"another manifest\.jsonl"):
        Teacher(changed, "judge")


def noise(seconds: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(7).standard_normal(int(seconds * RATE)).astype(np.float32) / 8
    )


def spectrum_db(audio: torch.Tensor) -> torch.Tensor:
    return 20 * torch.log10(torch.fft.rfft(audio).abs().clamp(min=1e-9))


def changed(seed: int = 0, **values) -> torch.Tensor:
    return augment(noise(), RATE, AugmentConfig(**values), np.random.default_rng(seed))


def test_a_gain_changes_the_level_alone():
    gains = []
    for seed in range(20):
        louder = changed(seed, gain_db=6.0)
        ratio = louder.norm() / noise().norm()
        torch.testing.assert_close(louder, ratio * noise(), rtol=1e-5, atol=1e-6)
        gains.append(20 * float(torch.log10(ratio)))
    assert -6.01 < min(gains) < -2 and 2 < max(gains) < 6.01


def test_equalisation_is_a_line_over_octaves():
    change = spectrum_db(changed(3, equalise_db=12.0)) - spectrum_db(noise())
    at = [int(hertz) for hertz in (100, 200, 400, 800, 1600, 3200, 6400)]  # bins are 1 Hz apart
    steps = np.diff([float(change[hertz]) for hertz in at])
    np.testing.assert_allclose(steps, steps[0], atol=0.02)
    assert abs(steps[0]) > 0.1 and change.abs().max() < 12.1


def test_high_frequencies_are_cut_as_often_as_asked_for():
    tops = [
        float(spectrum_db(changed(seed, cut_probability=0.5, lowest_cut_hz=2000.0))[7990:].max())
        for seed in range(40)
    ]
    share = np.mean([top < -60 for top in tops])
    assert 0.2 < share < 0.8
    uncut = changed(cut_probability=1.0, lowest_cut_hz=2000.0)
    torch.testing.assert_close(
        torch.fft.rfft(uncut)[:1900], torch.fft.rfft(noise())[:1900], rtol=1e-3, atol=1e-2
    )


def test_a_codec_keeps_place_and_music():
    time_s = torch.arange(RATE) / RATE
    tone = 0.4 * torch.sin(2 * torch.pi * 440 * time_s) * torch.linspace(0, 1, RATE)
    decoded = augment(tone, RATE, AugmentConfig(codec_probability=1.0), np.random.default_rng(1))
    assert not torch.equal(decoded, tone) and len(decoded) == RATE
    assert float((decoded - tone).norm() / tone.norm()) < 0.1  # a delay of a tenth of a period would give 0.6
    loud = augment(4 * tone, RATE, AugmentConfig(codec_probability=1.0), np.random.default_rng(1))
    assert 1.4 < float(loud.abs().max()) < 1.8
    silence = torch.zeros(RATE)
    assert torch.equal(
        augment(silence, RATE, AugmentConfig(codec_probability=1.0), np.random.default_rng(1)), silence
    )


def test_the_same_numbers_are_drawn_whatever_is_asked_for():
    plain, all_of_it = np.random.default_rng(2), np.random.default_rng(2)
    assert torch.allclose(augment(noise(), RATE, AugmentConfig(), plain), noise(), atol=1e-6)
    augment(noise(), RATE, AugmentConfig(6, 6, 1, 3000, 1), all_of_it)
    assert plain.random() == all_of_it.random()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (AugmentConfig, {"gain_db": -1}),
        (AugmentConfig, {"equalise_db": 100}),
        (AugmentConfig, {"cut_probability": 1.5}),
        (AugmentConfig, {"codec_probability": float("nan")}),
        (AugmentConfig, {"lowest_cut_hz": 0}),
        (DistillationConfig, {"weight": -1}),
        (DistillationConfig, {"weight": float("nan")}),
        (DistillationConfig, {"heard": 1.0}),
        (DistillationConfig, {"heard": 0.0}),
    ],
)
def test_options_out_of_range_are_refused(kind, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        kind(**values)


def overrides(data: Path, run: Path, *more: str) -> list[str]:
    small = ["model.net.embed_dim=16", "model.net.depth=1", "data.crop_s=1.0", "trainer.max_steps=4"]
    taught = ["distillation.weight=2.0", "distillation.teacher=judge", "data.augment.gain_db=6"]
    return ["experiment=debug", f"data.root={data}", f"run_dir={run}", *small, *taught, *more]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    pytest.importorskip("accelerate")
    run = tmp_path_factory.mktemp("runs") / "taught"
    assert main(overrides(data, run)).step == 4
    return run


def test_a_run_learns_from_both(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 4
    for line in steps:
        taught = (1 - line["teacher/cosine"]) + line["teacher/mse"] + line["teacher/tags"]
        assert line["loss"] == pytest.approx(line["tokens"] + 2 * taught, rel=1e-4)
    assert any("val_loss" in line for line in lines)
    names = set(load_file(model_directory(finished) / "model.safetensors"))
    assert {"distillation.to_vector.weight", "distillation.to_tags.weight"} <= names


def test_a_resumed_run_is_bit_identical(data, finished, tmp_path):
    run = tmp_path / "resumed"
    main(overrides(data, run))
    shutil.rmtree(sorted((run / "checkpoints").iterdir())[-1])
    assert model_directory(run).name == "step-00000002"
    assert main(overrides(data, run)).step == 4
    expected = load_file(model_directory(finished) / "model.safetensors")
    found = load_file(model_directory(run) / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_batch_of_one_crop_is_refused(data, tmp_path):
    pytest.importorskip("accelerate")
    with pytest.raises(ConfigError, match="two and more crops"):
        main(overrides(data, tmp_path / "run", "data.batch_size=1"))
