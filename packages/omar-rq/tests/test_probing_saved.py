"""Heads on frozen embeddings, and saved probes: what they say, and what they refuse."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from omar_rq.model import OmarRQ
from omar_rq.probing import saved
from omar_rq.probing.features import FeatureConfig, aligned, pooled_features, token_features
from omar_rq.probing.heads import HeadConfig, ProbeHead, answers
from omar_rq.probing.saved import EncoderRecord, SavedProbe, WrongEncoder
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.errors import (
    AudioTooShort,
    CheckpointError,
    ConfigError,
    NonFiniteAudio,
    PentatonicError,
)

LAYERS = (1, 2, 4)


@pytest.fixture(scope="module")
def model() -> OmarRQ:
    return from_pretrained("omar-rq-tiny")


@pytest.fixture(scope="module")
def sound() -> torch.Tensor:
    """3.1 s at 16 kHz."""
    t = torch.arange(49_600) / 16_000
    return 0.3 * torch.sin(2 * torch.pi * 220 * t * (1 + 0.2 * t)) + 0.05 * torch.sin(2 * torch.pi * 1000 * t)


def make(encoder: OmarRQ, outputs: str = "classes", **head) -> SavedProbe:
    """A probe with random weights."""
    before = head.get("pooling", "mean")
    features = FeatureConfig(LAYERS, pooling=before if before in ("mean", "mean+std") else "none")
    torch.manual_seed(3)
    config = HeadConfig(features.width(encoder.config.net.embed_dim), 4, LAYERS, **head)
    built = ProbeHead(config).eval()
    built.mean.normal_()
    built.deviation.uniform_(0.5, 2.0)
    with torch.no_grad():
        built.layer_logits.normal_()
    return SavedProbe(
        "genre", ("a", "b", "c", "d"), outputs, EncoderRecord.of(encoder, "omar-rq-tiny"), features, built
    )


@pytest.mark.parametrize(
    "head",
    [
        {"pooling": "mean"},
        {"pooling": "mean+std", "model": "mlp", "hidden": 7},
        {"pooling": "attention"},
        {"granularity": "frame", "pooling": "none", "context": 3},
        {"granularity": "frame", "pooling": "none", "model": "mlp", "hidden": 5},
    ],
)
def test_a_saved_probe_says_what_it_said_before(model, sound, tmp_path, head) -> None:
    probe = make(model, **head)
    probe.save(tmp_path / "probe")
    loaded = SavedProbe.load(tmp_path / "probe", encoder=model)
    before, after = (each.predict(model, sound, 16_000) for each in (probe, loaded))
    assert np.array_equal(before.values, after.values)
    assert np.array_equal(before.times, after.times)
    assert (after.task, after.labels, after.pooling) == ("genre", ("a", "b", "c", "d"), before.pooling)
    assert loaded.layer_weights == probe.layer_weights and list(loaded.layer_weights) == list(LAYERS)
    assert np.allclose(after.values.sum(1), 1, atol=1e-6)
    assert after.values.dtype == np.float32 and after.times.dtype == np.float64


def test_a_head_is_the_formula(model, sound) -> None:
    """Standardise, weigh the layers by a softmax, and a linear layer: written out in float64."""
    embeddings = model.extract_embeddings(sound, LAYERS, sample_rate=16_000)[:, 0].double()
    probe = make(model)
    head = probe.head.double()
    weights = torch.exp(head.layer_logits) / torch.exp(head.layer_logits).sum()
    standard = (embeddings.mean(1) - head.mean) / head.deviation
    logits = head.first.weight[:, :, 0] @ (weights[:, None] * standard).sum(0) + head.first.bias
    expected = torch.softmax(logits, 0).detach().numpy()
    found = make(model).predict(model, sound, 16_000)
    assert np.abs(found.values[0] - expected).max() < 1e-5
    assert found.times.tolist() == [0.0] and found.rate == 0.0
    assert found.pooling == f"mean over {embeddings.shape[1]} tokens"


def test_tokens_have_times_and_neighbours(model, sound, monkeypatch) -> None:
    probe = make(model, granularity="frame", pooling="none", context=3)
    whole = probe.predict(model, sound, 16_000)
    embeddings = model.extract_embeddings(sound, LAYERS, sample_rate=16_000)
    direct = answers(probe.head(embeddings.transpose(0, 1))[0], "classes").detach().numpy()
    assert whole.values.shape == direct.shape and np.abs(whole.values - direct).max() < 1e-5
    assert whole.rate == model.embedding_rate_hz
    assert np.array_equal(whole.times, model.timestamps(len(direct)).numpy())
    monkeypatch.setattr(saved, "_BLOCK_TOKENS", 5)
    assert np.abs(probe.predict(model, sound, 16_000).values - whole.values).max() < 1e-6


def test_padding_changes_nothing(model) -> None:
    torch.manual_seed(0)
    for head in ({"pooling": "attention"}, {"granularity": "frame", "pooling": "none", "context": 2}):
        built = make(model, **head).head
        features = torch.randn(1, len(LAYERS), 9, built.config.width)
        padded = torch.cat((features, torch.full_like(features[:, :, :4], 50.0)), 2)
        real = torch.arange(13)[None] < 9
        assert torch.allclose(built(padded, real)[:, :9], built(features), atol=1e-5)


def test_deviations_are_those_of_the_tokens(model, sound) -> None:
    config = FeatureConfig(LAYERS, pooling="mean+std")
    (values,), count = pooled_features(model, sound.split(7000), config)
    tokens = model.extract_embeddings(sound, LAYERS, sample_rate=16_000)[:, 0]
    expected = torch.cat((tokens.mean(1), tokens.std(1, correction=0)), 1)
    assert count == tokens.shape[1] and torch.allclose(values, expected, atol=1e-5)


def test_chunks_are_embedded_alone(model, sound) -> None:
    config = FeatureConfig(LAYERS, chunk_s=1.0, overlap=0.5, last_chunk_ratio=0.05)
    values, _ = pooled_features(model, sound.split(9999), config)
    assert len(values) == 6  # 0, 0.5, ... 2.0 s, and 2.5 s with zeros behind it
    third = model.extract_embeddings(sound[16_000:32_000], LAYERS, sample_rate=16_000)[:, 0].mean(1)
    assert torch.allclose(values[2], third, atol=1e-5)
    padded = torch.cat((sound[40_000:], torch.zeros(6400)))
    last = model.extract_embeddings(padded, LAYERS, sample_rate=16_000)[:, 0].mean(1)
    assert torch.allclose(values[-1], last, atol=1e-5)


def test_layers_that_lag_are_brought_together(model, sound) -> None:
    pieces = [
        [torch.arange(4.0)[:, None], torch.zeros(0, 1)],
        [torch.zeros(0, 1), torch.arange(3.0)[:, None]],
        [torch.tensor([[4.0]]), torch.tensor([[3.0], [4.0]])],
    ]
    together = torch.cat(list(aligned(pieces)), 1)
    assert together[..., 0].tolist() == [[0, 1, 2, 3, 4]] * 2
    tokens = torch.cat(list(token_features(model, sound.split(4000), FeatureConfig(LAYERS))), 1)
    expected = model.extract_embeddings(sound, LAYERS, sample_rate=16_000)[:, 0]
    assert torch.allclose(tokens, expected, atol=1e-4)


def test_a_file_is_read_like_its_samples(model, sound, tmp_path) -> None:
    path = tmp_path / "a.wav"
    audio.save(path, sound, 16_000, subtype="FLOAT")
    probe = make(model, granularity="frame", pooling="none")
    assert np.array_equal(probe.predict_file(model, path).values, probe.predict(model, sound, 16_000).values)
    from pentatonic.audio_folder.reading import ReadOptions

    part = probe.predict_file(model, path, reading=ReadOptions(start_s=1.0))
    assert part.times[0] == 1.0
    (tmp_path / "bad.wav").write_bytes(b"RIFF....")
    with pytest.raises(PentatonicError, match=r"bad\.wav"):
        probe.predict_file(model, tmp_path / "bad.wav")


def test_another_encoder_is_refused(model, sound, tmp_path) -> None:
    probe = make(model)
    probe.save(tmp_path / "probe")
    torch.manual_seed(0)
    other = OmarRQ(model.config).eval()
    with pytest.raises(WrongEncoder, match="genre belongs to the encoder 'omar-rq-tiny'"):
        SavedProbe.load(tmp_path / "probe", encoder=other)
    with pytest.raises(WrongEncoder):
        SavedProbe.load(tmp_path / "probe").predict(other, sound, 16_000)


def test_unusable_signals_are_refused(model, sound) -> None:
    probe = make(model)
    with pytest.raises(AudioTooShort):
        probe.predict(model, sound[:100], 16_000)
    with pytest.raises(NonFiniteAudio):
        probe.predict(model, torch.full((16_000,), torch.nan), 16_000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("[1]"),
        lambda folder: (folder / "config.json").write_text('{"probe": {}}'),
        lambda folder: change(folder, "head", "width", 65_536),
        lambda folder: change(folder, "head", "hidden", 10**9),
        lambda folder: change(folder, "head", "pooling", "attention"),
        lambda folder: change(folder, "features", "layers", [0]),
        lambda folder: change(folder, "probe", "labels", ["a"]),
        lambda folder: change(folder, "probe", "outputs", "magic"),
        lambda folder: change(folder, "encoder", "sha256", "no"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" + bytes(40)),
    ],
)
def test_damage_is_refused(model, tmp_path, damage) -> None:
    make(model).save(tmp_path / "probe")
    damage(tmp_path / "probe")
    with pytest.raises((ConfigError, CheckpointError), match=r"config\.json|model\.safetensors"):
        SavedProbe.load(tmp_path / "probe")


def change(folder, section: str, key: str, value: object) -> None:
    document = json.loads((folder / "config.json").read_text())
    document[section][key] = value
    (folder / "config.json").write_text(json.dumps(document))


def test_a_weight_that_is_not_finite_is_refused(model, tmp_path) -> None:
    probe = make(model)
    with torch.no_grad():
        probe.head.first.bias[0] = torch.inf
    probe.save(tmp_path / "probe")
    with pytest.raises(CheckpointError, match="not finite"):
        SavedProbe.load(tmp_path / "probe")
    shutil.rmtree(tmp_path / "probe")
    with pytest.raises(ConfigError, match="missing"):
        SavedProbe.load(tmp_path / "probe")


def test_outputs_become_answers() -> None:
    logits = torch.tensor([[0.0, 1.0, 1.0]])
    assert torch.equal(answers(logits, "regression"), logits)
    assert torch.allclose(answers(logits, "multilabel"), logits.sigmoid())
    assert torch.allclose(answers(logits, "boundary+classes"), torch.tensor([[0.5, 0.5, 0.5]]))
