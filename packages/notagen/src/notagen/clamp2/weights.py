"""Load and save the encoders: our format, and the released files as downloaded. No code of a file is executed.

Our format is ``config.json`` with ``model.safetensors``. A released file is a ``.pth`` that holds the tensors under
``model`` beside the state of its training, which is ignored; or a ``.safetensors`` of the same names. Sizes follow from
the shapes of its tensors; the number of heads does not, and is ``width / 64`` as in all released files unless given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from notagen.clamp2.config import (
    PADDING_TOKEN,
    ClampConfig,
    EncoderConfig,
    Family,
    M3Config,
    PatchDecoderConfig,
    TextConfig,
)
from notagen.clamp2.model import M3, Clamp
from notagen.clamp2.patches import PATCH_SIZE, VOCABULARY_SIZE
from notagen.weights import read_released, transposed, write_model, write_notes
from pentatonic.checkpoint import (
    load_tensors,
    model_directory,
)
from pentatonic.errors import CheckpointError, ConfigError, UsageError, WeightsError
from pentatonic.hub import KeyMap, Released, check_state, load_state, resolve
from pentatonic.untrusted.files import local_path, read_json

_Model = TypeVar("_Model", Clamp, M3)
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_TEXT_LENGTH = 128  # most tokens of a window in the released models

_CLAMP3 = (
    "weights_clamp3_{}_h_size_768_t_model_FacebookAI_xlm-roberta-base_t_length_128_a_size_768_a_layers_12_"
    "a_length_128_s_size_768_s_layers_12_p_size_64_p_length_512.pth"
)
RELEASED_FILES: Mapping[str, str] = {
    "m3": "weights_m3_p_size_64_p_length_512_t_layers_3_p_layers_12_h_size_768_lr_0.0001_batch_16_mask_0.45.pth",
    "clamp2": "weights_clamp2_h_size_768_lr_5e-05_batch_128_scale_1_t_length_128_t_model_FacebookAI_xlm-roberta-base_"
    "t_dropout_True_m3_True.pth",
    "clamp3-saas": _CLAMP3.format("saas"),
    "clamp3-c2": _CLAMP3.format("c2"),
}
# The repositories on the hub are assumed to be named like the projects. Their commit hashes are not known, so these
# follow the main branch.
RELEASED: Mapping[str, Released] = {
    name: Released(
        "sander-wood/clamp3" if name.startswith("clamp3") else "sander-wood/clamp2",
        revision="main",
        licence="not stated (the original's code is MIT)",
        files={file: None},
    )
    for name, file in RELEASED_FILES.items()
}
BUNDLED: Mapping[str, Path] = {"notagen-scorer": Path(__file__).parents[1] / "checkpoints" / "notagen-scorer"}
"""Small trained encoders that come with the package."""


def _bert(ours: str, theirs: str) -> list[tuple[str, str]]:
    """Rules of one encoder of vectors."""
    layer = (
        ("query.{p}", "attention.self.query.{p}"),
        ("key.{p}", "attention.self.key.{p}"),
        ("value.{p}", "attention.self.value.{p}"),
        ("out.{p}", "attention.output.dense.{p}"),
        ("norm_attention.{p}", "attention.output.LayerNorm.{p}"),
        ("up.{p}", "intermediate.dense.{p}"),
        ("down.{p}", "output.dense.{p}"),
        ("norm_mlp.{p}", "output.LayerNorm.{p}"),
    )
    return [
        (f"{ours}.positions.weight", f"{theirs}.embeddings.position_embeddings.weight"),
        (f"{ours}.kinds.weight", f"{theirs}.embeddings.token_type_embeddings.weight"),
        (f"{ours}.norm.{{p}}", f"{theirs}.embeddings.LayerNorm.{{p}}"),
        *((f"{ours}.layers.{{i}}.{a}", f"{theirs}.encoder.layer.{{i}}.{b}") for a, b in layer),
    ]


def _music(ours: str, theirs: str) -> list[tuple[str, str]]:
    """Rules of one music encoder."""
    return [
        (f"{ours}.embed.weight", f"{theirs}.patch_embedding.weight"),
        (f"{ours}.embed_bias", f"{theirs}.patch_embedding.bias"),
        *_bert(f"{ours}.trunk", f"{theirs}.base"),
    ]


def _same(ours: str, theirs: str, names: Iterable[str]) -> list[tuple[str, str]]:
    return [(f"{ours}.{name}", f"{theirs}.{name}") for name in names]


_TEXT_NAMES = (
    "embeddings.{a}.{p}",
    "encoder.layer.{i}.{a}.{b}.{p}",
    "encoder.layer.{i}.{a}.{b}.{c}.{p}",
)
_TABLE, _TIED = "decoder.base.transformer.wte.weight", "decoder.base.lm_head.weight"
_DECODER = "decoder.base.transformer"


def _unused(*encoders: str) -> list[str]:
    """Names that exist in released files and reach no output: poolers, and word tables of one row."""
    words = [f"{encoder}.embeddings.word_embeddings.weight" for encoder in encoders]
    return [*words, "*.pooler.dense.weight", "*.pooler.dense.bias", "*.embeddings.position_ids"]


@dataclass(frozen=True)
class _Layout:
    """Names of the parts of a released file."""

    music: str
    music_projection: str
    text: str | None = None
    audio: str | None = None


_LAYOUTS: Mapping[Family, _Layout] = {
    "clamp2": _Layout("music_model", "music_proj", "text_model"),
    "clamp3": _Layout("symbolic_model", "symbolic_proj", "text_model", "audio_model"),
}
_M3_MAP = KeyMap(
    [
        *_music("encoder", "encoder"),
        ("decoder.embed.weight", _TABLE),
        ("decoder.trunk.positions.weight", f"{_DECODER}.wpe.weight"),
        ("decoder.trunk.blocks.{i}.norm_attention.{p}", f"{_DECODER}.h.{{i}}.ln_1.{{p}}"),
        ("decoder.trunk.blocks.{i}.attention.qkv.{p}", f"{_DECODER}.h.{{i}}.attn.c_attn.{{p}}"),
        ("decoder.trunk.blocks.{i}.attention.out.{p}", f"{_DECODER}.h.{{i}}.attn.c_proj.{{p}}"),
        ("decoder.trunk.blocks.{i}.norm_mlp.{p}", f"{_DECODER}.h.{{i}}.ln_2.{{p}}"),
        ("decoder.trunk.blocks.{i}.mlp.up.{p}", f"{_DECODER}.h.{{i}}.mlp.c_fc.{{p}}"),
        ("decoder.trunk.blocks.{i}.mlp.down.{p}", f"{_DECODER}.h.{{i}}.mlp.c_proj.{{p}}"),
        ("decoder.trunk.norm.{p}", f"{_DECODER}.ln_f.{{p}}"),
    ],
    drop=[_TIED, "*.attn.bias", "*.attn.masked_bias", *_unused("encoder.base")],
)
_CLAMP_MAPS: Mapping[Family, KeyMap] = {
    "clamp2": KeyMap(
        [
            *_music("music", "music_model"),
            ("music_projection.{p}", "music_proj.{p}"),
            *_same("text", "text_model", _TEXT_NAMES),
            ("text_projection.{p}", "text_proj.{p}"),
        ],
        drop=_unused("music_model.base"),
    ),
    "clamp3": KeyMap(
        [
            *_music("music", "symbolic_model"),
            ("music_projection.{p}", "symbolic_proj.{p}"),
            *_same("text", "text_model", _TEXT_NAMES),
            ("text_projection.{p}", "text_proj.{p}"),
            *_bert("audio", "audio_model"),
            ("audio_projection.{p}", "audio_proj.{p}"),
        ],
        drop=_unused("symbolic_model.base", "audio_model"),
    ),
}


def family_of(tensors: Mapping[str, Tensor]) -> Family | None:
    """Whose released state dict it is, by the names of its music encoder; None: neither CLaMP 2 nor 3."""
    for family, layout in _LAYOUTS.items():
        if f"{layout.music}.patch_embedding.weight" in tensors:
            return family
    return None


def music_only(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep of a released state dict what embedding music takes.

    Raises:
        WeightsError: It is neither CLaMP 2 nor 3.
    """
    family = family_of(tensors)
    if family is None:
        raise WeightsError("not a CLaMP 2 or 3 state dict: it lacks the patch embedding of its music encoder")
    layout = _LAYOUTS[family]
    kept = (f"{layout.music}.", f"{layout.music_projection}.")
    return {key: tensor for key, tensor in tensors.items() if key.startswith(kept)}


def clamp_config(tensors: Mapping[str, Tensor], *, heads: int | None = None) -> ClampConfig:
    """Derive a configuration from the shapes of a released state dict.

    Args:
        tensors: Name to tensor.
        heads: Attention heads of all encoders; each one's width / 64 if not given.

    Raises:
        WeightsError: The names or shapes are not those of this family.
    """
    family = family_of(tensors)
    if family is None:
        raise WeightsError("not a CLaMP 2 or 3 state dict: it lacks the patch embedding of its music encoder")
    layout = _LAYOUTS[family]
    _check_patches(tensors, f"{layout.music}.patch_embedding.weight")
    projection = _matrix(tensors, f"{layout.music_projection}.weight")
    text = layout.text if any(key.startswith(f"{layout.text}.") for key in tensors) else None
    audio = (
        layout.audio if layout.audio and any(key.startswith(f"{layout.audio}.") for key in tensors) else None
    )
    try:
        return ClampConfig(
            family=family,
            projection=projection.shape[0],
            music=_encoder_config(tensors, f"{layout.music}.base", heads),
            text=None if text is None else _text_config(tensors, text, heads),
            audio=None if audio is None else _encoder_config(tensors, audio, heads),
        )
    except ConfigError as error:
        raise WeightsError(f"not a CLaMP 2 or 3 state dict: {error}") from error


def m3_config(tensors: Mapping[str, Tensor], *, heads: int | None = None) -> M3Config:
    """Derive the configuration of M3 from the shapes of a released state dict; see :func:`clamp_config`."""
    _check_patches(tensors, "encoder.patch_embedding.weight")
    width = _matrix(tensors, _TABLE).shape[1]
    try:
        return M3Config(
            encoder=_encoder_config(tensors, "encoder.base", heads),
            decoder=PatchDecoderConfig(
                layers=_count_layers(tensors, f"{_DECODER}.h."),
                width=width,
                heads=_heads(width, heads, _TABLE),
            ),
        )
    except ConfigError as error:
        raise WeightsError(f"not an M3 state dict: {error}") from error


def clamp_from_upstream(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Translate a released state dict of CLaMP 2 or 3 to our names and orientation (as views).

    Raises:
        WeightsError: A name is unknown.
    """
    return _CLAMP_MAPS[family].to_ours(transposed(tensors))


def m3_from_upstream(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a released state dict of M3 to our names and orientation (as views).

    Raises:
        WeightsError: A name is unknown, or the output layer differs from the character table that it should share.
    """
    if _TIED in tensors and (_TABLE not in tensors or not torch.equal(tensors[_TIED], tensors[_TABLE])):
        raise WeightsError(f"{_TIED} differs from {_TABLE}; in this family they are the same matrix")
    return _M3_MAP.to_ours(transposed(tensors))


def load_clamp(path: str | Path, *, config: ClampConfig | None = None, heads: int | None = None) -> Clamp:
    """Load CLaMP 2 or 3 from one checkpoint file of the original projects; see :func:`notagen.weights.read_released`.

    Args:
        path: The file.
        config: Sizes, where they do not follow from the shapes. Parts that it leaves out are not loaded.
        heads: Attention heads; width / 64 if not given.

    Returns:
        The model on the CPU, float32, in evaluation mode.

    Raises:
        CheckpointError, WeightsError: The file cannot be used.
    """
    path = Path(path)
    tensors = read_released(path)
    config = config or clamp_config(tensors, heads=heads)
    state = clamp_from_upstream(tensors, config.family)
    for part in ("text", "audio"):
        if getattr(config, part) is None:
            state = {
                key: value for key, value in state.items() if not key.startswith((f"{part}.", f"{part}_"))
            }
    return _loaded(partial(Clamp, config), state, path)


def load_m3(path: str | Path, *, config: M3Config | None = None, heads: int | None = None) -> M3:
    """Load M3 from one checkpoint file of the original project; see :func:`load_clamp`."""
    path = Path(path)
    tensors = read_released(path)
    return _loaded(partial(M3, config or m3_config(tensors, heads=heads)), m3_from_upstream(tensors), path)


def from_pretrained(
    name_or_path: str | Path,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    music_only: bool = False,
) -> Clamp:
    """Load CLaMP 2 or 3 by name or path.

    Args:
        name_or_path: A key of :data:`BUNDLED` or :data:`RELEASED` (but ``m3``, see :func:`load_m3`), a checkpoint file
            of the original projects, or a directory with one of those or with ``config.json`` and
            ``model.safetensors``.
        revision: Branch, tag or commit of the hub.
        device: Device of the model.
        dtype: Floating type of the weights; ``None``: float32.
        music_only: Leave the encoders of text and audio out, which embedding music does not need.

    Returns:
        The model in evaluation mode.

    Raises:
        HubError: There is no model of this name.
        CheckpointError, ConfigError, WeightsError: The files cannot be used.
        MissingExtra: The model has a text encoder, and transformers is not installed.
    """
    path = find(name_or_path, revision)
    if path.is_file():
        model = _clamp_of(read_released(path), path, music_only=music_only)
    else:
        model = _our_clamp(_read_config(path), path, music_only=music_only)
    return model.to(device=device, dtype=dtype)


def load_encoder(
    name_or_path: str | Path,
    revision: str | None = None,
    *,
    music_only: bool = False,
    heads: int | None = None,
) -> Clamp | M3:
    """Load what a name or path stands for: M3, CLaMP 2 or CLaMP 3.

    Args:
        name_or_path: As for :func:`from_pretrained`, ``m3`` too.
        revision: As there.
        music_only: As there.
        heads: Attention heads of a checkpoint file; width / 64 if not given.

    Raises:
        UsageError: The heads of a directory are given, which says them itself.
        PentatonicError: As for :func:`from_pretrained`.
    """
    path = find(name_or_path, revision)
    if path.is_file():
        tensors = read_released(path)
        if family_of(tensors) is None and "encoder.patch_embedding.weight" in tensors:
            return _m3_of(tensors, path, heads=heads)
        return _clamp_of(tensors, path, heads=heads, music_only=music_only)
    if heads is not None:
        raise UsageError(f"{path / _CONFIG} says the number of heads; leave it out")
    values = _read_config(path)
    if isinstance(values, Mapping) and "decoder" in values:
        return _our_m3(values, path)
    return _our_clamp(values, path, music_only=music_only)


def convert(
    checkpoint: str | Path,
    out: str | Path,
    *,
    music_only: bool = False,
    heads: int | None = None,
    half: bool = False,
) -> Path:
    """Write a model directory from a checkpoint of the original projects, without the state of its training.

    Args:
        checkpoint: File or directory of M3, CLaMP 2 or 3, or a name; see :func:`from_pretrained`.
        out: Directory to write, replaced as a whole.
        music_only: Leave out the encoders of text and audio.
        heads: Attention heads of all encoders; width / 64 if not given.
        half: Store float16.

    Returns:
        ``out``.

    Raises:
        UsageError: ``music_only`` with M3, which has no other encoders, or ``heads`` with a directory that says them.
        PentatonicError: As for :func:`from_pretrained`.
    """
    model = load_encoder(checkpoint, music_only=music_only, heads=heads)
    if isinstance(model, M3) and music_only:
        raise UsageError(
            f"{checkpoint} is M3, which has no encoders but that of music; leave --music-only out"
        )
    save_pretrained(model, out, dtype=torch.float16 if half else None)
    return Path(out)


def m3_from_pretrained(name_or_path: str | Path = "m3", revision: str | None = None) -> M3:
    """Load M3 by name or path; see :func:`from_pretrained`."""
    path = find(name_or_path, revision)
    if path.is_file():
        return load_m3(path)
    return _our_m3(_read_config(path), path)


def find(name_or_path: str | Path, revision: str | None = None) -> Path:
    """The checkpoint file, or the directory in our format, that a name or path stands for.

    Raises:
        HubError: There is no model of this name.
        CheckpointError: A directory holds neither.
    """
    path = local_path(name_or_path)
    if path is None or not path.is_file():
        wanted = RELEASED_FILES.get(str(name_or_path))
        patterns = [wanted] if wanted else [_CONFIG, _WEIGHTS]
        path = resolve(
            name_or_path, bundled=BUNDLED, released=RELEASED, allow_patterns=patterns, revision=revision
        )
        if wanted and (path / wanted).is_file():
            return path / wanted
    if path.is_file():
        return path
    path = model_directory(path)
    if (path / _CONFIG).is_file():
        return path
    found = sorted(path.glob("*.pth")) or sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CheckpointError(
            f"{path}: no encoder; expected {_CONFIG} with {_WEIGHTS}, or one file of weights; found: {names}"
        )
    return found[0]


def save_pretrained(
    model: Clamp | M3,
    directory: str | Path,
    *,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, object] = MappingProxyType({}),
    card: str | None = None,
) -> None:
    """Write ``config.json`` and ``model.safetensors``; on an error neither.

    Args:
        model: The model; it stays as it is.
        directory: Replaced as a whole.
        dtype: Floating type of the stored tensors; ``None``: that of the model.
        notes: Further files: name to a value that is written as JSON.
        card: Text of a model card, which becomes ``README.md``.

    Raises:
        CheckpointError: The directory cannot be written.
    """
    write_model(model, model.config.to_dict(), directory, dtype=dtype, notes=notes, card=card)


def write_config(config: ClampConfig | M3Config, directory: Path) -> None:
    """Write ``config.json``, without which a directory with ``model.safetensors`` cannot be loaded."""
    write_notes({_CONFIG: config.to_dict()}, directory)


def _read_config(directory: Path) -> object:
    return read_json(directory / _CONFIG)


def _our_clamp(values: object, path: Path, *, music_only: bool) -> Clamp:
    path = path / _WEIGHTS
    return _chosen_parts(ClampConfig.from_dict(values), load_tensors(path), path, music_only=music_only)


def _our_m3(values: object, path: Path) -> M3:
    return _loaded(partial(M3, M3Config.from_dict(values)), load_tensors(path / _WEIGHTS), path)


def _m3_of(tensors: Mapping[str, Tensor], path: Path, *, heads: int | None = None) -> M3:
    config = m3_config(tensors, heads=heads)
    return _loaded(partial(M3, config), m3_from_upstream(tensors), path)


def _clamp_of(
    tensors: Mapping[str, Tensor], path: Path, *, heads: int | None = None, music_only: bool = False
) -> Clamp:
    """Build CLaMP 2 or 3 from a released state dict."""
    config = clamp_config(tensors, heads=heads)
    return _chosen_parts(config, clamp_from_upstream(tensors, config.family), path, music_only=music_only)


def _chosen_parts(config: ClampConfig, state: Mapping[str, Tensor], path: Path, *, music_only: bool) -> Clamp:
    if music_only:
        config = replace(config, text=None, audio=None)
        state = {
            key: value for key, value in state.items() if key.startswith(("music.", "music_projection."))
        }
    return _loaded(partial(Clamp, config), state, path)


def _loaded(model_of: Callable[[], _Model], tensors: Mapping[str, Tensor], path: Path) -> _Model:
    with torch.device("meta"):  # takes no time or memory for weights that are replaced at once
        model = model_of()
    check_state(model, tensors, what=str(path))  # before copies are made of tensors of any size
    _fill_buffers(model)
    load_state(model, {name: tensor.contiguous() for name, tensor in tensors.items()}, what=str(path))
    return model.eval()


def _fill_buffers(model: nn.Module) -> None:
    """Compute the buffers of transformers' text encoder that no file holds: numbers of positions, and zeros."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                zeros = torch.zeros(buffer.shape, dtype=buffer.dtype)
                value = zeros + torch.arange(buffer.shape[-1]) if name == "position_ids" else zeros
                module.register_buffer(name, value, persistent=False)


def _encoder_config(tensors: Mapping[str, Tensor], prefix: str, heads: int | None) -> EncoderConfig:
    positions = f"{prefix}.embeddings.position_embeddings.weight"
    length, width = _matrix(tensors, positions).shape
    return EncoderConfig(
        layers=_count_layers(tensors, f"{prefix}.encoder.layer."),
        width=width,
        heads=_heads(width, heads, positions),
        mlp_width=_matrix(tensors, f"{prefix}.encoder.layer.0.intermediate.dense.weight").shape[0],
        length=length,
    )


def _text_config(tensors: Mapping[str, Tensor], prefix: str, heads: int | None) -> TextConfig:
    words = f"{prefix}.embeddings.word_embeddings.weight"
    vocabulary, width = _matrix(tensors, words).shape
    positions = _matrix(tensors, f"{prefix}.embeddings.position_embeddings.weight").shape[0]
    return TextConfig(
        vocabulary=vocabulary,
        layers=_count_layers(tensors, f"{prefix}.encoder.layer."),
        width=width,
        heads=_heads(width, heads, words),
        mlp_width=_matrix(tensors, f"{prefix}.encoder.layer.0.intermediate.dense.weight").shape[0],
        positions=positions,
        length=min(_TEXT_LENGTH, positions - PADDING_TOKEN - 1),
    )


def _check_patches(tensors: Mapping[str, Tensor], key: str) -> None:
    if (columns := _matrix(tensors, key).shape[1]) != PATCH_SIZE * VOCABULARY_SIZE:
        raise WeightsError(
            f"{key} has {columns} columns; allowed: {PATCH_SIZE} x {VOCABULARY_SIZE}, the characters of a patch times "
            "the vocabulary"
        )


def _matrix(tensors: Mapping[str, Tensor], key: str) -> Tensor:
    tensor = tensors.get(key)
    if tensor is None or tensor.dim() != 2:
        raise WeightsError(f"not a state dict of this family: it lacks the matrix {key}")
    return tensor


def _heads(width: int, heads: int | None, key: str) -> int:
    if heads is None and width % 64:
        raise WeightsError(f"{key} is {width} wide, no multiple of 64, so the number of heads must be given")
    return heads or width // 64


def _count_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)})
