"""The two-voice dialect: verdicts and reasons of its checker, its writers, conversion and repair."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from notagen.cli import app
from notagen.files.check import check_files
from notagen.files.convert import convert
from notagen.musicxml import abc_to_musicxml
from notagen.yue2 import Bar, DialectError, check, read_song
from notagen.yue2.checking import read_music
from notagen.yue2.conversion import Choice, chord_symbol, convert_to_yue2
from notagen.yue2.grid import Grid
from notagen.yue2.repairing import repair_yue2
from notagen.yue2.tools import compile_events, differences, strip_chords
from pentatonic.errors import FormatError, UsageError

CASES = json.loads((Path(__file__).parent / "goldens" / "yue2" / "cases.json").read_text())["cases"]


def cases(op: str) -> list[object]:
    return [pytest.param(case, id=case["name"]) for case in CASES if case["op"] == op]


@pytest.mark.parametrize("case", cases("inspect"))
def test_verdicts_and_reasons(case: dict) -> None:
    song, errors = check(case["input"])
    assert (song is not None) == case["valid"]
    assert (errors[0].kind if errors else None) == case["reason_kind"]
    for name, value in (case.get("at") or {}).items():
        assert getattr(errors[0], name) == value
    if song is None:
        return
    output = case["output"]
    assert (song.bpm, str(song.unit)) == (output["bpm"], output["unit_length"])
    assert str(song.length) == output["duration_quarters"]
    assert song.duration_s == pytest.approx(output["nominal_duration_seconds"], rel=1e-12)
    for name, expected in output["voices"].items():
        voice = song.voices[name]
        assert len(voice.bars) == expected["measures"]
        assert [[str(n.onset), n.pitch, str(n.duration)] for n in voice.notes] == expected["notes"]
        assert [[str(onset), symbol] for onset, symbol in voice.chords] == expected["chords"]
        assert [[str(time), key] for time, key in voice.keys] == expected["keys"]
        assert [[str(a), str(b), list(meter)] for a, b, meter in voice.bars] == expected["bars"]


@pytest.mark.parametrize("case", cases("strip-chords"))
def test_chord_symbols_are_dropped(case: dict) -> None:
    assert strip_chords(case["input"], case["keep_voice"]) == case["output_text"]


@pytest.mark.parametrize("case", cases("compare"))
def test_comparison(case: dict) -> None:
    options = {"voices": case["voices"], "allow_tempo_change": case["allow_tempo_change"]}
    assert differences(case["input"], case["input_after"], **options) == case["differences"]


@pytest.mark.parametrize("case", cases("compile-events"))
def test_events_become_text(case: dict) -> None:
    if case["valid"]:
        assert compile_events(case["input_events"]) == case["output_text"]
    else:
        with pytest.raises(DialectError) as caught:
            compile_events(case["input_events"])
        assert caught.value.kind == case["reason_kind"]


LEAD = """X:1
T:Song
L:1/8
Q:1/4=90
M:4/4
K:G
V:1 nm="Voice"
V:2 nm="Flute"
V:1
"G"G2 |: "Em7"^c3- c B2 A2 | [DG]8 :| z6 |]
w:la la
V:2
z2 |: Z | d8- :| d6 |]
"""


def sounding(text: str, voice: str) -> list[tuple[Fraction, int, Fraction]]:
    return [(note.onset, note.pitch, note.duration) for note in read_song(text).voices[voice].notes]


def test_a_lead_sheet_becomes_its_score() -> None:
    made = convert_to_yue2(LEAD)
    q = Fraction(1, 2)
    bar = [(0, 73, 4), (4, 71, 2), (6, 69, 2), (8, 67, 8)]  # in eighths since the start of the bar
    assert sounding(made.text, "Vocal") == [
        (6 * q, 67, 2 * q),
        *((start * q + onset * q, pitch, length * q) for start in (8, 24) for onset, pitch, length in bar),
    ]
    # The tie from the last note of the repeat leads on; back to the start of the repeat it does not.
    assert sounding(made.text, "Ins") == [(16 * q, 74, 8 * q), (32 * q, 74, 14 * q)]
    song = read_song(made.text)
    assert (song.bpm, song.unit, song.length) == (90, Fraction(1, 16), 24)
    assert song.voices["Vocal"].chords[:2] == [(Fraction(3), "G"), (Fraction(4), "Em7")]
    assert made.losses == {
        "repeats and jumps, written out": 1,
        "lines of lyrics": 1,
        "a short first or last bar, filled with rests": 2,
        "lower notes of chords": 2,
    }


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(DialectError, match="such as a triplet"):
        convert_to_yue2("X:1\nL:1/4\nM:4/4\nK:C\n(3CDE F2|]\n")


BAND = """X:1
T:Band
L:1/8
M:4/4
K:C
V:1 nm="Flute"
V:2 nm="Piano"
V:3 nm="Tenor"
V:4 nm="Piano"
V:5 clef=perc nm="Drums"
V:1
c8|]
V:2
"C"d4- "G7"d4|]
V:3
e8|]
V:4
f8|]
V:5
g8|]
"""


@pytest.mark.parametrize(
    ("choice", "pitches", "chords"),
    [
        ({}, (76, 72), ["C", "G7"]),  # the voice that is sung, the first other one, the only chord symbols
        ({"vocal": "1"}, (72, 74), ["C", "G7"]),
        ({"vocal": "piano"}, (74, 72), ["C", "G7"]),  # of several of one name the first
        ({"ins": "3"}, (None, 76), ["C", "G7"]),
        ({"vocal": "4", "ins": " Tenor "}, (77, 76), ["C", "G7"]),
        ({"vocal": "none"}, (None, 72), ["C", "G7"]),
        ({"vocal": "Tenor", "ins": "none", "chords": "none"}, (76, None), []),
        ({"chords": "Flute"}, (76, 72), []),
    ],
)
def test_the_voices_can_be_chosen(choice: dict, pitches: tuple, chords: list[str]) -> None:
    made = convert_to_yue2(BAND, Choice(**choice))
    for name, pitch in zip(("Vocal", "Ins"), pitches, strict=True):
        assert [pitch for _, pitch, _ in sounding(made.text, name)] == ([] if pitch is None else [pitch])
    assert [symbol for _, symbol in read_song(made.text).voices["Vocal"].chords] == chords
    assert made.losses["voices that are left out"] == 5 - len([pitch for pitch in pitches if pitch])
    assert made.losses.get("chord symbols of other voices", 0) == 2 - len(chords)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"vocal": "Oboe"}, r"no voice 'Oboe'; allowed are 1 \(Flute\), 2 \(Piano\), .*, and none"),
        ({"chords": "7"}, "no voice '7'"),
        ({"ins": "Drums"}, "is percussion"),
        ({"vocal": "2", "ins": "Piano"}, "both the voice 2"),
    ],
)
def test_a_wrong_choice_is_named(choice: dict, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        convert_to_yue2(BAND, Choice(**choice))


TRIPLETS = 'X:1\nL:1/4\nM:4/4\nQ:1/4=90\nK:C\n"C"(3CD"G"E c2|(3e/f/g/ a z2|]\n'


def test_times_go_to_a_grid_on_request() -> None:
    with pytest.raises(DialectError, match=r"such as a triplet; a grid \(--grid 16\)"):
        convert_to_yue2(TRIPLETS)
    made = convert_to_yue2(TRIPLETS, Choice(grid=16))
    assert [(4 * onset, pitch, 4 * length) for onset, pitch, length in sounding(made.text, "Ins")] == [
        *((0, 60, 3), (3, 62, 2), (5, 64, 3), (8, 72, 8), (16, 76, 1), (17, 77, 2), (19, 79, 1), (20, 81, 4))
    ]
    assert [(4 * t, symbol) for t, symbol in read_song(made.text).voices["Vocal"].chords][:2] == [
        (0, "C"),
        (5, "G"),
    ]
    assert made.losses == {"notes moved to the grid": 6, "chord symbols moved to the grid": 1}


def test_what_is_shorter_than_the_grid_keeps_its_place_or_is_counted() -> None:
    made = convert_to_yue2(TRIPLETS, Choice(grid=4))
    # The second note of a triplet goes to the beat of the third one; that is lost where another note begins there.
    assert sounding(made.text, "Ins") == [(0, 60, 1), (1, 64, 1), (2, 72, 2), (4, 77, 1), (5, 81, 1)]
    assert made.losses["notes shorter than the grid, left out"] == 3
    for grid in (0, 2, 24, 2048):
        with pytest.raises(UsageError, match="allowed are powers of two, 4 to 1024"):
            Choice(grid=grid)


def test_a_grid_starts_anew_in_each_bar_and_ends_with_it() -> None:
    grid = Grid(4, [Bar((5, 8)), Bar((4, 4))])
    times = ("0", "1/2", "49/100", "2", "9/4", "5/2", "29/10", "3", "13/2")
    assert [grid.nearest(Fraction(time)) * 2 for time in times] == [0, 2, 0, 4, 4, 5, 5, 7, 13]


def test_options_of_the_dialect_reach_the_files(tmp_path: Path) -> None:
    (tmp_path / "song.abc").write_text(TRIPLETS.replace("K:C", 'K:C\nV:1 nm="Flute"'))
    words = [
        "convert",
        str(tmp_path / "song.abc"),
        "--to",
        "abc",
        "--dialect",
        "yue2",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, [*words, "--vocal", "flute", "--grid", "32", "--strict"])
    assert "lost something" in str(result.exception) and "notes moved to the grid: 6" in result.output
    (path,) = (tmp_path / "out").glob("*.abc")
    assert len(sounding(path.read_text(), "Vocal")) == 8 and not sounding(path.read_text(), "Ins")
    (entry,) = convert(
        [path], tmp_path / "again", to="abc", dialect="yue2", choice=Choice(chords="none")
    ).entries
    assert entry["flags"] == ["this is in the dialect already, and was copied without a change"]
    result = CliRunner().invoke(app, ["convert", str(path), "--to", "midi", "--out", "x", "--grid", "16"])
    assert "--grid goes with --dialect yue2" in str(result.exception)


@pytest.mark.parametrize(
    ("given", "written"),
    [("C", "C"), ("Bbmin7/Ab", "Bbm7/Ab"), ("F#ø7", "F#m7b5"), ("Dsus", "Dsus4"), ("Gm(maj7)", "Gm(maj7)"),
     ("C7b9", None), ("N.C.", None), ("Cadd9", None)],
)  # fmt: skip
def test_chord_symbols(given: str, written: str | None) -> None:
    assert chord_symbol(given) == written


def test_files_in_one_command(tmp_path: Path) -> None:
    (tmp_path / "song.musicxml").write_bytes(abc_to_musicxml(LEAD))
    (entry,) = convert(
        [tmp_path / "song.musicxml"], tmp_path / "out", to="abc", dialect="yue2", jobs=1
    ).entries
    assert entry["status"] == "done" and entry["losses"]["repeats and jumps, written out"] == 1
    (path,) = entry["output"]
    assert sounding(path.read_text(), "Ins") == sounding(convert_to_yue2(LEAD).text, "Ins")
    (result,), outcome = check_files([path], dialect="yue2")
    assert result["valid"] and result["bars"] == 6 and outcome.exit_code == 0
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b"z16|", b" z16  |", 1))
    (result,), _ = check_files([path], tmp_path / "repaired", dialect="yue2")
    assert result["changes"] == [] and Path(result["output"]).read_bytes() == path.read_bytes()
    path.write_text(LEAD)
    (result,), outcome = check_files([path], dialect="yue2")
    assert not result["valid"] and outcome.exit_code == 3 and result["issues"][0]["kind"] == "header_xt"


PLAIN = next(case["input"] for case in CASES if case["name"] == "plain")


@pytest.mark.parametrize("case", cases("inspect"))
def test_repair_touches_nothing_that_is_accepted(case: dict) -> None:
    if case["valid"]:
        assert repair_yue2(case["input"]).text == case["input"]
        return
    try:
        repaired = repair_yue2(case["input"])
    except DialectError:
        return
    assert check(repaired.text)[1] == [] and repaired.changes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("T:\n", "T:Song\n"),
        ("% verse\n", "%verse\n"),
        ("V: Ins\n", "\nV: Ins   \n"),
        ("D,16|", "D,16||"),
        ("D,16|", "D,16|]"),
        ("A4c4|", "A4c4"),
        ("Q:1/4=97", "Q:1/8=194"),
    ],
)
def test_repairs_leave_what_sounds(old: str, new: str) -> None:
    assert old in PLAIN
    repaired = repair_yue2(PLAIN.replace(old, new))
    assert repaired.text == PLAIN and len(repaired.changes) in (1, 2)


@pytest.mark.parametrize(
    ("vocal", "repaired"),
    [
        ("c4c4|", "c4c4z8|"),
        ("c10z6|", "c8-c2z6|"),
        ("z10c6|", "z8z2c6|"),
        ("z12c4-|", "z12c4|"),
        ('c16"G"|z16|', 'c16|"G"z16|'),
        ("Z5|", "Z4|"),
    ],
)
def test_bars_are_repaired(vocal: str, repaired: str) -> None:
    head = PLAIN[: PLAIN.index("% verse")]
    count = 5 if vocal == "Z5|" else vocal.count("|")
    rests = f"Z{count}|" if count > 1 else "Z|"
    text = f"{head}V: Vocal\n{vocal}\nV: Ins\n{rests}\n"
    assert f"V: Vocal\n{repaired}\nV: Ins\n" in repair_yue2(text).text


def written(vocal: str, ins: str, *, fields: str = "", ins_fields: str = "", key: str = "C") -> str:
    """A text of one group; several groups are joined with " / "."""
    head = PLAIN[: PLAIN.index("% verse")].replace("\nK:F\n", f"\nK:{key}\n")
    groups = zip(vocal.split(" / "), ins.split(" / "), strict=True)
    music = [f"V: Vocal\n{above}\nV: Ins\n{below}\n" for above, below in groups]
    music[-1] = music[-1].replace("Vocal\n", f"Vocal\n{fields}").replace("Ins\n", f"Ins\n{ins_fields}")
    return head + "".join(music)


@pytest.mark.parametrize(
    ("given", "repaired"),
    [
        # To a rest, a held note, a bar of rest; at the end of a bar, the start of the next one.
        (("Z|", '"C"c16|'), ('"C"z16|', "c16|")),
        (("z4c12|", '"C"c8"G7"c8|'), ('"C"z4c4-"G7"c8|', "c8c8|")),
        (("^c16-|^c16|", 'c6"Am"c8z2|Z|'), ('^c6-"Am"c8-c2-|^c16|', "c6c8z2|Z|")),
        (('"F"c8c8|', '"F"c8"C"c8|'), ('"F"c8"C"c8|', "c8c8|")),
        (("c16|c16|", 'c16"G"|z16|'), ('c16|"G"c16|', "c16|z16|")),
    ],
)
def test_chord_symbols_of_ins_move_to_vocal(given: tuple[str, str], repaired: tuple[str, str]) -> None:
    made = repair_yue2(written(*given))
    assert made.text == written(*repaired) and "moved" in made.changes[-1]


def test_a_chord_symbol_against_another_one_is_refused() -> None:
    with pytest.raises(DialectError, match="chord symbols stand in Vocal only"):
        repair_yue2(written('"F"c16|', '"C"c16|'))


@pytest.mark.parametrize(
    ("given", "repaired"),
    [
        # A meter: bars of the new length, and bars of rest.
        ((("c16| / c12|", "Z| / c8c4|"), {"fields": "M:3/4\n"}),
         (("c16| / c12|", "Z| / c8c4|"), {"fields": "M:3/4\n", "ins_fields": "M:3/4\n"})),
        ((("c16| / Z|", "Z| / c12|"), {"ins_fields": "M:3/4\n"}),
         (("c16| / Z|", "Z| / c12|"), {"fields": "M:3/4\n", "ins_fields": "M:3/4\n"})),
        # A key: notes that it does not touch, or that have a sign of their own.
        ((("c16| / c16|", "Z| / g8^f8|"), {"fields": "K:G\n"}),
         (("c16| / c16|", "Z| / g8^f8|"), {"fields": "K:G\n", "ins_fields": "K:G\n"})),
        ((("c16| / c8[K:G]c8|", "Z| / Z|"), {}), (("c16| / c8[K:G]c8|", "Z| / z8[K:G]z8|"), {})),
        ((("c16| / c16|", "Z| / g4[K:G]g12|"), {}), (("c16| / c4-[K:G]c12|", "Z| / g4[K:G]g12|"), {})),
        # There and back, over a note that it does not touch.
        ((("[K:G]c16|[K:C]c16|", "g16|f16|"), {}), (("[K:G]c16|[K:C]c16|", "g16|[K:C]f16|"), {"ins_fields": "K:G\n"})),
    ],
)  # fmt: skip
def test_what_one_voice_lacks_is_copied_from_the_other(given: tuple, repaired: tuple) -> None:
    text = written(*given[0], **given[1])
    made = repair_yue2(text)
    assert made.text == written(*repaired[0], **repaired[1])
    assert "from the other voice" in made.changes[0]
    for name in ("Vocal", "Ins"):
        assert sounding(made.text, name) == [
            (n.onset, n.pitch, n.duration) for n in read_music(text)[name].notes
        ]


@pytest.mark.parametrize(
    ("vocal", "ins", "fields", "said"),
    [
        ("c16| / c16|", "Z| / f16|", "K:G\n", "change their keys differently"),
        ("c16| / c12|", "Z| / c8c8|", "M:3/4\n", "bars of different meters"),
    ],
)
def test_a_change_that_the_notes_of_the_other_voice_contradict_is_refused(
    vocal: str, ins: str, fields: str, said: str
) -> None:
    with pytest.raises(DialectError, match=said):
        repair_yue2(written(vocal, ins, fields=fields))


@pytest.mark.parametrize(
    ("vocal", "repaired"),
    [("c8e12|", "c8e8|"), ("c8e12-|e16|", "c8e8-|e16|"), ("c16e4|", "c16|"), ("z6c24|", "z6c8-c2|")],
)
def test_notes_are_cut_at_the_bar_end_on_request(vocal: str, repaired: str) -> None:
    rest = "Z2|" if vocal.count("|") == 2 else "Z|"
    with pytest.raises(DialectError):
        repair_yue2(written(vocal, rest))
    made = repair_yue2(written(vocal, rest), cut=True)
    assert made.text == written(repaired, rest) and "at the bar end" in made.changes[0]
