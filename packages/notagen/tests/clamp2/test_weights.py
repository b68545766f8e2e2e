"""Released layouts of M3, CLaMP 2 and CLaMP 3, and our format."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from notagen.clamp2.config import ClampConfig, EncoderConfig, M3Config, PatchDecoderConfig
from notagen.clamp2.model import M3, Clamp
from notagen.clamp2.weights import (
    RELEASED_FILES,
    clamp_config,
    clamp_from_upstream,
    from_pretrained,
    load_m3,
    m3_config,
    m3_from_pretrained,
    m3_from_upstream,
    music_only,
    save_pretrained,
)
from pentatonic.errors import CheckpointError, ConfigError, HubError, WeightsError
from pentatonic.hub import check_state

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2"
WIDE = EncoderConfig(layers=2, width=64, heads=1, mlp_width=48, length=20)
TRUNK_UNUSED = 768 + 768 * 768 + 768  # a table of one row, and a pooler


def layout(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    released = json.loads((GOLDENS / f"released_{name}_keys.json").read_text())
    return released, {
        key: torch.empty(value["shape"], device="meta") for key, value in released["keys"].items()
    }


def same(model, other) -> bool:
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def upstream(config: ClampConfig) -> dict[str, torch.Tensor]:
    """A state dict of CLaMP 2 or 3 with random values in the released layout, music only."""
    music, width = "music_model" if config.family == "clamp2" else "symbolic_model", config.music.width
    made = {
        f"{music}.patch_embedding.weight": (width, 64 * 128),
        f"{music}.patch_embedding.bias": (width,),
        f"{music}.base.embeddings.word_embeddings.weight": (1, width),
        f"{music}.base.embeddings.position_embeddings.weight": (config.music.length, width),
        f"{music}.base.embeddings.token_type_embeddings.weight": (2, width),
        f"{music}.base.pooler.dense.weight": (width, width),
        f"{music}.base.pooler.dense.bias": (width,),
        f"{music.split('_', maxsplit=1)[0]}_proj.weight": (config.projection, width),
        f"{music.split('_', maxsplit=1)[0]}_proj.bias": (config.projection,),
    }
    norms = [f"{music}.base.embeddings.LayerNorm"]
    for index in range(config.music.layers):
        layer, hidden = f"{music}.base.encoder.layer.{index}", config.music.mlp_width
        for part in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            made |= {f"{layer}.{part}.weight": (width, width), f"{layer}.{part}.bias": (width,)}
        made |= {
            f"{layer}.intermediate.dense.weight": (hidden, width),
            f"{layer}.intermediate.dense.bias": (hidden,),
        }
        made |= {f"{layer}.output.dense.weight": (width, hidden), f"{layer}.output.dense.bias": (width,)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    made |= {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}
    return {key: torch.randn(shape) for key, shape in made.items()}


@pytest.mark.parametrize("name", ["clamp2", "clamp3"])
def test_released_layouts(name):
    released, tensors = layout(name)
    config = clamp_config(tensors)
    assert config.family == name
    assert (config.music.layers, config.music.width, config.music.heads, config.music.length) == (
        12,
        768,
        12,
        512,
    )
    assert config.text is not None and (config.text.vocabulary, config.text.length) == (250_002, 128)
    assert (config.audio is None) == (name == "clamp2")
    with torch.device("meta"):
        model = Clamp(config)
    check_state(model, clamp_from_upstream(tensors, config.family), what=name)
    unused = (
        TRUNK_UNUSED * (1 if config.audio is None else 2) + 768 * 768 + 768
    )  # the text encoder has a pooler only
    assert sum(p.numel() for p in model.parameters()) == released["trainable_parameters"] - unused
    assert released["file"] in RELEASED_FILES.values()


def test_released_layout_of_m3():
    released, tensors = layout("m3")
    config = m3_config({key: torch.zeros(()).expand(tensor.shape) for key, tensor in tensors.items()})
    with torch.device("meta"):
        model = M3(config)
    del tensors[
        "decoder.base.lm_head.weight"
    ]  # the same tensor as the character table; comparing needs values
    check_state(model, m3_from_upstream(tensors), what="m3")
    assert sum(p.numel() for p in model.parameters()) == released["trainable_parameters"] - TRUNK_UNUSED
    assert released["file"] in RELEASED_FILES.values()


def test_pth_of_the_original_loads_without_its_training_state(tmp_path):
    config = ClampConfig(family="clamp2", projection=32, music=WIDE)
    tensors = upstream(config)
    torch.save(
        {"model": tensors, "optimizer": {"state": {}, "lr": 1e-4}, "epoch": 3, "min_eval_loss": 0.1},
        tmp_path / "a.pth",
    )
    save_file(music_only({**tensors, "text_proj.bias": torch.zeros(3)}), tmp_path / "b.safetensors")
    model = from_pretrained(tmp_path / "a.pth")
    assert model.config == config
    assert same(model, from_pretrained(tmp_path / "b.safetensors"))
    torch.testing.assert_close(
        model.music.embed.weight, tensors["music_model.patch_embedding.weight"].T, atol=0, rtol=0
    )


def test_clamp3_is_told_by_its_names(tmp_path):
    config = ClampConfig(family="clamp3", projection=32, music=WIDE)
    save_file(upstream(config), tmp_path / "b.safetensors")
    assert from_pretrained(tmp_path).config == config


def test_our_format_round_trip(tmp_path):
    torch.manual_seed(0)
    model = Clamp(ClampConfig(family="clamp2", projection=32, music=WIDE))
    save_pretrained(model, tmp_path / "clamp")
    assert same(model, from_pretrained(tmp_path / "clamp"))
    assert same(model, from_pretrained(tmp_path / "clamp", music_only=True))
    m3 = M3(M3Config(encoder=WIDE, decoder=PatchDecoderConfig(layers=1, width=64, heads=1)))
    save_pretrained(m3, tmp_path / "m3")
    assert same(m3, m3_from_pretrained(tmp_path / "m3"))


def test_text_encoder_loads_by_choice(tmp_path):
    tensors = load_file(GOLDENS / "clamp2_tiny" / "weights.safetensors")
    config = clamp_config(tensors, heads=2)
    model = Clamp(config)
    save_pretrained(model, tmp_path / "both")
    assert same(model, from_pretrained(tmp_path / "both"))
    music = from_pretrained(tmp_path / "both", music_only=True)
    assert music.text is None and torch.equal(music.music.embed.weight, model.music.embed.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("music_model.patch_embedding.weight"), "not a CLaMP 2 or 3 state dict"),
        (lambda t: t.update(strange=torch.zeros(2)), "strange"),
        (lambda t: t.pop("music_proj.bias"), "music_projection.bias"),
        (lambda t: t.update({"music_model.patch_embedding.weight": torch.zeros(64, 100)}), "100 columns"),
        (
            lambda t: t.update(
                {"music_model.base.embeddings.position_embeddings.weight": torch.zeros(20, 50)}
            ),
            "50 wide",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, change, message):
    tensors = upstream(ClampConfig(family="clamp2", projection=32, music=WIDE))
    change(tensors)
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=message):
        from_pretrained(tmp_path / "x.safetensors")


def test_objects_in_a_pth_are_refused(tmp_path):
    torch.save({"model": {"a": Path("x")}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError):
        from_pretrained(tmp_path / "x.pth")


def test_head_of_m3_must_be_the_table(tmp_path):
    tensors = load_file(GOLDENS / "m3_tiny" / "weights.safetensors")
    tensors["decoder.base.lm_head.weight"] = tensors["decoder.base.lm_head.weight"] + 1
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="same matrix"):
        load_m3(tmp_path / "x.safetensors", heads=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "mapping"),
        ({"family": "clamp4", "projection": 8, "music": WIDE.__dict__}, "clamp4"),
        ({"family": "clamp2", "projection": True, "music": WIDE.__dict__}, "projection is True"),
        ({"family": "clamp2", "projection": 8}, "section music is missing"),
        (
            {"family": "clamp2", "projection": 8, "music": {**WIDE.__dict__, "heads": 3}},
            "not a multiple of 3 heads",
        ),
        (
            {"family": "clamp2", "projection": 8, "music": {**WIDE.__dict__, "layers": 128, "width": 16_384}},
            "parameters",
        ),
        ({"family": "clamp2", "projection": 8, "music": WIDE.__dict__, "extra": 1}, "unknown key extra"),
    ],
)
def test_configurations_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        ClampConfig.from_dict(values)


def test_unknown_names_and_empty_folders(tmp_path):
    with pytest.raises(HubError):
        from_pretrained("clamp9")
    with pytest.raises(CheckpointError, match=r"no encoder.*found: none"):
        from_pretrained(tmp_path)
