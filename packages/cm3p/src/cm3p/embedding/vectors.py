"""Windows of maps to one vector per map: the mean of the windows' unit vectors, of norm 1 again.

Shapes: B windows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cm3p.inference.batches import run_windows
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import EncodedMap, window_text
from cm3p.model import CM3PBeatmapModelWithProjection, CM3PModel
from pentatonic.errors import InputError, UsageError
from pentatonic.search import VectorHeader


def vector_header(loaded: LoadedModel, *, with_audio: bool) -> VectorHeader:
    """Say what makes the vectors of a model, so that they never mix with others.

    Raises:
        UsageError: The model has no space that maps and metadata share.
    """
    model = loaded.model
    if not isinstance(model, CM3PModel | CM3PBeatmapModelWithProjection):
        raise UsageError(
            f"{loaded.name} is a {type(model).__name__}, which has no embeddings; allowed: CM3PModel, "
            "CM3PBeatmapModelWithProjection"
        )
    return VectorHeader(
        model_hash=loaded.model_hash,
        frontend="beatmap and audio" if with_audio else "beatmap",
        windows=window_text(loaded.processor),
        pooling="mean of unit vectors",
        dimension=model.config.projection_dim,
    )


def window_vectors(loaded: LoadedModel, maps: Sequence[EncodedMap], batch_size: int) -> list[Tensor]:
    """Embed the windows of some maps; each map's are (W, D) float32 of norm 1."""
    model = loaded.model

    def forward(ids: Tensor, features: Tensor | None, mask: Tensor) -> Tensor:
        if isinstance(model, CM3PModel):
            vectors = model.get_beatmap_features(ids, features, mask)
        else:
            vectors = model(ids, features, mask).beatmap_embeds
        return torch.nn.functional.normalize(vectors.float(), dim=-1)

    return run_windows(loaded, forward, maps, batch_size)


def map_vectors(loaded: LoadedModel, maps: Sequence[EncodedMap], batch_size: int) -> list[np.ndarray]:
    """Embed some maps; each one's vector is (D,) float32 of norm 1.

    Raises:
        InputError: A vector is not finite.
    """
    return [_mean(vectors) for vectors in window_vectors(loaded, maps, batch_size)]


def _mean(vectors: Tensor) -> np.ndarray:
    mean = vectors.mean(0)
    norm = float(mean.norm())
    if not np.isfinite(norm) or norm == 0:
        raise InputError("the model gives no finite direction for this map")
    return (mean / norm).numpy()
