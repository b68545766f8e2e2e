"""Patches: how a time-frequency array becomes a sequence of vectors.

Shapes: B batch, F values per frame, T frames, F_p x T_p patch, N patches.
"""

from __future__ import annotations

from torch import Tensor


def patchify(x: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Cut an array into non-overlapping patches; rows and frames that do not fill a patch are dropped.

    Patches come in the order (frequency row, time); value ``f * T_p + t`` of a patch is its row f, frame t.

    Args:
        x: Front-end output, (B, F, T).
        patch_size: Rows and frames of a patch, (F_p, T_p).

    Returns:
        (B, N, F_p * T_p) with ``N = (F // F_p) * (T // T_p)``, which may be 0.
    """
    rows, frames = patch_size
    batch, n_rows, n_frames = x.shape[0], x.shape[1] // rows, x.shape[2] // frames
    grid = x[:, : n_rows * rows, : n_frames * frames].reshape(batch, n_rows, rows, n_frames, frames)
    return grid.transpose(2, 3).reshape(batch, n_rows * n_frames, rows * frames)
