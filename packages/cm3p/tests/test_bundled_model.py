"""The model that comes with the package, on the maps of the demo, which it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import cm3p
from cm3p.classification.run import label_maps, zero_shot_labeller
from cm3p.inference.loading import LoadedModel, load
from cm3p.model import CM3PModel
from cm3p.stored import BUNDLED
from cm3p.weights import find_directory

MAPS = Path(__file__).parents[1] / "demo"
ROWS = {row["BeatmapFile"]: row for row in pq.read_table(MAPS / "metadata.parquet").to_pylist()}


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load("cm3p-tiny")


def test_it_is_found_by_name_and_has_all_its_parts(tiny: LoadedModel, tmp_path: Path, monkeypatch) -> None:
    assert isinstance(tiny.model, CM3PModel) and tiny.model.config.has_decoder_head
    assert sum(each.numel() for each in tiny.model.parameters()) == 3_309_313
    assert tiny.processor.metadata_tokenizer.modes == {0: "osu", 1: "taiko", 2: "fruits", 3: "mania"}
    # A folder of the same name in the working folder does not stand before it.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cm3p-tiny").mkdir()
    assert find_directory("cm3p-tiny") == BUNDLED["cm3p-tiny"]
    assert cm3p.CM3PProcessor.from_pretrained("cm3p-tiny").beatmap_tokenizer.get_vocab()


@pytest.mark.parametrize("audio", [True, False])
def test_it_tells_the_rulesets_apart(tiny: LoadedModel, audio: bool) -> None:
    labeller = zero_shot_labeller(tiny, "mode=osu,taiko,fruits,mania")
    found, report = label_maps(tiny, labeller, [MAPS / "data"], with_audio=audio)
    assert len(found) == len(ROWS) == len(report.entries)
    for each in found:
        best = labeller.names[max(range(4), key=lambda label: each.mean[label])]
        assert best == f"mode={ROWS[Path(each.where).name]['Mode']}", each.where


def test_its_difficulty_follows_the_stars(tiny: LoadedModel) -> None:
    stars = [0.5 * number for number in range(2, 15)]
    labeller = zero_shot_labeller(tiny, f"difficulty={','.join(map(str, stars))}")
    found, _ = label_maps(tiny, labeller, [MAPS / "data"])
    guessed = torch.tensor([each.mean for each in found]) @ torch.tensor(stars)
    true = torch.tensor([ROWS[Path(each.where).name]["DifficultyRating"] for each in found])
    ranks = torch.stack([each.argsort().argsort().float() for each in (guessed, true)])
    assert torch.corrcoef(ranks)[0, 1] > 0.6


def test_the_commands_take_it_by_default(
    tmp_path: Path, cm3p_command: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "maps.parquet"
    assert cm3p_command("embed", MAPS, "--out", out)[0] == 0
    table = pq.read_table(out)
    assert len(table) == 18 and len(table["embedding"][0]) == 128
    taiko = next(row["Id"] for row in ROWS.values() if row["Mode"] == "taiko")
    status, text, _ = cm3p_command("search", out, "--like", taiko, "--count", 2)
    assert status == 0 and text.count("taiko") == 2
