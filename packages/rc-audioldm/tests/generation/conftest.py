"""Tiny models of both families, a tiny CLAP model of the same width, a bank that it made, and an adapter."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
import torch

from rc_audioldm.bank.build import build_bank
from rc_audioldm.bank.sources import find_clips
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.clap import ClapEncoder, from_pretrained
from rc_audioldm.cli import main
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.model import AudioLDM
from rc_audioldm.weights import load_directory

WIDTH, RATE = 16, 16000
FAST = ("--steps", 2, "--seconds", 0.01675, "--device", "cpu", "--no-report", "--batch-size", 2)
LICENCES = {"piano.wav": "CC0 1.0", "violin.wav": "CC BY 4.0", "drums.wav": "CC BY-NC 4.0", "flute.wav": ""}
TAGS = {
    "piano.wav": "Piano",
    "violin.wav": "Violin;Bowed_string_instrument",
    "drums.wav": "Drum_kit",
    "flute.wav": "Flute",
}


def _neighbour(folder: str) -> ModuleType:
    """The fixtures of another folder of tests."""
    path = Path(__file__).parent.parent / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"rc_audioldm_tests_{folder}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MODELS, RETRIEVAL = _neighbour("models"), _neighbour("retrieval")


@pytest.fixture(scope="session", params=["audioldm", "audioldm2"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, done = tmp_path_factory.mktemp("models"), {}

    def folder(family: str) -> Path:
        if family not in done:
            done[family] = MODELS.write_directory(root / family, family)
        return done[family]

    return folder


@pytest.fixture(scope="session")
def models(model_folder: Any) -> dict[str, AudioLDM]:
    return {name: load_directory(model_folder(name)) for name in ("audioldm", "audioldm2")}


@pytest.fixture
def model(models: dict[str, AudioLDM], family: str) -> AudioLDM:
    return models[family]


@pytest.fixture(scope="session")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return RETRIEVAL.write_clap(tmp_path_factory.mktemp("clap"), width=WIDTH)


@pytest.fixture(scope="session")
def clap(clap_folder: Path) -> ClapEncoder:
    return from_pretrained(clap_folder, random_weights=True)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips with licences and tags, one of which has no licence."""
    folder = tmp_path_factory.mktemp("clips")
    for i, name in enumerate(LICENCES):
        soundfile.write(folder / name, RETRIEVAL.tone(110 * 1.7**i, 1.0, seed=i).numpy(), RATE)
    rows = [json.dumps({"path": name, "licence": LICENCES[name], "tags": TAGS[name]}) for name in LICENCES]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def bank_folder(tmp_path_factory: pytest.TempPathFactory, clap: ClapEncoder, clips: Path) -> Path:
    folder = tmp_path_factory.mktemp("banks") / "bank"
    build_bank(clap, find_clips(clips), folder)
    return folder


@pytest.fixture(scope="session")
def bank(bank_folder: Path) -> StyleBank:
    return StyleBank.open(bank_folder)


@pytest.fixture(scope="session")
def finder(clap: ClapEncoder, bank: StyleBank) -> StyleFinder:
    return StyleFinder(clap, bank)


@pytest.fixture(scope="session")
def state_adapter() -> torch.nn.Module:
    """An adapter with random weights that fits the tiny AudioLDM 2."""
    from rc_audioldm.adapters import StateAdapterConfig, StyleToStates

    torch.manual_seed(0)
    config = json.loads((MODELS.GOLDENS / MODELS.CASES["audioldm2"] / "meta.json").read_text())["configs"]
    width = config["gpt2"].get("n_embd", 768)
    adapter = StyleToStates(StateAdapterConfig(in_width=WIDTH, hidden_width=24, states=8, state_width=width))
    return adapter.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def builders() -> ModuleType:
    """What makes tiny models."""
    return MODELS


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line in this process; its exit status."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["rc-audioldm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def options(model_folder: Any, clap_folder: Path, bank_folder: Path) -> tuple[object, ...]:
    """Of a model with a bank."""
    style = ("--bank", bank_folder, "--clap", clap_folder, "--random-weights")
    return ("generate", "--model", model_folder("audioldm"), *style, *FAST)
