"""Load CLAP models: directories in the layout of transformers, as downloaded, safetensors only, without their code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pentatonic.errors import CheckpointError, ConfigError, UsageError, WeightsError
from pentatonic.hub import Released, resolve
from pentatonic.untrusted.files import read_json
from rc_audioldm.clap.encoder import ClapEncoder, check_text_tower
from rc_audioldm.clap.frontend import read_frontend
from rc_audioldm.clap.windows import WINDOWS
from rc_audioldm.tokenizers import load_tokenizer

_FILES: Mapping[str, str | None] = {"config.json": None, "preprocessor_config.json": None}
# The commit hashes on the hub are not known, so these follow the main branch.
RELEASED: Mapping[str, Released] = {
    f"laion/{name}": Released(repo_id=f"laion/{name}", revision="main", licence="Apache-2.0", files=_FILES)
    for name in (
        "clap-htsat-unfused",
        "clap-htsat-fused",
        "larger_clap_music",
        "larger_clap_music_and_speech",
    )
}
# Small trained models that come with the package; this one lies in the folder of the AudioLDM that hears its vectors.
BUNDLED: Mapping[str, Path] = {
    "rc-audioldm-tiny": Path(__file__).parent.parent / "checkpoints" / "rc-audioldm-tiny" / "clap"
}
_PATTERNS = ("*.json", "*.txt", "*.safetensors")


def from_pretrained(
    name_or_path: str | Path,
    revision: str | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    windows: str = "overlapped",
    random_weights: bool = False,
) -> ClapEncoder:
    """Load a CLAP model.

    Args:
        name_or_path: A bundled or released name, a hub id with a revision, or a directory with ``config.json``,
            ``preprocessor_config.json``, ``model.safetensors`` and the tokenizer's files; or that of an AudioLDM which
            has such a directory as its ``clap``.
        revision: On the hub.
        device: Where to compute.
        dtype: Number type of the weights.
        windows: Name of a convention in :data:`rc_audioldm.clap.windows.WINDOWS`.
        random_weights: The weights are random, as in tests: do not test the text tower.

    Raises:
        CollapsedTextTower: The text tower gives nearly the same vector for every text.
        CheckpointError: The weights or the tokenizer cannot be loaded.
        ConfigError: The model is not a CLAP model, or a setting is missing.
        HubError: There is no such model.
        UsageError: There is no such convention of windows.
    """
    if windows not in WINDOWS:
        raise UsageError(f"windows is {windows!r}; allowed: {', '.join(WINDOWS)}")
    folder = resolve(
        name_or_path, bundled=BUNDLED, released=RELEASED, allow_patterns=_PATTERNS, revision=revision
    )
    if not (folder / "config.json").exists() and (folder / "clap" / "config.json").is_file():
        folder = folder / "clap"
    released = RELEASED.get(str(name_or_path))
    encoder = ClapEncoder(
        _load_model(folder, dtype).to(device),
        load_tokenizer(folder),
        read_frontend(folder),
        windows=WINDOWS[windows],
        name=Path(name_or_path).name if Path(name_or_path).is_dir() else str(name_or_path),
        revision=revision or (released.revision if released else ""),
    )
    if not random_weights:
        check_text_tower(encoder, str(name_or_path))
    return encoder


def has_own_clap(model: str | Path) -> bool:
    """Whether an AudioLDM, a bundled name or a directory, has a CLAP model as its ``clap``."""
    return str(model) in BUNDLED or (Path(model) / "clap" / "config.json").is_file()


def _load_model(folder: Path, dtype: torch.dtype) -> Any:
    config = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clap":
        raise ConfigError(f"{folder / 'config.json'}: model_type is {kind!r:.80}; allowed: clap")
    from transformers import ClapModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        loaded: Any = ClapModel.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        model, found = loaded
    except Exception as error:  # of any layer below
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{folder}: cannot be loaded as a CLAP model ({type(error).__name__}: {reason})"
        ) from error
    # The library gives random values to what the file lacks.
    if missing := sorted([*found["missing_keys"], *map(str, found["mismatched_keys"])]):
        raise WeightsError(
            f"{folder}: {len(missing)} tensors are missing or of another shape: {', '.join(missing[:10])}"
        )
    return model.eval()
