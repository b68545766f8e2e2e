"""Clamped distances: the numbers of the original, equality with dense matrices, its checkpoints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from myna_rpe.config import ClampConfig, EncoderConfig, PositionConfig
from myna_rpe.key_map import KEY_MAP
from myna_rpe.model import MynaEncoder
from myna_rpe.original_config import original_config
from myna_rpe.pickled import PickledModel
from myna_rpe.positions import Clamp, PositionBias, grid_coordinates
from myna_rpe.positions.clamp import mean_of_positive
from myna_rpe.weights import load_original
from pentatonic.attention import attention, tiles
from pentatonic.errors import UsageError, WeightsError

GOLDENS = Path(__file__).parent / "goldens"
SMALL: dict[str, Any] = {"dim": 16, "depth": 1, "heads": 3, "dim_head": 8, "mlp_dim": 24, "out_dim": 6}


def golden(case: str) -> tuple[dict[str, Tensor], dict[str, float]]:
    about = json.loads((GOLDENS / case / "meta.json").read_text())
    return load_file(GOLDENS / case / "io.safetensors"), about["tolerance_float32"]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("kind", ["tanh", "log", "rational"])
def test_the_forms_of_october_2025(kind: Any, learned: bool) -> None:
    io, limits = golden("alibi_clamping_oct")
    for cap, softness, name in ((10.0, 1.0, "c10_s1"), (16.0, 0.5, "c16_s0.5")):
        clamp = Clamp(ClampConfig(kind, cap, softness, learned))
        torch.testing.assert_close(clamp(io["dist"]), io[f"cap_{kind}_{name}"], **limits)


@pytest.mark.parametrize("kind", ["tanh", "log", "rational"])
def test_the_forms_of_april_2026(kind: Any) -> None:
    io, limits = golden("alibi_clamping_head")
    clamp = Clamp(ClampConfig(kind, 4.0, learned=True, squared=True))
    torch.testing.assert_close(clamp(io["dist"]), io[f"cap_{kind}_learnable"], **limits)


def test_a_hard_clamp_ends_at_the_cap() -> None:
    assert Clamp(ClampConfig("hard", 3.5))(torch.tensor([-9, -2, 0, 3, 4])).tolist() == [-3.5, -2, 0, 3, 3.5]


def test_normalize_divides_by_the_mean_of_what_is_above_0() -> None:
    io, limits = golden("alibi_clamping_head")
    distance = io["dist"]
    torch.testing.assert_close(distance / distance[distance > 0].mean(), io["normalize"], **limits)
    generator = torch.Generator().manual_seed(0)
    for shape in ((30, 2), (3, 20, 2), (1, 1, 2)):
        coords = torch.randint(0, 6, shape, generator=generator, dtype=torch.int32)
        difference = (coords[..., :, None, :] - coords[..., None, :, :]).float()
        for signed, pairs in ((False, difference.abs().sum(-1)), (True, difference.sum(-1))):
            expected = pairs[pairs > 0].mean() if (pairs > 0).any() else torch.tensor(1.0)
            torch.testing.assert_close(mean_of_positive(coords, signed=signed), expected)


def dense(layer: PositionBias, config: PositionConfig, coords: Tensor) -> Tensor:
    """The bias of tokens by the formulas, ``(1, H, N, N)``, without the class token."""
    dt, df = (coords[:, None] - coords[None]).unbind(-1)
    dt, df = (dt * (config.bias_axes != "freq"), df * (config.bias_axes != "time"))
    clamp = layer.clamp if layer.clamp is not None else lambda distance: distance.float()
    if config.bias.startswith("alibi"):
        steep = (layer.time_slopes, layer.freq_slopes)
        return -sum(m[:, None, None] * clamp(d.abs()) for m, d in zip(steep, (dt, df), strict=True))[None]
    distance = dt + df if config.bias == "signed" else dt.abs() + df.abs()
    distance = distance / distance[distance > 0].float().mean() if layer.normalize else clamp(distance)
    distance = distance.expand(layer.heads, -1, -1)[None]
    if layer.before is None or layer.after is None:
        return distance
    order = torch.arange(len(coords))
    weight = torch.where(order <= order[:, None], layer.before[:, None, None], layer.after[:, None, None])
    return weight * distance


@pytest.mark.parametrize(
    "config",
    [
        *(PositionConfig(bias="alibi", clamp=ClampConfig(kind, 3)) for kind in ("tanh", "log", "hard")),
        PositionConfig(bias="alibi", learned_slopes=True, clamp=ClampConfig("rational", 3, 2, learned=True)),
        PositionConfig(bias="alibi", bias_axes="time", clamp=ClampConfig("log", 5, learned=True)),
        PositionConfig(bias="alibi_split", time_scale=2.0, clamp=ClampConfig("tanh", 3, learned=True)),
        PositionConfig(bias="distance", clamp=ClampConfig("hard", 4, learned=True)),
        PositionConfig(bias="distance", bias_axes="freq", learned_slopes=True, clamp=ClampConfig("log", 2)),
        PositionConfig(bias="signed", clamp=ClampConfig("tanh", 5, learned=True)),
        PositionConfig(
            bias="signed", learned_slopes=True, clamp=ClampConfig("rational", 6, learned=True, squared=True)
        ),
        PositionConfig(bias="distance", clamp=ClampConfig("normalize")),
        PositionConfig(bias="signed", learned_slopes=True, clamp=ClampConfig("normalize")),
    ],
    ids=lambda config: f"{config.bias}-{config.bias_axes}-{config.clamp.kind}-{config.learned_slopes}",
)
@pytest.mark.parametrize("class_token", [False, True])
def test_the_tiles_give_what_a_dense_matrix_gives(config: PositionConfig, class_token: bool) -> None:
    layer = PositionBias(EncoderConfig(**SMALL, positions=config, class_token=class_token))
    generator = torch.Generator().manual_seed(0)
    if layer.before is not None and layer.after is not None:
        with torch.no_grad():
            layer.before.copy_(torch.tensor([0.5, 1.0, -0.5]))
            layer.after.copy_(torch.tensor([0.3, -0.2, 0.8]))
    coords = grid_coordinates(4, 9)[torch.randperm(36, generator=generator)[:30]]
    n = 30 + class_token
    q, k, v = (torch.randn(1, 3, n, 8, generator=generator) for _ in range(3))
    explicit = torch.nn.functional.pad(dense(layer, config, coords), 2 * (int(class_token), 0))
    with mock.patch.multiple(tiles, BLOCK_QUERIES=7, BLOCK_KEYS=9, TILE_SCORES=1):
        in_tiles = attention(q, k, v, bias=layer(coords, 4, 9), backend="chunked")
        weights = torch.randn(in_tiles.shape, generator=generator)
        parameters = list(layer.parameters())
        gradients = torch.autograd.grad((in_tiles * weights).sum(), parameters) if parameters else ()
    expected = (q @ k.transpose(-1, -2) / 8**0.5 + explicit).softmax(-1) @ v
    torch.testing.assert_close(in_tiles, expected, atol=1e-5, rtol=0)
    if parameters:
        expected_gradients = torch.autograd.grad((expected * weights).sum(), parameters)
        assert all(gradient.any() for gradient in expected_gradients)
        torch.testing.assert_close(gradients, expected_gradients, atol=1e-5, rtol=1e-4)


def test_gradients_of_cap_and_softness_are_those_of_finite_differences() -> None:
    distance = torch.tensor([1.0, 4.0, 9.0, 30.0])
    for kind in ("tanh", "log", "rational"):
        clamp = Clamp(ClampConfig(kind, 8.0, 0.7, learned=True))
        clamp(distance).sum().backward()
        for parameter in clamp.parameters():
            found = []
            for step in (1e-2, -1e-2):
                with torch.no_grad():
                    parameter += step
                    found.append(float(clamp(distance).sum()))
                    parameter -= step
            assert parameter.grad is not None
            assert float(parameter.grad) == pytest.approx((found[0] - found[1]) / 2e-2, rel=1e-2)


def test_signed_differences_without_a_value_are_refused() -> None:
    layer = PositionBias(
        EncoderConfig(**SMALL, positions=PositionConfig(bias="signed", clamp=ClampConfig("log", 10)))
    )
    assert layer(grid_coordinates(2, 9), 2, 9) is not None
    with pytest.raises(UsageError, match="differences of -10 patches, and the clamp 'log'"):
        layer(grid_coordinates(2, 10), 2, 10)


def test_learned_values_stay_above_0() -> None:
    clamp = Clamp(ClampConfig("log", learned=True))
    with torch.no_grad():
        clamp.cap.fill_(-3)
        clamp.softness.fill_(0)
    assert clamp(torch.arange(50)).isfinite().all()


# Checkpoints of the original


def written(model: MynaEncoder, path: Path) -> tuple[Path, dict[str, Tensor]]:
    tensors = KEY_MAP.to_theirs(model.state_dict())
    tensors["cls_token"] = tensors["cls_token"].reshape(1, 1, -1)
    tensors["transformer.alibi_2d.slopes"] = torch.zeros(3)
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    save_file(tensors, path)
    return path, tensors


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.filterwarnings("ignore:transformer.alibi_2d.slopes are")
def test_checkpoints_of_the_original_hold_cap_and_softness(squared: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    clamp = ClampConfig("log", 64.0, 0.75, learned=True, squared=squared)
    mode = "head_signed_learned" if squared else "paper_plus_manhattan"
    positions = PositionConfig(bias="signed" if squared else "distance", learned_slopes=squared, clamp=clamp)
    model = MynaEncoder(EncoderConfig(**SMALL, positions=positions)).eval()
    assert model.bias.clamp is not None
    with torch.no_grad():
        (model.bias.clamp.factor if squared else model.bias.clamp.cap).fill_(31.5)
    path, tensors = written(model, tmp_path / "model.safetensors.pt.safetensors")
    stem = "transformer.alibi_2d.clamper."
    assert {f"{stem}cap_coeff" if squared else f"{stem}cap_value", f"{stem}softness"} < tensors.keys()
    mel = torch.randn(1, 128, 96)
    loaded = load_original(path, mode=f"{mode}+clamp_log", train_frames=256)
    with torch.no_grad():
        assert torch.equal(loaded(mel), model(mel))
    assert loaded.config.positions.clamp is not None
    assert dataclasses.replace(loaded.config.positions.clamp, cap=64.0) == clamp
    with pytest.warns(UserWarning, match="tanh is assumed"):
        other = load_original(path, mode=mode)
    assert other.config.positions.clamp is not None and other.config.positions.clamp.kind == "tanh"
    if not squared:  # a mode without a bias leaves it unused
        assert load_original(path, mode="zero").bias.clamp is None


def test_a_whole_module_says_how_it_clamps() -> None:
    torch.manual_seed(0)
    positions = PositionConfig(bias="distance", clamp=ClampConfig("tanh", 10.0, learned=True))
    tensors = KEY_MAP.to_theirs(MynaEncoder(EncoderConfig(**SMALL, positions=positions)).state_dict())
    tensors["transformer.alibi_2d.slopes"] = torch.zeros(3)
    stem = "transformer.alibi_2d.clamper."
    module = {"encoding": "2D-ALIBI", f"{stem}method": "cap"}

    def clamp_of(**told: str) -> ClampConfig | None:
        attributes = module | {f"{stem}{key}": value for key, value in told.items()}
        return original_config(PickledModel(tensors, attributes)).positions.clamp

    assert clamp_of(cap_type="rational") == ClampConfig("rational", 10.0, learned=True)
    assert clamp_of(method="normalize") == ClampConfig("normalize")
    with pytest.raises(WeightsError, match="mask_rescale, which scales the distances of each query"):
        clamp_of(method="mask_rescale")
