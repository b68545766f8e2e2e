"""Which position mode a checkpoint was trained in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from myna_rpe.config import EncoderConfig
from myna_rpe.detect_mode import detect_mode, fitting_modes
from myna_rpe.key_map import KEY_MAP
from myna_rpe.losses import info_nce
from myna_rpe.model import MynaEncoder
from myna_rpe.patches import patchout
from myna_rpe.positions import upstream_positions
from pentatonic.attention import alibi_slopes
from pentatonic.errors import InputError

FRAMES = 64


def tracks(n: int, seed: int) -> torch.Tensor:
    """Tracks ``(n, F, T)`` that hold the same eight bands of patches, and differ only in their order."""
    patches = 15 * torch.randn(8, 16, 1, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(8, generator=generator) for _ in range(n)])
    mels = patches[orders].flatten(1, 2).repeat(1, 1, 3 * FRAMES)
    return -40 + mels + 8 * torch.randn(mels.shape, generator=generator)


def written(model: MynaEncoder, path: Path) -> Path:
    """Write a checkpoint with the original's names, and the slopes that the original stores and does not use."""
    tensors = KEY_MAP.to_theirs(model.state_dict())
    tensors["cls_token"] = tensors["cls_token"].reshape(1, 1, -1)
    tensors["transformer.alibi_2d.slopes"] = -alibi_slopes(model.config.heads, "halving")
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("mode", ["paper_plus_row", "head_signed"])
def test_the_mode_of_training_comes_first(mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    positions = upstream_positions(mode)
    model = MynaEncoder(
        EncoderConfig(dim=32, depth=2, heads=2, dim_head=16, mlp_dim=64, out_dim=16, positions=positions)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, fused=True)
    for step in range(50):
        one, other = tracks(32, seed=step)[..., : 2 * FRAMES].split(FRAMES, dim=2)
        if step % 2:
            loss = info_nce(model(one, keep=patchout(32, 8 * FRAMES // 16, 0.75)), model(other))
        else:
            loss = info_nce(*model(torch.cat((one, other))).chunk(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Distances in time tell nothing about tracks that do not change, so that this mode is nearly that of rows alone.
    modes = [each for each in fitting_modes([]) if each != "paper_plus_manhattan"]
    path = written(model, tmp_path / "model.safetensors")
    scores = detect_mode(path, list(tracks(48, seed=1000)), modes=modes, train_frames=FRAMES)
    assert scores[0].mode == mode and scores[0].loss < scores[1].loss - 0.1, scores
    assert {each.mode for each in scores} == set(modes)


@pytest.mark.parametrize(
    ("names", "modes"),
    [
        (
            ["transformer.alibi_2d.left_slopes"],
            {"head_signed_learned", "head_row_learned", "head_col_learned"},
        ),
        (["transformer.layers.0.0.rotary.inv_freq"], {"rope_row_2025", "rope_sum_2025"}),
        (["transformer.layers.0.0.rotary.rope_exp_x"], {"rope_row_head"}),
        (["transformer.layers.0.0.rotary.rope_exp_y"], {"rope_col_head"}),
        (["pos_embedding.x_pos_embedding"], {"learned_xy"}),
    ],
)
def test_names_of_tensors_leave_some_modes(names: list[str], modes: set[str]) -> None:
    assert set(fitting_modes(names)) == modes
    assert {"zero", "paper_plus_manhattan"} <= set(fitting_modes([]))


def test_music_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(MynaEncoder(EncoderConfig(dim=32, depth=1, heads=2, dim_head=16, mlp_dim=32, out_dim=8)), path)
    with pytest.raises(InputError, match="1 tracks have the 256 frames of a crop; at least 2"):
        detect_mode(path, [torch.zeros(128, 300), torch.zeros(128, 100)])
