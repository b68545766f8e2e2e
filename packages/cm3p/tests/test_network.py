"""Packed batches equal padded ones, windows cost linear time, and equal metadata is encoded once."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cm3p.configuration import CM3PConfig, CM3PMetadataConfig
from cm3p.losses import contrastive_loss
from cm3p.model import CM3PMetadataModelWithProjection, CM3PModel
from cm3p.network.layout import Packed, Padded, layout_of
from pentatonic.attention.chunked import _Tiles

TOWER = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "local_attention": 8,
}


def full_model(cls_embed: bool = True, every: int = 3, **options: Any) -> CM3PModel:
    torch.manual_seed(0)
    audio = {**TOWER, "projector_intermediate_size": 64, "projector_dim": 16, "n_mels": 6}
    beatmap = {
        **TOWER,
        "global_attn_every_n_layers": every,
        "cls_embed": cls_embed,
        "audio_sos_token_id": None,
        "audio_eos_token_id": 38,
        "audio_token_id": 39,
        "audio_config": audio,
    }
    metadata = {**TOWER, "global_attn_every_n_layers": every, "cls_embed": cls_embed}
    config = CM3PConfig(
        beatmap_config=beatmap, metadata_config=metadata, projection_dim=8, has_decoder_head=True, **options
    )
    model = CM3PModel(config).eval()
    for parameter in model.parameters():  # larger than at the start, so that attention matters
        parameter.data.mul_(3)
    return model


def batch(lengths: tuple[int, ...] = (40, 23, 31)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 37, (len(lengths), max(lengths)), generator=generator)
    ids[:, 1:6] = 39
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    labels = torch.where((torch.rand(ids.shape, generator=generator) < 0.3) & mask.bool(), ids, -100)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "input_features": torch.randn(len(lengths), 6, 40, generator=generator),
        "metadata_ids": torch.randint(3, 37, (len(lengths), 9), generator=generator),
        "metadata_attention_mask": (torch.arange(9) < torch.tensor([[9], [4], [7]])).long(),
        "labels": labels,
    }


def gradients(model: torch.nn.Module, loss: Any) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("cls_embed", [True, False], ids=["first", "mean"])
def test_packed_batches_equal_padded_ones(cls_embed: bool) -> None:
    model, inputs = full_model(cls_embed).double(), batch()
    found = {}
    for packing in (True, False):
        model.use_packing(packing)
        output = model(**inputs, output_hidden_states=True)
        valid = inputs["attention_mask"].bool()
        states = output.beatmap_model_output.hidden_states
        values = [output.loss, output.beatmap_embeds, output.metadata_embeds, output.logits[valid]]
        values += [state[valid] for state in states]
        values.append(model.get_beatmap_features(inputs["input_ids"], inputs["input_features"], valid))
        values.append(model.get_metadata_features(inputs["metadata_ids"], inputs["metadata_attention_mask"]))
        found[packing] = values, gradients(model, output.loss)
    # Losses are float32.
    torch.testing.assert_close(found[True], found[False], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("every", [1, 3], ids=["last-layer-global", "last-layer-local"])
@pytest.mark.parametrize("padding", ["none", "at-ends", "at-ends-padded", "anywhere", "no-valid-token"])
@pytest.mark.parametrize("cls_embed", [True, False], ids=["first", "mean"])
def test_vectors_alone_equal_those_of_the_whole_output(cls_embed: bool, padding: str, every: int) -> None:
    model, inputs = full_model(cls_embed, every=every).double(), batch()
    model.use_packing(padding == "at-ends")
    mask = inputs["attention_mask"]
    if padding == "none":
        mask = torch.ones_like(mask)
    elif padding == "anywhere":
        mask = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(2)) < 0.7).long()
        mask[1, 0] = 0
    elif padding == "no-valid-token":
        mask[1] = 0
    towers = model.beatmap_model, model.metadata_model
    sides = [tower.encoder.layers[-1].attn.side for tower in towers]
    assert sides == ([None, None] if every == 1 else [4, 4])
    given = inputs["input_ids"], inputs["input_features"], mask
    names = inputs["metadata_ids"], inputs["metadata_attention_mask"]
    whole = model(*given, *names, return_loss=False)
    alone = model.get_beatmap_features(*given), model.get_metadata_features(*names)
    found = [vectors / vectors.norm(dim=-1, keepdim=True) for vectors in alone]
    # The mean over no token has no direction.
    options: Any = {"rtol": 0, "atol": 1e-12, "equal_nan": padding == "no-valid-token" and not cls_embed}
    torch.testing.assert_close(found, [whole.beatmap_embeds, whole.metadata_embeds], **options)


def test_vectors_alone_leave_work_of_the_last_layer_out() -> None:
    model, inputs = full_model(), batch()
    rows: list[int] = []
    last = model.beatmap_model.encoder.layers[-1].mlp.Wi
    last.register_forward_hook(lambda module, given, output: rows.append(output[..., 0].numel()))
    for run in (model, model.get_beatmap_features):
        run(inputs["input_ids"], inputs["input_features"], inputs["attention_mask"])
    assert rows == [40 + 23 + 31, 3]


def test_windows_with_and_without_audio_share_a_batch() -> None:
    model, inputs = full_model(), batch((40, 40, 40))
    ids = inputs["input_ids"]
    ids[1] = ids[1].where(ids[1] != 39, 5)  # no place for audio
    heard = [0, 2]
    with torch.inference_mode():
        together = model.get_beatmap_features(ids, inputs["input_features"][heard], inputs["attention_mask"])
        apart = [
            model.get_beatmap_features(ids[row : row + 1], features, inputs["attention_mask"][row : row + 1])
            for row, features in enumerate((inputs["input_features"][:1], None, inputs["input_features"][2:]))
        ]
    torch.testing.assert_close(together, torch.cat(apart))


def test_the_layout_follows_the_padding() -> None:
    def of(*rows: list[int], pack: bool = True) -> Any:
        mask = torch.tensor(rows)
        return layout_of(mask, *mask.shape, mask.device, pack=pack)

    assert isinstance(of([1, 1, 1], [1, 0, 0]), Packed)
    assert isinstance(of([1, 1, 1], [1, 0, 0], pack=False), Padded)
    whole = of([1, 1, 1], [1, 1, 1])
    assert isinstance(whole, Padded) and whole.mask is None
    for other in ([0, 1, 1], [1, 0, 1], [0, 0, 0]):  # positions or pooling would change
        assert isinstance(of([1, 1, 1], other), Padded)


@pytest.mark.parametrize("kind", ["left", "holes", "empty", "right"])
def test_any_mask_equals_attention_by_its_definition(kind: str) -> None:
    """Weights that are asked for are computed by the definition of attention."""
    model, inputs = full_model(), batch((40, 40, 40))
    mask = torch.ones_like(inputs["attention_mask"])
    rows: dict[str, Any] = {
        "left": slice(0, 13),
        "holes": slice(15, 28),
        "right": slice(29, 40),
        "empty": slice(0, 40),
    }
    mask[1, rows[kind]] = 0
    given = {"input_ids": inputs["input_ids"], "attention_mask": mask}
    usual = model(**given, output_logits=True).logits
    explicit = model(**given, output_attentions=True)
    torch.testing.assert_close(usual[mask.bool()], explicit.logits[mask.bool()], rtol=1e-4, atol=1e-5)
    weights = explicit.beatmap_model_output.attentions
    assert len(weights) == 3 and weights[1].shape == (3, 2, 40, 40)
    assert weights[1][0, 0, 20, :16].abs().max() == 0 and weights[0][0, 0, 20, :16].min() > 0


def test_asking_for_attentions_changes_no_configuration() -> None:
    model, inputs = full_model(), batch()
    before = model.config.to_json_string()
    model(**inputs, output_attentions=True)
    assert model.config.to_json_string() == before


def test_windows_cost_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores computed by local layers grow as the length, those of global ones are fused."""
    counts = {}
    original = _Tiles.scores
    for length in (1024, 2048, 4096):
        computed = []

        def scores(self: Any, *arguments: Any, computed: list[int] = computed) -> Tensor:
            result = original(self, *arguments)
            computed.append(result[0, 0].numel())
            return result

        monkeypatch.setattr(_Tiles, "scores", scores)
        q = torch.randn(1, length, 2, 8)
        Padded(1, length, None, q.device).attend(q, q, q, theta=1e4, side=64)
        counts[length] = sum(computed)
    assert counts[1024] < 1024 * 2 * 384
    assert counts[4096] - counts[2048] == 2 * (counts[2048] - counts[1024])


def variations(entries: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of two maps, each with variations of one field; padded to 128 as the original does."""
    ids = torch.zeros(entries, count, 128, dtype=torch.long)
    for m in range(entries):
        ids[m, :, :17] = torch.arange(17) + 3
        ids[m, :, 5] += m % 2
        for v in range(1, count):
            ids[m, v, 2 + v % 4] = 3 + v // 4 % 33
    mask = (torch.arange(128) < 17).long().expand_as(ids).clone()
    classes = torch.arange(count).remainder(4).add(1).repeat(entries, 1)
    classes[:, 0] = 0
    return ids, mask, classes


def test_equal_metadata_is_encoded_once() -> None:
    torch.manual_seed(0)
    config = CM3PMetadataConfig(**TOWER, global_attn_every_n_layers=1, projection_dim=8)
    model = CM3PMetadataModelWithProjection(config).eval()
    ids, mask, classes = variations(8, 256)
    encoded = []
    model.metadata_model.encoder.embeddings.register_forward_hook(
        lambda _, inputs, __: encoded.append(inputs[0].shape[:-1].numel())
    )
    beatmaps = torch.nn.functional.normalize(torch.randn(8, 8), dim=1)
    found = []
    embeds = model(ids, mask).metadata_embeds
    found.append((embeds, contrastive_loss(embeds @ beatmaps.T, classes)))
    assert encoded[0] * 10 <= ids.numel()
    alone = torch.stack([torch.stack([model(ids[m, v : v + 1], mask[m, v : v + 1]).metadata_embeds[0] for v in
                                      range(0, 256)]) for m in range(2)])  # fmt: skip
    every = alone[torch.arange(8) % 2]
    found.append((every, contrastive_loss(every @ beatmaps.T, classes)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    grads = [gradients(model, loss) for _, loss in found]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-5)


def test_checkpointed_layers_give_the_same_gradients() -> None:
    model, inputs = full_model().train(), batch()
    usual = gradients(model, model(**inputs).loss)
    calls = []
    layer = model.beatmap_model.encoder.layers[0]
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    # Renamed in transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable()
    torch.testing.assert_close(gradients(model, model(**inputs).loss), usual, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2
