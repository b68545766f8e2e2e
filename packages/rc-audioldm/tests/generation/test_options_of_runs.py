"""Whole runs of the command with an adapter, a projector, offloaded components, and half precision."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from rc_audioldm.adapters.adapter_files import AdapterInfo
from rc_audioldm.adapters.projector import Projector, ProjectorConfig
from rc_audioldm.adapters.projector_files import save_projector
from rc_audioldm.adapters.state_files import save_state_adapter
from rc_audioldm.model import AudioLDM

FAST = ("--steps", 2, "--seconds", 0.01675, "--device", "cpu", "--no-report")
Make = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def make(
    model_folder: Any, clap_folder: Path, bank_folder: Path, command: Callable[..., int], tmp_path: Path
) -> Make:
    """Run the command in a new folder: (name, family, options) -> name of each sound -> its samples."""

    def run(name: str, family: str, *more: object) -> dict[str, np.ndarray]:
        style = ("--bank", bank_folder, "--clap", clap_folder, "--random-weights")
        start = ("generate", "--model", model_folder(family), "--out", tmp_path / name, *style, *FAST)
        assert command(*start, *more, "drum", "a harp") == 0
        return {
            path.name: soundfile.read(path)[0] for path in sorted((tmp_path / name / "wav").glob("*.wav"))
        }

    return run


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    assert one.keys() == other.keys() and len(one) == 2
    return all(np.array_equal(one[name], other[name]) for name in one)


def settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run_config.json").read_text())["settings"]


@pytest.fixture
def adapter_file(state_adapter: Any, clap: Any, tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    save_state_adapter(path, state_adapter, AdapterInfo(trained_steps=1, clap=clap.header))
    return path


@pytest.fixture
def projector(clap: Any) -> Projector:
    torch.manual_seed(3)
    config = ProjectorConfig(
        in_width=clap.dimension, hidden_width=8, out_width=clap.dimension, residual=False
    )
    return Projector(config).eval().requires_grad_(False)


@pytest.fixture
def projector_file(projector: Projector, clap: Any, tmp_path: Path) -> Path:
    path = tmp_path / "projector.safetensors"
    save_projector(path, projector, AdapterInfo(trained_steps=1, clap=clap.header))
    return path


def test_an_adapter_is_heard(
    make: Make, adapter_file: Path, state_adapter: Any, clap: Any, tmp_path: Path
) -> None:
    plain = make("plain", "audioldm2", "--mode", "prompt")
    given = ("--mode", "adapter", "--adapter", adapter_file)
    styled = make("styled", "audioldm2", *given, "--strength", 0.8)
    assert not any(np.array_equal(plain[name], styled[name]) for name in plain)
    assert same(plain, make("off", "audioldm2", *given, "--strength", 0))
    # Another adapter of the same sizes is another sound, and its hash another one in the settings.
    torch.manual_seed(7)
    other = type(state_adapter)(state_adapter.config).eval()
    save_state_adapter(tmp_path / "other.safetensors", other, AdapterInfo(trained_steps=1, clap=clap.header))
    again = make(
        *("other", "audioldm2", "--mode", "adapter", "--strength", 0.8),
        *("--adapter", tmp_path / "other.safetensors"),
    )
    assert not any(np.array_equal(again[name], styled[name]) for name in styled)
    notes = [settings(tmp_path / name)["adapter"] for name in ("plain", "styled", "other")]
    assert notes[0] == "none none" and len(set(notes)) == 3


def test_a_projector_maps_the_styles(
    make: Make, projector: Projector, projector_file: Path, family: str, tmp_path: Path
) -> None:
    plain = make("plain", family, "--strength", 0.8)
    mapped = make("mapped", family, "--strength", 0.8, "--projector", projector_file)
    assert not any(np.array_equal(plain[name], mapped[name]) for name in plain)
    styles = [np.load(tmp_path / name / "style_vectors.npy") for name in ("plain", "mapped")]
    expected = torch.nn.functional.normalize(projector(torch.from_numpy(styles[0])), dim=1)
    np.testing.assert_allclose(styles[1], expected.numpy(), atol=1e-6)
    assert settings(tmp_path / "mapped")["adapter"] != settings(tmp_path / "plain")["adapter"]


@pytest.mark.parametrize(
    ("given", "status", "named"),
    [
        (("--adapter", "{adapter}"), 2, "--adapter is heard in the mode adapter alone; add --mode adapter"),
        (("--mode", "adapter"), 2, "the mode adapter needs a bank or a reference"),
        (("--projector", "{projector}"), 2, "--projector maps styles, and there are none"),
        (("--mode", "adapter", "--adapter", "{projector}"), 1, "is an adapter of the kind 'projector'"),
        (("--mode", "adapter", "--adapter", "none"), 2, "no such file or folder: none"),
    ],
)
def test_files_that_nothing_hears_are_refused(
    given: tuple[str, ...],
    status: int,
    named: str,
    adapter_file: Path,
    projector_file: Path,
    model_folder: Any,
    command: Callable[..., int],
    tmp_path: Path,
    capsys: Any,
) -> None:
    filled = [each.format(adapter=adapter_file, projector=projector_file) for each in given]
    start = ("generate", "--model", model_folder("audioldm2"), "--out", tmp_path / "run", *FAST)
    assert command(*start, *filled, "drum") == status
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run/items.jsonl").exists()


@pytest.mark.parametrize(
    ("family", "mode"), [("audioldm", "audio-init"), ("audioldm2", "lm-mix"), ("audioldm2", "augment")]
)
def test_offloaded_components_compute_only_where_they_are_placed(
    make: Make, monkeypatch: pytest.MonkeyPatch, family: str, mode: str
) -> None:
    plain = make("plain", family, "--mode", mode, "--strength", 0.6)
    placed: list[str] = []
    used: dict[str, bool] = {}
    move, place = AudioLDM.to, AudioLDM.placed

    def to(model: AudioLDM, device: Any, *, offload: bool = False) -> AudioLDM:
        assert offload
        for name, component in model.modules().items():
            for part in component.modules():
                part.register_forward_pre_hook(
                    lambda *_, name=name: used.update({name: used.get(name, True) and name in placed})
                )
        return move(model, device, offload=offload)

    @contextmanager
    def noted(model: AudioLDM, *names: str) -> Iterator[None]:
        assert model.offload
        of_text = ("text_encoder", "text_encoder_2", "projection_model", "language_model")
        new = [part for name in names for part in (of_text if name == "text" else (name,))]
        placed.extend(new)
        with place(model, *names):
            yield
        for name in new:
            placed.remove(name)

    monkeypatch.setattr(AudioLDM, "to", to)
    monkeypatch.setattr(AudioLDM, "placed", noted)
    assert same(plain, make("offloaded", family, "--mode", mode, "--strength", 0.6, "--offload"))
    assert {"unet", "vae", "vocoder", "text_encoder"} <= used.keys()
    assert [name for name, was_placed in used.items() if not was_placed] == []


@pytest.mark.parametrize(("dtype", "bound"), [("fp16", 0.005), ("bf16", 0.04)])
def test_half_precision_is_near_float32(make: Make, family: str, dtype: str, bound: float) -> None:
    whole, half = make("whole", family), make("half", family, "--dtype", dtype)
    assert not same(whole, half)
    for name, expected in whole.items():
        difference = np.abs(half[name] - expected).max() / np.abs(expected).max()
        assert 0 < difference < bound


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_mode_that_half_precision_cannot_hold_is_refused(
    model_folder: Any,
    bank_folder: Path,
    clap_folder: Path,
    command: Any,
    tmp_path: Path,
    capsys: Any,
    dtype: str,
) -> None:
    style = ("--bank", bank_folder, "--clap", clap_folder, "--random-weights", "--mode", "lm-concat")
    start = ("generate", "--model", model_folder("audioldm2"), "--out", tmp_path / "run", *style, *FAST)
    assert command(*start, "--dtype", dtype, "drum") == 2
    assert "the mode lm-concat needs a UNet in float32" in capsys.readouterr().err
    assert not (tmp_path / "run/items.jsonl").exists()
