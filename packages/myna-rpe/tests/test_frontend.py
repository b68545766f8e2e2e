"""Front ends against recorded numbers of the originals: ordinary, faint, silent and very short signals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from myna_rpe.frontend import Frontend
from pentatonic.errors import EmptyAudio

GOLDENS = Path(__file__).parent / "goldens"
NAMES = {"train": "myna-rpe", "demo": "myna-rpe-demo"}


def golden(case: str):
    about = json.loads((GOLDENS / case / "meta.json").read_text())
    return load_file(GOLDENS / case / "io.safetensors"), about["tolerance_float32"]


@pytest.mark.parametrize("form", NAMES)
def test_both_forms_of_myna_rpe(form: str) -> None:
    io, limits = golden("mel_rpe_44k")
    found = Frontend(NAMES[form])([io["audio"].float()])  # type: ignore[arg-type]
    torch.testing.assert_close(found.mel, io[f"db_{form}"], **limits)
    assert not found.is_silent and not found.padded


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("signal", ["silence", "near_silence", "faint", "loud", "short"])
def test_unusual_signals_of_myna_rpe(form: str, signal: str) -> None:
    io, limits = golden("mel_edges")
    limits.pop("mel16")
    found = Frontend(NAMES[form])(io[f"audio_{signal}"].float().split(700))  # type: ignore[arg-type]
    torch.testing.assert_close(found.mel, io[f"db_{form}_{signal}"], **limits)
    assert found.is_silent == signal.endswith("silence")


def test_myna() -> None:
    io, limits = golden("mel_myna_16k")
    limits.pop("why")
    found = Frontend("myna")([io["audio"].float()])
    torch.testing.assert_close(found.mel, io["mel"], **limits)
    edges, all_limits = golden("mel_edges")
    short = Frontend("myna")([edges["audio16_short"].float()])
    torch.testing.assert_close(short.mel, edges["mel16_short"], **all_limits["mel16"])


def test_a_signal_that_the_original_cannot_pad_gets_zeros() -> None:
    found = Frontend("myna")([torch.ones(100)])
    assert found.padded == 925 and found.mel.shape == (128, 3)
    assert Frontend("myna")([torch.zeros(4000)]).is_silent


@pytest.mark.parametrize("name", ["myna", "myna-rpe"])
def test_nothing_is_an_error(name) -> None:
    with pytest.raises(EmptyAudio):
        Frontend(name)([])
