"""``rc-audioldm train`` through the command line: all stages, resumption, and what its data may be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from pentatonic.errors import AudioError, ConfigError, FormatError
from rc_audioldm.clap import from_pretrained as load_clap
from rc_audioldm.cli import main
from rc_audioldm.denoising.loop import Denoising
from rc_audioldm.denoising.sampling import Item, Sampling, sample
from rc_audioldm.prompts.encoder import PromptEncoder
from rc_audioldm.training.clap_stage import CaptionPairs
from rc_audioldm.training.clips import read_clips
from rc_audioldm.training.unet_stage import UnetObjective
from rc_audioldm.weights import from_pretrained

RATE, SECONDS = 16_000, 1.28
WEIGHTS = Path("model", "unet", "diffusion_pytorch_model.safetensors")


def write_clips(folder: Path) -> Path:
    """Twelve tones with captions, four of them held out; returns the manifest."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(12):
        label = ("low", "high")[number % 2]
        time = torch.arange(round(SECONDS * RATE)) / RATE
        tone = 0.2 * torch.sin(2 * torch.pi * (150 + 30 * number + 600 * (number % 2)) * time)
        soundfile.write(folder / f"{number}.wav", tone.numpy(), RATE)
        text = f"a {label} cello tone"
        rows.append(
            {
                "id": f"{number}",
                "path": f"{number}.wav",
                "licence": "CC0",
                "caption": text,
                "labels": ["tone", label],
            }
            | {"split": "heldout" if number >= 8 else "train"}
            | {"captions": [{"text": text, "labels": [label, "tone"]}, {"text": label, "labels": [label]}]}
        )
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data") / "clips")


def run(*overrides: str) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["rc-audioldm", "train", *overrides])
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture(scope="module")
def trained(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole debug run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run("experiment=debug", f"data.manifest={manifest}", f"run_dir={out}") == 0
    return out


def test_the_stages_leave_a_model_that_makes_clips(trained: Path) -> None:
    model = from_pretrained(trained / "model")
    assert model.family == "audioldm" and model.sample_rate == RATE
    settings = Sampling(seconds=SECONDS, denoising=Denoising(steps=2))
    (clip,) = sample(model, [Item("a low cello tone")], settings)
    assert clip.audio.shape == (round(SECONDS * RATE),) and clip.audio.isfinite().all()
    for stage in ("clap", "vae", "unet"):
        lines = (trained / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert any("val_loss" in json.loads(line) for line in lines)


def test_banks_and_prompts_share_one_space(trained: Path) -> None:
    encoder = load_clap(trained / "model" / "clap", random_weights=True)
    prompts = PromptEncoder(from_pretrained(trained / "model"))
    for text in ("a low cello tone", "Something else, with Capitals"):
        torch.testing.assert_close(prompts.clap(text), encoder.embed_text([text])[0], rtol=0, atol=1e-6)


def test_weights_are_stored_in_half(trained: Path) -> None:
    from safetensors.torch import load_file

    for file in trained.joinpath("model").rglob("*.safetensors"):
        kinds = {tensor.dtype for tensor in load_file(file).values() if tensor.is_floating_point()}
        assert kinds == {torch.float16}, file


def test_latents_are_standardised_and_decode_to_the_same(trained: Path) -> None:
    from pentatonic.checkpoint import model_directory
    from rc_audioldm.components import COMPONENTS, load_component
    from rc_audioldm.training.vae_stage import ChannelScale, encode, standardise

    vae = load_component(COMPONENTS["audioldm"]["vae"], model_directory(trained / "vae") / "model")
    mels = torch.randn(6, 1, 32, 64, generator=torch.Generator().manual_seed(0)) * 3 - 7
    before = encode(vae, mels)
    decoded = vae.decode(before).sample  # type: ignore[operator, union-attr]
    scale = ChannelScale.of(before)
    standardise(vae, scale)
    after = encode(vae, mels)
    torch.testing.assert_close(after, scale.apply(before), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.std(dim=(0, 2, 3)), torch.ones(after.shape[1]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(vae.decode(after).sample, decoded, rtol=1e-3, atol=1e-3)  # type: ignore[operator, union-attr]
    assert vae.config["scaling_factor"] == 1  # type: ignore[index]


@pytest.mark.parametrize("stage", ["clap", "unet"])
def test_a_run_that_stopped_ends_with_the_same_weights(
    stage: str, trained: Path, manifest: Path, tmp_path: Path
) -> None:
    import shutil

    parts = tmp_path / "parts"
    shutil.copytree(trained, parts)
    # As after a kill at step 2 of a stage.
    shutil.rmtree(parts / "model")
    shutil.rmtree(parts / stage / "checkpoints" / "step-00000004")
    for later in {"clap": ("vae", "unet"), "unet": ()}[stage]:
        shutil.rmtree(parts / later)
    assert run("experiment=debug", f"data.manifest={manifest}", f"run_dir={parts}") == 0
    assert (parts / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_a_manifest_in_another_folder_than_its_clips(manifest: Path, tmp_path: Path) -> None:
    moved = tmp_path / "m.jsonl"
    moved.write_bytes(manifest.read_bytes())
    clips = read_clips(moved, "train", seconds=SECONDS, sample_rate=RATE, root=manifest.parent)
    beside = read_clips(manifest, "train", seconds=SECONDS, sample_rate=RATE)
    assert torch.equal(clips.samples, beside.samples)
    with pytest.raises(AudioError, match="no such file"):
        read_clips(moved, "train", seconds=SECONDS, sample_rate=RATE)


def test_captions_that_hold_for_other_clips_are_no_negatives(manifest: Path, trained: Path) -> None:
    from transformers import AutoTokenizer

    from pentatonic.training import ItemKey
    from rc_audioldm.clap.frontend import read_frontend

    folder = trained / "model" / "clap"
    clips = read_clips(manifest, "train", seconds=SECONDS, sample_rate=RATE)
    pairs = CaptionPairs(clips, read_frontend(folder), AutoTokenizer.from_pretrained(folder), None, seed=0)
    batch = pairs.collate([pairs[ItemKey(0, index)] for index in range(4)])
    alternating = torch.tensor([[True, False] * 2, [False, True] * 2] * 2)
    assert torch.equal(batch["true"][:4], alternating)
    # The other captions are of another clip, so all of them are false where that can be.
    assert not batch["true"][4:].diagonal().any()


def test_a_condition_is_a_blend_or_the_empty_text() -> None:
    from rc_audioldm.training.architecture import UnetModelConfig, make_scheduler, make_unet
    from rc_audioldm.training.unet_stage import VelocityTraining

    unet = make_unet(UnetModelConfig(channels=[8, 8], attention=[False, False], head_width=4), 4, 3)
    audio, text, empty = torch.eye(3)
    batch = {"audio": audio.expand(400, 3), "text": text.expand(400, 3)}
    module = VelocityTraining(unet, make_scheduler(), empty, UnetObjective(drop=0.25, audio_only=0.5))
    rows = module._condition(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(400))
    dropped = rows[:, 2] == 1
    assert 70 < int(dropped.sum()) < 130
    kept = rows[~dropped]
    assert 0.4 < float((kept[:, 0] == 1).float().mean()) < 0.6
    assert float(kept[:, 1].max()) > 0.9 and float(kept[:, 2].abs().max()) == 0


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"captions": []}, FormatError, "captions must be a list"),
        ({"captions": [{"text": "x", "labels": ["unknown"]}]}, FormatError, "among the row's own"),
        ({"captions": None, "caption": ""}, FormatError, "has no caption"),
        ({"split": "other"}, ConfigError, "no clips of the split"),
    ],
)
def test_rows_that_cannot_be_used_are_named(change: dict, error: type, said: str, tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "clips")
    row = json.loads(manifest.read_text(encoding="utf-8").splitlines()[0]) | change
    manifest.write_text(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n", encoding="utf-8")
    with pytest.raises(error, match=said):
        read_clips(manifest, "train", seconds=SECONDS, sample_rate=RATE)


def test_an_unknown_key_and_missing_data_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run("experiment=debug", f"data.manifest={tmp_path / 'none.jsonl'}", f"run_dir={tmp_path / 'run'}")
        == 1
    )
    assert "none.jsonl" in capsys.readouterr().err
    assert run("experiment=debug", "data.manifest=x", "unet.depth=3") != 0
    assert "unknown key 'unet.depth'" in capsys.readouterr().err
