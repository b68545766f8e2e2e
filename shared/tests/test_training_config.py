from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pentatonic.errors import ConfigError, MissingExtra
from pentatonic.training import TrainerConfig, compose_config, config_yaml


@dataclass
class NetConfig:
    dim: int
    depth: int = 2


@dataclass
class ToyConfig:
    trainer: TrainerConfig
    net: NetConfig
    root: str
    lr: float = 1.0
    names: list[str] = field(default_factory=list)
    out: str = "${root}/out"


FILES = {
    "__init__.py": "",
    "train.yaml": "defaults:\n  - net: small\n  - _self_\n  - experiment: null\ntrainer:\n  max_steps: 10\nlr: 0.1\n",
    "net/small.yaml": "dim: 4\n",
    "net/large.yaml": "dim: 8\ndepth: 9\n",
    "experiment/base.yaml": "# @package _global_\ndefaults:\n  - override /net: large\nlr: 0.5\n",
    "overlay/long.yaml": "# @package _global_\ntrainer:\n  max_steps: 99\n",
    "unknown_key.yaml": "trainer:\n  max_stepz: 3\n",
    "not_yaml.yaml": "trainer: [\n",
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, text in FILES.items():
        path = tmp_path / "toy_training_conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("toy_training_conf")]:
        monkeypatch.delitem(sys.modules, name)
    return "toy_training_conf"


def test_files_defaults_and_overrides(conf: str) -> None:
    config = compose_config(conf, ["root=a", "trainer.compile=true", "names=[x,y]"], ToyConfig)
    assert config == ToyConfig(
        trainer=TrainerConfig(max_steps=10, compile=True),
        net=NetConfig(4),
        root="a",
        lr=0.1,
        names=["x", "y"],
        out="a/out",
    )


def test_group_override_and_overlay(conf: str) -> None:
    config = compose_config(conf, ["root=a", "experiment=base", "+overlay=long", "net.depth=7"], ToyConfig)
    assert (config.net, config.lr, config.trainer.max_steps) == (NetConfig(8, 7), 0.5, 99)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["traner.max_steps=1"], "unknown key 'traner'; the configuration has trainer, net"),
        (["trainer.nope=1"], "unknown key 'trainer.nope'; trainer has max_steps, "),
        (["+trainer.nope=1"], "unknown key 'trainer.nope'"),
        (["++net.nope=1"], "unknown key 'net.nope'; net has dim, depth"),
        (["+nope=1"], "unknown key 'nope'"),
        (["lr=abc"], "'lr': .*'abc'"),
        (["lr=${nope}"], "'lr'.*nope"),
        (["trainer.precision=fp8"], "trainer.precision is 'fp8', but must be 'fp32', 'bf16' or 'auto'"),
        (["experiment=nope"], "experiment/nope.*base"),
        (["lr"], "'lr'"),
    ],
)
def test_bad_overrides_are_named(conf: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        compose_config(conf, ["root=a", *overrides], ToyConfig)
    assert "\n" not in str(caught.value)


def test_missing_value_is_named(conf: str) -> None:
    with pytest.raises(ConfigError, match="'root' has no value"):
        compose_config(conf, [], ToyConfig)


@pytest.mark.parametrize(
    ("name", "message"), [("unknown_key", "max_stepz"), ("not_yaml", "not_yaml"), ("absent", "absent")]
)
def test_bad_files_are_named(conf: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config(conf, ["root=a"], ToyConfig, config_name=name)


def test_missing_package_is_named() -> None:
    with pytest.raises(ConfigError, match="toy_absent"):
        compose_config("toy_absent.conf", [], ToyConfig)


def test_yaml_is_resolved_and_complete(conf: str) -> None:
    config = compose_config(conf, ["root=a"], ToyConfig)
    text = config_yaml(config)
    assert "out: a/out" in text
    assert "keep_checkpoints: 2" in text


@pytest.mark.parametrize(
    "setting",
    [
        {"max_steps": 0},
        {"grad_accumulation": 0},
        {"val_every": -1},
        {"val_batches": 0},
        {"max_grad_norm": 0.0},
        {"ema_decay": 1.0},
        {"keep_checkpoints": 0},
        {"trackers": ["mlflow"]},
    ],
)
def test_values_out_of_range(setting: dict) -> None:
    (name,) = setting
    with pytest.raises(ConfigError, match=f"trainer.{name} is"):
        TrainerConfig(**{"max_steps": 1} | setting)


def test_hydra_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hydra", None)
    with pytest.raises(MissingExtra, match=r"pentatonic\[train\]"):
        compose_config("anything", [], ToyConfig)
