"""The encoders against numbers of the original programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from notagen.clamp2.config import ClampConfig, EncoderConfig, M3Config, PatchDecoderConfig, TextConfig
from notagen.clamp2.features import audio_features, audio_frames, text_features, text_frames
from notagen.clamp2.model import M3, Clamp, M3Encoder, contrastive_loss
from notagen.clamp2.weights import load_clamp, load_m3

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2"


def meta(name: str) -> dict[str, Any]:
    return json.loads((GOLDENS / name / "meta.json").read_text())["config"]


def encoder_config(sizes: dict[str, Any]) -> EncoderConfig:
    return EncoderConfig(
        layers=sizes["num_hidden_layers"],
        width=sizes["hidden_size"],
        heads=sizes["num_attention_heads"],
        mlp_width=sizes["intermediate_size"],
        length=sizes["max_position_embeddings"],
    )


def text_config(sizes: dict[str, Any], length: int) -> TextConfig:
    return TextConfig(
        vocabulary=sizes["vocab_size"],
        layers=sizes["num_hidden_layers"],
        width=sizes["hidden_size"],
        heads=sizes["num_attention_heads"],
        mlp_width=sizes["intermediate_size"],
        positions=sizes["max_position_embeddings"],
        length=length,
    )


def tiny_m3() -> M3:
    sizes = meta("m3_tiny")
    decoder = sizes["decoder"]
    config = M3Config(
        encoder=encoder_config(sizes["encoder"]),
        decoder=PatchDecoderConfig(
            layers=decoder["n_layer"], width=decoder["n_embd"], heads=decoder["n_head"]
        ),
    )
    return load_m3(GOLDENS / "m3_tiny" / "weights.safetensors", config=config)


def tiny_clamp2() -> Clamp:
    sizes = meta("clamp2_tiny")
    config = ClampConfig(
        family="clamp2",
        projection=sizes["projection_size"],
        music=encoder_config(sizes["music"]),
        text=text_config(sizes["text"], sizes["max_text_length"]),
    )
    return load_clamp(GOLDENS / "clamp2_tiny" / "weights.safetensors", config=config)


def tiny_clamp3() -> Clamp:
    sizes = meta("clamp3_tiny")
    config = ClampConfig(
        family="clamp3",
        projection=sizes["projection_size"],
        music=encoder_config(sizes["symbolic"]),
        text=text_config(sizes["text"], sizes["max_text_length"]),
        audio=encoder_config(sizes["audio"]),
    )
    return load_clamp(GOLDENS / "clamp3_tiny" / "weights.safetensors", config=config)


def numbers(name: str) -> dict[str, Tensor]:
    return load_file(GOLDENS / name / "io.safetensors")


def test_m3_equals_the_original() -> None:
    model, io = tiny_m3(), numbers("m3_tiny")
    lengths, selected = io["attention_mask"].sum(1), io["selected_indices"].bool()
    real = io["attention_mask"].bool()
    with torch.inference_mode():
        states = model.encoder(io["input_patches"], lengths)
    torch.testing.assert_close(states[real], io["encoder_last_hidden_state"][real], atol=2e-5, rtol=0)

    with torch.inference_mode():
        wanted = io["target_patches"][selected][: len(io["decoder_logits"])]
        logits = model.decoder(states[selected][: len(wanted)], wanted[:, 1:])
    torch.testing.assert_close(logits[wanted != 0], io["decoder_logits"][wanted != 0], atol=2e-5, rtol=0)

    loss = model.loss(io["input_patches"], lengths, io["target_patches"], selected)
    torch.testing.assert_close(loss[None], io["loss"], atol=1e-5, rtol=0)
    loss.backward()
    torch.testing.assert_close(
        model.encoder.embed_bias.grad, io["grad_patch_embedding_bias"], atol=2e-5, rtol=1e-4
    )
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    torch.testing.assert_close(norm[None], io["grad_norm"], atol=0, rtol=1e-4)


def test_clamp2_equals_the_original() -> None:
    model, io = tiny_clamp2(), numbers("clamp2_tiny")
    music_lengths, text_lengths = io["music_masks"].sum(1).long(), io["text_masks"].sum(1).long()
    with torch.inference_mode():
        music = model.music(io["music_inputs"], music_lengths)
        text = model.text_states(io["text_inputs"], text_lengths)
    for ours, theirs, mask in (
        (music, io["music_last_hidden"], io["music_masks"].bool()),
        (text, io["text_last_hidden"], io["text_masks"].bool()),
    ):
        torch.testing.assert_close(ours[mask], theirs[mask], atol=3e-5, rtol=0)

    music_features = model.music_features(io["music_inputs"], music_lengths)
    text_features = model.text_features(io["text_inputs"], text_lengths)
    torch.testing.assert_close(music_features, io["music_features"], atol=3e-5, rtol=0)
    torch.testing.assert_close(text_features, io["text_features"], atol=3e-5, rtol=0)
    torch.testing.assert_close(text_features @ music_features.T, io["logits"], atol=1e-4, rtol=1e-4)
    loss = contrastive_loss(text_features, music_features)
    torch.testing.assert_close(loss[None], io["loss"], atol=0, rtol=1e-4)
    loss.backward()
    for ours, theirs in (
        ("music_projection", "grad_music_proj_weight"),
        ("text_projection", "grad_text_proj_weight"),
    ):
        gradient = model.get_submodule(ours).weight.grad
        torch.testing.assert_close(gradient, io[theirs], atol=1e-5, rtol=1e-4)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    torch.testing.assert_close(norm[None], io["grad_norm"], atol=0, rtol=1e-4)


def test_windows_of_texts_equal_the_original() -> None:
    model, io = tiny_clamp2(), numbers("clamp2_extract")
    names = sorted({key.split(".")[0] for key in io if key.startswith("text")})
    texts = [io[f"{name}.ids"] for name in names]
    assert {len(text) > 16 for text in texts} == {False, True}
    for name, feature, frames in zip(
        names, text_features(model, texts), text_frames(model, texts), strict=True
    ):
        torch.testing.assert_close(feature[None], io[f"{name}.global"], atol=3e-5, rtol=0)
        torch.testing.assert_close(frames[None], io[f"{name}.frames"], atol=3e-5, rtol=0)


def test_audio_and_text_of_clamp3_equal_the_original() -> None:
    model, io = tiny_clamp3(), numbers("clamp3_tiny")
    names = sorted({key.split(".")[0] for key in io if key.startswith("audio")})
    recordings = [io[f"{name}.input"][0] for name in names]
    features, frames = audio_features(model, recordings), audio_frames(model, recordings)
    for name, feature, frame in zip(names, features, frames, strict=True):
        torch.testing.assert_close(feature[None], io[f"{name}.global"], atol=3e-5, rtol=0)
        torch.testing.assert_close(frame[None], io[f"{name}.frames"], atol=3e-5, rtol=0)
    with torch.inference_mode():
        text = model.text_features(io["text.ids"], io["text.mask"].sum(1).long())
    torch.testing.assert_close(text, io["text.global"], atol=3e-5, rtol=0)


def test_embedding_sums_the_rows_of_the_original_product() -> None:
    torch.manual_seed(0)
    encoder = M3Encoder(EncoderConfig(layers=1, width=24, heads=2, mlp_width=32, length=9))
    patches = torch.randint(128, (2, 9, 64))
    patches[0, 4:] = 0
    table = encoder.embed.weight.T  # (C, S * V), as released files hold it
    one_hot = torch.nn.functional.one_hot(patches, 128).flatten(2).float()
    with torch.inference_mode():
        expected = torch.nn.functional.linear(one_hot, table, encoder.embed_bias)
        torch.testing.assert_close(encoder.embedded(patches), expected, atol=1e-5, rtol=0)


def test_padding_changes_nothing() -> None:
    model = tiny_clamp2()
    patches = torch.randint(1, 128, (1, 11, 64), generator=torch.Generator().manual_seed(3))
    padded = torch.nn.functional.pad(patches, (0, 0, 0, 21))
    lengths = torch.tensor([11])
    with torch.inference_mode():
        torch.testing.assert_close(
            model.music_features(padded, lengths), model.music_features(patches, lengths), atol=1e-5, rtol=0
        )


def test_loss_of_nothing_is_not_a_number() -> None:
    model, io = tiny_m3(), numbers("m3_tiny")
    nothing = torch.zeros_like(io["selected_indices"], dtype=torch.bool)
    loss = model.loss(io["input_patches"], io["attention_mask"].sum(1), io["target_patches"], nothing)
    assert loss.isnan()


@pytest.mark.parametrize("length", [33, 100])
def test_more_patches_than_positions_are_refused(length: int) -> None:
    model = tiny_clamp2()
    with pytest.raises(Exception, match=f"{length} vectors are more than the 32 positions"):
        model.music(torch.ones(1, length, 64, dtype=torch.long))
