"""``omar-rq export``: a training checkpoint becomes a model that can be loaded anywhere.

Two formats: ours (``config.json`` and ``model.safetensors``) and the original's (``config.gin`` and ``model.ckpt``
with the original's tensor names), which the original project's loader reads. Both get a model card.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from omar_rq.card import model_card, read_training
from omar_rq.config import ModelConfig
from omar_rq.gin import write_gin
from omar_rq.model import OmarRQ
from omar_rq.weights import load_directory, save_pretrained, to_upstream
from pentatonic.checkpoint import atomic_directory, load_tensors, newest_verified
from pentatonic.errors import CheckpointError, UsageError
from pentatonic.hub import load_state

FORMATS = ("safetensors", "upstream")


def find_checkpoint(path: Path) -> Path:
    """Return ``path`` when it is a checkpoint, or the newest verified checkpoint of a run folder.

    Raises:
        CheckpointError: There is none.
    """
    if (path / "model.safetensors").is_file():
        return path
    newest, rejected = newest_verified(path / "checkpoints")
    if newest is None:
        reasons = "".join(f"; rejected: {error}" for error in rejected)
        raise CheckpointError(f"{path} is neither a checkpoint nor a run with a complete checkpoint{reasons}")
    return newest


def load_trained(checkpoint: Path) -> OmarRQ:
    """Build the encoder of a training checkpoint."""
    described = checkpoint / "config.json"
    if not described.is_file():
        raise CheckpointError(f"{described} is missing; is this a checkpoint of `omar-rq train`?")
    config = ModelConfig.from_dict(json.loads(described.read_text(encoding="utf-8")))
    model = OmarRQ(config)
    tensors = load_tensors(checkpoint / "model.safetensors")
    encoder = {
        key.removeprefix("encoder."): tensor for key, tensor in tensors.items() if key.startswith("encoder.")
    }
    load_state(model, encoder, what=f"encoder of {checkpoint}")
    return model.eval()


def export(
    checkpoint: Path, out: Path, *, format: str = "safetensors", dtype: torch.dtype = torch.float32
) -> Path:
    """Write the encoder of a checkpoint or run folder to ``out``, and load it again as a check.

    Args:
        checkpoint: A ``step-…`` folder, or a run folder (its newest verified checkpoint is taken).
        out: Folder to write; replaced as a whole.
        format: ``safetensors`` or ``upstream``.
        dtype: Floating type of the stored tensors.

    Returns:
        ``out``.

    Raises:
        UsageError: Unknown format.
        CheckpointError: There is no usable checkpoint.
    """
    found = find_checkpoint(checkpoint)
    model = load_trained(found)
    card = model_card(model, read_training(found), name=out.name, dtype=dtype)
    write_model(model, out, format=format, dtype=dtype, card=card)
    return out


def write_model(
    model: OmarRQ,
    out: Path,
    *,
    format: str = "safetensors",
    dtype: torch.dtype = torch.float32,
    card: str | None = None,
) -> None:
    """Write a model in either format, and load it again as a check; arguments as :func:`export`.

    ``card`` is the text of the model card; ``None``: there is none.
    """
    if format not in FORMATS:
        raise UsageError(f"format is {format!r}; allowed: {', '.join(FORMATS)}")
    model = model.to(dtype)
    if format == "safetensors":
        save_pretrained(model, out, card=card)
    else:
        with atomic_directory(out) as folder:
            (folder / "config.gin").write_text(write_gin(model.config))
            torch.save(to_upstream(model), folder / "model.ckpt")
            if card is not None:
                (folder / "README.md").write_text(card, encoding="utf-8")
    load_directory(out)
