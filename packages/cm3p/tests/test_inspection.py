"""``cm3p inspect`` and ``validate``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cm3p.beatmap import read_beatmap
from cm3p.inspection.pictures import draw_map
from cm3p.inspection.pictures.timeline import Part, Timeline
from cm3p.processor import CM3PProcessor

MODEL = Path(__file__).parent / "goldens" / "saved_full"
Command = Callable[..., tuple[int, str, str]]
HOSTILE = """osu file format v14
[General]
Mode: {mode}
StackLeniency: NaN
[TimingPoints]
NaN,500
0,1E-298
100,NaN
200,Infinity
-200000001,300
400,-1e-300,4,2,0,60,0,1
[HitObjects]
10,10,100,1,0
1e30,5,200,1,0
50,60,300,2,0,B|1e9:3|4:5,1,1e20
50,60,310,2,0,B|50:60,3,100
50,60,320,2,0,P|70:80|90:60,9000,1e-9
256,192,400,8,0,Infinity
256,192,500,128,0,99999999:0:0:0:0:
1,2,-2147481848,1,0
"""


def test_inspect_agrees_with_the_processor(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    path = save_map(tmp_path / "map.osu", map_id=5)
    with path.open("a") as file:
        file.write("\nnonsense line\n")
    status, out, _ = cm3p_command("inspect", path, "--model", MODEL, "--tokens", "--json")
    found = json.loads(out)
    assert (
        status == 0 and found["objects"] == {"circles": 10, "sliders": 5, "spinners": 1} and found["id"] == 5
    )
    (warning,) = found["warnings"]
    assert warning["text"] == "nonsense line" and warning["line"] == len(path.read_text().splitlines())
    processor = CM3PProcessor.from_pretrained(MODEL)
    encoding = processor(beatmap=path, padding=False, max_length=100_000, return_tensors=None)
    assert [window["tokens"] for window in found["windows"]] == [len(ids) for ids in encoding["input_ids"]]
    for window, ids in zip(found["windows"], encoding["input_ids"], strict=True):
        tokens = [token for group in window["groups"] for token in group["tokens"]]
        assert tokens == processor.beatmap_tokenizer.convert_ids_to_tokens(ids)[2:-1]
        assert window["cut"] == max(0, len(ids) - 120)
    status, out, _ = cm3p_command("inspect", path, "--window", 0)
    assert status == 0 and "nonsense line" in out and "from     0.0 s" in out and "map" in out
    status, _, messages = cm3p_command("inspect", path, "--window", 5)
    assert status == 2 and "allowed: 0 to 0" in messages


@pytest.mark.parametrize("mode", range(4))
def test_pictures(tmp_path: Path, save_map: Any, mode: int) -> None:
    beatmap = read_beatmap(save_map(tmp_path / "map.osu", mode=mode, objects=9, Title="$math$ \x1b[31m"))
    draw_map(beatmap, tmp_path / "a.svg")
    picture = (tmp_path / "a.svg").read_bytes()
    assert b"<svg" in picture and b"\x1b" not in picture
    beatmap.hit_objects = beatmap.hit_objects[:3]
    draw_map(beatmap, tmp_path / "b.svg")
    assert len((tmp_path / "b.svg").read_bytes()) < len(picture)


@pytest.mark.parametrize("mode", range(4))
def test_hostile_maps_are_drawn(tmp_path: Path, mode: int) -> None:
    draw_map(read_beatmap(HOSTILE.format(mode=mode)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_map_gives_the_same_picture(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    path = save_map(tmp_path / "map.osu", mode=1)
    assert cm3p_command("inspect", path, "--picture", tmp_path / "a.svg")[0] == 0
    assert cm3p_command("inspect", path, "--window", 0, "--picture", tmp_path / "b.svg")[0] == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_timeline() -> None:
    text = "osu file format v14\n[Events]\n2,1200,1900\n[TimingPoints]\n0,500,3\n1000,-50,4,2,0,60,0,1\n2000,400,4\n"
    beatmap = read_beatmap(text + "3000,-100,4,2,0,60,0,0\n[HitObjects]\n0,0,100,1,0\n0,0,2500,12,0,2900")
    timeline, part = Timeline(beatmap), Part(400.0, 3000.0)
    assert list(timeline.beats(part)) == [
        *((500.0, False), (1000.0, False), (1500.0, True)),
        *((2000.0, True), (2400.0, False), (2800.0, False)),
    ]
    assert timeline.kiai(part) == [Part(1000.0, 2000.0)] and timeline.breaks(part) == [Part(1200.0, 1900.0)]
    assert timeline.whole == Part(100.0, 2900.0) and [each.time_ms for each in timeline.inside(part)] == [
        2500.0
    ]


def test_inspect_refuses_what_is_no_map(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    (tmp_path / "page.osu").write_text("<html>")
    status, _, messages = cm3p_command("inspect", tmp_path / "page.osu")
    assert status == 1 and "not a beatmap" in messages
    save_map(tmp_path / "a" / "one.osu")
    save_map(tmp_path / "a" / "two.osu")
    status, _, messages = cm3p_command("inspect", tmp_path / "a")
    assert status == 1 and "one.osu" in messages and "two.osu" in messages
    assert cm3p_command("inspect", tmp_path / "a", "--difficulty", "TWO")[0] == 0
    assert cm3p_command("inspect", tmp_path / "a" / "one.osu", "--picture", tmp_path / "x.gif")[0] == 2
    far = tmp_path / "far.osu"
    far.write_text("osu file format v14\n[TimingPoints]\n0,500\n[HitObjects]\n1,1,1151400000,1,0")
    status, _, messages = cm3p_command("inspect", far)
    assert status == 1 and "--max-windows" in messages


def test_validate(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    root = tmp_path / "data set"
    for number in (1, 2):
        save_map(root / "data" / "set" / f"{number}.osu", mode=number, set_id=9)
    (root / "data" / "set" / "song.wav").touch()
    with (root / "data" / "set" / "2.osu").open("a") as file:
        file.write("\nx\n\ny\n")
    columns = {"Id": [1, 2, 3], "BeatmapSetId": [9] * 3, "BeatmapSetFolder": ["set"] * 3}
    columns |= {
        "BeatmapFile": ["1.osu", "2.osu", "3.osu"],
        "UserId": [5, None, None],
        "Status": ["ranked", None, None],
    }
    columns |= {"StarRating": [[1.0] * 7, None, None], "SubmittedDate": ["2012-01-01", None, None]}
    pq.write_table(pa.table(columns), root / "metadata.parquet")
    figure = tmp_path / "figure.png"
    status, out, messages = cm3p_command("validate", root, "--json", "--model", MODEL, "--figure", figure)
    found = json.loads(out)
    assert status == 3 and "3.osu" in messages and figure.stat().st_size > 1000
    assert found["maps"] == 2 and found["sets"] == 1 and found["modes"] == {"taiko": 1, "fruits": 1}
    assert found["years"] == {"2012": 1, "unknown": 1} and found["missing_audio"] == 0
    unknown = found["unknown_fields"]
    assert unknown["mapper"] == unknown["status"] == unknown["difficulty"] == 1 and unknown["tags"] == 2
    assert "mode" not in unknown and sum(found["warnings"].values()) == 2 and len(found["warnings"]) == 1
    processor = CM3PProcessor.from_pretrained(MODEL)
    maps = [root / "data" / "set" / f"{number}.osu" for number in (1, 2)]
    encoding = processor(beatmap=maps, padding=False, max_length=100_000, return_tensors=None)
    lengths = [len(ids) for ids in encoding["input_ids"]]
    tokens = found["tokens"]
    assert (found["windows"], tokens["total"], tokens["longest"]) == (
        len(lengths),
        sum(lengths),
        max(lengths),
    )
    assert sum(each["windows"] for each in tokens["histogram"]) == len(lengths)
    status, out, _ = cm3p_command("validate", root / "data")
    assert status == 0 and "2 of 1 sets" in out and "null, so UNK" in out
