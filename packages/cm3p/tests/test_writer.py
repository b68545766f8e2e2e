"""Writing maps: what is written reads the same, whatever the map."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3p.beatmap import (
    Beatmap,
    Break,
    Circle,
    FormatError,
    Hold,
    Segment,
    Slider,
    Spinner,
    TimingPoint,
    read_beatmap,
    save_beatmap,
    write_beatmap,
)
from cm3p.beatmap.lines import curve_kind
from cm3p.beatmap.writer import write_number


@pytest.mark.parametrize("golden", ["parser_malformed", "reader_edge", "parser_snippets"])
@pytest.mark.parametrize("strict", [False, True])
def test_golden_snippets_read_the_same_after_writing(golden: str, strict: bool, golden_cases) -> None:
    written = 0
    for case in golden_cases(golden):
        try:
            beatmap = read_beatmap(case["osu_text"], strict=strict)
        except FormatError:
            continue
        text = write_beatmap(beatmap)
        assert read_beatmap(text) == beatmap, case["name"]
        assert write_beatmap(read_beatmap(text)) == text
        written += 1
    assert written >= 20


def test_nothing_of_a_file_is_lost() -> None:
    text = (
        "osu file format v128\n\n[General]\nAudioFilename: a.mp3\nMode: 0\nSkinPreference:x\n\n"
        "[Editor]\nBookmarks: 1,2\n\n[Metadata]\nTitle:T\nArtist:A\nCreator:C\nVersion:V\nBeatmapID:\n\n"
        "[Difficulty]\nHPDrainRate:5.50\nCircleSize:NaN\nOverallDifficulty:5\n\n"
        "[Events]\n2,100,200\nSprite,x\n M,0,1\n\n[TimingPoints]\n0.5,333.25,3,2,1,50,1,9\n5,NaN,4,0,0,100,0,0\n\n"
        "[Colours]\nCombo1 : 1,2,3\n\n[Strange]\nx y\n\n[HitObjects]\n"
        "1.5,2,3.25,1,0,0:0:0:0:\n1,2,5,2,0,P|3:4|B|7:8.5|B3|0:0|2:2|9:1,2,30,0|2|0,0:0|1:0|0:0\n"
    )
    written = write_beatmap(read_beatmap(text))
    expected = text.replace("SkinPreference:x", "SkinPreference: x")
    assert written == expected
    assert read_beatmap(written) == read_beatmap(text)


def test_a_made_map_has_what_the_original_asks_for() -> None:
    beatmap = made(hit_objects=[Circle(1, 2, 3, 1, 0)])
    again = read_beatmap(write_beatmap(beatmap), strict=True)
    assert (again.circle_size, again.hit_objects) == (5, beatmap.hit_objects)


@pytest.mark.parametrize(
    "text", ["osu file format v14\n[HitObjects]\n1,1,1,1,0\n", "[Difficulty]\nCircleSize:3\n"]
)
def test_a_file_without_a_header_gets_none(text: str) -> None:
    written = write_beatmap(read_beatmap(text))
    assert read_beatmap(written) == read_beatmap(text)
    assert not any(key in written for key in ("Title", "HPDrainRate"))


def test_changed_fields_are_written_and_defaults_are_not() -> None:
    text = "osu file format v14\n[Metadata]\nTitle:old\nTags:a  b\n[Difficulty]\nSliderMultiplier:2.00\n"
    beatmap = read_beatmap(text)
    beatmap.title, beatmap.beatmap_id, beatmap.slider_multiplier = "new", 7, 1.4
    beatmap.title_unicode = "new"
    written = write_beatmap(beatmap)
    assert "Title:new\n" in written
    assert "BeatmapID:7\n" in written
    assert "Tags:a  b\n" in written
    assert not any(
        key in written for key in ("SliderMultiplier", "StackLeniency", "ApproachRate", "TitleUnicode")
    )
    assert read_beatmap(written).title == "new"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-0.5, "-0.5"), (0.1 + 0.2, "0.30000000000000004"), (1e30, str(10**30 + 19884624838656)),
     (math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert write_number(value) == text
    assert repr(float(text)) == repr(value)


def made(**kwargs) -> Beatmap:
    return Beatmap(timing_points=[TimingPoint(0, 500)], **kwargs)


@pytest.mark.parametrize(
    ("beatmap", "field"),
    [
        (made(title="two\nlines", title_unicode="x"), "title"),
        (made(creator=" space"), "creator"),
        (made(tags=["a b"]), "tags"),
        (made(mode=7), "mode"),
        (made(circle_size=math.nan), "circle_size"),
        (made(hit_objects=[Circle(math.nan, 0, 0, 1, 0)]), "hit_objects"),
        (made(hit_objects=[Circle(0, 0, 0, 2, 0)]), "hit_objects"),
        (made(hit_objects=[Circle(0, 0, 0, 1, 0, "1,2")]), "hit_objects"),
        (made(hit_objects=[Slider(0, 0, 0, 2, 0, points=[(5, 5), (6, 6)], length=1)]), "hit_objects"),
        (made(breaks=[Break(math.inf, 2)]), "breaks"),
        (Beatmap(timing_points=[TimingPoint(math.inf, 500)]), "timing_points"),
        (made(lines={"Events": ["//comment"]}), "lines"),
        (made(header={"Editor": {"a": "b\nc"}}), "a of [Editor]"),
    ],
)
def test_a_map_that_would_read_differently_is_refused(beatmap: Beatmap, field: str) -> None:
    with pytest.raises(FormatError) as caught:
        write_beatmap(beatmap)
    assert field in str(caught.value)


def test_a_file_gets_back_the_bytes_that_were_not_utf8(tmp_path: Path) -> None:
    head = b"osu file format v14\n\n[Metadata]\nTitle:\xff\xfe\n\n"
    content = head + b"[TimingPoints]\n0,500,4,0,0,100,1,0\n\n[HitObjects]\n"
    (tmp_path / "old.osu").write_bytes(content)
    save_beatmap(read_beatmap(tmp_path / "old.osu"), tmp_path / "new.osu")
    assert (tmp_path / "new.osu").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.osu", "old.osu"]


finite = st.floats(-1e6, 1e6) | st.integers(-5000, 5000).map(float)
words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), max_size=8).map(str.strip)
samples = st.sampled_from(["0:0:0:0:", "1:2:3:40:a.wav", "0:3:0:0:"])
common = {"x": finite, "y": finite, "time_ms": finite, "hit_sound": st.integers(0, 15)}
combo = st.sampled_from([0, 4, 20])
circles = st.builds(Circle, **common, type=combo.map(lambda bits: bits | 1), sample=samples)
spinners = st.builds(
    Spinner, **common, type=combo.map(lambda bits: bits | 8), end_time_ms=finite, sample=samples
)
holds = st.builds(Hold, **common, type=combo.map(lambda bits: bits | 128), end_time_ms=finite, sample=samples)


@st.composite
def sliders(draw) -> Slider:
    made = draw(st.builds(Slider, **common, type=combo.map(lambda bits: bits | 2), length=st.floats(0, 1e4)))
    made.repeat = draw(st.integers(1, 9))
    made.points = [(made.x, made.y), *draw(st.lists(st.tuples(finite, finite), min_size=1, max_size=6))]
    made.curve = draw(st.sampled_from("BCLP"))
    cuts = sorted(draw(st.sets(st.integers(1, len(made.points) - 1), max_size=2)))
    if cuts:
        others = [
            Segment(*draw(st.sampled_from([("B", 0), ("B", 3), ("L", 0), ("P", 0)])), cut) for cut in cuts
        ]
        made.segments, made.kind = [Segment(made.curve, 0, 0), *others], made.curve
    else:
        made.kind = curve_kind(made.curve, made.points)
    made.edge_sounds = draw(st.lists(st.integers(0, 15), max_size=3))
    made.edge_sets = draw(st.lists(st.sampled_from(["0:0", "1:3"]), max_size=3))
    made.sample = draw(samples)
    return made


timing_points = st.builds(
    TimingPoint, finite, st.floats(1, 1e5) | st.floats(-1e4, -1), st.integers(1, 9), st.integers(0, 3),
    st.integers(0, 9), st.integers(0, 100), st.booleans(), st.integers(0, 9),
)  # fmt: skip
maps = st.builds(
    Beatmap, version=st.integers(3, 128), mode=st.integers(0, 3), title=words, artist_unicode=words,
    tags=st.lists(words.filter(bool), max_size=3), beatmap_id=st.none() | st.integers(-5, 5), source=words,
    overall_difficulty=st.floats(0, 10), approach_rate=st.floats(0, 10), slider_multiplier=st.floats(0.4, 3.6),
    timing_points=st.lists(timing_points, min_size=1, max_size=4),
    breaks=st.lists(st.builds(Break, finite, finite), max_size=2),
    hit_objects=st.lists(st.one_of(circles, sliders(), spinners, holds), max_size=6),
)  # fmt: skip


@given(maps)
@settings(max_examples=40, deadline=None)
def test_made_maps_read_the_same_after_writing(beatmap: Beatmap) -> None:
    again = read_beatmap(write_beatmap(beatmap))
    assert replace(again, header={}) == beatmap
    assert read_beatmap(write_beatmap(again)) == again


def facts(**source: str) -> list[object]:
    """Counts, highest combo and stars of an independent implementation, in all rulesets that the map has."""
    rosu = pytest.importorskip("rosu_pp_py")
    beatmap = rosu.Beatmap(**source)
    found = [beatmap.n_circles, beatmap.n_sliders, beatmap.n_spinners, beatmap.n_holds, str(beatmap.mode)]
    modes = [None]
    if beatmap.mode == rosu.GameMode.Osu:
        modes += [rosu.GameMode.Taiko, rosu.GameMode.Catch, rosu.GameMode.Mania]
    for mode in modes:
        if mode is not None:
            beatmap = rosu.Beatmap(**source)
            beatmap.convert(mode, None)
        attributes = rosu.Difficulty().calculate(beatmap)
        found += [attributes.stars, attributes.max_combo]
    return found


def test_real_maps_are_as_difficult_as_before(real_maps: Path) -> None:
    files = sorted((real_maps / "osu").rglob("*.osu"))
    assert len(files) >= 150
    for file in files:
        beatmap = read_beatmap(file)
        text = write_beatmap(beatmap)
        assert read_beatmap(text) == beatmap, file.name
        assert facts(content=text) == facts(path=str(file)), file.name


@pytest.mark.parametrize("space", [" ", "\t", "\u3000"])
def test_space_at_the_end_of_edge_sets_survives(space: str) -> None:
    """The default sample may be left out only where the line does not end with space then, which nobody reads."""
    line = f"0,0,0,2,0,L|10:10,1,10,2|2,0:0|0:{space},0:0:0:0:"
    head = "osu file format v14\n\n[General]\nMode: 1\n\n[TimingPoints]\n0,500\n\n[HitObjects]\n"
    beatmap = read_beatmap(f"{head}{line}\n")  # edges of other rulesets are repaired
    (slider,) = beatmap.hit_objects
    assert isinstance(slider, Slider) and slider.edge_sets[-1] == f"0:{space}"
    assert read_beatmap(write_beatmap(beatmap)) == beatmap
