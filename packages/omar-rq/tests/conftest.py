"""Fixtures that read the golden cases of the family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pentatonic import audio

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture
def golden() -> Callable[[str], tuple[dict[str, Tensor], dict[str, Any]]]:
    """``golden(case) -> (tensors, meta)``; tensors that the case calls complex come as complex."""

    def read(case: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        meta = json.loads((GOLDENS / case / "meta.json").read_text(encoding="utf-8"))
        tensors = load_file(GOLDENS / case / "io.safetensors")
        for name, about in meta["tensors"].items():
            if about["dtype"] == "complex64":
                tensors[name] = torch.view_as_complex(tensors[name])
        return tensors, meta

    return read


@pytest.fixture
def golden_weights() -> Callable[[str], dict[str, Tensor]]:
    """``golden_weights(case) -> tensors`` by the names of the original."""
    return lambda case: load_file(GOLDENS / case / "weights.safetensors")


@pytest.fixture
def signal() -> Callable[[str, int], Tensor]:
    """``signal(name, n) -> (n,)`` float32: the start of ``a_16k``, ``b_16k``, ``a_24k`` or ``b_24k``."""
    samples = load_file(GOLDENS / "signals" / "io.safetensors")
    return lambda name, n: samples[name][:n].float() / 32768


@pytest.fixture(scope="session")
def encodec(tmp_path_factory) -> str:
    """A directory in the hub's layout with the small recorded EnCodec encoder."""
    transformers = pytest.importorskip("transformers")
    stored = load_file(GOLDENS / "frontend_encodec_tiny" / "weights.safetensors")
    with torch.random.fork_rng():
        model = transformers.EncodecModel(
            transformers.EncodecConfig(num_filters=2, hidden_size=128, codebook_dim=128)
        )
    model.encoder.load_state_dict({key.removeprefix("net.encoder."): value for key, value in stored.items()})
    directory = tmp_path_factory.mktemp("encodec")
    model.save_pretrained(directory)
    return str(directory)


@pytest.fixture
def decode_here(monkeypatch) -> None:
    """Decode in this process: starting a decoder process for every call takes longer than the tests."""

    class InThisProcess:
        stream = staticmethod(audio.stream)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def start(self):
            pass

    monkeypatch.setattr(audio, "DecodingProcess", InThisProcess)
