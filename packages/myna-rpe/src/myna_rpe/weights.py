"""Load and save models: our format, and the files of the originals. No code of a file is executed.

Our format is ``config.json`` with ``model.safetensors``. The originals have a single file that ``torch.save`` wrote: a
state dict, a whole module, or a training state with either (:mod:`myna_rpe.pickled`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from myna_rpe.config import EncoderConfig, PatchConfig
from myna_rpe.key_map import CLAMP, from_upstream
from myna_rpe.model import MynaEncoder
from myna_rpe.original_config import original_config
from myna_rpe.pickled import PickledModel, read_pickled
from pentatonic.checkpoint import atomic_directory, load_tensors, model_directory, save_tensors
from pentatonic.errors import ConfigError, UsageError
from pentatonic.hub import Released, check_state, load_state, resolve
from pentatonic.untrusted.files import local_path, read_json

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# The part of a training checkpoint that is the model; see :mod:`myna_rpe.training.objective`.
_ENCODER = "encoder."
ORIGINAL_SUFFIXES = (".pt", ".pth", ".ckpt")
"""Suffixes of files of the originals."""

# The commit hashes on the hub are not known, so these follow the main branch; the files were never inspected.
RELEASED: Mapping[str, Released] = {
    f"rpecl-{form}": Released(
        repo_id="m-a-a-p/RPECL", revision="main", licence="not stated", files={_file: None}
    )
    for form, _file in (
        ("2d-alibi", "first_training_set/2d_alibi_Epoch-511.pt"),
        ("1d-alibi", "first_training_set/1d_alibi_Epoch-511.pt"),
    )
}
BUNDLED: Mapping[str, Path] = {"myna-rpe-tiny": Path(__file__).parent / "checkpoints" / "myna-rpe-tiny"}


_FIRST, _SECOND = "to_patch_embedding.", "to_patch_embedding_b."


def read_original(path: str | Path, *, swap_patches: bool = False) -> PickledModel:
    """Read a checkpoint of an original program, without running code of it.

    Args:
        path: The file, or a ``.safetensors`` with the original's names.
        swap_patches: Exchange the names of the two patch embeddings: the original exchanges them in what it saves after
            training with its option ``--use_other_patch_size``. Shapes cannot tell.

    Raises:
        CheckpointError: The file cannot be read.
    """
    path = Path(path)
    found = PickledModel(load_tensors(path)) if path.suffix == ".safetensors" else read_pickled(path)
    if not swap_patches:
        return found
    other = {_FIRST: _SECOND, _SECOND: _FIRST}

    def swapped(name: str) -> str:
        start = next((each for each in other if name.startswith(each)), None)
        return name if start is None else other[start] + name.removeprefix(start)

    return PickledModel({swapped(name): value for name, value in found.tensors.items()}, found.attributes)


def load_original(
    path: str | Path,
    *,
    mode: str | None = None,
    patch: PatchConfig | None = None,
    train_frames: int | None = None,
    features_only: bool = False,
    swap_patches: bool = False,
) -> MynaEncoder:
    """Load a checkpoint of an original program.

    Args:
        path: The file, or a ``.safetensors`` with the original's names.
        mode: Position mode, see :func:`myna_rpe.original_config.original_config`.
        patch: The patches, likewise.
        train_frames: Frames of the crops of training, likewise.
        features_only: Leave out the head, which Myna throws away after training.
        swap_patches: Exchange the two patch embeddings, see :func:`read_original`.

    Returns:
        The model in evaluation mode.

    Raises:
        UsageError: There is no such position mode.
        CheckpointError: The file cannot be read.
        ConfigError, WeightsError: Its tensors make no model of this family.
    """
    path = Path(path)
    found = read_original(path, swap_patches=swap_patches)
    if features_only:
        kept = {key: value for key, value in found.tensors.items() if not key.startswith("linear_head")}
        found = PickledModel(kept, found.attributes)
    config = original_config(found, mode=mode, patch=patch, train_frames=train_frames)
    tensors = from_upstream(found.tensors)
    clamp = config.positions.clamp
    if clamp is None or not clamp.learned:  # the mode leaves unused what the file holds
        tensors = {name: value for name, value in tensors.items() if name not in CLAMP}
    return _loaded(config, tensors, path)


def load_directory(directory: str | Path) -> MynaEncoder:
    """Load a model in our format; of a folder of a training run, the newest checkpoint.

    Raises:
        ConfigError: The configuration is missing or wrong.
        CheckpointError: The weights are missing or damaged.
        WeightsError: They do not fit the configuration.
    """
    folder = model_directory(Path(directory))
    config_path = folder / _CONFIG
    values = read_json(config_path)
    try:
        config = EncoderConfig.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{config_path}: {error}") from error
    weights = folder / _WEIGHTS
    tensors = load_tensors(weights)
    if any(name.startswith(_ENCODER) for name in tensors):
        tensors = {
            name.removeprefix(_ENCODER): value for name, value in tensors.items() if name.startswith(_ENCODER)
        }
    return _loaded(config, tensors, weights)


def from_pretrained(
    name_or_path: str | Path,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    mode: str | None = None,
) -> MynaEncoder:
    """Load a model by name or path.

    Args:
        name_or_path: A released model (``rpecl-2d-alibi``, ``rpecl-1d-alibi``), a directory in our format, the folder
            of a training run, or a file of the originals.
        revision: Branch, tag or commit of the hub.
        device: Device of the model.
        dtype: Floating type; ``None``: float32.
        mode: Position mode of a file of the originals, see :func:`load_original`.

    Returns:
        The model in evaluation mode.

    Raises:
        HubError: There is no model of this name.
        UsageError: A position mode is given for a model whose configuration says it.
        ConfigError, CheckpointError, WeightsError: Its files cannot be used.
    """
    path = local_path(name_or_path)
    if path is None:
        released = RELEASED.get(str(name_or_path))
        patterns = list(released.files) if released else [_CONFIG, _WEIGHTS]
        path = resolve(
            name_or_path, bundled=BUNDLED, released=RELEASED, allow_patterns=patterns, revision=revision
        )
        path = path / patterns[0] if released else path
    if path.is_file() and path.suffix in (*ORIGINAL_SUFFIXES, ".safetensors") and path.name != _WEIGHTS:
        model = load_original(path, mode=mode)
    elif mode is not None:
        raise UsageError(f"{name_or_path}: its configuration says the position mode; give none")
    else:
        model = load_directory(path if path.is_dir() else path.parent)
    return model.to(device=device, dtype=dtype)


def save_pretrained(model: MynaEncoder, directory: str | Path, *, card: str | None = None) -> None:
    """Write a model in our format; an existing model is replaced as a whole.

    Args:
        model: The model.
        directory: Where to.
        card: Text of a model card, ``README.md``.

    Raises:
        CheckpointError: The directory cannot be written.
    """
    with atomic_directory(directory) as folder:
        text = json.dumps(model.config.to_dict(), indent=1)
        (folder / _CONFIG).write_text(f"{text}\n", encoding="utf-8")
        save_tensors(folder / _WEIGHTS, model.state_dict())
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")


def _loaded(config: EncoderConfig, tensors: Mapping[str, Tensor], path: Path) -> MynaEncoder:
    with torch.device("meta"):  # takes no time or memory for weights that are replaced at once
        shell = MynaEncoder(config)
    check_state(shell, tensors, what=str(path))
    model = MynaEncoder(config)  # slopes are a formula, and not among the weights
    load_state(model, dict(tensors), what=str(path))
    return model.eval()
