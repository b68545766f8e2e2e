"""Probes, aggregation and chunks of the original: numbers that it gives, and where ours differ on purpose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from omar_rq.probing.chunks import chunk_offsets, signal_chunks
from omar_rq.probing.original import OriginalProbe, aggregate_embeddings
from pentatonic.checkpoint import save_tensors
from pentatonic.errors import InputError, UsageError, WeightsError
from pentatonic.probes import average_precision, roc_auc, top_k_accuracy

GOLDENS = Path(__file__).parent / "goldens"


@pytest.mark.parametrize("case", ["probe_multilabel", "probe_multiclass"])
def test_the_probe_gives_the_numbers_of_the_original(golden, golden_weights, tmp_path, case) -> None:
    tensors, meta = golden(case)
    tolerance = float(meta["tolerance"])
    weights = {f"model.{name}": value for name, value in golden_weights(case).items()}
    save_tensors(tmp_path / "probe.safetensors", weights)
    probe = OriginalProbe.from_checkpoint(tmp_path / "probe.safetensors")
    assert set(probe.state_dict()) == {"model.1.weight", "model.1.bias", "model.4.weight", "model.4.bias"}
    logits = probe(tensors["x"])
    assert (logits - tensors["logits"]).abs().max() < tolerance
    loss = F.binary_cross_entropy_with_logits(logits, tensors["y"])
    assert abs(loss - tensors["loss"]) < tolerance
    scores, labels = logits.detach().double().numpy(), tensors["y"].double().numpy()
    if case == "probe_multilabel":
        assert abs(roc_auc(scores, labels).mean() - tensors["val-AUROC-macro"]) < tolerance
        assert abs(average_precision(scores, labels).mean() - tensors["val-MAP-macro"]) < tolerance
    else:
        assert abs(top_k_accuracy(scores, labels.argmax(1)) - tensors["val-acc"]) < tolerance
    head = probe.as_head(6)
    assert (head(tensors["x"][:, None, None]) - tensors["logits"]).abs().max() < tolerance


def test_names_of_other_activations() -> None:
    assert list(OriginalProbe(4, 2, activation="none").state_dict())[::2] == [
        "model.1.weight",
        "model.3.weight",
    ]
    assert isinstance(OriginalProbe(4, 2, activation="sigmoid").model[2], torch.nn.Sigmoid)
    with pytest.raises(UsageError, match="sigmoid"):
        OriginalProbe(4, 2, activation="sigmoid").as_head(0)


def test_a_file_that_holds_no_probe_is_refused(tmp_path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"net.weight": torch.zeros(2, 2)})
    with pytest.raises(WeightsError, match="no probe"):
        OriginalProbe.from_checkpoint(tmp_path / "a.safetensors")
    save_tensors(tmp_path / "b.safetensors", {"model.7.weight": torch.zeros(2, 2)})
    with pytest.raises(WeightsError):
        OriginalProbe.from_checkpoint(tmp_path / "b.safetensors")


def test_aggregation_gives_the_numbers_of_the_original(golden) -> None:
    tensors, meta = golden("probe_aggregation")
    compared = 0
    for name, expected in tensors.items():
        if name == "emb":
            continue
        layers, granularity, pooling = name.split(".")
        found = aggregate_embeddings(
            tensors["emb"], layers=layers, granularity=granularity, pooling=pooling, original_rows=True
        )
        assert found.shape == expected.shape, name
        assert (found - expected).abs().max() < float(meta["tolerance"]), name
        compared += 1
    assert compared == 12


def test_what_the_original_cannot_do(golden) -> None:
    embeddings = golden("probe_aggregation")[0]["emb"]
    n_layers, chunks, tokens, width = embeddings.shape
    highest = aggregate_embeddings(embeddings, layers="max", granularity="clip", pooling="max")
    assert torch.equal(highest[0], embeddings.reshape(-1, width).max(0).values)
    frames = aggregate_embeddings(embeddings, layers="concat", granularity="frame")
    assert frames.shape == (chunks * tokens, n_layers * width)
    assert torch.equal(frames[tokens + 2], torch.cat([embeddings[layer, 1, 2] for layer in range(n_layers)]))
    with pytest.raises(InputError, match="one layer"):
        aggregate_embeddings(embeddings, layers="none")
    with pytest.raises(UsageError, match="clip"):
        aggregate_embeddings(embeddings, granularity="song")  # type: ignore[arg-type]


@pytest.mark.parametrize("row", json.loads((GOLDENS / "predict_segments.json").read_text())["rows"], ids=str)
def test_chunks_begin_where_those_of_the_original_do(row) -> None:
    offsets = chunk_offsets(
        row["num_samples"],
        row["sample_rate"],
        chunk_s=row["n_seconds"],
        overlap=row["overlap_ratio"],
        last_chunk_ratio=row["last_chunk_ratio"],
    )
    assert len(offsets) == row["n_segments"]
    assert offsets[:40] == row["offsets"]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("n_samples", [1, 99, 100, 101, 110, 111, 155, 1000])
def test_chunks_of_a_stream_are_those_of_the_whole(n_samples, overlap) -> None:
    signal = torch.arange(1.0, n_samples + 1)
    found = list(signal_chunks(signal.split(37), size=100, overlap=overlap))
    assert [offset for offset, _ in found] == chunk_offsets(n_samples, 100, chunk_s=1, overlap=overlap)
    padded = torch.cat((signal, torch.zeros(100)))
    assert all(torch.equal(chunk, padded[offset : offset + 100]) for offset, chunk in found)


def test_chunks_that_cannot_be_are_refused() -> None:
    for wrong in ({"overlap": 1.0}, {"overlap": -0.1}, {"last_chunk_ratio": 2.0}):
        with pytest.raises(UsageError, match="overlap"):
            chunk_offsets(100, 10, **{"chunk_s": 1.0, **wrong})
    with pytest.raises(UsageError, match="chunks of 0"):
        chunk_offsets(100, 10, chunk_s=0.0)
    assert list(signal_chunks([], size=10)) == []
