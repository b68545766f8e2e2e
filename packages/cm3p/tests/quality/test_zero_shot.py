"""Reading and embedding the maps, and zero-shot labels: the same numbers as the commands that embed and classify."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cm3p.classification.run import label_maps, zero_shot_labeller
from cm3p.embedding.run import EmbedOptions, embed_maps
from cm3p.embedding.table import EmbeddingTable
from cm3p.inference.loading import LoadedModel
from cm3p.model import CM3PModel
from cm3p.processor import CM3PProcessor
from cm3p.quality.corpus import Corpus, ReadOptions, Selection, parse_selection, read_corpus, untrained
from cm3p.quality.zero_shot import ALONE, CONTROL, EXCHANGED, _Asked, known_labels, zero_shot
from pentatonic.errors import InputError, UsageError

READ = ReadOptions(with_audio=False)


def corpus_of(loaded: LoadedModel, *paths: Path, **selection: object) -> Corpus:
    chosen = Selection(paths, **selection)  # type: ignore[arg-type]
    return read_corpus([loaded], loaded.processor, chosen, READ)[0]


def test_vectors_and_labels_are_those_of_stored_embeddings(
    full: LoadedModel, data_set: Path, tmp_path: Path
) -> None:
    corpus = corpus_of(full, data_set)
    embed_maps(full, [data_set], tmp_path / "stored.parquet", EmbedOptions(with_audio=False))
    with EmbeddingTable(tmp_path / "stored.parquet") as table:
        stored = list(table.maps())
    np.testing.assert_allclose(corpus.vectors(), np.stack([each.vector for each in stored]), atol=1e-6)
    assert corpus.facts.sets == 6
    assert corpus.facts.mode == ["osu", "osu", "taiko", "taiko", "mania", "mania"] * 2
    assert corpus.facts.year == [
        each.row["SubmittedDate"] and int(each.row["SubmittedDate"][:4]) for each in stored
    ]
    assert corpus.facts.stars.tolist() == [each.row["DifficultyRating"] for each in stored]
    assert corpus.facts.tags == [tuple(each.row["TopTagIds"]) for each in stored]
    assert corpus.metadata[0]["difficulty"] == pytest.approx(1.5) and corpus.metadata[0]["hitsounded"] is True


def test_bags_count_event_tokens(full: LoadedModel, data_set: Path) -> None:
    corpus = corpus_of(full, data_set)
    tokenizer = full.processor.beatmap_tokenizer
    assert corpus.bags.shape == (12, tokenizer.vocab_size)
    assert not corpus.bags[:, tokenizer.all_special_ids].any()
    path = next(data_set.rglob("0.osu"))
    inputs = full.processor(beatmap=path)
    events = int(inputs["attention_mask"].sum()) - 2 * len(inputs["input_ids"])  # without [BOS] and [EOS]
    one = corpus_of(full, path)
    assert one.bags.sum() in (events, events - len(inputs["input_ids"]))  # and without [CLS], if there is one


def test_selections(full: LoadedModel, data_set: Path) -> None:
    names = corpus_of(full, data_set).names
    assert corpus_of(full, data_set, start=1, end=3).names == names[2:6]
    assert corpus_of(full, data_set, split="test").names == names[8:]
    with pytest.raises(InputError, match="of the split 'valid'"):
        corpus_of(full, data_set, split="valid")
    paths = [data_set]
    assert parse_selection("2:4", paths) == Selection(paths, 2, 4)
    assert parse_selection(":4", paths) == Selection(paths, 0, 4)
    assert parse_selection("4:", paths) == Selection(paths, 4, None)
    assert parse_selection("train", paths) == Selection(paths, split="train")
    for wrong in ("4:4", "a:b", "-1:2"):
        with pytest.raises(UsageError, match="FIRST:END"):
            parse_selection(wrong, paths)


def test_untrained_networks_are_a_function_of_the_seed(full: LoadedModel) -> None:
    state = torch.get_rng_state()
    one, same, other = (untrained(full, seed).model.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    name = "beatmap_projection.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])
    assert not torch.equal(one[name], full.model.state_dict()[name])


def test_alone_is_as_the_command_that_classifies(full: LoadedModel, data_set: Path) -> None:
    corpus = corpus_of(full, data_set)
    labels = known_labels(full.processor.metadata_tokenizer, corpus, "mode", 9)
    assert labels is not None and labels.candidates == ["osu", "taiko", "mania"]
    found = _Asked(full, corpus, 0).scores(labels.maps, [{"mode": each} for each in labels.candidates])
    labeller = zero_shot_labeller(full, "mode=osu,taiko,mania")
    expected = label_maps(full, labeller, [data_set], with_audio=False)[0]
    by_name = {each.where: each.mean for each in expected}
    np.testing.assert_allclose(found[ALONE], [by_name[name] for name in corpus.names], atol=1e-5)


def test_exchanged_is_the_own_metadata_with_one_other_field(full: LoadedModel, data_set: Path) -> None:
    corpus = corpus_of(full, data_set)
    number = 3
    years = [2010, 2011, 2012]
    found = _Asked(full, corpus, 0).scores(np.array([number]), [{"year": year} for year in years])
    processor, model = full.processor, full.model
    assert isinstance(processor, CM3PProcessor) and isinstance(model, CM3PModel)
    metadata = processor(metadata=[{**corpus.metadata[number], "year": year} for year in years])
    windows = processor(beatmap=corpus.names[number])
    with torch.inference_mode():
        logits = model(
            **windows,
            metadata_ids=metadata["input_ids"],
            metadata_attention_mask=metadata["attention_mask"],
            return_loss=False,
        ).logits_per_beatmap
    np.testing.assert_allclose(found[EXCHANGED][0], logits.softmax(-1).mean(0), atol=1e-5)
    others = np.delete(corpus.vectors(), [2, 3], axis=0).mean(0)
    with torch.inference_mode():
        vectors = model.get_metadata_features(metadata["input_ids"], metadata["attention_mask"])
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        control = unit @ torch.from_numpy(others / np.linalg.norm(others)) * model.logit_scale.exp()
    np.testing.assert_allclose(found[CONTROL][0], control.softmax(-1), atol=1e-5)


def test_values_that_the_model_does_not_know_are_no_candidates(full: LoadedModel, data_set: Path) -> None:
    corpus = corpus_of(full, data_set)
    mappers = known_labels(full.processor.metadata_tokenizer, corpus, "mapper", 9)
    assert mappers is not None and set(mappers.candidates) == {2, 12346}
    assert mappers.left_out == 2  # the maps of mapper 999
    corpus.facts.year[:] = [1999, 2030] * 6
    assert known_labels(full.processor.metadata_tokenizer, corpus, "year", 9) is None


def test_all_fields_are_judged_in_all_ways(full: LoadedModel, data_set: Path) -> None:
    corpus = corpus_of(full, data_set)
    results = zero_shot(full, corpus, resamples=10)
    assert [each.way for each in results] == [ALONE, EXCHANGED, CONTROL]
    for result in results:
        fields = {each.field: each for each in result.labels}
        assert set(fields) == {"mode", "mapper", "year", "status", "tags"}
        assert fields["mode"].maps == 12 and fields["mode"].chance == pytest.approx(1 / 3)
        assert result.stars is not None and result.stars.maps == 12
