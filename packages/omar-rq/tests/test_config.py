"""Configuration dataclasses: round trip through JSON, and refusals that name the key."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from omar_rq.config import (
    CQTConfig,
    EncodecConfig,
    MaskingConfig,
    MelFrontendConfig,
    ModelConfig,
    QuantizerConfig,
    TransformerConfig,
    WaveformConfig,
)
from omar_rq.published_models import PUBLISHED_NAMES, published_config
from pentatonic.errors import ConfigError, UsageError

MEL = {"name": "mel"}
NET = {"name": "conformer"}


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_published_configurations_survive_json(name):
    config = published_config(name)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert published_config(f"mtg-upf/omar-rq-{name}") is config


@pytest.mark.parametrize(
    ("name", "rate", "eps", "patch", "streams", "head"),
    [
        ("base", 16000, 15.625, (96, 4), 1, 8192),
        ("multicodebook", 16000, 15.625, (96, 4), 4, 32768),
        ("multifeature", 24000, 18.75, (1, 1280), 6, 49176),
        ("multifeature-25hz", 24000, 25.0, (1, 960), 6, 49176),
        ("multifeature-25hz-fsq", 24000, 25.0, (1, 960), 6, 46656),
    ],
)
def test_released_rates_and_heads(name, rate, eps, patch, streams, head):
    config = published_config(name)
    assert (config.sample_rate, config.eps, config.input.patch_size) == (rate, eps, patch)
    assert config.quantizer is not None
    assert config.quantizer.num_codebooks * len(config.targets) == streams
    assert config.quantizer.codebook_size * streams == head


def test_unknown_release_is_refused():
    with pytest.raises(UsageError, match="multifeature-25hz-fsq"):
        published_config("huge")


def test_every_kind_of_part_survives_json():
    config = ModelConfig(
        input=EncodecConfig(weights_path=None),
        targets=(CQTConfig(), WaveformConfig(norm_mean=None), MelFrontendConfig(norm=None)),
        net=TransformerConfig(causal=False),
        quantizer=QuantizerConfig(type="finite_scalar_quantizer", fsq_levels=(3, 5)),
        masking=MaskingConfig(mode="tokens"),
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_whole_numbers_become_floats_and_lists_tuples():
    config = ModelConfig.from_dict(
        {"input": MEL | {"norm_mean": 0, "patch_size": [96, 4]}, "net": NET | {"mlp_ratio": 4}}
    )
    assert type(config.input.norm_mean) is float and config.input.patch_size == (96, 4)
    assert type(config.net.mlp_ratio) is float


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "mapping"),
        ({"input": MEL}, "net"),
        ({"input": MEL, "net": NET, "extra": 1}, "extra"),
        ({"input": "mel", "net": NET}, "input.name"),
        ({"input": {"name": "fft"}, "net": NET}, "waveform"),
        ({"input": MEL, "net": NET | {"dept": 3}}, "net.dept"),
        ({"input": MEL, "net": NET | {"depth": "3"}}, "net.depth"),
        ({"input": MEL, "net": NET | {"depth": True}}, "net.depth"),
        ({"input": MEL, "net": NET | {"depth": 0}}, "net.depth is 0"),
        ({"input": MEL, "net": NET | {"use_rope": 1}}, "net.use_rope"),
        ({"input": MEL, "net": NET | {"num_heads": 7}}, "divides"),
        ({"input": MEL, "net": NET | {"embed_dim": 12, "num_heads": 4}}, "even"),
        ({"input": MEL | {"patch_size": [96]}, "net": NET}, "input.patch_size"),
        ({"input": MEL | {"patch_size": [96, 0]}, "net": NET}, "2 whole numbers from 1"),
        (
            {"input": MEL | {"norm_mean": "low"}, "net": NET},
            "numbers from -1,000,000 up to 1,000,000, or None",
        ),
        ({"input": MEL, "net": NET, "targets": 3}, "targets"),
        ({"input": MEL, "net": NET, "targets": [MEL, {"name": "cqt", "n_bins": 20}]}, "cqt.patch_size"),
        ({"input": MEL, "net": NET, "quantizer": {"type": "vq"}}, "quantizer.type"),
        ({"input": MEL, "net": NET, "quantizer": {"fsq_levels": [6, "6"]}}, "quantizer.fsq_levels"),
        ({"input": MEL, "net": NET, "masking": None}, "masking"),
        ({"input": MEL, "net": NET, "masking": {"mode": "all"}}, "masking.mode"),
    ],
)
def test_wrong_configurations_are_refused_and_the_key_is_named(data, says):
    with pytest.raises(ConfigError) as error:
        ModelConfig.from_dict(data)
    assert says in str(error.value)


def test_configurations_are_read_without_torch():
    code = (
        "import sys, omar_rq.config, omar_rq.gin, omar_rq.published_models; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
