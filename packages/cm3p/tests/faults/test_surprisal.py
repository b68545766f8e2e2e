"""Tokens of objects and their scores: passes, batches, both models, known distributions, combos."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cm3p.beatmap import find_maps
from cm3p.faults.surprisal import ASPECTS, TokenScores, masked_places, token_scores
from cm3p.faults.tokens import NO_OBJECT, Aspect, ObjectWindow, combo_partners, object_windows
from cm3p.inference.loading import LoadedModel, load
from cm3p.inference.maps import WindowOptions, encode_map
from cm3p.model import CM3PModel
from pentatonic.errors import UsageError

CLASSIFIER = Path(__file__).parent.parent / "goldens" / "saved_classifier"


def windows_of(loaded: LoadedModel, folder: Path) -> list[ObjectWindow]:
    return [
        window
        for entry in find_maps(folder)
        for window in object_windows(loaded.processor, _map(entry), None, WindowOptions())
    ]


def _map(entry: Any) -> Any:
    assert entry.beatmap is not None
    return entry.beatmap


def rows(scores: TokenScores) -> list[tuple[float, ...]]:
    names = [each.name for each in dataclasses.fields(scores)]
    return list(zip(*(getattr(scores, name).tolist() for name in names), strict=True))


def test_tokens_are_those_of_the_model_and_know_their_objects(full: LoadedModel, maps: Path) -> None:
    beatmap = _map(next(iter(find_maps(maps))))
    encoded = encode_map(full.processor, beatmap, None, WindowOptions())
    windows = object_windows(full.processor, beatmap, None, WindowOptions())
    assert [each.ids for each in windows] == encoded.windows
    assert all(len(each.ids) == len(each.objects) == len(each.aspects) for each in windows)
    seen = {index for each in windows for index in each.objects}
    assert NO_OBJECT in seen and seen - {NO_OBJECT} <= set(range(len(beatmap.hit_objects)))
    tokenizer = full.processor.beatmap_tokenizer
    for each in windows:
        for token, index, aspect in zip(each.ids, each.objects, each.aspects, strict=True):
            text = tokenizer.convert_ids_to_tokens(token)
            if index != NO_OBJECT and text.startswith("[TIME_SHIFT_"):
                assert aspect in (Aspect.TIME, Aspect.END_TIME)
                if aspect is Aspect.TIME:
                    time_ms = each.start_s * 1000 + int(text.strip("[]").split("_")[-1])
                    assert abs(time_ms - beatmap.hit_objects[index].time_ms) <= 5
            if text in ("[BEAT]", "[MEASURE]", "[KIAI_ON]", "[EOS]", "[CLS]"):
                assert index == NO_OBJECT


@pytest.mark.parametrize("passes", [1, 3, 8, 1000])
def test_passes_cover_every_token_of_every_object_once(full: LoadedModel, maps: Path, passes: int) -> None:
    for window in windows_of(full, maps):
        found = masked_places(window, passes)
        assert len(found) <= passes
        covered = sorted(place for places in found for place in places)
        assert covered == [place for place, index in enumerate(window.objects) if index != NO_OBJECT]
        of_passes = [{window.objects[place] for place in places} for places in found]
        assert sum(map(len, of_passes)) == len(set(window.objects) - {NO_OBJECT})  # none is in two passes


@pytest.mark.parametrize("name", ["full", "masked_lm"])
def test_scores_are_those_of_the_whole_model_window_by_window(
    name: str, maps: Path, request: pytest.FixtureRequest
) -> None:
    loaded: LoadedModel = request.getfixturevalue(name)
    windows = windows_of(loaded, maps)
    model: Any = loaded.model
    expected: dict[tuple[int, int], list[float]] = {}
    for number, window in enumerate(windows):
        for places in masked_places(window, 3):
            ids = torch.tensor([window.ids])
            ids[0, places] = loaded.processor.beatmap_tokenizer.mask_token_id
            with torch.inference_mode():
                log_p = model(ids).logits[0, places].double().log_softmax(-1) / math.log(2)
            for place, of_place in zip(places, log_p, strict=True):
                bits = -float(of_place[window.ids[place]])
                expected.setdefault((number, window.objects[place]), []).append(bits)
    for batch_size in (1, 7):
        scores = token_scores(loaded, windows, passes=3, batch_size=batch_size)
        found: dict[tuple[int, int], float] = {}
        for window, index, bits in zip(scores.windows, scores.objects, scores.bits, strict=True):
            found[window, index] = found.get((window, index), 0) + float(bits)
        # A type with its combo has two scores, whose sum is the surprisal of the token.
        assert found == pytest.approx({key: sum(bits) for key, bits in expected.items()}, rel=1e-4)


def test_all_objects_masked_alone_is_the_limit_of_many_passes(full: LoadedModel, maps: Path) -> None:
    window = windows_of(full, maps)[:1]
    objects = len(set(window[0].objects) - {NO_OBJECT})
    exact, more = (token_scores(full, window, passes=passes) for passes in (objects, 10 * objects))
    np.testing.assert_allclose(np.array(rows(exact)), np.array(rows(more)), rtol=1e-5, atol=1e-5)


def with_distribution(loaded: LoadedModel, log_p: torch.Tensor) -> LoadedModel:
    """A model that predicts one distribution everywhere."""
    model: Any = copy.deepcopy(loaded.model)
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.copy_(log_p)
    return dataclasses.replace(loaded, model=model)


def test_scores_of_known_distributions(full: LoadedModel, maps: Path) -> None:
    tokenizer = full.processor.beatmap_tokenizer
    windows = windows_of(full, maps)
    size = tokenizer.vocab_size
    partners = combo_partners(tokenizer)
    assert len(partners) == 4
    uniform = token_scores(with_distribution(full, torch.zeros(size)), windows)
    combo = uniform.aspects == ASPECTS.index(Aspect.NEW_COMBO)
    typed = np.isin(uniform.ids, list(partners)) & ~combo
    other = ~combo & ~typed
    assert combo.sum() == typed.sum() > 0
    np.testing.assert_allclose(uniform.bits[other], math.log2(size), rtol=1e-5)
    np.testing.assert_allclose(uniform.excess[other], 0, atol=1e-3)
    np.testing.assert_allclose(uniform.bits[combo], 1, rtol=1e-5)
    np.testing.assert_allclose(uniform.entropy[combo], 1, rtol=1e-5)
    np.testing.assert_allclose(uniform.bits[typed], math.log2(size) - 1, rtol=1e-5)
    # Half of the probability on one type, a quarter on it with a combo.
    log_p = torch.full((size,), math.log(0.25 / (size - 2)))
    plain, starting = (tokenizer.convert_tokens_to_ids(f"[CIRCLE{end}]") for end in ("", "_NEW_COMBO"))
    assert plain is not None and starting is not None
    log_p[plain], log_p[starting] = math.log(0.5), math.log(0.25)
    peaked = token_scores(with_distribution(full, log_p), windows)
    for token, bits_of_combo in ((plain, math.log2(1.5)), (starting, math.log2(3))):
        of_type = (peaked.ids == token) & (peaked.aspects == ASPECTS.index(Aspect.TYPE))
        of_combo = (peaked.ids == token) & (peaked.aspects == ASPECTS.index(Aspect.NEW_COMBO))
        assert of_type.sum() == of_combo.sum() > 0
        np.testing.assert_allclose(peaked.bits[of_type], -math.log2(0.75), rtol=1e-4)
        np.testing.assert_allclose(peaked.probability[of_type], 0.75, rtol=1e-4)
        assert set(peaked.expected[of_type]) == {token}  # the type is as expected, whatever the combo
        np.testing.assert_allclose(peaked.bits[of_combo], bits_of_combo, rtol=1e-4)
        assert set(peaked.expected[of_combo]) == {plain}


def test_models_without_a_decoder_are_refused(full: LoadedModel, maps: Path) -> None:
    with pytest.raises(UsageError, match="CM3PForBeatmapClassification, which predicts no tokens"):
        token_scores(load(CLASSIFIER), [])
    config: Any = copy.deepcopy(full.model.config)
    config.has_decoder_head = False
    with pytest.raises(UsageError, match="without a decoder head"):
        token_scores(dataclasses.replace(full, model=CM3PModel(config)), [])
    with pytest.raises(UsageError, match="passes is 0"):
        token_scores(full, [], passes=0)
    assert len(token_scores(full, []).bits) == 0
