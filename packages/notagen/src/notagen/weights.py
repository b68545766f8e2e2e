"""Load and save models: our format, and the released files as downloaded. No code of a file is executed.

Our format is ``config.json`` with ``model.safetensors``. A released file is a ``.pth`` that holds the tensors
under ``model`` (beside a training state, which is ignored) or at the top level; or a ``.safetensors`` of the same
names. Its configuration follows from the shapes of its tensors. A folder of a training run loads as its newest
checkpoint. A directory may have a ``vocabulary.json`` (:mod:`notagen.vocabulary`), and a ``generation_config.json``
with the model's own :class:`notagen.generation.sampling.Sampling`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from notagen.codec import PATCH_SIZE, VOCABULARY_SIZE
from notagen.generation.sampling import GENERATION_FILE, Sampling
from notagen.model import NotaGen, NotaGenConfig
from notagen.vocabulary import ANYTHING, VOCABULARY_FILE, Vocabulary
from pentatonic.checkpoint import (
    atomic_directory,
    load_tensors,
    model_directory,
    read_legacy,
    save_tensors,
)
from pentatonic.errors import CheckpointError, ConfigError, WeightsError
from pentatonic.hub import KeyMap, Released, check_state, load_state, resolve
from pentatonic.untrusted.files import local_path, read_json

_PRETRAINED = (
    "weights_notagen_pretrain_p_size_16_p_length_{}_p_layers_{}_c_layers_{}_h_size_{}_lr_{}_batch_{}.pth"
)
RELEASED_FILES: Mapping[str, str] = {
    "notagen-small": _PRETRAINED.format(2048, 12, 3, 768, 0.0002, 8),
    "notagen-medium": _PRETRAINED.format(2048, 16, 3, 1024, 0.0001, 4),
    "notagen-large": _PRETRAINED.format(1024, 20, 6, 1280, 0.0001, 4),
    "notagen-large-finetuned": "weights_notagen_pretrain-finetune_p_size_16_p_length_1024_p_layers_c_layers_6_20_"
    "h_size_1280_lr_1e-05_batch_1.pth",
    "notagen-large-rl3": "weights_notagen_pretrain-finetune-RL3_beta_0.1_lambda_10_p_size_16_p_length_1024_"
    "p_layers_20_c_layers_6_h_size_1280_lr_1e-06_batch_1.pth",
    "notagen-x": "weights_notagenx_p_size_16_p_length_1024_p_layers_20_h_size_1280.pth",
}
_LICENCE = "not stated (the original's code is MIT)"
# The repository on the hub is assumed to be named like the project. Its commit hash is not known, so these follow the
# main branch.
RELEASED: Mapping[str, Released] = {
    name: Released("ElectricAlexis/NotaGen", revision="main", licence=_LICENCE, files={file: None})
    for name, file in RELEASED_FILES.items()
}

_MAX_BYTES, _MAX_VOCABULARY_BYTES = 16 * 2**30, 64 * 2**20
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# Small trained models that come with the package.
BUNDLED: Mapping[str, Path] = {"notagen-tiny": Path(__file__).parent / "checkpoints" / "notagen-tiny"}

_UNUSED = "patch_level_decoder.base.wte.weight"  # a token table of one row, which is never read
_TABLE, _TIED = "char_level_decoder.base.transformer.wte.weight", "char_level_decoder.base.lm_head.weight"
_TRUNKS = (
    ("patch_decoder.trunk", "patch_level_decoder.base"),
    ("char_decoder.trunk", "char_level_decoder.base.transformer"),
)
_KEY_MAP = KeyMap(
    [
        ("patch_decoder.embed.weight", "patch_level_decoder.patch_embedding.weight"),
        ("patch_decoder.embed_bias", "patch_level_decoder.patch_embedding.bias"),
        ("char_decoder.embed.weight", _TABLE),
        *(
            (f"{ours}.{ours_rest}", f"{theirs}.{theirs_rest}")
            for ours, theirs in _TRUNKS
            for ours_rest, theirs_rest in (
                ("positions.weight", "wpe.weight"),
                ("blocks.{i}.norm_attention.{p}", "h.{i}.ln_1.{p}"),
                ("blocks.{i}.attention.qkv.{p}", "h.{i}.attn.c_attn.{p}"),
                ("blocks.{i}.attention.out.{p}", "h.{i}.attn.c_proj.{p}"),
                ("blocks.{i}.norm_mlp.{p}", "h.{i}.ln_2.{p}"),
                ("blocks.{i}.mlp.up.{p}", "h.{i}.mlp.c_fc.{p}"),
                ("blocks.{i}.mlp.down.{p}", "h.{i}.mlp.c_proj.{p}"),
                ("norm.{p}", "ln_f.{p}"),
            )
        ),
    ],
    # The causal masks are buffers of older files.
    drop=[_UNUSED, _TIED, "*.attn.bias", "*.attn.masked_bias"],
)
# Matrices that the two layouts store transposed: [in, out] and [out, in].
_TRANSPOSED = re.compile(r".*\.(c_attn|c_proj|c_fc|patch_embedding)\.weight")


def config_from_tensors(tensors: Mapping[str, Tensor], *, heads: int | None = None) -> NotaGenConfig:
    """Derive a configuration from the shapes of a released state dict.

    Args:
        tensors: Name, without a leading ``module.``, to tensor.
        heads: Attention heads, which do not follow from any shape; width / 64 if not given, as in all released models.

    Raises:
        WeightsError: The names or shapes are not those of this family.
    """
    table = tensors.get("patch_level_decoder.patch_embedding.weight")
    positions = tensors.get("patch_level_decoder.base.wpe.weight")
    if table is None or positions is None or table.dim() != 2 or positions.dim() != 2:
        raise WeightsError("not a NotaGen state dict: it lacks the patch embedding or the patch positions")
    width, columns = table.shape
    if columns != PATCH_SIZE * VOCABULARY_SIZE:
        raise WeightsError(
            f"the patch embedding has {columns} columns; allowed: {PATCH_SIZE} x {VOCABULARY_SIZE}, "
            "the characters of a patch times the vocabulary"
        )
    if heads is None and width % 64:
        raise WeightsError(f"width {width} is not a multiple of 64, so the number of heads must be given")
    layers = [
        {key[len(theirs) + 3 :].split(".")[0] for key in tensors if key.startswith(f"{theirs}.h.")}
        for _, theirs in _TRUNKS
    ]
    try:
        return NotaGenConfig(
            patch_layers=len(layers[0]),
            char_layers=len(layers[1]),
            width=width,
            heads=heads or width // 64,
            patch_length=positions.shape[0],
        )
    except ConfigError as error:
        raise WeightsError(f"not a NotaGen state dict: {error}") from error


def from_upstream(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a released state dict: our names, and matrices in our orientation (as views).

    Raises:
        WeightsError: A name is unknown, or the output layer differs from the character table that it should share.
    """
    if _TIED in tensors and (_TABLE not in tensors or not torch.equal(tensors[_TIED], tensors[_TABLE])):
        raise WeightsError(f"{_TIED} differs from {_TABLE}; in this family they are the same matrix")
    return _KEY_MAP.to_ours(transposed(tensors))


def to_upstream(model: NotaGen) -> dict[str, Tensor]:
    """Return the tensors in the released layout; the token table that is never read is zero."""
    theirs = transposed(_KEY_MAP.to_theirs(model.state_dict()))
    theirs[_UNUSED] = torch.zeros_like(theirs[_TABLE][:1])
    return {**theirs, _TIED: theirs[_TABLE]}


def read_released(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint of the original project: tensors by their names, without a leading ``module.``.

    Args:
        path: ``.safetensors``, or a file of ``torch.save`` with the tensors under ``model`` or at the top level.

    Raises:
        CheckpointError: The file is missing, damaged, or holds Python objects other than tensors and plain values.
    """
    if path.suffix == ".safetensors":
        tensors = load_tensors(path)
    else:
        tensors = read_legacy(path, key="model", max_bytes=_MAX_BYTES)
    return {key.removeprefix("module."): tensor for key, tensor in tensors.items()}


def load_file(path: str | Path, *, heads: int | None = None) -> NotaGen:
    """Load a model from one checkpoint file of the original project; see :func:`read_released`.

    Args:
        path: The file.
        heads: Attention heads; width / 64 if not given, as in all released models.

    Returns:
        The model on the CPU, float32, in evaluation mode.

    Raises:
        CheckpointError, WeightsError: The file cannot be used.
    """
    path = Path(path)
    tensors = read_released(path)
    return _loaded(config_from_tensors(tensors, heads=heads), from_upstream(tensors), path)


def from_pretrained(
    name_or_path: str | Path,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> NotaGen:
    """Load a model by name or path.

    Args:
        name_or_path: A key of :data:`BUNDLED` or :data:`RELEASED`, the hub id of a model in our format, a checkpoint
            file of the original project, a directory with one of those or with ``config.json`` and
            ``model.safetensors``, such as a checkpoint of ``notagen train``, or the folder of a training run (its
            newest intact checkpoint).
        revision: Branch, tag or commit of the hub.
        device: Device of the model.
        dtype: Floating type of the weights; ``None``: float32.

    Returns:
        The model in evaluation mode.

    Raises:
        HubError: There is no model of this name.
        CheckpointError, ConfigError, WeightsError: The files cannot be used.
    """
    path = local_path(name_or_path)
    if path is None or not path.is_file():
        wanted = RELEASED_FILES.get(str(name_or_path))
        patterns = [wanted] if wanted else [_CONFIG, _WEIGHTS, VOCABULARY_FILE, GENERATION_FILE]
        path = resolve(
            name_or_path, bundled=BUNDLED, released=RELEASED, allow_patterns=patterns, revision=revision
        )
        if wanted and (path / wanted).is_file():
            path = path / wanted
    model = load_file(path) if path.is_file() else _load_directory(path)
    return model.to(device=device, dtype=dtype)


def save_pretrained(
    model: NotaGen,
    directory: str | Path,
    *,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, object] = MappingProxyType({}),
    card: str | None = None,
) -> None:
    """Write ``config.json``, ``model.safetensors``, and what the model has of its own; on an error none.

    That is its vocabulary (``vocabulary.json``) and its sampling (``generation_config.json``), where they are not the
    usual ones.

    Args:
        model: The model; it stays as it is.
        directory: Replaced as a whole.
        dtype: Floating type of the stored tensors; ``None``: that of the model.
        notes: Further files: name to a value that is written as JSON.
        card: Text of a model card, which becomes ``README.md``.

    Raises:
        CheckpointError: The directory cannot be written.
    """
    write_model(
        model,
        model.config.to_dict(),
        directory,
        dtype=dtype,
        notes={**generation_notes(model), **notes},
        card=card,
    )


def write_model(
    model: nn.Module,
    config: Mapping[str, object],
    directory: str | Path,
    *,
    dtype: torch.dtype | None,
    notes: Mapping[str, object],
    card: str | None,
) -> None:
    """Write the directory of any model of this package; see :func:`save_pretrained`.

    Args:
        model: The model.
        config: Content of ``config.json``.
        directory: As there, and so are the others.
        dtype: As there.
        notes: As there.
        card: As there.
    """
    with atomic_directory(Path(directory)) as partial:
        tensors = {name: tensor.to(dtype or tensor.dtype) for name, tensor in model.state_dict().items()}
        save_tensors(partial / _WEIGHTS, tensors)
        write_notes({_CONFIG: config, **notes}, partial)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")


def write_notes(notes: Mapping[str, object], directory: Path) -> None:
    """Write values as files of JSON into a directory, by their names."""
    for name, note in notes.items():
        (directory / name).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def generation_notes(model: NotaGen) -> dict[str, object]:
    """Return what a model has of its own for generation: name of a file to a value for JSON."""
    notes: dict[str, object] = {}
    if model.vocabulary != ANYTHING:
        notes[VOCABULARY_FILE] = model.vocabulary.to_dict()
    if model.sampling != Sampling():
        notes[GENERATION_FILE] = model.sampling.to_dict()
    return notes


def write_config(config: NotaGenConfig, directory: Path) -> None:
    """Write ``config.json``, without which a directory with ``model.safetensors`` cannot be loaded."""
    write_notes({_CONFIG: config.to_dict()}, directory)


def _load_directory(directory: Path) -> NotaGen:
    directory = model_directory(directory)
    model = _load_weights(directory)
    for name, attribute, kind in (
        (VOCABULARY_FILE, "vocabulary", Vocabulary),
        (GENERATION_FILE, "sampling", Sampling),
    ):
        if (path := directory / name).is_file():
            try:
                setattr(model, attribute, kind.from_dict(read_json(path, max_bytes=_MAX_VOCABULARY_BYTES)))
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from error
    return model


def _load_weights(directory: Path) -> NotaGen:
    if (directory / _CONFIG).is_file():
        path = directory / _WEIGHTS
        return _loaded(_read_config(directory / _CONFIG), load_tensors(path), path)
    found = sorted(directory.glob("*.pth")) or sorted(directory.glob("*.safetensors"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise CheckpointError(
            f"{directory}: neither a model nor a training run; expected {_CONFIG} with {_WEIGHTS}, one file "
            f"of weights, or checkpoints/; files of weights found: {names}"
        )
    return load_file(found[0])


def _read_config(path: Path) -> NotaGenConfig:
    values = read_json(path)
    try:
        return NotaGenConfig.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _loaded(config: NotaGenConfig, tensors: Mapping[str, Tensor], path: Path) -> NotaGen:
    with torch.device("meta"):  # takes no time or memory for weights that are replaced at once
        model = NotaGen(config)
    check_state(model, tensors, what=str(path))  # before copies are made of tensors of any size
    load_state(model, {name: tensor.contiguous() for name, tensor in tensors.items()}, what=str(path))
    return model.eval()


def transposed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transpose the matrices that GPT-2 and ours store differently (as views); keys are those of released files."""
    return {
        key: tensor.t() if tensor.dim() == 2 and _TRANSPOSED.fullmatch(key) else tensor
        for key, tensor in tensors.items()
    }
