from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omar_rq.config import EncodecConfig
from omar_rq.frontends import EnCodec, build_frontend
from pentatonic.errors import AudioTooShort, ConfigError, HubError, MissingExtra, WeightsError

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The small encoder of the golden case, as a directory in the layout of the hub."""
    stored = load_file(Path(__file__).parent / "goldens" / "frontend_encodec_tiny" / "weights.safetensors")
    config = transformers.EncodecConfig(num_filters=2, hidden_size=128, codebook_dim=128)
    with torch.random.fork_rng():
        model = transformers.EncodecModel(config)
    model.encoder.load_state_dict({key.removeprefix("net.encoder."): value for key, value in stored.items()})
    directory = tmp_path_factory.mktemp("encodec")
    model.save_pretrained(directory)
    return directory


@pytest.fixture
def config(weights) -> EncodecConfig:
    return EncodecConfig(weights_path=str(weights))


@pytest.fixture
def audio(signal):
    return torch.stack([signal("a_24k", 12000), signal("b_24k", 12000)])


def test_golden(config, golden, audio, signal):
    io, _ = golden("frontend_encodec_tiny")
    torch.testing.assert_close(build_frontend(config)(audio), io["out"], atol=2e-6, rtol=0)
    at_16k = build_frontend(dataclasses.replace(config, sample_rate=16000))
    torch.testing.assert_close(at_16k(signal("a_16k", 8000)[None]), io["out16k"], atol=5e-6, rtol=0)


def test_a_frame_is_centred_between_its_first_sample_and_the_next_frame(config):
    frontend = build_frontend(config)
    audio = torch.randn(1, 24000, generator=torch.Generator().manual_seed(0))
    before = frontend(audio)
    for sample, frame in ((20 * 320 - 1, 19), (20 * 320, 20), (21 * 320 - 1, 20)):
        changed = audio.clone()
        changed[0, sample] += 1
        assert int((frontend(changed) != before).any(dim=1)[0].nonzero()[0]) == frame
    assert frontend.frame_centre == 0.5


def test_older_names_of_weight_normalisation_are_read(weights, config, audio, tmp_path):
    tensors = load_file(weights / "model.safetensors")
    older = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in tensors.items()
    }
    assert set(older) != set(tensors)
    save_file(older, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((weights / "config.json").read_bytes())
    frontend = EnCodec(EncodecConfig(weights_path=str(tmp_path)))
    assert torch.equal(frontend(audio), EnCodec(config)(audio))


def test_encoder_is_frozen_and_not_saved(config, audio):
    frontend = EnCodec(config)
    before = frontend(audio)
    assert not frontend.state_dict()
    assert not list(frontend.parameters())
    frontend.train().to(torch.bfloat16)
    after = frontend(audio.requires_grad_())
    assert not after.requires_grad
    assert torch.equal(after, before)


def test_loading_leaves_the_global_random_state_alone(config):
    before = torch.get_rng_state()
    with torch.device("meta"):
        frontend = build_frontend(config)
    assert torch.equal(torch.get_rng_state(), before)
    assert frontend(torch.zeros(1, 1000)).device.type == "cpu"


@pytest.mark.parametrize("sample_rate", [24000, 16000, 44100])
def test_frame_count_and_fewest_samples(config, sample_rate):
    frontend = EnCodec(dataclasses.replace(config, sample_rate=sample_rate))
    fewest = frontend.min_samples
    assert frontend.frames(fewest) == 4
    assert frontend.frames(fewest - 1) == 3
    for n_samples in (fewest, fewest + 1, 2 * fewest + 13, 3200):
        assert frontend(torch.zeros(1, n_samples)).shape == (1, 128, frontend.frames(n_samples))
    with pytest.raises(AudioTooShort, match=f"at least {fewest} samples"):
        frontend(torch.zeros(1, fewest - 1))


def test_stream_yields_once(config, audio):
    frontend = EnCodec(config)
    (out,) = frontend.stream(audio[0].split(999))
    torch.testing.assert_close(out, frontend(audio[:1])[0])


def test_normalisation(config, audio, tmp_path):
    raw = EnCodec(dataclasses.replace(config, norm_type=None))(audio)
    stats = tmp_path / "stats.json"
    means, deviations = [i / 10 for i in range(128)], [1 + i / 100 for i in range(128)]
    stats.write_text(json.dumps({"mean": 2.0, "std": 4.0, "mean_dims": means, "std_dims": deviations}))
    one = EnCodec(dataclasses.replace(config, stats_path=str(stats)))
    torch.testing.assert_close(one(audio), (raw - 2) / 4)
    each = EnCodec(dataclasses.replace(config, stats_path=str(stats), norm_type="dimensionwise"))
    expected = (raw - torch.tensor(means)[:, None]) / torch.tensor(deviations)[:, None]
    torch.testing.assert_close(each(audio), expected)


@pytest.mark.parametrize("content", [None, "[", "[1]", '{"mean": 1}', '{"mean": 1, "std": [1, 2]}'])
def test_unusable_statistics_are_named(config, tmp_path, content):
    stats = tmp_path / "stats.json"
    if content is not None:
        stats.write_text(content)
    with pytest.raises(ConfigError, match=r"stats\.json"):
        EnCodec(dataclasses.replace(config, stats_path=str(stats)))


@pytest.mark.parametrize(("change", "key"), [
    ({"norm_type": "dimensionwise"}, "stats_path"),
    ({"norm_type": "median"}, "norm_type"),
    ({"weights_path": None}, "weights_path"),
])  # fmt: skip
def test_impossible_settings_are_named(config, change, key):
    with pytest.raises(ConfigError, match=key):
        EnCodec(dataclasses.replace(config, **change))


def test_incomplete_weights_are_refused(weights, tmp_path):
    with pytest.raises(WeightsError, match="no EnCodec model"):
        EnCodec(EncodecConfig(weights_path=str(tmp_path)))
    (tmp_path / "config.json").write_bytes((weights / "config.json").read_bytes())
    tensors = load_file(weights / "model.safetensors")
    removed = next(key for key in tensors if key.startswith("encoder.") and "lstm" in key)
    del tensors[removed]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=removed):
        EnCodec(EncodecConfig(weights_path=str(tmp_path)))


def test_hub_id_is_fetched_through_the_hub_client(weights, config, audio, monkeypatch):
    import huggingface_hub

    asked = {}

    def fetch(repo_id, **options):
        asked.update(options, repo_id=repo_id)
        return str(weights)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    frontend = EnCodec(EncodecConfig())
    assert asked["repo_id"] == "facebook/encodec_24khz"
    assert set(asked["allow_patterns"]) == {"config.json", "model.safetensors"}
    assert torch.equal(frontend(audio), EnCodec(config)(audio))


def test_unknown_weights_are_refused():
    with pytest.raises(HubError, match="no_such_directory"):
        EnCodec(EncodecConfig(weights_path="/no_such_directory/a"))


def test_missing_library_names_the_extra(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"omar-rq\[encodec\]"):
        EnCodec(config)
