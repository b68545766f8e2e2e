"""Graphs of the encoder: equal to the model at every length and batch, in torch.export and in ONNX Runtime."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from omar_rq import from_pretrained
from omar_rq.config import (
    ConformerConfig,
    CQTConfig,
    MelFrontendConfig,
    ModelConfig,
    TransformerConfig,
    WaveformConfig,
)
from omar_rq.embed import fingerprint
from omar_rq.export.graph import EncoderGraph
from omar_rq.export.graph_files import FACTS_FILE, export_graph
from omar_rq.model import OmarRQ
from omar_rq.signals import LayerIndexError
from omar_rq.weights import save_pretrained
from pentatonic.errors import ConfigError, MissingExtra, UsageError

NET = ConformerConfig(embed_dim=16, depth=1, num_heads=2, alpha_deepnorm=1.2, beta_deepnorm=0.5)
MEL = ModelConfig(input=MelFrontendConfig(), net=NET)
WAVEFORM = ModelConfig(input=WaveformConfig(patch_size=(1, 320), sample_rate=8000), net=NET)
# Rows of a batch and seconds: whole patches, a remainder, few tokens, many.
SIZES = [(1, 0.2), (2, 1.024), (3, 1.0), (5, 2.51), (1, 9.999)]


def small(config: ModelConfig, folder) -> OmarRQ:
    torch.manual_seed(0)
    save_pretrained(OmarRQ(config), folder)
    return from_pretrained(folder)


def signals(model: OmarRQ, rows: int, seconds: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    return 0.2 * torch.randn(rows, round(seconds * model.sample_rate), generator=generator)


def check_onnx(model: OmarRQ, folder, layers: list[int]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["model_sha256"] == fingerprint(model) and json.loads(facts["layers"]) == layers
    assert (int(facts["sample_rate"]), int(facts["hop_length"])) == (model.sample_rate, model.hop_length)
    assert [value.shape for value in session.get_inputs()] == [["batch", "samples"]]
    for rows, seconds in SIZES:
        audio = signals(model, rows, seconds)
        found = torch.from_numpy(session.run(None, {"audio": audio.numpy()})[0])
        expected = model.extract_embeddings(audio, layers, sample_rate=model.sample_rate)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_graph_of_a_mel_model_in_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    model = small(MEL, tmp_path / "model")
    assert export_graph(tmp_path / "model", tmp_path / "graph") == tmp_path / "graph"
    check_onnx(model, tmp_path / "graph", [0])
    assert "onnxruntime" in (tmp_path / "graph" / "README.md").read_text()


def test_the_graph_of_a_waveform_model_in_torch_export(tmp_path):
    model = small(WAVEFORM, tmp_path / "model")
    export_graph(tmp_path / "model", tmp_path / "graph", format="torch", layers="all")
    extra = {FACTS_FILE: ""}
    program = torch.export.load(tmp_path / "graph" / "model.pt2", extra_files=extra).module()
    facts = json.loads(extra[FACTS_FILE])
    assert facts["model_sha256"] == fingerprint(model) and facts["embedding_rate_hz"] == "25.0"
    for rows, seconds in SIZES:
        audio = signals(model, rows, seconds)
        expected = model.extract_embeddings(audio, sample_rate=model.sample_rate)
        torch.testing.assert_close(program(audio), expected, rtol=0, atol=1e-4)
    shortest = int(facts["min_samples"])
    assert model.n_tokens(shortest - 1) == 1 and program(torch.zeros(1, shortest)).shape == (1, 1, 2, 16)


@pytest.mark.slow
def test_the_graph_of_the_bundled_model_in_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    export_graph("omar-rq-tiny", tmp_path / "graph", layers="all")
    model = from_pretrained("omar-rq-tiny")
    check_onnx(model, tmp_path / "graph", list(range(len(model.trunk.blocks))))


@pytest.mark.slow
def test_the_graph_of_a_waveform_model_in_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    model = small(WAVEFORM, tmp_path / "model")
    export_graph(tmp_path / "model", tmp_path / "graph")
    check_onnx(model, tmp_path / "graph", [0])


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_front_end_as_matrix_products(power):
    """Without tracing, at lengths with and without a remainder, and for the bundled model."""
    torch.manual_seed(0)
    models = [OmarRQ(ModelConfig(input=MelFrontendConfig(power=power), net=NET)).eval()]
    if power == 2:
        models += [OmarRQ(WAVEFORM).eval(), from_pretrained("omar-rq-tiny")]
    for model in models:
        graph = EncoderGraph(model)
        for rows, seconds in SIZES:
            audio = signals(model, rows, seconds)
            expected = model.extract_embeddings(audio, sample_rate=model.sample_rate)
            torch.testing.assert_close(graph(audio), expected, rtol=0, atol=2e-5)


def test_models_without_a_graph_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"cqt.*mel, waveform"):
        EncoderGraph(OmarRQ(ModelConfig(input=CQTConfig(), net=NET)))
    net = TransformerConfig(embed_dim=16, depth=1, num_heads=2)
    with pytest.raises(ConfigError, match=r"transformer.*conformer"):
        EncoderGraph(OmarRQ(ModelConfig(input=MelFrontendConfig(), net=net)))
    with pytest.raises(ConfigError, match="float32"):
        EncoderGraph(OmarRQ(MEL).half())
    with pytest.raises(LayerIndexError):
        EncoderGraph(OmarRQ(MEL), 1)
    with pytest.raises(UsageError, match="onnx, torch"):
        export_graph("omar-rq-tiny", tmp_path / "graph", format="tflite")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"omar-rq\[onnx\]"):
        export_graph("omar-rq-tiny", tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
