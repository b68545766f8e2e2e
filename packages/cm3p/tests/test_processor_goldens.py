"""The processor equals the goldens: end to end, and as stored by the original."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from cm3p.audio_features import CM3PAudioFeatureExtractor
from cm3p.beatmap import read_beatmap
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.metadata import get_metadata
from cm3p.processor import CM3PProcessor
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from cm3p.weights import from_pretrained, save_pretrained
from pentatonic.errors import UsageError

GOLDENS = Path(__file__).parent / "goldens"


@cache
def golden(name: str) -> Any:
    return json.loads((GOLDENS / name / "cases.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def processor() -> CM3PProcessor:
    data = golden("processor")
    metadata = golden("metadata_tokenizer")["config"]
    return CM3PProcessor(
        CM3PAudioFeatureExtractor(**data["extractor"]),
        CM3PBeatmapParser(**data["parser_config"]),
        CM3PBeatmapTokenizer(**data["beatmap_tokenizer_config"]),
        CM3PMetadataTokenizer(**metadata, unique_tag_ids=False, numpy_integers=False),
        data["default_kwargs"],
    )


def signal(seconds: float) -> NDArray[np.float32]:
    """The signal that the goldens of audio are made from."""
    t = np.arange(round(16000 * seconds)) / 16000
    x = 0.4 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * (500 + 300 * t) * t)
    x += 0.1 * np.sign(np.sin(2 * np.pi * 3 * t)) * np.sin(2 * np.pi * 3000 * t)
    return (x * np.minimum(1, 4 * t)).astype(np.float32)


def check(encoding: Any, expected: dict[str, Any]) -> None:
    names = set(expected) - {"metadata_argument_after"}
    assert set(encoding) == names
    for name in names - {"input_features"}:
        value = encoding[name]
        assert (value.tolist() if isinstance(value, torch.Tensor) else value) == expected[name], name
    if "input_features" in expected:
        features = encoding["input_features"]
        assert list(features.shape) == expected["input_features"]["shape"]
        assert features.dtype == torch.float32
        corner = torch.tensor(expected["input_features"]["corner"])
        rows, columns = corner.shape[1:]
        torch.testing.assert_close(features[:, :rows, :columns], corner, atol=1e-4, rtol=0)
        sums = torch.tensor(expected["input_features"]["sum_per_window"], dtype=torch.float64)
        mean_difference = (features.double().sum(dim=(1, 2)) - sums).abs() / features[0].numel()
        assert mean_difference.max() < 1e-5


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for case in golden("processor")["cases"]]
)
def test_processor(case: dict[str, Any], processor: CM3PProcessor) -> None:
    beatmap = None if case["osu_text"] is None else read_beatmap(case["osu_text"])
    audio = None if case["audio_seconds"] is None else signal(case["audio_seconds"])
    rate = None if audio is None else 16000
    np.random.seed(0)
    if "error" in case["result"]:
        with pytest.raises(ValueError, match="needed"):
            processor(beatmap=beatmap, audio=audio, audio_sampling_rate=rate, **case["kwargs"])
        return
    check(processor(beatmap=beatmap, audio=audio, audio_sampling_rate=rate, **case["kwargs"]), case["result"])


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for case in golden("processor_edge")["cases"]]
)
def test_processor_edge(case: dict[str, Any], processor: CM3PProcessor) -> None:
    texts = case["osu_texts"]
    beatmaps = [read_beatmap(text) for text in texts or []]
    beatmap = None if texts is None else beatmaps[0] if len(beatmaps) == 1 else beatmaps
    kwargs = copy.deepcopy(case["kwargs"])
    np.random.seed(0)
    if case["name"] == "variations_missing_keys":  # the original fails; here a missing field is unknown
        assert processor(beatmap=beatmap, **kwargs)["metadata_variation_classes"].tolist() == [[0, 1, 3, 1]]
    elif "error" in case["result"]:
        with pytest.raises(UsageError):
            processor(beatmap=beatmap, **kwargs)
    else:
        check(processor(beatmap=beatmap, **kwargs), case["result"])
    assert kwargs == case["kwargs"]  # the original changes the caller's metadata


def test_log_mel() -> None:
    meta = json.loads((GOLDENS / "mel_frontend" / "meta.json").read_text(encoding="utf-8"))
    expected = load_file(GOLDENS / "mel_frontend" / "io.safetensors")
    extractor = CM3PAudioFeatureExtractor(**meta["extractor"])
    samples = torch.from_numpy(signal(5))
    torch.testing.assert_close(samples[:64], expected["signal_first_64"])
    torch.testing.assert_close(extractor(samples), expected["log_mel_5s"], atol=1e-4, rtol=0)
    padded = extractor(torch.nn.functional.pad(samples, (0, 256000 - len(samples))))
    torch.testing.assert_close(padded[:, 490:520], expected["log_mel_16s_frames_490_520"], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        padded[:, 505:], torch.full((80, 1095), -0.6349599361419678), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(extractor(torch.zeros(16000)), torch.full((80, 100), -1.5))


def test_get_metadata_from_maps() -> None:
    texts = golden("parser_snippets")["osu_texts"]
    for name, expected in golden("get_metadata")["from_beatmap"].items():
        assert get_metadata(beatmap=read_beatmap(texts[name])) == expected, name


def test_get_metadata_from_rows() -> None:
    data = golden("get_metadata")
    for speed, expected in data["from_row"].items():
        found = get_metadata(beatmap_metadata=data["row"], speed=float(speed))
        assert found.pop("difficulty") == pytest.approx(expected.pop("difficulty"), abs=1e-12)
        assert found == expected


@pytest.mark.parametrize("name", ["saved_full", "saved_mlm", "saved_classifier"])
def test_stored_processor_and_model_together(name: str, tmp_path: Path) -> None:
    folder = GOLDENS / name
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    stored = load_file(folder / "io.safetensors")
    save_pretrained(from_pretrained(folder), tmp_path / "copy")
    CM3PProcessor.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    audio = (0.1 * np.random.RandomState(expected["seed"]).randn(152000)).astype(np.float32)
    kwargs: dict[str, Any] = {}
    if expected["metadata"] is not None:
        kwargs = {"metadata": [expected["metadata"]], "populate_metadata": True, "multiply_metadata": True}
    for path in (folder, tmp_path / "copy"):
        encoding = CM3PProcessor.from_pretrained(path)(
            beatmap=read_beatmap(expected["osu_text"]), audio=audio, audio_sampling_rate=16000, **kwargs
        )
        model = from_pretrained(path)
        assert type(model).__name__ == expected["model_class"] and not model.training
        with torch.inference_mode():
            outputs = {key: value for key, value in model(**encoding).items() if value is not None}
        found = {f"proc.{key}": value for key, value in encoding.items()}
        found |= {f"out.{key}": value for key, value in outputs.items() if isinstance(value, torch.Tensor)}
        assert {"proc.input_ids", "proc.attention_mask", "out.logits"} <= stored.keys() <= found.keys()
        if stored["out.logits"].dim() == 3:  # of the first positions alone
            found["out.logits"] = found["out.logits"][:, : stored["out.logits"].shape[1]]
        for key, value in stored.items():
            torch.testing.assert_close(found[key].to(value.dtype), value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["saved_full", "saved_mlm", "saved_classifier"])
def test_files_are_written_as_the_original_writes_them(name: str, tmp_path: Path) -> None:
    folder = GOLDENS / name
    CM3PProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    original = {path.relative_to(folder) for path in folder.rglob("*.json")}
    original -= {Path("config.json"), Path("expected.json")}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} == original
    for path in original:
        content = json.loads((folder / path).read_text(encoding="utf-8"))
        content.pop("auto_map", None)  # names code files, which are not written
        written = json.loads((tmp_path / path).read_text(encoding="utf-8"))
        assert written == content, path
        assert list(written) == list(content) or path.name == "vocab.json"
