"""A decoder that crashes costs one file: the batch names it and goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig
from omar_rq.embed import embed_folder
from omar_rq.model import OmarRQ
from omar_rq.training.prepare import PrepareConfig, prepare
from pentatonic import audio


class Crashing(audio.DecodingProcess):
    """Its decoder crashes within `crash.wav`."""

    def stream(self, path, **options) -> Iterator[Tensor]:
        blocks = super().stream(path, **options)
        yield next(blocks)
        if Path(path).name == "crash.wav":
            os.kill(self.pid, signal.SIGSEGV)
        yield from blocks


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for name, seconds in (("a.wav", 1), ("crash.wav", 150), ("z.wav", 1)):
        audio.save(folder / name, 0.1 * torch.randn(seconds * 16000), 16000)
    monkeypatch.setattr(audio, "DecodingProcess", Crashing)
    return folder


def failures(report) -> dict[str, str]:
    return {Path(e["path"]).name: e["error"] for e in report.entries if e["status"] == "failed"}


def test_embedding_goes_on_after_a_crash(corpus, tmp_path):
    net = ConformerConfig(embed_dim=16, depth=1, num_heads=2)
    model = OmarRQ(ModelConfig(input=MelFrontendConfig(), net=net)).eval()
    report = embed_folder(model, [corpus], tmp_path / "out")
    assert failures(report) == {"crash.wav": "CorruptAudio"}
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npz")) == ["a.wav.npz", "z.wav.npz"]


def test_preparing_goes_on_after_a_crash(corpus, tmp_path):
    report = prepare(PrepareConfig(input=str(corpus), output=str(tmp_path / "out"), workers=2))
    assert failures(report) == {"crash.wav": "CorruptAudio"}
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mmap")) == ["a_wav.mmap", "z_wav.mmap"]
