"""``myna-rpe export`` and ``convert``: write a model as a directory that loads anywhere, with a model card."""

from __future__ import annotations

from pathlib import Path

import torch

from myna_rpe.config import PatchConfig
from myna_rpe.describe import describe
from myna_rpe.model import MynaEncoder
from myna_rpe.weights import from_pretrained, load_directory, load_original, save_pretrained
from pentatonic.model_card import Training, model_card, read_training


def export(source: str | Path, out: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write the model of a training run, or any other model, and load it again as a check.

    Args:
        source: Whatever :func:`myna_rpe.from_pretrained` loads, such as a run folder, of which the newest checkpoint is
            taken.
        out: Directory to write; replaced as a whole.
        dtype: Floating type of the stored tensors.

    Returns:
        ``out``.

    Raises:
        HubError, ConfigError, CheckpointError, WeightsError: There is no usable model at ``source``.
    """
    return _write(from_pretrained(source), Path(out), read_training(source), dtype)


def convert(
    file: str | Path,
    out: str | Path,
    *,
    mode: str | None = None,
    patch: PatchConfig | None = None,
    train_frames: int | None = None,
    features_only: bool = False,
    swap_patches: bool = False,
) -> Path:
    """Write a checkpoint of the original as a directory in our format, without running code of the file.

    Args:
        file: The checkpoint.
        out: Directory to write; replaced as a whole.
        mode: As :func:`myna_rpe.weights.load_original`.
        patch: As :func:`myna_rpe.weights.load_original`.
        train_frames: As :func:`myna_rpe.weights.load_original`.
        features_only: As :func:`myna_rpe.weights.load_original`.
        swap_patches: As :func:`myna_rpe.weights.load_original`.

    Returns:
        ``out``.

    Raises:
        UsageError: There is no such position mode.
        ConfigError, CheckpointError, WeightsError: The checkpoint cannot be read.
    """
    model = load_original(
        file,
        mode=mode,
        patch=patch,
        train_frames=train_frames,
        features_only=features_only,
        swap_patches=swap_patches,
    )
    return _write(model, Path(out), Training(), torch.float32)


def _write(model: MynaEncoder, out: Path, training: Training, dtype: torch.dtype) -> Path:
    card = card_of(model, training, name=out.name, dtype=dtype)
    save_pretrained(model.to(dtype), out, card=card)
    load_directory(out)
    return out


def card_of(model: MynaEncoder, training: Training, *, name: str, dtype: torch.dtype = torch.float32) -> str:
    """Write the card of a model; see :func:`pentatonic.model_card.model_card`."""
    about = describe(model.config)
    return model_card(
        name,
        package="myna-rpe",
        task="feature-extraction",
        tags=("music", "audio", "embeddings"),
        about="Embeddings of whole tracks by masked contrastive learning (Myna, arXiv 2502.12511, and Myna-RPE).",
        example=f"""
from myna_rpe import embed_file, from_pretrained

model = from_pretrained("{name}")
vector = embed_file(model, "song.mp3")
print(vector.shape)  # ({about["embedding_size"]},)
""",
        facts={
            "front end": f"{about['frontend']}, mono, {about['sample_rate']} Hz, "
            f"{about['frames_per_second']:g} frames a second",
            "patches": ", ".join(about["patches"]),
            "layers / width / heads": f"{about['layers']} / {about['width']} / {model.config.heads}",
            "positions": ", ".join(about["positions"]),
            "a whole track in one pass": "yes" if about["whole_tracks"] else "no, in chunks",
            "embedding": f"{about['embedding_size']} values",
            "parameters": f"{about['parameters']:,}",
            "weights": str(dtype).removeprefix("torch."),
        },
        training=training,
        quality="""
Not measured by the export. Compare with log-mel statistics and an untrained network on recordings that it never saw.
""",
    )
