"""Hydra configurations as plain dataclasses, in which an unknown key is an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any, TypeVar, cast, get_type_hints

from pentatonic.errors import ConfigError, MissingExtra
from pentatonic.training.schedules import Schedule, warmup_cosine, warmup_linear

T = TypeVar("T")

PRECISIONS = ("fp32", "bf16", "auto")
TRACKERS = ("tensorboard", "wandb")
DECAYS = ("constant", "cosine", "linear")


@dataclass
class TrainerConfig:
    """What the training loop needs to know.

    Attributes:
        max_steps: Optimizer steps of the whole run.
        grad_accumulation: Batches per optimizer step.
        precision: ``"fp32"``; ``"bf16"`` for autocast over float32 weights; ``"auto"``: bf16 where the hardware
            has instructions for it, else fp32. ``run.json`` says which.
        max_grad_norm: Gradients are scaled down to this L2 norm; None leaves them.
        ema_decay: Keep a moving average of the weights, of which a step keeps this share, less in the first steps
            (:mod:`pentatonic.training.averaging`); it is what is validated and what checkpoints load as. None: none.
        log_every: Steps between two lines of metrics; the last step is always logged.
        val_every: Steps between two validations; the last step is always validated. 0 means never.
        val_batches: Batches per process in one validation; None takes the whole set.
        save_every: Steps between two checkpoints; the last step is always saved.
        keep_checkpoints: How many of the newest checkpoints stay on disk.
        seed: Decides the order of the data and every random stream of the run.
        trackers: Any of ``"tensorboard"``, ``"wandb"``; ``metrics.jsonl`` is written in any case.
        compile: Compile the module's forward pass with ``torch.compile``.
        cpu: Stay on the CPU even where there is an accelerator.

    Raises:
        ConfigError: If a value is out of its range.
    """

    max_steps: int
    grad_accumulation: int = 1
    precision: str = "fp32"
    max_grad_norm: float | None = None
    ema_decay: float | None = None
    log_every: int = 50
    val_every: int = 0
    val_batches: int | None = None
    save_every: int = 1000
    keep_checkpoints: int = 2
    seed: int = 0
    trackers: list[str] = field(default_factory=list)
    compile: bool = False
    cpu: bool = False

    def __post_init__(self) -> None:
        for name in ("max_steps", "grad_accumulation", "log_every", "save_every", "keep_checkpoints"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.val_every >= 0, "val_every", self.val_every, "0 (never) or more")
        _require(
            self.val_batches is None or self.val_batches >= 1, "val_batches", self.val_batches, "at least 1"
        )
        _require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            "max_grad_norm",
            self.max_grad_norm,
            "above 0",
        )
        _require(
            self.ema_decay is None or 0 < self.ema_decay < 1, "ema_decay", self.ema_decay, "between 0 and 1"
        )
        _require(self.precision in PRECISIONS, "precision", self.precision, _either(PRECISIONS))
        for tracker in self.trackers:
            _require(tracker in TRACKERS, "trackers", tracker, _either(TRACKERS))


@dataclass
class OptimConfig:
    """AdamW.

    Attributes:
        lr: Highest learning rate.
        weight_decay: Decoupled decay, in units of the learning rate.
    """

    lr: float = 1e-4
    weight_decay: float = 1e-2


@dataclass
class ScheduleConfig:
    """Learning rate of each step: a linear warm-up, then a decay.

    Attributes:
        warmup_steps: Steps until the highest rate is reached.
        decay: ``"constant"`` stays there; ``"cosine"`` and ``"linear"`` go down to ``min_lr`` at the last step.
        min_lr: The rate at the end; not used by ``"constant"``.
    """

    warmup_steps: int = 1000
    decay: str = "constant"
    min_lr: float = 0.0

    def schedule(self, base_lr: float, total_steps: int) -> Schedule:
        """The learning rate of each step.

        Args:
            base_lr: Highest rate.
            total_steps: Steps of the whole run.

        Raises:
            ConfigError: There is no such decay.
        """
        if self.decay not in DECAYS:
            raise ConfigError(f"schedule.decay is {self.decay!r}; allowed: {', '.join(DECAYS)}")
        function = warmup_cosine if self.decay == "cosine" else warmup_linear
        min_lr = base_lr if self.decay == "constant" else self.min_lr
        return partial(
            function, base_lr=base_lr, warmup_steps=self.warmup_steps, total_steps=total_steps, min_lr=min_lr
        )


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"trainer.{name} is {value!r}, but must be {allowed}")


def _either(names: Sequence[str]) -> str:
    *most, last = map(repr, names)
    return " or ".join((", ".join(most), last) if most else (last,))


def compose_config(
    conf_module: str, overrides: Sequence[str], schema: type[T], *, config_name: str = "train"
) -> T:
    """Composes a Hydra configuration and checks it against a dataclass.

    The dataclass lies below the YAML files: it gives the defaults and the types, so every one of its keys can be
    overridden, also those that no file mentions. Group choices (``experiment=base``) and additions to the defaults
    list (``+experiment=base``) work as in Hydra.

    Args:
        conf_module: Importable package with the YAML files, such as ``"omar_rq.conf"``.
        overrides: Hydra overrides, such as ``["experiment=base", "trainer.max_steps=100"]``.
        schema: Dataclass of the whole configuration.
        config_name: Name of the primary YAML file, without suffix.

    Returns:
        An instance of ``schema``. Fields annotated as tuples come as lists.

    Raises:
        ConfigError: If a key is unknown, missing or of the wrong type, naming it; if an override cannot be parsed;
            if a file or group option does not exist.
        MissingExtra: If Hydra is not installed.
    """
    try:
        from hydra import compose, initialize_config_module
        from hydra.core.config_store import ConfigStore
        from hydra.errors import HydraException
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError
    except ImportError as error:
        raise MissingExtra("Composing a configuration", "pentatonic[train]") from error

    store = ConfigStore.instance()
    store.store(name="pentatonic_schema", node=schema)
    store.store(
        name="pentatonic_root",
        node={"defaults": ["pentatonic_schema", config_name, "_self_"]},
        package="_global_",
    )
    try:
        with initialize_config_module(conf_module, version_base="1.3"):
            composed = compose("pentatonic_root", overrides=list(overrides))
        # An override with a plus sign may add a key to a typed node, so the result meets the schema once more.
        checked = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(composed))
        return cast(T, OmegaConf.to_object(checked))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{conf_module}/{config_name}: {_explain(error, schema)}") from error


def _explain(error: Exception, schema: type) -> str:
    """One line that names the key and what would be allowed."""
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        MissingMandatoryValue,
        OmegaConfBaseException,
    )

    for cause in _causes(error):
        if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
            continue
        key = cause.full_key
        if isinstance(cause, ConfigKeyError | ConfigAttributeError):
            parent = key.rpartition(".")[0]
            return f"unknown key {key!r}; {parent or 'the configuration'} has {_keys_of(schema, parent)}"
        if isinstance(cause, MissingMandatoryValue):
            return f"{key!r} has no value; give one as {key}=..."
        return f"{key!r}: {_one_line(cause.msg or str(cause))}"
    return _one_line(str(error))


def _keys_of(schema: type, path: str) -> str:
    """The keys that the dataclass at a dotted path has."""
    node: Any = schema
    for part in path.split(".") if path else ():
        node = get_type_hints(node).get(part) if is_dataclass(node) else None
    return ", ".join(item.name for item in fields(node)) if is_dataclass(node) else "none"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _one_line(text: str) -> str:
    text = text.partition("Config search path")[0]
    kept = [line.strip() for line in text.splitlines() if line.strip() and "https://" not in line]
    kept = [line for line in kept if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return "; ".join(kept).replace(":;", ":")


def config_yaml(config: Any) -> str:
    """A configuration as YAML, with every interpolation resolved.

    Args:
        config: Dataclass instance.

    Returns:
        YAML text.

    Raises:
        MissingExtra: If OmegaConf is not installed.
    """
    try:
        from omegaconf import OmegaConf
    except ImportError as error:
        raise MissingExtra("Writing a configuration", "pentatonic[train]") from error
    return OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True)
