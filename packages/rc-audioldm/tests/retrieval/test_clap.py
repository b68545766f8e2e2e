"""CLAP vectors: the numbers of the originals, and the same vector for the same recording, always."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pentatonic.errors import (
    CheckpointError,
    ConfigError,
    EmptyAudio,
    FormatError,
    IncompatibleVectors,
    InputError,
    NonFiniteAudio,
    UsageError,
    WeightsError,
)
from rc_audioldm.clap import WINDOWS, ClapEncoder, ClapHeader, Windows, from_pretrained
from rc_audioldm.clap.encoder import CAPTIONS, CollapsedTextTower, check_text_tower
from rc_audioldm.clap.frontend import log_mel, read_frontend
from rc_audioldm.clap.windows import pool
from rc_audioldm.tokenizers import check_tokenizer

RATE, WIDTH = 16000, 24


def test_the_windows_of_clapback_embed(golden: Any) -> None:
    cases = json.loads((golden("clap_windows").folder / "io.json").read_text())["windows"]
    assert len(cases) == 13
    for case in cases:
        ramp = torch.arange(1, case["samples"] + 1, dtype=torch.float32)
        windows = WINDOWS["clapback-embed"].cut(ramp, 480_000)
        assert len(windows) == len(case["windows"])
        for window, expected in zip(windows.numpy(), case["windows"], strict=True):
            sounding = np.flatnonzero(window)
            assert window[0] == expected["first"]
            assert window[sounding[-1]] == expected["last_nonzero"]
            assert len(window) - 1 - sounding[-1] == expected["zero_tail"]
            assert (window == 1).sum() == expected["copies"]


def test_the_spectrogram_and_the_mean_of_clapback_embed(golden: Any) -> None:
    case = golden("clap_windows")
    mel = log_mel(case.tensors["wave"])
    tolerance = case.meta["tolerance"]
    torch.testing.assert_close(mel, case.tensors["log_mel"], atol=tolerance["log_mel_db"], rtol=0)
    for outputs, expected in (("outputs", "pooled"), ("unit_outputs", "pooled_unit")):
        pooled = pool(case.tensors[outputs])
        torch.testing.assert_close(pooled, case.tensors[expected], atol=tolerance["pooled"], rtol=0)


@pytest.mark.parametrize(
    ("samples", "starts"),
    [
        (1, [0]),
        (7, [0]),
        (8, [0]),
        (9, [0, 1]),
        (12, [0, 4]),
        (13, [0, 4, 5]),
        (16, [0, 4, 8]),
        (21, [0, 4, 8, 12, 13]),
    ],
)
@pytest.mark.parametrize("block", [1, 3, 100])
def test_windows_overlap_and_the_last_one_ends_with_the_file(
    samples: int, starts: list[int], block: int
) -> None:
    ramp = torch.arange(1.0, samples + 1)
    for windows in (
        WINDOWS["overlapped"].cut(ramp, 8),
        torch.stack(list(Windows().stream(ramp.split(block), 8))),
    ):
        assert (windows[:, 0] - 1).tolist() == starts
        assert windows.shape == (len(starts), 8)
        assert windows[-1].max() == samples  # nothing is left out
        assert (windows[-1] == 0).sum() == max(0, 8 - samples)


def test_a_stream_gives_the_windows_of_the_whole_with_gaps_between_windows_too() -> None:
    ramp = torch.arange(1.0, 60)
    for windows in (Windows(hop=1.0, tail="dropped"), Windows(hop=1.5), Windows(hop=0.3)):
        whole = windows.cut(ramp, 8)
        for size in (1, 5, 17):
            torch.testing.assert_close(torch.stack(list(windows.stream(ramp.split(size), 8))), whole)


def test_no_samples_have_no_windows() -> None:
    with pytest.raises(EmptyAudio, match="at least 1 is needed"):
        Windows().cut(torch.zeros(0), 8)


def test_vectors_that_cancel_each_other_have_no_mean() -> None:
    with pytest.raises(InputError, match="has the norm 0"):
        pool(torch.tensor([[1.0, 0], [-1, 0]]))
    with pytest.raises(InputError, match="has the norm nan"):
        pool(torch.tensor([[float("nan"), 0]]))


@pytest.mark.parametrize("fused", [False, True])
def test_the_frontend_is_that_of_the_feature_extractor(tmp_path: Path, fused: bool, tiny: Any) -> None:
    theirs = tiny.extractor(fused=fused)
    theirs.save_pretrained(tmp_path)
    frontend = read_frontend(tmp_path)
    from pentatonic.mel import MelFrontend

    window = tiny.tone(220, 1.0)
    ours = frontend.compute(window[None], MelFrontend(frontend.mel))
    expected = theirs(window.numpy(), sampling_rate=RATE, return_tensors="pt")["input_features"]
    torch.testing.assert_close(ours, torch.as_tensor(expected, dtype=torch.float32), atol=2e-4, rtol=0)
    assert frontend.window_samples == RATE and frontend.stacked == fused


def test_one_window_has_the_vector_of_the_library(encoder: ClapEncoder, tiny: Any) -> None:
    window = tiny.tone(330, 1.0)
    features = tiny.extractor()(window.numpy(), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = encoder.model.get_audio_features(**features).pooler_output
    torch.testing.assert_close(encoder.embed_audio(window, RATE), expected, atol=1e-4, rtol=0)


def test_a_fused_model_takes_four_views(tmp_path: Path, tiny: Any) -> None:
    fused = from_pretrained(tiny.write_clap(tmp_path, fused=True), random_weights=True)
    vectors = fused.embed_audio([tiny.tone(110), tiny.tone(880)], RATE)
    assert vectors.shape == (2, WIDTH) and torch.isfinite(vectors).all()


def test_a_recording_has_the_same_vector_always(encoder: ClapEncoder, tiny: Any) -> None:
    recordings = [tiny.tone(110 * 2 ** (i / 5), 0.4 + 0.7 * i, seed=i) for i in range(5)]
    first = encoder.embed_audio(recordings, RATE)
    np.random.seed(1)
    for i, recording in enumerate(recordings):
        assert torch.equal(encoder.embed_audio(recording, RATE)[0], first[i])
    assert torch.equal(encoder.embed_audio(recordings[::-1], RATE).flip(0), first)
    torch.testing.assert_close((first * first).sum(1), torch.ones(5))
    assert (first @ first.T).fill_diagonal_(0).max() < 0.9999  # and others have others


def test_a_vector_is_the_mean_of_its_windows(encoder: ClapEncoder, tiny: Any) -> None:
    recording = tiny.tone(200, 2.3)
    windows = [
        encoder.embed_audio(window, RATE)[0].double() for window in WINDOWS["overlapped"].cut(recording, RATE)
    ]
    mean = torch.stack(windows).mean(0)
    assert len(windows) == 4
    torch.testing.assert_close(encoder.embed_audio(recording, RATE)[0], (mean / mean.norm()).float())


def test_other_rates_are_resampled(encoder: ClapEncoder, tiny: Any) -> None:
    from pentatonic.audio import resample

    recording = tiny.tone(440, 1.2)
    twice = encoder.embed_audio(resample(recording, RATE, 2 * RATE), 2 * RATE)
    assert float((twice @ encoder.embed_audio(recording, RATE).T).squeeze()) > 0.99


def test_a_text_has_the_same_vector_in_every_list(encoder: ClapEncoder) -> None:
    texts = [CAPTIONS[0], "x", CAPTIONS[3] * 30]
    vectors = encoder.embed_text(texts)
    assert vectors.shape == (3, WIDTH)
    torch.testing.assert_close((vectors * vectors).sum(1), torch.ones(3))
    assert torch.equal(encoder.embed_text(texts[1:2]), vectors[1:2])
    assert encoder.embed_text([]).shape == (0, WIDTH)
    assert encoder.embed_audio([], RATE).shape == (0, WIDTH)


def test_what_cannot_be_embedded(encoder: ClapEncoder) -> None:
    with pytest.raises(EmptyAudio):
        encoder.embed_audio(torch.zeros(0), RATE)
    with pytest.raises(NonFiniteAudio):
        encoder.embed_audio(torch.full((RATE,), float("nan")), RATE)
    with pytest.raises(UsageError, match=r"shape \(2, 5\)"):
        encoder.embed_audio(torch.zeros(2, 5), RATE)


class _Tower:
    """An encoder whose vectors of texts are given."""

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors

    def embed_text(self, texts: tuple[str, ...]) -> Tensor:
        return torch.nn.functional.normalize(self._vectors[: len(texts)], dim=1)


def test_a_collapsed_text_tower_is_refused() -> None:
    apart, noise = torch.eye(8), torch.eye(8)
    assert check_text_tower(_Tower(apart), "x") == 0  # type: ignore[arg-type]
    with pytest.raises(
        CollapsedTextTower, match=r"laion/x: its text tower has collapsed.*8 unlike instruments"
    ):
        check_text_tower(_Tower(3 + noise), "laion/x")  # type: ignore[arg-type]
    with pytest.raises(CollapsedTextTower):
        check_text_tower(_Tower(torch.full((8, 8), float("nan"))), "x")  # type: ignore[arg-type]


def test_random_weights_must_be_declared(clap_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(encoder: Any, where: str) -> float:
        asked.append(where)
        raise CollapsedTextTower("collapsed")

    monkeypatch.setattr("rc_audioldm.clap.weights.check_text_tower", refuse)
    with pytest.raises(CollapsedTextTower):
        from_pretrained(clap_folder)
    assert asked == [str(clap_folder)]
    from_pretrained(clap_folder, random_weights=True)


def test_a_tokenizer_without_merges_is_refused(encoder: ClapEncoder) -> None:
    check_tokenizer(encoder.tokenizer, "here")

    class ByCharacter:
        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [ord(sign) for sign in text]}

        def __len__(self) -> int:
            return 300

    class OtherRoberta(ByCharacter):
        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [0, 9, 2]}

        def __len__(self) -> int:
            return 50265

    class Silent(ByCharacter):
        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": []}

    for tokenizer in (ByCharacter(), OtherRoberta(), Silent()):
        with pytest.raises(CheckpointError, match="its merges are lost"):
            check_tokenizer(tokenizer, "here")


def test_headers_say_how_vectors_were_made(clap_folder: Path, encoder: ClapEncoder) -> None:
    header = encoder.header
    assert header.dimension == WIDTH and header.dtype == "fp32" and len(header.weights) == 64
    assert header.windows.startswith("1 s, hop 0.5 s") and "16000 Hz" in header.filter_bank
    assert from_pretrained(clap_folder, random_weights=True).header == header
    assert ClapHeader.from_json(json.loads(json.dumps(header.to_json())), "bank") == header
    other = from_pretrained(clap_folder, random_weights=True, windows="clapback-embed").header
    assert header.differences(other) == ["windows"]
    with pytest.raises(IncompatibleVectors, match=r"bank: .* windows '1 s, hop 0\.5 s"):
        header.require(other, "bank")
    header.require(replace(header, model="another name", revision="x"), "bank")
    for name in ("weights", "filter_bank", "windows", "pooling", "dtype"):
        with pytest.raises(IncompatibleVectors, match=f"{name} "):
            header.require(replace(header, **{name: "other"}), "bank")


def test_other_weights_have_another_hash(tmp_path: Path, encoder: ClapEncoder, tiny: Any) -> None:
    other = from_pretrained(tiny.write_clap(tmp_path, seed=1), random_weights=True)
    assert other.header.differences(encoder.header) == ["weights"]


@pytest.mark.parametrize("values", [None, [], {"dimension": 0}, {"model": 1}])
def test_headers_that_cannot_be_read(encoder: ClapEncoder, values: Any) -> None:
    broken = {**encoder.header.to_json(), **values} if isinstance(values, dict) else values
    with pytest.raises(FormatError, match=r"bank\.json"):
        ClapHeader.from_json(broken, "bank.json")


def test_settings_of_the_frontend_must_be_stated(clap_folder: Path, tmp_path: Path) -> None:
    values = json.loads((clap_folder / "preprocessor_config.json").read_text())
    for name, value, message in (
        ("frequency_min", ..., "frequency_min is missing"),
        ("truncation", ..., "truncation is missing"),
        ("truncation", "random", "allowed: rand_trunc, fusion"),
        ("hop_length", "x", "hop_length is 'x'"),
        ("sampling_rate", -1, "sampling_rate is -1"),
        ("max_length_s", 1e6, "max_length_s is 1e"),
        ("top_db", 80, "top_db is 80"),
        ("frequency_max", 9000, "f_max"),
    ):
        changed = {**values, name: value}
        if value is ...:
            del changed[name]
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=message):
            read_frontend(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no preprocessor_config\.json"):
        read_frontend(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": values}))
    assert read_frontend(tmp_path) == read_frontend(clap_folder)
    (tmp_path / "processor_config.json").write_text("[]")
    with pytest.raises(ConfigError, match="no settings"):
        read_frontend(tmp_path)


def test_files_that_are_no_model(clap_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "model"
    shutil.copytree(clap_folder, broken)
    tensors = load_file(broken / "model.safetensors")
    first = sorted(tensors)[0]
    save_file(
        {k: v for k, v in tensors.items() if k != first}, broken / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(WeightsError, match="1 tensors are missing"):
        from_pretrained(broken, random_weights=True)
    (broken / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="cannot be loaded as a CLAP model"):
        from_pretrained(broken, random_weights=True)
    (broken / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="model_type is 'bert'; allowed: clap"):
        from_pretrained(broken, random_weights=True)
    with pytest.raises(UsageError, match="allowed: overlapped, clapback-embed"):
        from_pretrained(clap_folder, windows="random")


@pytest.mark.parametrize("kind", ["tensor", "object"])
def test_both_kinds_of_answers_of_the_library(encoder: ClapEncoder, kind: str) -> None:
    vectors = torch.tensor([[3.0, 4.0]])
    answer = vectors if kind == "tensor" else SimpleNamespace(pooler_output=vectors)
    from rc_audioldm.clap.encoder import _unit

    assert _unit(answer).tolist() == [[0.6, 0.8]]
    with pytest.raises(InputError, match="gives tuple"):
        _unit((vectors,))


def test_starts_of_a_long_recording_are_even() -> None:
    starts = Windows().cut(torch.arange(0.0, 100), 10)[:, 0].tolist()
    assert {b - a for a, b in pairwise(starts)} == {5.0}
