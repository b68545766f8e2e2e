"""What the encoder promises in every position scheme: order, padding, length, little memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from myna_rpe import model as model_module
from myna_rpe.config import ClampConfig, EncoderConfig, PatchConfig, PositionConfig
from myna_rpe.model import MynaEncoder
from myna_rpe.patches import patchout
from pentatonic.errors import AudioTooShort, ConfigError, UsageError

SCHEMES: dict[str, dict[str, Any]] = {
    "none": {},
    "alibi": {"bias": "alibi"},
    "alibi in time": {"bias": "alibi", "bias_axes": "time", "row_table": True},
    "alibi by half of the heads": {"bias": "alibi_split"},
    "learned alibi": {"bias": "alibi", "learned_slopes": True},
    "distance": {"bias": "distance"},
    "signed": {"bias": "signed"},
    "clamped alibi": {"bias": "alibi", "clamp": ClampConfig("tanh", cap=3, learned=True)},
    "clamped alibi by half of the heads": {
        "bias": "alibi_split",
        "clamp": ClampConfig("hard", 2.5, learned=True),
    },
    "clamped distance": {"bias": "distance", "bias_axes": "time", "clamp": ClampConfig("log", cap=4)},
    "clamped signed": {"bias": "signed", "clamp": ClampConfig("tanh", cap=4)},
    "rope": {"rotation": "axial", "rope_time_base": 100.0},
    "rope of the original": {"rotation": "freq", "rope_halves": True},
    "sincos2d": {"absolute": "sincos2d"},
    "raster": {"absolute": "sin_raster"},
    "tables": {"absolute": "learned_xy", "row_table": True},
    "all together": {"absolute": "sin_xy", "row_table": True, "rotation": "sum", "bias": "alibi"},
}
# The factors follow the order of the sequence.
BY_ORDER = {
    "learned signed": {"bias": "signed", "learned_slopes": True},
    "clamped learned signed": {
        "bias": "signed",
        "learned_slopes": True,
        "clamp": ClampConfig("rational", cap=8, learned=True, squared=True),
    },
}


def encoder(scheme: dict[str, Any], *, class_token: bool = True, **fields: Any) -> MynaEncoder:
    torch.manual_seed(0)
    small = {"dim": 16, "depth": 2, "heads": 3, "dim_head": 8, "mlp_dim": 24, "out_dim": 6}
    positions = PositionConfig(**scheme)
    config = EncoderConfig(**{**small, "class_token": class_token, "positions": positions, **fields})
    model = MynaEncoder(config).eval()
    with torch.no_grad():  # tables begin at 0, where they would show nothing
        for table in (model.code.row_table, model.code.time_table, model.code.freq_table):
            if table is not None:
                table.normal_()
    return model


def mel(frames: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 128, frames, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES | BY_ORDER)
def test_the_way_for_long_tracks_gives_the_same(
    scheme: str, class_token: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = encoder((SCHEMES | BY_ORDER)[scheme], class_token=class_token)
    with torch.no_grad():
        ordinary = model(mel(250))
        monkeypatch.setattr(model_module, "LONG", 1)
        monkeypatch.setattr("myna_rpe.long_input.ROWS", 7)
        calls = []
        run = model_module.run_blocks_in_place
        monkeypatch.setattr(
            model_module, "run_blocks_in_place", lambda *a, **k: (calls.append(1), run(*a, **k))
        )
        in_parts = model(mel(250))
    assert calls == [1]
    torch.testing.assert_close(in_parts, ordinary, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_order_of_kept_tokens_does_not_matter(scheme: str) -> None:
    model = encoder(SCHEMES[scheme])
    keep = torch.tensor([[3, 40, 7, 63, 21]])
    with torch.no_grad():
        torch.testing.assert_close(model(mel(128), keep=keep), model(mel(128), keep=keep.flip(1)))


@pytest.mark.parametrize("scheme", BY_ORDER)
def test_factors_by_order_follow_the_order(scheme: str) -> None:
    model = encoder(BY_ORDER[scheme])
    with torch.no_grad():
        model.bias.after.fill_(2.0)
        keep = torch.tensor([[3, 40, 7, 63, 21]])
        assert not torch.allclose(model(mel(128), keep=keep), model(mel(128), keep=keep.flip(1)))


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "raster"])
def test_padding_changes_nothing(scheme: str, class_token: bool) -> None:
    model = encoder(SCHEMES[scheme], class_token=class_token)
    long, short = mel(160), mel(64)
    batch = torch.zeros(2, 128, 160)
    batch[0], batch[1, :, :64], batch[1, :, 64:] = long[0], short[0], 7.0
    with torch.no_grad():
        together = model(batch, frames=torch.tensor([160, 64]))
        torch.testing.assert_close(together[:1], model(long), atol=1e-5, rtol=0)
        torch.testing.assert_close(together[1:], model(short), atol=1e-5, rtol=0)


def test_frames_short_of_a_patch_are_left_out() -> None:
    model = encoder({"bias": "alibi"})
    with torch.no_grad():
        assert torch.equal(model(mel(64)), model(torch.cat((mel(64), torch.ones(1, 128, 15)), dim=2)))
    with pytest.raises(AudioTooShort, match="15 frames; the model needs 16"):
        model(mel(15))


def test_gradients_reach_every_parameter() -> None:
    learned = {"absolute": "learned_xy", "row_table": True, "bias": "alibi", "learned_slopes": True}
    clamped = {"bias": "alibi", "learned_slopes": True, "clamp": ClampConfig("rational", learned=True)}
    keep = patchout(2, 64, 0.5, generator=torch.Generator().manual_seed(0))
    for model, inputs in (
        (encoder(learned), {"keep": keep}),
        (encoder(clamped), {"keep": keep}),
        (encoder({}, second_patch=PatchConfig(128, 2)), {"patch": "second"}),
    ):
        loss = model(mel(128, 2), **inputs).square().sum() + model(mel(64)).square().sum()
        loss.backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_learned_positions_end_where_training_ended() -> None:
    model = encoder({"absolute": "learned_xy"})
    with pytest.raises(UsageError, match="17 columns of patches, and the learned positions end at 16"):
        model(mel(272))


@pytest.mark.parametrize("scheme", SCHEMES | BY_ORDER)
def test_the_configuration_knows_the_number_of_parameters(scheme: str) -> None:
    model = encoder((SCHEMES | BY_ORDER)[scheme])
    assert model.config.parameters == sum(p.numel() for p in model.parameters())
    assert EncoderConfig.from_dict(model.config.to_dict()) == model.config


@pytest.mark.parametrize(("n_tokens", "ratio", "kept"), [(128, 0.9, 13), (48, 0.9, 5), (10, 0.0, 10)])
def test_patchout_keeps_what_the_ratio_says(n_tokens: int, ratio: float, kept: int) -> None:
    keep = patchout(3, n_tokens, ratio)
    assert keep.shape == (3, kept) and (keep.diff(dim=1) > 0).all()
    assert int(keep.min()) >= 0 and int(keep.max()) < n_tokens


def test_wrong_use_is_named() -> None:
    model = encoder({})
    with pytest.raises(UsageError, match=r"mel must be floating \(B, 128, T\)"):
        model(torch.zeros(1, 64, 32))
    with pytest.raises(UsageError, match="no 'second' patches"):
        model(mel(64), patch="second")
    with pytest.raises(UsageError, match="either keep or frames"):
        model(mel(64), keep=torch.tensor([[0]]), frames=torch.tensor([64]))
    with pytest.raises(UsageError, match="allowed: from 0 and below 1"):
        patchout(1, 10, 1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 10**9}, "dim is 1000000000"),
        ({"depth": 10**400}, "depth is"),
        ({"dim": 8192, "depth": 256, "mlp_dim": 65536}, "parameters; allowed: at most"),
        ({"positions": {"rope_base": 0}}, "positions.rope_base is 0"),
        ({"positions": {"rope_base": float("nan")}}, "positions.rope_base"),
        ({"positions": {"bias": "yes"}}, "positions.bias is 'yes'"),
        ({"positions": {"learned_slopes": True}}, "needs a bias"),
        ({"positions": 7}, "positions is 7"),
        ({"positions": {"clamp": {}}}, "positions.clamp needs a bias"),
        ({"positions": {"bias": "alibi", "clamp": 7}}, "positions.clamp is 7"),
        ({"positions": {"bias": "alibi", "clamp": {"kind": "mask_rescale"}}}, "allowed: tanh, log"),
        ({"positions": {"bias": "alibi", "clamp": {"cap": 0}}}, "positions.clamp.cap is 0"),
        ({"positions": {"bias": "alibi", "clamp": {"kind": "normalize"}}}, "with distance, signed"),
        (
            {"positions": {"bias": "signed", "clamp": {"squared": True}}},
            "squared needs positions.clamp.learned",
        ),
        ({"patch": {"bands": 7}}, "divisors of 128"),
        ({"dim": 10, "positions": {"absolute": "sincos2d"}}, "multiples of 4"),
        ({"dim_head": 6, "positions": {"rotation": "axial"}}, "multiples of 4"),
        ({"second_patch": {}, "positions": {"row_table": True}}, "tables of positions"),
        ({"nope": 1}, "unknown key nope"),
        ([], "allowed: a mapping"),
    ],
)
def test_hostile_configurations_are_named(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderConfig.from_dict(values)
