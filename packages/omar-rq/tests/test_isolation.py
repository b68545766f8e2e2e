"""A decoder that crashes costs one file: the batch names it and goes on."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig
from omar_rq.embed import embed_folder
from omar_rq.model import OmarRQ
from omar_rq.training.prepare import PrepareConfig, prepare
from omar_rq.weights import save_pretrained
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


def living(mark: str) -> list[str]:
    """Processes that have inherited a mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:  # it has ended, or belongs to somebody else
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_whole_files_and_no_process(tmp_path, number):
    net = ConformerConfig(embed_dim=64, depth=6, num_heads=4)
    save_pretrained(OmarRQ(ModelConfig(input=MelFrontendConfig(), net=net)), tmp_path / "model")
    for i in range(300):
        (tmp_path / f"{i:03}.wav").symlink_to(tmp_path / "one.wav")
    audio.save(tmp_path / "one.wav", 0.1 * torch.randn(20 * 16000), 16000)
    out, mark = tmp_path / "out", f"PENTATONIC_MARK={secrets.token_hex(8)}"
    arguments = ["embed", tmp_path, "--model", tmp_path / "model", "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "omar_rq", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | dict([mark.split("=")]),
    )
    try:
        while len(list(out.glob("*.npz"))) < 2 and process.poll() is None:
            time.sleep(0.01)
        assert len(living(mark)) == 2  # the program and its decoder
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130 and "Traceback" not in said
    deadline = time.monotonic() + 60
    while living(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not living(mark)
    outputs = list(out.glob("*.npz"))
    assert 2 <= len(outputs) < 301 and all(np.load(path)["embeddings"].shape[0] == 1 for path in outputs)
