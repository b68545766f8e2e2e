"""SimCLR and text-audio training: the recorded loss, views, texts, and runs through the real command line."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig, TransformerConfig
from omar_rq.training.contrastive.losses import simclr_logits, simclr_loss, symmetric_info_nce
from omar_rq.training.contrastive.metadata import read_metadata
from omar_rq.training.contrastive.options import ObjectiveConfig, SimclrConfig, TextAudioConfig
from omar_rq.training.contrastive.pooling import AttentionPool, ClassTokenEncoder, LayerMix
from omar_rq.training.contrastive.simclr import SimCLR, mixup
from omar_rq.training.contrastive.views import TwoViews, second_start
from omar_rq.training.data import Track
from omar_rq.training.train import main
from omar_rq.weights import from_pretrained
from pentatonic.checkpoint import model_directory
from pentatonic.errors import ConfigError, FormatError, HubError, InputError
from pentatonic.training import ItemKey, StepContext

SMALL = ["model.net.embed_dim=16", "model.net.depth=1"]


def test_simclr_equals_the_recorded_loss(golden):
    tensors, meta = golden("simclr_infonce")
    logits = simclr_logits(tensors["z"], meta["config"]["temperature"])
    torch.testing.assert_close(logits, tensors["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(simclr_loss(logits)[0], tensors["loss"][0], rtol=0, atol=1e-5)


def test_views_that_find_their_partner():
    views = torch.eye(4)
    loss, accuracy = simclr_loss(simclr_logits(views.repeat(2, 1), 0.1))
    assert accuracy == 1 and loss < 1e-3
    assert simclr_loss(simclr_logits(torch.cat((views, views.roll(1, 0))), 0.1))[1] == 0


def test_texts_and_recordings_that_find_each_other():
    audio = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    found = symmetric_info_nce(audio, 3 * audio, 0.05)
    assert found["accuracy/audio_to_text"] == found["accuracy/text_to_audio"] == 1
    order = torch.tensor([1, 0, 2, 3, 4])
    found = symmetric_info_nce(audio, audio[order], 0.05)
    assert found["accuracy/audio_to_text"] == found["accuracy/text_to_audio"] == pytest.approx(0.6)
    cosines = torch.nn.functional.cosine_similarity(audio[:, None], audio[order][None], dim=-1) / 0.05
    expected = -(cosines.log_softmax(1).diag() + cosines.log_softmax(0).diag()).mean() / 2
    torch.testing.assert_close(found["loss"], expected)


def test_windows_do_not_overlap_and_are_rather_near():
    rng = np.random.default_rng(0)
    spare, length = 100_000, 10_000
    starts = [second_start(30_000, spare, length, rng) for _ in range(4000)]
    distance = np.abs(np.array(starts) - 30_000)
    assert distance.min() >= length and min(starts) >= 0 and max(starts) <= spare
    near, far = ((np.array(starts) > a) & (np.array(starts) <= a + 10_000) for a in (40_000, 90_000))
    # The probability at a distance of 15,000 is 0.85, at 65,000 0.35.
    assert near.mean() / far.mean() == pytest.approx(0.85 / 0.35, rel=0.2)
    floor = [second_start(0, 100_000, 1, rng) for _ in range(4000)]
    assert Counter(np.array(floor) > 90_000)[True] / 4000 == pytest.approx(0.1 * 0.1 / 0.505, rel=0.25)
    assert second_start(0, 5000, 10_000, rng) == 5000 and second_start(5000, 5000, 10_000, rng) == 0
    assert second_start(0, 0, 10_000, rng) == 0


def ramp(folder: Path, samples: int) -> Track:
    path = folder / f"{samples}.mmap"
    (np.arange(samples) % 2048).astype("<f2").tofile(path)
    return Track(path, 1000, samples, "float16")


def test_views_of_a_track(tmp_path):
    tracks = [ramp(tmp_path, 2000), ramp(tmp_path, 300), ramp(tmp_path, 1000)]
    data = TwoViews(tracks, crop_s=0.5, sample_rate=1000, seed=3)
    for epoch in range(20):
        first, second = data[ItemKey(epoch, 0)]
        assert first.shape == (500,) and abs(float(first[0] - second[0])) >= 500
        assert torch.equal(first, first[0] + torch.arange(500))
    assert torch.equal(data[ItemKey(1, 0)], data[ItemKey(1, 0)])
    assert len({float(data[ItemKey(epoch, 0)][0, 0]) for epoch in range(20)}) > 5
    short = data[ItemKey(0, 1)]
    assert torch.equal(short[0], short[1]) and (short[:, 300:] == 0).all()
    halves = sorted(float(view[0]) for view in data[ItemKey(0, 2)])
    assert halves == [0, 500]
    fixed = TwoViews(tracks, crop_s=0.5, sample_rate=1000, random=False)
    assert torch.equal(fixed[ItemKey(0, 0)], fixed[ItemKey(5, 0)])


def test_mixup_keeps_the_larger_part():
    audio = torch.eye(64)
    mixed = mixup(audio, 0.3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed.sum(1), torch.ones(64))
    assert (mixed.diag() >= 0.5).all() and (mixed.diag() < 1).any() and mixed.diag().mean() > 0.7
    assert torch.equal(mixed, mixup(audio, 0.3, torch.Generator().manual_seed(0)))
    module = SimCLR(
        ModelConfig(MelFrontendConfig(), net=ConformerConfig(embed_dim=8, depth=1, num_heads=1, dropout=0.0)),
        SimclrConfig(projection=4),
    )
    views = 0.1 * torch.randn(3, 2, 4000)
    context = StepContext(0, 0, 0, 0)
    assert not torch.equal(module(views, context)["loss"], module(views)["loss"])
    assert torch.equal(module.eval()(views, context)["loss"], module(views)["loss"])


def test_a_class_token_needs_a_transformer_that_attends_in_both_directions():
    def model(**changes):
        net = TransformerConfig(embed_dim=8, depth=1, num_heads=1, head_dims=6, num_patches=40, **changes)
        return ModelConfig(MelFrontendConfig(), net=net)

    encoder = ClassTokenEncoder(model(do_classification=True, causal=False)).eval()
    audio = 0.1 * torch.randn(2, 8000)
    assert encoder(audio).shape == (2, 6)
    assert not torch.allclose(encoder(audio), encoder(audio.flip(1)))
    with pytest.raises(ConfigError, match=r"causal=false"):
        ClassTokenEncoder(model(do_classification=True))
    with pytest.raises(ConfigError, match=r"do_classification=true"):
        ClassTokenEncoder(model(causal=False))


def test_layers_are_mixed_and_tokens_pooled():
    torch.manual_seed(0)
    layers = [scale * torch.randn(2, 5, 8) for scale in (1, 100)]
    mix = LayerMix(2)
    expected = sum(torch.nn.functional.layer_norm(layer, (8,)) for layer in layers) / 2
    torch.testing.assert_close(mix(layers), expected)
    pool = AttentionPool(8, 2)
    assert pool(layers[0]).shape == (2, 8)
    torch.testing.assert_close(pool(layers[0].flip(1)), pool(layers[0]))  # it has no order of its own
    with pytest.raises(ConfigError, match="divides"):
        AttentionPool(8, 3)


@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig("clap"),
        ObjectiveConfig("masked", encoder="omar-rq-tiny"),
        ObjectiveConfig("simclr", simclr=SimclrConfig(pool="max")),
        ObjectiveConfig("simclr", simclr=SimclrConfig(temperature=0)),
        ObjectiveConfig("text_audio"),
        ObjectiveConfig("text_audio", text_audio=TextAudioConfig("somewhere", metadata_dropout=2)),
        ObjectiveConfig("text_audio", text_audio=TextAudioConfig("somewhere", projection=0)),
    ],
)
def test_wrong_options(objective):
    with pytest.raises(ConfigError):
        objective.check()


# Texts


def write_lines(path: Path, *entries: object) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture(scope="module")
def metadata(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("metadata")
    videos = [
        {"id": str(n), "tags": ["rock", f"tag {n}"], "description": f"words {n}", "views": 3}
        for n in range(8)
    ]
    write_lines(folder / "youtube.jsonl", *videos, {"id": "empty", "tags": []})
    releases = [{"id": n, "genres": ["Jazz"], "styles": [f"style {n}"], "country": ""} for n in range(3)]
    write_lines(folder / "discogs.jsonl", *releases)
    write_lines(folder / "id_map.jsonl", {"0": [0, 1, 2], "1": [7]}, {"only": ["2"], "none": []})
    return folder


def read(folder: Path):
    return read_metadata(
        *(folder / f"{name}.jsonl" for name in ("youtube", "discogs", "id_map")),
        youtube_fields=["description", "tags"],
        discogs_fields=["genres", "styles", "country"],
    )


def test_texts_of_recordings(metadata):
    known = read(metadata)
    text = known.text("0")
    assert text.startswith("youtube_metadata:\n  description: words 0\n  tags:") and "country" not in text
    assert yaml.safe_load(text)["discogs_metadata"] == {"genres": ["Jazz"], "styles": ["style 0"]}
    assert list(yaml.safe_load(known.text("1"))) == ["youtube_metadata"]  # its release is not known
    assert list(yaml.safe_load(known.text("only"))) == ["discogs_metadata"]
    for name in ("none", "empty", "nobody"):
        with pytest.raises(InputError, match=name):
            known.text(name)
    texts = [yaml.safe_load(known.text("0", np.random.default_rng(seed), 0.4)) for seed in range(600)]
    blocks = Counter(tuple(text) for text in texts)
    assert blocks["youtube_metadata", "discogs_metadata"] / 600 == pytest.approx(0.6, abs=0.06)
    assert blocks[("youtube_metadata",)] / 600 == pytest.approx(0.2, abs=0.06)
    styles = Counter(text["discogs_metadata"]["styles"][0] for text in texts if "discogs_metadata" in text)
    assert len(styles) == 3 and min(styles.values()) > 100
    assert known.text("only", np.random.default_rng(0), 1.0) == known.text(
        "only"
    )  # one block is never left out


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"id": []}'])
def test_wrong_lines_of_metadata(metadata, tmp_path, line):
    for file in metadata.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "discogs.jsonl").write_text('{"id": 1}\n' + line + "\n")
    with pytest.raises(FormatError, match=r"discogs\.jsonl.*2"):
        read(tmp_path)
    (tmp_path / "youtube.jsonl").unlink()
    with pytest.raises(InputError, match=r"youtube\.jsonl"):
        read(tmp_path)


# Runs


@pytest.fixture(scope="module")
def data(tmp_path_factory, metadata) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for index in range(8):
        time_s = np.arange(48_000) / 16_000
        tone = np.sin(2 * np.pi * 110 * (index + 1) * time_s) + 0.1 * rng.standard_normal(len(time_s))
        (0.3 * tone).astype("<f2").tofile(folder / f"{index}.mmap")
    names = [f"{index}.mmap\n" for index in range(8)]
    (folder / "train.txt").write_text("".join(names[:5]))
    (folder / "val.txt").write_text("".join(names[5:]))
    for file in metadata.iterdir():
        (folder / file.name).write_text(file.read_text())
    return folder


@pytest.fixture(scope="module")
def text_model(tmp_path_factory) -> str:
    """A small text encoder with a tokenizer of whole words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = str(tmp_path_factory.mktemp("text"))
    words = ["[PAD]", "[UNK]", "rock", "Jazz", "words", "tag", "style", *map(str, range(10))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def train(*words: str):
    pytest.importorskip("accelerate")
    from omar_rq.training.train import main

    return main(list(words))


def check_resume(run: Path, words: list[str]) -> None:
    """Go back to the checkpoint before the last, and compare what comes out with what there was."""
    newest = model_directory(run)
    expected, log = load_file(newest / "model.safetensors"), (run / "metrics.jsonl").read_text()
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert model_directory(run).name == "step-00000006"
    assert train(*words).step == 8
    resumed = load_file(model_directory(run) / "model.safetensors")
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)
    assert (run / "metrics.jsonl").read_text() == log


def test_simclr_through_the_command_line(data, tmp_path):
    run = tmp_path / "run"
    words = ["experiment=simclr-debug", f"data.root={data}", f"run_dir={run}", *SMALL]
    result = train(*words)
    assert result.step == 8 and 0 < result.metrics["loss"] < 10 and "val_accuracy" in result.metrics
    check_resume(run, words)
    embeddings = from_pretrained(run).extract_embeddings(torch.randn(8000), sample_rate=16_000)
    assert embeddings.shape == (1, 1, 8, 16)


def test_text_audio_from_a_trained_model_through_the_command_line(data, text_model, tmp_path):
    from omar_rq.model import OmarRQ
    from omar_rq.weights import save_pretrained

    torch.manual_seed(1)
    config = ModelConfig(MelFrontendConfig(), net=ConformerConfig(embed_dim=8, depth=2, num_heads=1))
    start = OmarRQ(config)
    save_pretrained(start, tmp_path / "trained")
    run = tmp_path / "run"
    words = [
        "experiment=text-audio-debug",
        f"data.root={data}",
        f"run_dir={run}",
        f"objective.encoder={tmp_path / 'trained'}",
        f"objective.text_audio.text_model={text_model}",
    ]
    result = train(*words)
    assert result.step == 8 and {"accuracy/audio_to_text", "val_loss", "temperature"} <= set(result.metrics)
    check_resume(run, words)
    trained = load_file(model_directory(run) / "model.safetensors")
    assert not any("text." in name or name.startswith("_text") for name in trained)
    # Every part has learned something, the audio encoder too.
    moved = trained["encoder.embed.weight"] - start.embed.weight
    assert moved.abs().max() > 1e-4 and trained["temperature.log"] != pytest.approx(np.log(0.1), abs=1e-6)
    assert from_pretrained(run).config.net == config.net


def test_a_frozen_audio_encoder_stays_as_it_is(text_model):
    from omar_rq.model import OmarRQ
    from omar_rq.training.contrastive.text_audio import TextAudio, load_text_encoder

    config = ModelConfig(MelFrontendConfig(), net=ConformerConfig(embed_dim=8, depth=2, num_heads=1))
    text, tokenizer = load_text_encoder(text_model)
    options = TextAudioConfig(text_model, projection=4, pool_heads=2, freeze_audio=True)
    module = TextAudio(OmarRQ(config), text, options).train()
    tokens = tokenizer(["rock tag 1", "Jazz"], padding=True, return_tensors="pt")
    batch = {"audio": 0.1 * torch.randn(2, 8000), **{k: tokens[k] for k in ("input_ids", "attention_mask")}}
    module(batch)["loss"].backward()
    assert not module.encoder.training and not text.training
    with_gradient = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
    assert with_gradient == {"mix", "pool", "audio_projection", "text_projection", "temperature"}
    # Padding of a text changes nothing.
    alone = tokenizer(["Jazz"], return_tensors="pt")
    torch.testing.assert_close(
        module.embed_text(alone["input_ids"], alone["attention_mask"])[0],
        module.embed_text(batch["input_ids"], batch["attention_mask"])[1],
    )
    with pytest.raises(HubError, match="text_model"):
        load_text_encoder("/nowhere/at/all")


def test_a_text_encoder_with_code_of_its_own_is_refused(text_model, tmp_path):
    shutil.copytree(text_model, tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    code = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    changed = config | {"model_type": "mine", "auto_map": code}
    (tmp_path / "own" / "config.json").write_text(json.dumps(changed))
    (tmp_path / "own" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    from omar_rq.training.contrastive.text_audio import load_text_encoder

    with pytest.raises(HubError, match="model_type is 'mine'"):
        load_text_encoder(str(tmp_path / "own"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("option", "name"),
    [("distillation.weight=1", "distillation"), ("data.augment.gain_db=3", "data.augment")],
)
def test_options_of_masked_prediction_are_refused(tmp_path, option, name):
    run = [f"data.root={tmp_path}", f"run_dir={tmp_path / 'run'}", option]
    with pytest.raises(ConfigError, match=f"{name} is for objective.name=masked"):
        main(["experiment=simclr-debug", *run])
