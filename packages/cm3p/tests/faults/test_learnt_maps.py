"""A model that has learnt what maps are like finds the object that is not."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cm3p.beatmap import find_maps
from cm3p.faults.planted import judge, read_planted
from cm3p.faults.run import FaultOptions, find_faults
from cm3p.faults.surprisal import masked_places
from cm3p.faults.tokens import ObjectWindow, object_windows
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import WindowOptions


def write_map(path: Path, positions: list[int], late: tuple[int, int] | None = None) -> None:
    """A circle on every beat of 250 ms; one may come later."""
    lines = []
    for number, x in enumerate(positions):
        time = 250 * number + (late[1] if late is not None and late[0] == number else 0)
        lines.append(f"{x},192,{time},{5 if number % 4 == 0 else 1},0,0:0:0:0:")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "osu file format v14\n\n[Difficulty]\nSliderMultiplier:1.4\n\n[TimingPoints]\n0,250,4,2,0,60,1,0\n\n"
        "[HitObjects]\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )


def trained(loaded: LoadedModel, windows: list[ObjectWindow], steps: int) -> LoadedModel:
    """The model after some steps on windows whose objects are masked as the fault finder does it."""
    model: Any = copy.deepcopy(loaded.model)
    tokenizer = loaded.processor.beatmap_tokenizer
    length = max(len(each.ids) for each in windows)
    ids = torch.full((len(windows), length), tokenizer.pad_token_id)
    for row, each in enumerate(windows):
        ids[row, : len(each.ids)] = torch.tensor(each.ids)
    attended = (ids != tokenizer.pad_token_id).long()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for step in range(steps):
        chosen = torch.zeros_like(ids, dtype=torch.bool)
        for row, each in enumerate(windows):
            passes = masked_places(each, 4)
            chosen[row, passes[step % len(passes)]] = True
        labels = ids.masked_fill(~chosen, -100)
        loss = model(ids.masked_fill(chosen, tokenizer.mask_token_id), None, attended, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dataclasses.replace(loaded, model=model.eval())


def test_a_late_object_among_regular_ones_is_found(masked_lm: LoadedModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    for number in range(6):
        write_map(tmp_path / "train" / f"{number}.osu", random.integers(512, size=32).tolist())
    faults = [(5, 40), (18, 60), (27, -50)]
    for number, late in enumerate(faults):
        write_map(tmp_path / "test" / str(number) / "a.osu", random.integers(512, size=32).tolist(), late)
    lines = [{"file": f"{n}/a.osu", "object": late[0], "kind": "unsnapped"} for n, late in enumerate(faults)]
    planted = tmp_path / "test" / "planted.jsonl"
    planted.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    windows = [
        window
        for entry in find_maps(tmp_path / "train")
        if entry.beatmap is not None
        for window in object_windows(masked_lm.processor, entry.beatmap, None, WindowOptions())
    ]
    options = FaultOptions(with_audio=False, passes=4, count=1)
    loaded = trained(masked_lm, windows, 60)
    maps, _ = find_faults(loaded, [tmp_path / "test"], options)
    assert [each.found[0].index for each in maps] == [late[0] for late in faults]
    assert [each.found[0].aspects[0].aspect for each in maps] == ["time"] * 3
    assert maps[0].found[0].timestamp == "00:01:290 (2) - "
    found = {each.detector: each for each in judge(maps, read_planted(planted), resamples=5)}
    before, _ = find_faults(masked_lm, [tmp_path / "test"], options)
    untrained = {each.detector: each for each in judge(before, read_planted(planted), resamples=5)}
    assert found["model"].average_precision.value == found["model, time alone"].average_precision.value == 1
    assert untrained["model"].average_precision.value < 0.5
