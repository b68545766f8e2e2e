"""The generator of beatmaps with known style."""

import json
import math
import random
import shutil
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import make_beatmaps
import numpy as np
import pyarrow.parquet as pq
import pytest
from beatmap_generator import pieces
from beatmap_generator.arranging import arrange
from beatmap_generator.faults import plant
from beatmap_generator.mapping import ends_of, make_map
from beatmap_generator.personas import PERSONAS
from beatmap_generator.rendering import SAMPLE_RATE, measured_offset_ms, render
from beatmap_generator.rulesets.mania import column_x
from beatmap_generator.sets import plan_sets
from beatmap_generator.style import STARS, STATUSES, make_style
from beatmap_generator.tags import TAGS, tags_of
from beatmap_generator.themes import composed_theme, score_theme
from render_scores import SOUNDFONT

from cm3p.beatmap import Hold, Slider, SliderPath, Spinner, Timing, read_beatmap, write_beatmap
from cm3p.metadata import get_metadata

# The columns of the original's tables, but for Path, which the loader adds.
COLUMNS = """
Id Artist ArtistUnicode Creator FavouriteCount BeatmapSetId Nsfw Offset BeatmapSetPlayCount Source
BeatmapSetStatus Spotlight Title TitleUnicode BeatmapSetUserId Video Description GenreId GenreName
LanguageId LanguageName PackTags Ratings DownloadDisabled BeatmapSetBpm CanBeHyped DiscussionLocked
BeatmapSetIsScoreable BeatmapSetLastUpdated BeatmapSetRanked RankedDate Storyboard SubmittedDate Tags
DifficultyRating Mode Status TotalLength UserId Version Checksum MaxCombo Accuracy Ar Bpm CountCircles
CountSliders CountSpinners Cs Drain HitLength IsScoreable LastUpdated ModeInt PassCount PlayCount Ranked
Owners TopTagIds TopTagCounts StarRating OmdbTags AudioFile BeatmapSetFolder BeatmapFile
"""
PIECES = [arrange(composed_theme(name), "0") for name in ("b", "c", "a")]
TWO_TEMPI = replace(PIECES[2], tempo=[(0.0, 400.0), (64.0, 350.0)])
JIG = """X:1
T:A made jig
M:6/8
L:1/8
K:D
d|fed edB|ABA ABd|fed edB|ABA A2d|fed edB|ABA ABd|fed edB|ABA A2d|
fed edB|ABA ABd|fed edB|ABA A2|]
"""


def made(mode, stars, persona=PERSONAS[0], year=2020, status="ranked", seed="0", piece=PIECES[0]):
    return make_map(piece, make_style(mode, stars, persona, year, status, seed, piece.step_ms), seed)


def sliders(beatmap):
    return [item for item in beatmap.hit_objects if isinstance(item, Slider)]


def per_second(beatmap):
    times = [item.time_ms for item in beatmap.hit_objects]
    return 1000 * len(times) / (times[-1] - times[0])


def some_maps():
    """One map per ruleset, persona group and status, over all years and difficulties."""
    for index in range(24):
        mode = index % 4
        low, high = STARS[mode]
        status = list(STATUSES.values())[index % 3]
        stars, year = low + (high - low) * (index // 4 + 0.5) / 6, 2007 + index * 16 // 23
        yield made(mode, stars, PERSONAS[index % 12], year, status, str(index), PIECES[index % 3]), status


@pytest.fixture(scope="module")
def maps():
    return list(some_maps())


def test_maps_are_read_without_a_warning(maps):
    for beatmap, _ in maps:
        again = read_beatmap(write_beatmap(beatmap), strict=True)
        assert not again.warnings
        assert len(again.hit_objects) == len(beatmap.hit_objects) > 20


def test_no_object_is_outside_the_playfield(maps):
    for beatmap, _ in maps:
        for item in beatmap.hit_objects:
            assert 0 <= item.x <= 512 and 0 <= item.y <= 384
        for slider in sliders(beatmap) if beatmap.mode in (0, 2) else ():
            for vertex in SliderPath(slider, beatmap.version).vertices:
                assert -1 <= vertex.real <= 513 and -1 <= vertex.imag <= 385


def test_objects_do_not_overlap_in_time(maps):
    for beatmap, _ in maps:
        free_from = Counter()
        for item, end in zip(beatmap.hit_objects, ends_of(beatmap), strict=True):
            lane = item.x if beatmap.mode == 3 else 0
            assert item.time_ms > free_from[lane] - 1 or item.time_ms == 0
            free_from[lane] = end + (0 if isinstance(item, Slider | Spinner | Hold) else 1)


def test_clean_maps_start_and_end_on_the_snap_and_graveyard_maps_do_not(maps):
    def share_off(beatmap):
        timing = Timing(beatmap.timing_points)
        times = [item.time_ms for item in beatmap.hit_objects] + ends_of(beatmap)
        off = 0
        for time in times:
            point = timing.point_at(time)
            red = timing.parent_of(point) or point
            beats = (time - red.time_ms) / red.beat_length_ms
            off += min(abs(beats - round(beats * n) / n) for n in (4, 6)) * red.beat_length_ms > 2
        return off / len(times)

    for beatmap, status in maps:
        if status == "graveyard":
            assert 0.01 < share_off(beatmap) < 0.2
        else:
            assert share_off(beatmap) == 0


def test_red_lines_have_the_tempo_and_the_first_beat_of_the_piece():
    red = [point for point in made(0, 4, piece=TWO_TEMPI).timing_points if point.uninherited]
    assert [(point.time_ms, point.beat_length_ms) for point in red] == [
        (TWO_TEMPI.lead_in_ms, 400.0),
        (TWO_TEMPI.lead_in_ms + 64 * 400, 350.0),
    ]


def test_no_slider_crosses_a_change_of_tempo():
    change = TWO_TEMPI.lead_in_ms + 64 * 400
    for seed in range(12):
        beatmap = made(0, 2.2, PERSONAS[8], seed=str(seed), piece=TWO_TEMPI)
        for item, end in zip(beatmap.hit_objects, ends_of(beatmap), strict=True):
            assert not item.time_ms < change < end - 2 or isinstance(item, Spinner)


def test_kiai_is_where_the_piece_is_loudest():
    beatmap, piece = made(0, 4), PIECES[0]
    timing = Timing(beatmap.timing_points)
    for section in piece.sections:
        point = timing.point_at(piece.time_ms(section.start) + 1)
        assert bool(point.effects) == section.kiai


def test_silence_has_a_break_and_no_object():
    candidates = (arrange(composed_theme(str(index)), "0") for index in range(50))
    piece = next(piece for piece in candidates if any(section.intensity == 0 for section in piece.sections))
    silent = next(section for section in piece.sections if section.intensity == 0)
    start, end = piece.time_ms(silent.start), piece.time_ms(silent.end)
    beatmap = made(0, 4, piece=piece)
    assert not [item for item in beatmap.hit_objects if start + 1 < item.time_ms < end - 1]
    assert any(event.start_ms < (start + end) / 2 < event.end_ms for event in beatmap.breaks)


@pytest.mark.parametrize("mode", range(4))
def test_harder_maps_are_denser(mode):
    low, high = STARS[mode]
    rates = [per_second(made(mode, low + (high - low) * part)) for part in (0.1, 0.5, 0.9)]
    assert rates[1] > 1.4 * rates[0]
    assert rates[2] > 1.15 * rates[1]


def test_easy_maps_have_no_fine_snaps():
    gaps = [b.time_ms - a.time_ms for a, b in pairwise(made(0, 1.5).hit_objects)]
    assert min(gaps) >= PIECES[0].tempo[0][1] - 1


def test_personas_can_be_told_apart():
    by_name = {persona.name: persona for persona in PERSONAS}

    def pool(name, measure, mode=0, stars=4.5):
        found = [
            measure(made(mode, stars, by_name[name], seed=str(s), piece=piece))
            for s, piece in enumerate(PIECES)
        ]
        return sum(found) / len(found)

    def share(beatmap, kind):
        return sum(slider.kind == kind for slider in sliders(beatmap)) / len(sliders(beatmap))

    def stacked(beatmap):
        pairs = list(pairwise(beatmap.hit_objects))
        return sum((a.x, a.y) == (b.x, b.y) for a, b in pairs) / len(pairs)

    def sound(bit):
        return lambda beatmap: (
            sum(bool(i.hit_sound & bit) for i in beatmap.hit_objects) / len(beatmap.hit_objects)
        )

    def holds(beatmap):
        return sum(isinstance(item, Hold) for item in beatmap.hit_objects) / len(beatmap.hit_objects)

    assert pool("BrickLayer", lambda b: share(b, "L")) > 0.3
    assert pool("Estuary", lambda b: share(b, "L")) < 0.1
    assert pool("Inkwell", stacked) > 0.05 > pool("cyanotype", stacked)
    assert pool("BrickLayer", sound(8)) > 0.1 > pool("Estuary", sound(8))
    assert pool("Estuary", holds, 3, 2.5) > 2 * pool("Drumlin", holds, 3, 2.5)
    assert pool("Drumlin", lambda b: len(sliders(b))) < pool("Estuary", lambda b: len(sliders(b)))


def test_years_drift():
    old, new = made(0, 4.5, PERSONAS[7], 2008), made(0, 4.5, PERSONAS[7], 2022)
    assert any(slider.kind == "C" for slider in sliders(old)) and not any(s.kind == "C" for s in sliders(new))
    assert new.approach_rate > old.approach_rate and old.approach_rate == int(old.approach_rate)
    assert len(new.timing_points) > 1.5 * len(old.timing_points)
    sounded = [sum(item.hit_sound > 0 for item in b.hit_objects) / len(b.hit_objects) for b in (old, new)]
    assert sounded[1] > 1.3 * sounded[0]
    assert not any(point.effects for point in old.timing_points) and any(
        point.effects for point in new.timing_points
    )


def test_tags_are_those_of_the_patterns():
    ids = {tag.name: tag.id for tag in TAGS}
    assert len(ids) == len({tag.id for tag in TAGS}) == len(TAGS)
    streams = made(0, 6, PERSONAS[3])
    assert ids["skillset/streams"] in dict(tags_of(streams))
    no_streams = made(0, 2.0, PERSONAS[4])
    assert ids["skillset/streams"] not in dict(tags_of(no_streams))
    assert ids["skillset/sliders"] in dict(tags_of(no_streams))
    assert ids["style/holds"] in dict(tags_of(made(3, 1.2, PERSONAS[4])))


def test_mania_columns_are_within_the_keys(maps):
    for beatmap, _ in maps:
        if beatmap.mode == 3:
            keys = int(beatmap.circle_size)
            columns = {item.x for item in beatmap.hit_objects}
            assert columns == {column_x(column, keys) for column in range(keys)}


@pytest.mark.parametrize("mode", range(4))
def test_planted_faults_are_the_only_changes(mode):
    stars = 3.0 if mode == 3 else 4.5
    clean, faulty = made(mode, stars, PERSONAS[5]), made(mode, stars, PERSONAS[5])
    faults = plant(faulty, 9, random.Random(0))
    changed = [
        i for i, (a, b) in enumerate(zip(clean.hit_objects, faulty.hit_objects, strict=True)) if a != b
    ]
    assert [fault.object for fault in faults] == changed
    kinds = Counter(fault.kind for fault in faults)
    assert kinds["unsnapped"] >= 2 and kinds["misplaced"] >= 2
    assert bool(kinds["missing hit sound"]) == (mode != 1)
    for fault in faults:
        before, after = clean.hit_objects[fault.object], faulty.hit_objects[fault.object]
        assert after.time_ms == fault.time_ms
        if fault.kind == "unsnapped":
            assert 6 <= abs(after.time_ms - before.time_ms) <= 30
        elif fault.kind == "misplaced" and mode != 1:
            assert math.dist((before.x, before.y), (after.x, after.y)) > 40
        elif fault.kind == "missing hit sound":
            assert before.hit_sound and not after.hit_sound
    times = [item.time_ms for item in faulty.hit_objects]
    assert times == sorted(times)


def data_set(out, monkeypatch, *options):
    command = ["make_beatmaps", "--out", str(out), "--no-audio", "--score-share", "0", *options]
    monkeypatch.setattr(sys, "argv", command)
    make_beatmaps.main()
    return pq.read_table(out / "metadata.parquet").to_pylist()


def test_a_data_set_has_its_columns_files_and_splits(tmp_path, monkeypatch, capsys):
    rows = data_set(tmp_path / "set", monkeypatch, "--maps", "12", "--pieces", "4", "--seed", "0")
    assert set(rows[0]) == {*COLUMNS.split(), "Split", "Piece", "TargetStars"}
    assert len(rows) == 12 == len({row["Id"] for row in rows})
    for row in rows:
        folder = tmp_path / "set" / "data" / row["BeatmapSetFolder"]
        beatmap = read_beatmap(folder / row["BeatmapFile"], strict=True)
        assert (beatmap.beatmap_id, beatmap.beatmap_set_id) == (row["Id"], row["BeatmapSetId"])
        metadata = get_metadata(row, beatmap)
        assert metadata["year"] == row["SubmittedDate"].year and metadata["mapper"] == row["UserId"]
        assert metadata["mode"] == row["ModeInt"] and metadata["status"] == row["Status"]
        assert metadata["difficulty"] == pytest.approx(row["DifficultyRating"])
        assert sorted(row["StarRating"]) == row["StarRating"] and len(row["StarRating"]) == 7
        assert row["CountCircles"] + row["CountSliders"] + row["CountSpinners"] == len(beatmap.hit_objects)
    facts = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert "rank_correlation_of_stars" in json.loads(capsys.readouterr().out)
    train, test = ({row["Piece"] for row in rows if row["Split"] == split} for split in ("train", "test"))
    assert train and test and not train & test
    splits = facts["splits"]
    assert splits["train"]["last_set"] < splits["test"]["first_set"]
    assert splits["train"]["maps"] + splits["test"]["maps"] == 12
    assert {tag["id"] for tag in json.loads((tmp_path / "set" / "tags.json").read_text())} >= {
        tag for row in rows for tag in row["TopTagIds"]
    }


def test_one_seed_gives_one_data_set(tmp_path, monkeypatch):
    for name in ("one", "again"):
        data_set(tmp_path / name, monkeypatch, "--maps", "6", "--pieces", "2", "--seed", "3", "--faults", "4")
    data_set(tmp_path / "other", monkeypatch, "--maps", "6", "--pieces", "2", "--seed", "8", "--faults", "4")

    def contents(name):
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / name): path.read_bytes() for path in files}

    assert contents("one") == contents("again")
    assert not {path for path in contents("one") if path.suffix == ".osu"} & set(contents("other"))


def test_planted_faults_are_listed_with_their_file(tmp_path, monkeypatch):
    rows = data_set(tmp_path / "set", monkeypatch, "--maps", "6", "--pieces", "2", "--faults", "4")
    assert {row["Status"] for row in rows} == {"ranked"}
    planted = [json.loads(line) for line in (tmp_path / "set" / "planted.jsonl").read_text().splitlines()]
    assert len({fault["file"] for fault in planted}) == 6
    for fault in planted:
        beatmap = read_beatmap(tmp_path / "set" / fault["file"], strict=True)
        assert beatmap.hit_objects[fault["object"]].time_ms == fault["time_ms"]


@pytest.mark.parametrize("maps", [3, 10, 41])
def test_as_many_maps_as_asked(maps):
    plans = [entry for plan in plan_sets(PIECES, maps, 0) for entry in plan.maps]
    assert len(plans) == maps == len({entry.id for entry in plans})


def test_a_score_gives_its_bars_and_beats(tmp_path):
    (tmp_path / "jig.abc").write_text(JIG)
    theme = score_theme("ryansMammoth__jig", tmp_path / "jig.abc")
    assert theme is not None
    assert (theme.title, theme.meter, theme.ternary, theme.bars) == ("A made jig", 2, True, 11)
    assert [round(3 * note.beat) for note in theme.notes[:7]] == [0, 1, 2, 3, 4, 5, 6]
    assert min(note.beat for note in theme.notes) == 0  # the pickup is not part of it


def test_an_unreadable_score_is_left_out(tmp_path):
    (tmp_path / "no.abc").write_text("no music")
    assert score_theme("ryansMammoth__no", tmp_path / "no.abc") is None


def test_the_offset_of_the_sound_is_measured():
    piece = PIECES[0]
    samples = np.zeros(int(piece.seconds * SAMPLE_RATE), dtype=np.float32)
    for note in piece.notes:
        start = round((piece.time_ms(note.beat) + 12) * SAMPLE_RATE / 1000)
        samples[start : start + 50] += 0.5
    assert abs(measured_offset_ms(piece, samples) - 12) <= 1


def test_a_recording_of_another_arrangement_is_not_used(tmp_path, monkeypatch):
    rendered = []

    def render_stand_in(piece, path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        rendered.append(piece)
        return 5.0

    monkeypatch.setattr(pieces, "render", render_stand_in)
    for seed in ("0", "0", "1"):
        assert pieces.recording(arrange(composed_theme("a"), seed), tmp_path / "kept")[1] == 5.0
    assert len(rendered) == 2


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not SOUNDFONT.exists(),
    reason="FluidSynth or its soundfont is missing",
)
def test_a_rendered_piece_sounds_when_the_score_says(tmp_path):
    import soundfile

    piece = PIECES[1]
    offset = render(piece, tmp_path / "piece.ogg")
    facts = soundfile.info(tmp_path / "piece.ogg")
    assert facts.samplerate == SAMPLE_RATE and abs(facts.duration - piece.seconds) < 0.1
    assert 0 <= offset <= 30
