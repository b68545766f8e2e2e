"""Load and save models: our format, and the released layout as downloaded. No code of a file is executed.

Our format is ``config.json`` with ``model.safetensors``. The released layout is ``config.gin`` with
``model.ckpt`` (or a ``.safetensors`` of the same keys); one key map translates its tensor names in both
directions. A folder of a training run loads as its newest checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from omar_rq import gin
from omar_rq.config import ConformerConfig, EncodecConfig, FrontendConfig, ModelConfig
from omar_rq.conformer import sinusoidal_table
from omar_rq.frontends.encodec import with_local_files
from omar_rq.model import OmarRQ
from omar_rq.published_models import PUBLISHED_NAMES
from omar_rq.tokens import Tokenizer
from pentatonic.checkpoint import (
    atomic_directory,
    load_tensors,
    model_directory,
    read_legacy,
    save_tensors,
)
from pentatonic.errors import CheckpointError, ConfigError, UsageError, WeightsError
from pentatonic.hub import KeyMap, Released, load_state, resolve
from pentatonic.rope import rope_frequencies
from pentatonic.untrusted.files import file_inside, local_path, parse_json, read_text

# The commit hashes on the hub are not known, so these follow the main branch.
RELEASED: Mapping[str, Released] = {
    f"mtg-upf/omar-rq-{name}": Released(
        repo_id=f"mtg-upf/omar-rq-{name}",
        revision="main",
        licence="CC BY-NC-SA 4.0",
        files={"config.gin": None, "model.ckpt": None},
    )
    for name in (*PUBLISHED_NAMES, "base-freesound-small")
}
# Small trained models that come with the package.
BUNDLED: Mapping[str, Path] = {"omar-rq-tiny": Path(__file__).parent / "checkpoints" / "omar-rq-tiny"}

_CONFIG_FILES = ("config.json", "config.gin")
_WEIGHT_FILES = ("model.safetensors", "model.ckpt")
_GIN_CHECKPOINTS = ("model.ckpt", "model.safetensors")  # beside config.gin, whatever it names
# The part of a training checkpoint of ours that is the model; see :mod:`omar_rq.training.objective`.
_ENCODER = "encoder."
# Rows of the original's sinusoidal table.
_SINUSOIDAL_ROWS = 10000

_EMBED = (("embed.{p}", "embedding_layer.{p}"),)
_CONFORMER = (
    *_EMBED,
    ("trunk.blocks.{i}.ff1.norm.{p}", "net.layers.{i}.ff1.module.0.{p}"),
    ("trunk.blocks.{i}.ff1.up.{p}", "net.layers.{i}.ff1.module.1.{p}"),
    ("trunk.blocks.{i}.ff1.down.{p}", "net.layers.{i}.ff1.module.4.{p}"),
    ("trunk.blocks.{i}.attention.qkv.{p}", "net.layers.{i}.attention.qkv.{p}"),
    ("trunk.blocks.{i}.attention.out.{p}", "net.layers.{i}.attention.proj.{p}"),
    ("trunk.blocks.{i}.conv.norm.{p}", "net.layers.{i}.conv_block.layer_norm.{p}"),
    ("trunk.blocks.{i}.conv.pointwise_in.{p}", "net.layers.{i}.conv_block.module.0.{p}"),
    ("trunk.blocks.{i}.conv.depthwise.{p}", "net.layers.{i}.conv_block.module.2.{p}"),
    ("trunk.blocks.{i}.conv.batch_norm.{p}", "net.layers.{i}.conv_block.module.3.{p}"),
    ("trunk.blocks.{i}.conv.pointwise_out.{p}", "net.layers.{i}.conv_block.module.5.{p}"),
    ("trunk.blocks.{i}.ff2.norm.{p}", "net.layers.{i}.ff2.module.0.{p}"),
    ("trunk.blocks.{i}.ff2.up.{p}", "net.layers.{i}.ff2.module.1.{p}"),
    ("trunk.blocks.{i}.ff2.down.{p}", "net.layers.{i}.ff2.module.4.{p}"),
    ("trunk.blocks.{i}.norm_out.{p}", "net.layers.{i}.norm2.{p}"),
)
_TRANSFORMER = (
    *_EMBED,
    ("trunk.position_table", "net.pos_embed"),
    ("trunk.class_token", "net.cls_token"),
    ("trunk.patch_embed.{p}", "net.patch_embed.proj.{p}"),
    ("trunk.blocks.{i}.attention.qkv.{p}", "net.transformer.{i}.attn.qkv.{p}"),
    ("trunk.blocks.{i}.attention.out.{p}", "net.transformer.{i}.attn.proj.{p}"),
    ("trunk.blocks.{i}.mlp.up.{p}", "net.transformer.{i}.mlp.0.{p}"),
    ("trunk.blocks.{i}.mlp.down.{p}", "net.transformer.{i}.mlp.3.{p}"),
    ("trunk.norm.{p}", "net.norm.{p}"),
    ("trunk.head.{p}", "net.head.{p}"),
)
# Tensors of a training checkpoint of the original besides the encoder. The configuration determines all of them
# except the prediction head `linear`, which the encoder does not need.
_TRAINING = ("linear.*", "quantizers.*", "representation.*", "input_rep.*")


def key_map(config: ModelConfig) -> KeyMap:
    """Return the map between our tensor names and the released layout of a trunk of this kind.

    Position codes, which are computed from a formula, and tensors that only training needs are left out.
    """
    net = config.net
    if isinstance(net, ConformerConfig):
        # With DeepNorm a norm after a residual sum sits one module deeper.
        norm = "norm1.layer_norm" if net.use_deepnorm else "norm1"
        rules = (("trunk.blocks.{i}.norm_attention.{p}", f"net.layers.{{i}}.{norm}.{{p}}"),)
        return KeyMap(_CONFORMER + rules, drop=(*_TRAINING, f"net.layers.*.attention.{_position_name(net)}"))
    norm = ".layer_norm" if net.do_deepnorm else ""
    rules = (
        ("trunk.blocks.{i}.norm_attention.{p}", f"net.transformer.{{i}}.norm1{norm}.{{p}}"),
        ("trunk.blocks.{i}.norm_mlp.{p}", f"net.transformer.{{i}}.norm2{norm}.{{p}}"),
    )
    return KeyMap(_TRANSFORMER + rules, drop=_TRAINING)


def position_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Return the position codes of each block, by their names in the released layout; a formula gives them."""
    net = config.net
    if not isinstance(net, ConformerConfig):
        return {}
    if net.use_rope:
        value = rope_frequencies(net.embed_dim // net.num_heads)
    else:
        value = sinusoidal_table(torch.arange(_SINUSOIDAL_ROWS), net.embed_dim)
    return {f"net.layers.{i}.attention.{_position_name(net)}": value.clone() for i in range(net.depth)}


def from_upstream(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename the tensors of the released layout, or of a training checkpoint of the original.

    Args:
        tensors: Keys ``net.*`` and ``embedding_layer.*``. Prediction head, quantisers and front ends of a
            training checkpoint are left out; position codes are compared with their formula and left out.
        config: The model they belong to.

    Returns:
        Our keys ``embed.*`` and ``trunk.*``; the tensors are not copied.

    Raises:
        WeightsError: A key is unknown, or a position code differs from its formula.
    """
    for key, formula in position_tensors(config).items():
        if key in tensors and not _agree(tensors[key], formula):
            raise WeightsError(f"{key} is not the position code that the configuration describes")
    return key_map(config).to_ours(tensors)


def to_upstream(model: OmarRQ) -> dict[str, Tensor]:
    """Return the model's tensors in the released layout, position codes included."""
    ours = _saved_parts(model).state_dict()
    return {**key_map(model.config).to_theirs(ours), **position_tensors(model.config)}


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read a checkpoint: ``.safetensors``, or torch-saved tensors, bare or under ``state_dict``.

    Raises:
        CheckpointError: The file is damaged, or holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return load_tensors(path, device=device)
    return {key: value.to(device) for key, value in read_legacy(path).items()}


def read_config(path: Path) -> ModelConfig:
    """Read ``config.json`` or a gin file.

    Raises:
        ConfigError: The file cannot be read, or does not describe a model of this family.
    """
    text = read_text(path)
    if path.suffix == ".json":
        values = parse_json(text, where=str(path))
        with _naming(path):
            return ModelConfig.from_dict(values)
    return gin.model_config(gin.parse(text, source=str(path)))


def load_directory(
    directory: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    quantization_targets: bool = False,
    load_weights: bool = True,
    encodec: str | Path | None = None,
) -> OmarRQ:
    """Load a model from a directory, or from a configuration file with its weights beside it.

    Args:
        directory: Holds ``config.json`` and ``model.safetensors`` (so does a checkpoint of ``omar-rq train``), or
            ``config.gin`` and the checkpoint that it names, ``model.ckpt``, ``model.safetensors`` or a single
            ``*.ckpt``. Of the folder of a training run the newest intact checkpoint is loaded.
        device: Device of the model.
        dtype: Floating type of embedding layer and trunk; ``None``: float32. Front ends are always float32.
        quantization_targets: Also attach ``model.tokenizer``.
        load_weights: ``False``: weights initialised at random; no checkpoint is needed.
        encodec: For a model with an EnCodec front end: a directory with an EnCodec model, or ``owner/name@revision``
            on the hub, in place of the one that the configuration names.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: There is no configuration, it is wrong, or it names files outside the directory or a repository
            other than that of the published EnCodec model.
        CheckpointError: There is no checkpoint, or it is damaged.
        WeightsError: Its tensors do not fit the configuration.
    """
    path = Path(directory)
    config_path = path if path.is_file() else _config_path(model_directory(path))
    config = read_config(config_path)
    with _naming(config_path):
        local = partial(with_local_files, directory=config_path.parent, encodec=encodec)
        built = _mapped(config, local, targets=quantization_targets)
    if load_weights:
        path = _checkpoint_path(config_path)
        tensors = _encoder_part(read_tensors(path, device))
        if any(key.startswith(("net.", "embedding_layer.")) for key in tensors):
            tensors = from_upstream(tensors, config)
        # On the meta device it takes no time or memory for weights that are replaced at once.
        with _naming(config_path), torch.device("meta"):
            model = OmarRQ(built)
        load_state(_saved_parts(model), tensors, what=str(path))
    else:
        with _naming(config_path):
            model = OmarRQ(built)
    if quantization_targets:
        with _naming(config_path):
            model.tokenizer = Tokenizer(built, model.frontend)
    model.config = config  # it is saved again with the names that it came with
    return model.to(device=device, dtype=dtype).eval()


def from_pretrained(
    name_or_path: str | Path,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    quantization_targets: bool = False,
    load_weights: bool = True,
    encodec: str | Path | None = None,
) -> OmarRQ:
    """Load a model by name or path.

    Args:
        name_or_path: The bundled ``omar-rq-tiny``, a directory or configuration file, the folder of a training run
            or one of its checkpoints, or a hub id.
        revision: Branch, tag or commit of the hub.
        device: Device of the model.
        dtype: Floating type of embedding layer and trunk; ``None``: float32.
        quantization_targets: Also attach ``model.tokenizer``.
        load_weights: ``False``: weights initialised at random.
        encodec: As :func:`load_directory`.

    Returns:
        The model in evaluation mode.

    Raises:
        HubError: There is no model of this name.
        ConfigError, CheckpointError, WeightsError: As :func:`load_directory`.
    """
    path = local_path(name_or_path)
    if path is None or not path.is_file():
        files, released = _CONFIG_FILES + _WEIGHT_FILES, RELEASED
        if not load_weights:
            files, released = _CONFIG_FILES, {name: _without_weights(r) for name, r in RELEASED.items()}
        path = resolve(
            name_or_path, bundled=BUNDLED, released=released, allow_patterns=files, revision=revision
        )
    return load_directory(
        path,
        device=device,
        dtype=dtype,
        quantization_targets=quantization_targets,
        load_weights=load_weights,
        encodec=encodec,
    )


def get_model(
    model_id: str | Path | None = None,
    config_file: str | Path | None = None,
    device: torch.device | str = "cpu",
    quantization_targets: bool = False,
    load_weights: bool = True,
) -> OmarRQ:
    """Load a model; the signature is that of the original's function.

    Args:
        model_id: Hub id, bundled name, directory or configuration file.
        config_file: Configuration file, or its directory; the checkpoint is beside it.
        device: Device of the model.
        quantization_targets: Also build the front ends and quantisers of the targets, as ``model.tokenizer``.
        load_weights: ``False``: weights initialised at random; no checkpoint is needed.

    Returns:
        The model in evaluation mode.

    Raises:
        UsageError: Both or neither of ``model_id`` and ``config_file`` are given.
        HubError, ConfigError, CheckpointError, WeightsError: As :func:`from_pretrained`.
    """
    if (model_id is None) == (config_file is None):
        raise UsageError("give either model_id or config_file")
    if config_file is not None:
        return load_directory(
            config_file, device=device, quantization_targets=quantization_targets, load_weights=load_weights
        )
    assert model_id is not None
    return from_pretrained(
        model_id, device=device, quantization_targets=quantization_targets, load_weights=load_weights
    )


def save_pretrained(model: OmarRQ, directory: str | Path, *, card: str | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``; on an error neither is written.

    Args:
        model: The model.
        directory: Replaced as a whole.
        card: Text of a model card, which becomes ``README.md``.

    Raises:
        CheckpointError: The directory cannot be written.
    """
    with atomic_directory(Path(directory)) as partial:
        text = json.dumps(model.config.to_dict(), indent=2)
        (partial / "config.json").write_text(text + "\n", encoding="utf-8")
        save_tensors(partial / "model.safetensors", _saved_parts(model).state_dict())
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the file's name to errors of its configuration."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _mapped(
    config: ModelConfig, change: Callable[[EncodecConfig], EncodecConfig], *, targets: bool
) -> ModelConfig:
    """Return a configuration with changed EnCodec front ends; with ``targets`` also those of the targets."""

    def changed(frontend: FrontendConfig) -> FrontendConfig:
        return change(frontend) if isinstance(frontend, EncodecConfig) else frontend

    kept = tuple(map(changed, config.targets)) if targets else config.targets
    return dataclasses.replace(config, input=changed(config.input), targets=kept)


def _saved_parts(model: OmarRQ) -> nn.ModuleDict:
    """The parts of a model whose tensors are saved; front ends and quantisers are built from the configuration."""
    return nn.ModuleDict({"embed": model.embed, "trunk": model.trunk})


def _position_name(net: ConformerConfig) -> str:
    return "rotary_emb.freqs" if net.use_rope else "positional_encoder.encodings"


def _without_weights(model: Released) -> Released:
    return dataclasses.replace(model, files={"config.gin": None})


def _agree(tensor: Tensor, formula: Tensor) -> bool:
    """Whether they are equal up to the rounding of the stored dtype and of float32 angles at 10,000 positions."""
    if tensor.shape != formula.shape or not tensor.is_floating_point():
        return False
    relative = max(1e-5, 2 * torch.finfo(tensor.dtype).eps)
    absolute = 2e-3 if len(formula) == _SINUSOIDAL_ROWS else 0.0
    return torch.allclose(tensor.float().cpu(), formula, rtol=relative, atol=absolute)


def _encoder_part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's tensors of a training checkpoint of ours; any other checkpoint as it is."""
    parts = (f"{_ENCODER}embed.", f"{_ENCODER}trunk.")
    encoder = {key.removeprefix(_ENCODER): tensor for key, tensor in tensors.items() if key.startswith(parts)}
    return encoder or tensors


def _config_path(directory: Path) -> Path:
    for name in _CONFIG_FILES:
        if (directory / name).is_file():
            return directory / name
    raise ConfigError(
        f"{directory}: neither a model nor a training run; expected {' or '.join(_CONFIG_FILES)}, or checkpoints/"
    )


def _checkpoint_path(config_path: Path) -> Path:
    directory = config_path.parent
    if config_path.suffix == ".json":
        candidates = [directory / "model.safetensors"]
    else:
        bindings = gin.parse(read_text(config_path), source=str(config_path))
        named = gin.checkpoint_name(bindings)
        candidates = [directory / name for name in _GIN_CHECKPOINTS]
        if named in _GIN_CHECKPOINTS:
            candidates.insert(0, directory / named)
        elif named is not None:
            candidates.insert(0, file_inside(directory, named, where="build_module.ckpt_path"))
        others = sorted(directory.glob("*.ckpt"))
        candidates += others if len(others) == 1 else []
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    expected = ", ".join(dict.fromkeys(candidate.name for candidate in candidates))
    raise CheckpointError(f"{directory}: no checkpoint found; expected {expected}")
