"""Reading maps: what the original's reader accepts, what the tolerant mode mends, and what is no beatmap."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import pytest

from cm3p.beatmap import (
    Circle,
    FormatError,
    Hold,
    NotABeatmap,
    Segment,
    Slider,
    Spinner,
    read_beatmap,
    write_beatmap,
)
from cm3p.beatmap.lines import LATEST_MS

HEAD = """osu file format v14

[General]
AudioFilename: a.mp3
Mode: {mode}

[Metadata]
Title:T
Artist:A
Creator:C
Version:V

[Difficulty]
HPDrainRate:5
CircleSize:4
OverallDifficulty:5

[TimingPoints]
{points}

[HitObjects]
{objects}
"""
# What the original refuses later than its reader: in the tokens, or only with distances.
NOT_THE_READER = {
    ("tp_nan_inherited_mania", "v7"),
    ("hold_in_std", "v1"),
    ("hold_in_catch", "v1"),
    ("huge_coordinate", "v1"),
}
SILENT = {
    *("event_background_noquotes", "event_line_starting_1", "event_storyboard_indented", "ho_empty_sample"),
    *("ho_float_time", "hold_comma", "hold_no_sample", "slider_b_segment_ext", "slider_short_fields"),
    "trailing_comma_circle",
}


def text(objects: str = "", *, points: str = "0,500,4,1,0,60,1,0", mode: int = 0) -> str:
    return HEAD.format(objects=objects, points=points, mode=mode)


def first(line: str, **kwargs):
    """The object of a line in tolerant mode, and the messages of the warnings."""
    beatmap = read_beatmap(text(line, **kwargs))
    return (beatmap.hit_objects or [None])[0], [warning.message for warning in beatmap.warnings]


@pytest.mark.parametrize("golden", ["parser_malformed", "reader_edge", "parser_snippets"])
def test_strict_mode_refuses_what_the_original_refuses(golden, golden_cases) -> None:
    outcomes = {True: 0, False: 0}
    for case in golden_cases(golden):
        if (case["name"], case["config"]) in NOT_THE_READER:
            continue
        try:
            read_beatmap(case["osu_text"], strict=True)
            accepted = True
        except FormatError:
            accepted = False
        assert accepted == ("error" not in case["result"]), case["name"]
        outcomes[accepted] += 1
    assert outcomes[True] >= 20
    assert golden == "parser_snippets" or outcomes[False] >= 5


def test_tolerant_mode_reads_everything_and_the_same_where_strict_mode_does(golden_cases) -> None:
    silent = set()
    for golden in ("parser_malformed", "reader_edge", "parser_snippets"):
        for case in golden_cases(golden):
            if not case["osu_text"]:
                continue
            beatmap = read_beatmap(case["osu_text"])
            try:
                strict = read_beatmap(case["osu_text"], strict=True)
            except FormatError:
                if not beatmap.warnings:
                    silent.add(case["name"])
            else:
                assert beatmap == strict, case["name"]
    # Ordinary in old maps, in those of the current client, and in storyboards.
    assert silent == SILENT


def test_all_kinds_of_objects() -> None:
    beatmap = read_beatmap(
        text(
            "10.7,20,1000,5,2,1:2:0:40:clap.wav\n"
            "1,2,1500,2,8,P|3:9|7:2,2,70.5,2|0|4,0:0|1:2|0:0,0:0:0:0:\n"
            "256,192,3000,12,0,4000,0:0:0:0:\n"
            "64,192,5000,128,0,5500:0:0:0:0:\n"
        ),
        strict=True,
    )
    assert beatmap.warnings == []
    assert beatmap.hit_objects == [
        Circle(10.7, 20.0, 1000.0, 5, 2, "1:2:0:40:clap.wav"),
        Slider(
            1.0, 2.0, 1500.0, 2, 8, "P", "P", [(1, 2), (3, 9), (7, 2)], 2, 70.5, [], [2, 0, 4], ["0:0", "1:2", "0:0"]
        ),
        Spinner(256.0, 192.0, 3000.0, 12, 0, 4000.0),
        Hold(64.0, 192.0, 5000.0, 128, 0, 5500.0),
    ]  # fmt: skip
    assert [item.new_combo for item in beatmap.hit_objects] == [True, False, True, False]


def test_header_fields_and_defaults() -> None:
    beatmap = read_beatmap(
        "osu file format v9\n[General]\nAudioFilename: s.mp3\nMode: 3\n[Metadata]\nTitle:a:b\nArtist:x\n"
        "Creator:c\nVersion:v\nTags:one  two\nBeatmapID:12\nBeatmapSetID:-1\n[Difficulty]\nHPDrainRate:2\n"
        "CircleSize:7\nOverallDifficulty:8.5\n[TimingPoints]\n1,2\n[HitObjects]\n1,1,1,1,0\n",
        strict=True,
    )
    assert (beatmap.version, beatmap.mode, beatmap.audio_filename) == (9, 3, "s.mp3")
    assert (beatmap.title, beatmap.title_unicode, beatmap.artist_unicode) == ("a:b", "a:b", "x")
    assert (beatmap.tags, beatmap.beatmap_id, beatmap.beatmap_set_id) == (["one", "two"], 12, -1)
    assert (beatmap.overall_difficulty, beatmap.approach_rate) == (8.5, 8.5)
    assert (beatmap.slider_multiplier, beatmap.slider_tick_rate, beatmap.stack_leniency) == (1.4, 1.0, 0.0)
    point = beatmap.timing_points[0]
    assert (point.time_ms, point.beat_length_ms, point.meter, point.volume, point.uninherited) == (
        1,
        2,
        4,
        100,
        True,
    )


def test_missing_header_takes_the_defaults_of_the_game() -> None:
    beatmap = read_beatmap("osu file format v14\n[Metadata]\nTitle:only\n")
    assert (beatmap.title, beatmap.artist, beatmap.creator, beatmap.audio_filename) == ("only", "", "", "")
    assert (beatmap.hp_drain_rate, beatmap.circle_size, beatmap.overall_difficulty) == (5, 5, 5)
    assert [(point.time_ms, point.beat_length_ms) for point in beatmap.timing_points] == [(0, 1000)]
    assert any("no AudioFilename" in warning.message for warning in beatmap.warnings)


def test_a_warning_says_where_and_what(tmp_path: Path) -> None:
    path = tmp_path / "map.osu"
    path.write_text(text("nonsense\n1,1,5,1,0"), encoding="utf-8")
    (warning,) = read_beatmap(path).warnings
    assert (warning.file, warning.line, warning.column, warning.text) == (str(path), 22, 1, "nonsense")
    assert str(warning) == (
        f"{path}:22:1: an object has at least a position, a time and a type; the line is left out: 'nonsense'"
    )
    with pytest.raises(FormatError, match=r"at least 5 fields: 'nonsense'") as caught:
        read_beatmap(path, strict=True)
    assert (caught.value.path, caught.value.line, caught.value.column) == (str(path), 22, 1)


@pytest.mark.parametrize(
    ("line", "column"),
    [("  1,2,x,1,0", 7), ("1,2,3,2,0,L|a:b,1,9", 11), ("1,NaN,3,1,0", 3), ("1,2,3,1,0,:", 11), ("1,2,3", 1)],
)
def test_a_warning_names_the_field_by_its_column(line: str, column: int) -> None:
    (warning,) = read_beatmap(text(line)).warnings
    assert (warning.line, warning.column) == (22, column)
    with pytest.raises(FormatError) as caught:
        read_beatmap(text(line), strict=True)
    assert (caught.value.line, caught.value.column) == (22, column)


def test_a_warning_about_a_key_points_to_its_value() -> None:
    (warning,) = read_beatmap(text().replace("CircleSize:4", "CircleSize:big")).warnings
    assert (warning.line, warning.column, warning.text) == (15, 12, "CircleSize:big")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"  \n\n",
        b"<!DOCTYPE html>\n<html><body>404</body></html>",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"PK\x03\x04\x14\x00\x00\x00",
        b"[1, 2]",
        b"[package]\nname = 1\n",
        b"[Events]\nSprite,Foreground,Centre,\"x.png\",320,240\n",  # a storyboard
        b"osu file format v14\n",
        b"\xff\xfe\x00\x00",
        b"just some words",
    ],
)  # fmt: skip
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_no_beatmap_is_never_an_empty_map(content: bytes, strict: bool) -> None:
    with pytest.raises(FormatError) as caught:
        read_beatmap(content, strict=strict, name="thing")
    assert strict or isinstance(caught.value, NotABeatmap)
    assert str(caught.value).startswith("thing")


def test_an_archive_and_a_missing_file_are_no_beatmaps(tmp_path: Path) -> None:
    path = tmp_path / "map.osu"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("map.osu", text())
    with pytest.raises(NotABeatmap, match="PK"):
        read_beatmap(path)
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        read_beatmap(tmp_path / "none.osu")
    with pytest.raises(FormatError, match="cannot be read: Is a directory"):
        read_beatmap(tmp_path)


@pytest.mark.parametrize(
    ("start", "version"),
    [
        ("[General]\nMode: 1\n", 14),
        ("osu file format v7 \n[General]\nMode: 1\n", 7),
        ("osu file format vX\n[General]\nMode: 1\n", 14),
        ("??osu file format v9!\n[General]\nMode: 1\n", 9),
        ("\n \n  osu file format v5\n[General]\nMode: 1\n", 5),
    ],
)
def test_garbled_first_lines(start: str, version: int) -> None:
    beatmap = read_beatmap(start)
    assert (beatmap.version, beatmap.mode) == (version, 1)
    garbled = [warning.message for warning in beatmap.warnings if "version" in warning.message]
    assert bool(garbled) == ("v5" not in start)


def test_encodings() -> None:
    content = text("1,1,1,1,0").replace("Title:T", "Title:作")
    assert read_beatmap(b"\xef\xbb\xbf" + content.encode(), strict=True).title == "作"
    utf16 = read_beatmap(content.encode("utf-16"))
    assert utf16.title == "作"
    assert "UTF-16" in utf16.warnings[0].message
    with pytest.raises(FormatError, match="UTF-16"):
        read_beatmap(content.encode("utf-16"), strict=True)
    assert read_beatmap("\ufeff" + content).title == "作"
    with pytest.raises(FormatError, match="byte order mark"):
        read_beatmap("\ufeff" + content, strict=True)
    raw = content.encode().replace("作".encode(), b"ab\xffc")
    beatmap = read_beatmap(raw)
    assert beatmap.title.encode(errors="surrogateescape") == b"ab\xffc"
    assert [(w.line, w.column) for w in beatmap.warnings] == [(8, 9)]
    with pytest.raises(FormatError, match="not UTF-8"):
        read_beatmap(raw, strict=True)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends(newline: str) -> None:
    beatmap = read_beatmap(text("1,1,1,1,0").replace("\n", newline).encode(), strict=True)
    assert len(beatmap.hit_objects) == 1


def test_slider_of_several_typed_segments_with_floats() -> None:
    line = "63.25,301,9802.971085604488,6,0,P|224:57|B|439:298|131:316|B3|322:169.5|155:194,1,1040.5,0|0"
    slider, warnings = first(line)
    assert warnings == []
    assert (slider.x, slider.time_ms, slider.length) == (63.25, 9802.971085604488, 1040.5)
    assert slider.points == [(63.25, 301), (224, 57), (439, 298), (131, 316), (322, 169.5), (155, 194)]
    assert slider.segments == [Segment("P", 0, 0), Segment("B", 0, 2), Segment("B", 3, 4)]
    assert slider.curve == "P"


@pytest.mark.parametrize(
    ("curve", "kind"),
    [("P|10:0|10:10", "P"), ("P|10:0|20:0", "B"), ("P|10:0", "B"), ("P|10:0|10:10|0:0", "B"), ("C|1:1", "C")],
)
def test_kind_of_a_whole_curve(curve: str, kind: str) -> None:
    slider, _ = first(f"0,0,1,2,0,{curve},1,10")
    assert (slider.kind, slider.curve) == (kind, curve[0])


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("1,2,3,1", lambda item: item.hit_sound == 0),
        ("1,2,3.5,1,0", lambda item: item.time_ms == 3.5),
        ("1,2,3,1.0,2.0", lambda item: (item.type, item.hit_sound) == (1, 2)),
        ("1,2,3,1,0,", lambda item: item.sample == "0:0:0:0:"),
        ("1,2,3,1,0,2", lambda item: item.sample == "2:0:0:0:"),
        ("1,2,3,1,0,2:x:1::a:b", lambda item: item.sample == "2:0:1:0:a:b"),
        ("1,2,3,1,0,0:0:0:0:,9", lambda item: item.sample == "0:0:0:0:"),
        ("1,2,3,2,0,Z|5:5,1,9", lambda item: (item.curve, item.points) == ("B", [(1, 2), (5, 5)])),
        ("1,2,3,2,0,L,1,9", lambda item: item.points == [(1, 2)]),
        ("1,2,3,2,0,L|4:6,0,5", lambda item: item.repeat == 1),
        ("1,2,3,2,0,L|4:6,1", lambda item: item.length == 5),
        (
            "1,2,3,2,0,L|4:6,1,5,a|2,:|1",
            lambda item: (item.edge_sounds, item.edge_sets) == ([0, 2], ["0:0", "1:0"]),
        ),
        ("1,2,3,2,0,L|4:6|B,1,5", lambda item: item.segments == []),
        ("1,2,3,128,0,9", lambda item: (item.end_time_ms, item.sample) == (9, "0:0:0:0:")),
        ("1,2,3,128,0", lambda item: item.end_time_ms == 3),
        ("1,2,3,128,0,9,1:2:0:0:", lambda item: (item.end_time_ms, item.sample) == (9, "1:2:0:0:")),
    ],
)
def test_lines_that_are_mended(line: str, check) -> None:
    item, _ = first(line)
    assert check(item), item
    with pytest.raises(FormatError):
        read_beatmap(text(line), strict=True)


@pytest.mark.parametrize(
    "line",
    [
        "1,2,3", "x,2,3,1,0", "NaN,2,3,1,0", "inf,2,3,1,0", "1,2,NaN,1,0", "1,2,1e30,1,0", "1,2,3,0,0", "1,2,3,4,0",
        "1,2,3,8,0", "1,2,3,8,0,x", "1,2,3,2,0", "1,2,3,2,0,L|NaN:5,1,9", "1,2,3,2,0,L|5,1,9", "1,2,3,2,0,L|5:5,1,NaN",
        "1,2,3,2,0,L|5:5,9001,9", "1,2,3,2,0,L|a:b,1,9", "1,2,3,128,0,x:0:0:0:0:",
    ],
)  # fmt: skip
def test_lines_that_are_left_out(line: str) -> None:
    beatmap = read_beatmap(text(f"{line}\n9,9,9,1,0"))
    assert [item.x for item in beatmap.hit_objects] == [9]
    assert "left out" in beatmap.warnings[0].message
    with pytest.raises(FormatError):
        read_beatmap(text(line), strict=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("5,400.5,3.0,x", (5, 400.5, 3, 0)),
        ("5,400,0", (5, 400, 4, 0)),
        ("5,0,4,1,0,60,0,1", (5, -100, 4, 1)),
        ("5,NaN,4,2,0,60,0,1", None),
    ],
)
def test_timing_points_that_are_mended_or_kept(line: str, expected) -> None:
    point = read_beatmap(text(points=f"0,500\n{line}")).timing_points[1]
    if expected is None:
        assert math.isnan(point.beat_length_ms)
    else:
        assert (point.time_ms, point.beat_length_ms, point.meter, point.sample_set) == expected


@pytest.mark.parametrize(
    "line",
    [
        "SliderBorder:BMAPI.Colour",
        "5",
        "x,500",
        "NaN,500",
        "1e300,500",
        "5,x",
        "5,0",
        "-inf,500,4,2,1,60,1,0",
    ],
)
def test_timing_points_that_are_left_out(line: str) -> None:
    beatmap = read_beatmap(text(points=f"0,500\n{line}"))
    assert [point.time_ms for point in beatmap.timing_points] == [0]
    assert len(beatmap.warnings) == 1
    with pytest.raises(FormatError):
        read_beatmap(text(points=f"0,500\n{line}"), strict=True)


def test_numbers_without_end_do_not_reach_durations() -> None:
    slider = "1,2,1000,2,0,L|4:6,1,5"
    for points in ("0,NaN", "0,inf", "-1,1E+90"):
        beatmap = read_beatmap(text(slider, points=points))
        assert [point.beat_length_ms for point in beatmap.timing_points] == [1000]
        assert len(beatmap.hit_objects) == 1
        with pytest.raises(FormatError):
            read_beatmap(text(slider, points=points), strict=True)
    # Without a slider nothing depends on them, and the original reads them.
    assert math.isinf(
        read_beatmap(text("1,2,3,1,0", points="0,inf"), strict=True).timing_points[0].beat_length_ms
    )
    endless = read_beatmap(text("1,2,1000,2,0,L|4:6,9000,1e59\n" + slider))
    assert [item.length for item in endless.hit_objects] == [5]


def test_difficulty_that_is_not_finite() -> None:
    content = text("1,2,1000,2,0,L|4:6,1,5").replace("CircleSize:4", "CircleSize:NaN\nSliderMultiplier:0")
    beatmap = read_beatmap(content)
    assert (beatmap.circle_size, beatmap.slider_multiplier) == (5.0, 1.4)
    assert beatmap.header["Difficulty"]["CircleSize"] == "NaN"
    assert read_beatmap(write_beatmap(beatmap)) == beatmap  # the multiplier is written as it was taken
    with pytest.raises(FormatError, match="SliderMultiplier is 0"):
        read_beatmap(content, strict=True)


def test_a_contest_map_with_hostile_numbers() -> None:
    anchors = "|".join(f"{i % 512}:{i % 384}" for i in range(30_000))
    content = text(
        f"256,192,-2147481848,2,0,B|{anchors},1,300\n1,1,1151400000,1,0",
        points="-200000001,NaN\n0,1E-298\n10,Infinity\n20,-1E-298,4,1,0,60,0,0\n1151400000,500",
    ).replace("Mode: 0", "Mode: 0\nStackLeniency: NaN\n[Editor]\nBookmarks: NaN")
    beatmap = read_beatmap(content)
    assert len(beatmap.hit_objects[0].points) == 30_001
    assert beatmap.stack_leniency == 0
    assert all(-LATEST_MS < item.time_ms < LATEST_MS for item in beatmap.hit_objects)


def test_sections() -> None:
    content = text("1,1,1,1,0")
    assert len(read_beatmap(content.replace("[HitObjects]", "[ HitObjects ]")).hit_objects) == 1
    twice = read_beatmap(content + "[HitObjects]\n2,2,2,1,0\n", strict=True)
    assert [item.x for item in twice.hit_objects] == [2]
    assert "replaces" in twice.warnings[0].message
    kept = read_beatmap(content + "[Colours]\nCombo1 : 1,2,3\n//gone\n[Strange]\nwhatever\n")
    assert kept.lines == {"Colours": ["Combo1 : 1,2,3"], "Strange": ["whatever"]}


def test_events_are_kept_with_their_indentation_and_breaks_are_read() -> None:
    events = "[Events]\n0,0,bg.jpg,0,0\n2,100,200\nSprite,x\n M,0,1\n\n[TimingPoints]"
    beatmap = read_beatmap(text().replace("[TimingPoints]", events))
    assert beatmap.lines["Events"] == ["0,0,bg.jpg,0,0", "Sprite,x", " M,0,1"]
    assert [(b.start_ms, b.end_ms) for b in beatmap.breaks] == [(100, 200)]
