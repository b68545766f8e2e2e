"""Vectors of whole tracks and of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from myna_rpe.config import EncoderConfig, PatchConfig, PositionConfig
from myna_rpe.embed import embed_file, embed_folder
from myna_rpe.key_map import from_upstream
from myna_rpe.model import MynaEncoder
from myna_rpe.original_config import original_config
from myna_rpe.pickled import PickledModel
from myna_rpe.positions import upstream_positions
from myna_rpe.speed import minutes_per_minute
from myna_rpe.weights import from_pretrained
from myna_rpe.whole_tracks import TrackOptions, embed_tracks
from pentatonic.errors import SilentAudio, UsageError

GOLDENS = Path(__file__).parent / "goldens"
RPE = EncoderConfig(
    dim=24, depth=2, heads=2, dim_head=8, mlp_dim=32, out_dim=8, positions=PositionConfig(bias="alibi")
)
MYNA = EncoderConfig(
    dim=24,
    depth=1,
    heads=2,
    dim_head=8,
    mlp_dim=32,
    out_dim=8,
    class_token=False,
    frontend="myna",
    train_frames=96,
    chunk_frames=96,
    second_patch=PatchConfig(128, 2),
    positions=PositionConfig(absolute="sincos2d"),
)


def model_of(config: EncoderConfig) -> MynaEncoder:
    torch.manual_seed(0)
    return MynaEncoder(config).eval()


def demo_model() -> tuple[MynaEncoder, dict, dict]:
    about = json.loads((GOLDENS / "rpe_demo_chunks" / "meta.json").read_text())
    constructor = about["constructor"]
    positions = upstream_positions("rope_row_2025", row_table=True, rope_base=512.0)
    config = EncoderConfig(
        dim=constructor["d_model"],
        depth=constructor["depth"],
        heads=constructor["heads"],
        dim_head=constructor["dim_head"],
        mlp_dim=constructor["mlp_dim"],
        out_dim=constructor["latent_space"],
        train_frames=64,
        chunk_frames=64,
        positions=positions,
    )
    model = MynaEncoder(config).eval()
    tensors = load_file(GOLDENS / "rpe_demo_chunks" / "weights.safetensors")
    model.load_state_dict({name: value.float() for name, value in from_upstream(tensors).items()})
    return model, about, load_file(GOLDENS / "rpe_demo_chunks" / "io.safetensors")


def test_the_results_of_the_public_demo() -> None:
    model, about, io = demo_model()
    options = TrackOptions("chunks", "upstream_demo")
    for length in about["lengths"]:
        frames = length["frames"]
        (found,) = embed_tracks(model, [io["x_track"][:, :frames].float()], options)
        assert found.chunks is not None
        torch.testing.assert_close(found.chunks, io[f"rows_{frames}"], **about["tolerance_float32"])
        expected = io[f"z_demo_{frames}"].reshape(-1)
        torch.testing.assert_close(found.vector, expected, **about["tolerance_float32"])


def test_the_plain_mean_over_chunks_and_remainder() -> None:
    about = json.loads((GOLDENS / "rpe_paper_chunk_mean" / "meta.json").read_text())
    io = load_file(GOLDENS / "rpe_paper_chunk_mean" / "io.safetensors")
    tensors = load_file(GOLDENS / "rpe_paper_alibi2d" / "weights.safetensors")
    config = original_config(PickledModel(tensors), mode="paper_plus_manhattan", train_frames=64)
    model = MynaEncoder(config).eval()
    model.load_state_dict({name: value.float() for name, value in from_upstream(tensors).items()})
    track = io["x_track"].float()
    (found,) = embed_tracks(model, [track], TrackOptions("chunks", "upstream_mean"))
    torch.testing.assert_close(found.chunks, io["z_chunks"], **about["tolerance_float32"])
    torch.testing.assert_close(found.vector, io["z_mean"], **about["tolerance_float32"])
    (weighted,) = embed_tracks(model, [track], TrackOptions("chunks"))
    share = torch.tensor([64.0, 64.0, 32.0]) / 160
    torch.testing.assert_close(weighted.vector, share @ io["z_chunks"], **about["tolerance_float32"])
    (full,) = embed_tracks(model, [track], TrackOptions("chunks", "full_chunks"))
    torch.testing.assert_close(full.vector, io["z_chunks"][:2].mean(0), **about["tolerance_float32"])


@pytest.mark.parametrize("mode", ["track", "chunks"])
def test_tracks_do_not_depend_on_each_other(mode: Any) -> None:
    model = model_of(RPE)
    mels = [torch.rand(128, frames) * -60 for frames in (700, 17, 256, 5)]
    together = embed_tracks(model, mels, TrackOptions(mode))
    for mel, found in zip(mels, together, strict=True):
        (alone,) = embed_tracks(model, [mel], TrackOptions(mode))
        torch.testing.assert_close(found.vector, alone.vector, atol=1e-5, rtol=1e-5)
        assert found.padded == (mel.shape[1] < 16)


def test_one_pass_is_the_pass_of_the_model() -> None:
    model = model_of(RPE)
    mel = torch.rand(128, 333) * -60
    (found,) = embed_tracks(model, [mel], TrackOptions())
    torch.testing.assert_close(found.vector, model(mel[None, :, :320]).detach()[0])


def test_the_two_patches_of_myna_stand_side_by_side() -> None:
    model = model_of(MYNA)
    mel = torch.rand(128, 96 * 3 + 40)
    (found,) = embed_tracks(model, [mel], TrackOptions())
    chunks = mel[:, :288].unflatten(1, (3, 96)).transpose(0, 1)
    square, vertical = (model.features(chunks, patch=name).detach() for name in ("first", "second"))
    torch.testing.assert_close(found.vector, torch.cat([square, vertical], 1).mean(0))
    (short,) = embed_tracks(model, [mel[:, :50]], TrackOptions())
    assert short.padded


def test_a_model_that_knows_one_length_refuses_another() -> None:
    model = model_of(MYNA)
    with pytest.raises(UsageError, match="positions 'sincos2d' of this model hold for the 96 frames"):
        embed_tracks(model, [torch.rand(128, 96)], TrackOptions("track"))
    assert TrackOptions().resolved(MYNA) == TrackOptions("chunks", "full_chunks", "features")
    assert TrackOptions().resolved(RPE) == TrackOptions("track", None, "head")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrackOptions("track", "weighted"), "mode track has no chunks"),
        (TrackOptions(output="head"), None),
    ],
)
def test_options_that_contradict_the_model(options: TrackOptions, message: str | None) -> None:
    if message is None:
        with pytest.raises(UsageError, match="the model has none"):
            options.resolved(EncoderConfig(out_dim=0))
        return
    with pytest.raises(UsageError, match=message):
        options.resolved(RPE)
    with pytest.raises(UsageError, match="allowed: track, chunks"):
        TrackOptions("whole")  # type: ignore[arg-type]


def write(path: Path, seconds: float, rate: int = 44100, level: float = 0.3) -> Path:
    samples = level * np.random.default_rng(len(path.name)).standard_normal(round(seconds * rate))
    soundfile.write(path, samples.clip(-1, 1), rate)
    return path


def test_a_folder_with_good_and_bad_files(tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    write(music / "song.wav", 3.0)
    write(music / "blip.flac", 0.01)
    write(music / "silence.wav", 1.0, level=0.0)
    (music / "text.mp3").write_text("no audio")
    model = model_of(RPE)
    report = embed_folder(model, [music], tmp_path / "out", model_name="small")
    status = {Path(entry["path"]).name: entry for entry in report.entries}
    assert status["song.wav"]["status"] == "done" and "flags" not in status["song.wav"]
    assert "padded" in " ".join(status["blip.flac"]["flags"])
    assert status["silence.wav"]["status"] == "failed" and "silence" in status["silence.wav"]["reason"]
    assert status["text.mp3"]["status"] == "failed"
    with np.load(tmp_path / "out" / "song.wav.npz", allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["embedding"], embed_file(model, music / "song.wav"), atol=1e-6)
        assert stored["mode"] == "track" and stored["duration_s"] == pytest.approx(3.0)
    again = embed_folder(model, [music], tmp_path / "out", model_name="small")
    assert again.count("skipped") == 2
    with pytest.raises(UsageError, match="mode track, not chunks"):
        embed_folder(model, [music], tmp_path / "out", options=TrackOptions("chunks"))


def test_chunks_are_stored_where_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "song.wav", 6.0)
    embed_folder(
        model_of(RPE),
        [tmp_path / "song.wav"],
        tmp_path / "out",
        options=TrackOptions("chunks"),
        store_chunks=True,
    )
    with np.load(tmp_path / "out" / "song.wav.npz", allow_pickle=False) as stored:
        assert stored["chunks"].shape == (3, 8)
        np.testing.assert_allclose(stored["chunk_starts_s"], [0.0, 2.56, 5.12])


def test_silence_has_an_answer(tmp_path: Path) -> None:
    with pytest.raises(SilentAudio, match="no embedding is made"):
        embed_file(model_of(RPE), write(tmp_path / "silence.wav", 1.0, level=1e-9))


@pytest.mark.parametrize("mode", ["track", "chunks"])
def test_the_speed_is_a_positive_number(mode: Any) -> None:
    assert 0 < minutes_per_minute(model_of(RPE), TrackOptions(mode).resolved(RPE)) < 1e6


def test_the_small_model_of_the_wheel_knows_a_copy() -> None:
    model = from_pretrained("myna-rpe-tiny")
    demo = Path(__file__).parents[1] / "demo"
    names = ("hornpipe_flute", "hornpipe_flute_copy", "reel_recorder", "chorale_choir", "rag_piano")
    vectors = torch.stack([embed_file(model, demo / f"{name}.ogg") for name in names])
    unit = torch.nn.functional.normalize(vectors, dim=1)
    likeness = unit[0] @ unit.T
    assert vectors.shape == (5, 192) and likeness[1] > 0.9 > likeness[2:].max()
