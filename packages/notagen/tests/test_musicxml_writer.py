"""MusicXML written from ABC: golden measures, notation, and what other programs read from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.musicxml.writer_notes import pieces
from notagen.notation.validation import validate
from notagen.score import read_score
from notagen.score.losses import losses
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "abc_to_musicxml.json").read_text())["cases"]
_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def exported(text, **options):
    return ElementTree.fromstring(abc_to_musicxml(text, **options))


def tune(music, *, meter="4/4", key="C", voices="V:1 treble\n", score=""):
    return f"X:1\n{score}L:1/8\nM:{meter}\nK:{key}\n{voices}V:1\n{music}\n"


def measures(text):
    return exported(text).findall("part/measure")


# --- golden: facts of each measure


def note_facts(note, divisions):
    facts: dict = {}
    for name in ("chord", "grace"):
        if note.find(name) is not None:
            facts[name] = True
    if note.find("rest") is not None:
        facts["rest"] = True
    pitch = note.find("pitch")
    if pitch is not None:
        step = pitch.findtext("step")
        alter = int(pitch.findtext("alter", "0"))
        facts |= {
            "midi": 12 * (int(pitch.findtext("octave")) + 1) + _NATURALS[step] + alter,
            "step": step,
        }
    if note.find("duration") is not None:
        facts["quarters"] = round(int(note.findtext("duration")) / divisions, 6)
    for name in ("voice", "staff", "type"):
        if note.find(name) is not None:
            facts[name] = note.findtext(name)
    if dots := len(note.findall("dot")):
        facts["dots"] = dots
    if note.get("print-object") == "no":
        facts["invisible"] = True
    if ties := [tie.get("type") for tie in note.findall("tie")]:
        facts["tie"] = ties
    modification = note.find("time-modification")
    if modification is not None:
        facts["tuplet"] = f"{modification.findtext('actual-notes')}:{modification.findtext('normal-notes')}"
    return facts


def barline_facts(barline):
    repeat, ending = barline.find("repeat"), barline.find("ending")
    return (
        barline.get("location"),
        barline.findtext("bar-style"),
        None if repeat is None else repeat.get("direction"),
        None if ending is None else (ending.get("number"), ending.get("type")),
    )


def measure_facts(measure, divisions):
    events, barlines = [], set()
    for element in measure:
        if element.tag == "note":
            events.append(note_facts(element, divisions))
        elif element.tag == "backup":
            events.append({"backup": round(int(element.findtext("duration")) / divisions, 6)})
        elif element.tag == "barline":
            assert barline_facts(element) not in barlines
            barlines.add(barline_facts(element))
    return events, barlines


def golden_measure(measure):
    barlines = {
        tuple(tuple(item) if isinstance(item, list) else item for item in event["barline"])
        for event in measure["events"]
        if "barline" in event
    }
    return [event for event in measure["events"] if "barline" not in event], barlines


def attribute_facts(measure, *, first_clef):
    facts: dict = {}
    attributes = measure.find("attributes")
    if attributes is None:
        return facts
    if attributes.find("key") is not None:
        facts["fifths"] = int(attributes.findtext("key/fifths"))
    if attributes.find("time") is not None:
        facts["time"] = f"{attributes.findtext('time/beats')}/{attributes.findtext('time/beat-type')}"
    if attributes.find("staves") is not None:
        facts["staves"] = int(attributes.findtext("staves"))
    clefs = [
        [clef.get("number"), clef.findtext("sign"), clef.findtext("line")]
        for clef in attributes.findall("clef")
    ]
    if clefs:
        facts["clefs"] = clefs if first_clef else clefs[1:]
    return facts


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_measures(case):
    document = exported(case["abc"])
    names = {part.get("id"): part.findtext("part-name") for part in document.iter("score-part")}
    assert names == {part["id"]: part["name"] for part in case["parts"]}
    for part, golden in zip(document.findall("part"), case["parts"], strict=True):
        divisions = int(part.findtext("measure/attributes/divisions"))
        several = part.find("measure/attributes/staves") is not None
        for measure, expected in zip(part.findall("measure"), golden["measures"], strict=True):
            assert measure.get("number") == expected["number"]
            assert attribute_facts(measure, first_clef=not several) == expected["attributes"]
            assert measure_facts(measure, divisions) == golden_measure(expected)


# --- notation


def notes(music, **options):
    return [note for measure in measures(tune(music, **options)) for note in measure.findall("note")]


def values(music, **options):
    """Type and dots of each note and rest."""
    return [(note.findtext("type"), len(note.findall("dot"))) for note in notes(music, **options)]


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        ("C/ D3/2 E3 F7/2|", [("16th", 0), ("eighth", 1), ("quarter", 1), ("quarter", 2)]),
        ("C5 D3|", [("half", 0), ("eighth", 0), ("quarter", 1)]),
        ("z5 z3|", [("half", 0), ("eighth", 0), ("quarter", 1)]),
        ("(3C2D2E2 F4|", [("quarter", 0)] * 3 + [("half", 0)]),
        ("(3C4D4(3:2:2E2E2|", [("half", 0)] * 2 + [("quarter", 0)] * 2),
        ("C1/128 D1023/128|", [("1024th", 0), ("half", 3), ("32nd", 3), ("512th", 1)]),
    ],
)
def test_note_values(music, expected):
    assert values(music) == expected


def test_a_duration_that_no_note_can_show_is_written_with_the_next_shorter_type():
    note, _ = notes("C8/3 z16/3|")
    assert (note.findtext("type"), note.find("tie")) == ("quarter", None)
    assert int(note.findtext("duration")) * 2 == int(notes("C8/3 z16/3|")[1].findtext("duration"))


def test_parts_of_a_long_note_are_tied_in_every_note_of_a_chord():
    written = notes("[C-E]5 [CG]3|")
    ties = [[tie.get("type") for tie in note.findall("tie")] for note in written]
    tied = [[tie.get("type") for tie in note.findall("notations/tied")] for note in written]
    assert ties == tied == [["start"], ["start"], ["stop", "start"], ["stop"], ["stop"], []]


def test_every_voice_of_a_measure_lasts_as_long_as_its_events():
    text = tune(
        "(5CDEFG (3A/B/c/ d3|", meter="12/8", voices="V:1 treble\nV:2 bass\n", score="%%score ( 1 2 )\n"
    )
    text += "V:2\nC,7 (7:4:7C,D,E,F,G,A,B,,|\n"
    part = exported(text).find("part")
    divisions = int(part.findtext("measure/attributes/divisions"))
    score = read_score(text)
    for number, name in enumerate("12", 1):
        units = sum(
            int(note.findtext("duration"))
            for note in part.iter("note")
            if note.findtext("voice") == str(number)
        )
        assert Fraction(units, 4 * divisions) == score.voices[name].measures[0].duration


def test_beams_follow_the_blanks_of_the_source():
    found = [[beam.text for beam in note.findall("beam")] for note in notes("CD E/F/G A>B c/d C/|")]
    assert found == [
        ["begin"], ["end"],
        ["begin", "begin"], ["continue", "end"], ["end"],
        ["begin"], ["end", "backward hook"],
        ["begin", "forward hook"], ["end"],
        [],
    ]  # fmt: skip
    assert not any(note.find("beam") is not None for note in notes("C5/4D3/4 z6|"))
    assert not any(note.find("beam") is not None for note in notes("C2D2 Ez CzD|"))


def test_tuplets_and_nested_tuplets():
    first, inner, _, end, after = notes("(3:2:4A(3BcdE z4|")[:5]
    assert [tuplet.attrib for tuplet in first.iter("tuplet")] == [{"type": "start", "number": "1"}]
    assert [(tuplet.get("type"), tuplet.get("number")) for tuplet in inner.iter("tuplet")] == [("start", "2")]
    assert (inner.findtext("time-modification/actual-notes"), inner.findtext("type")) == ("9", "eighth")
    assert [tuplet.get("type") for tuplet in end.iter("tuplet")] == ["stop", "stop"]
    assert after.find("time-modification") is None


def test_accidentals_are_written_where_the_source_has_them():
    written = notes("^F F =F __B|")
    assert [note.findtext("accidental") for note in written] == ["sharp", None, "natural", "flat-flat"]
    assert [note.findtext("pitch/alter") for note in written] == ["1", "1", None, "-2"]


def test_grace_notes():
    first, second, main = notes("{/ga2}b8|")
    assert (first.find("grace").get("slash"), first.findtext("type")) == ("yes", "eighth")
    assert (second.findtext("type"), second.find("duration")) == ("quarter", None)
    assert main.find("grace") is None
    assert [note.find("chord") is not None for note in notes("{[eg]f}C8|")] == [False, True, False, False]
    assert [note.find("grace") is not None for note in notes("b8{ga}|")] == [False, True, True]


def test_signs_at_notes():
    note, chord, *_ = notes("!trill!.~!fermata!u!0!!>!!turnx!!//!!unheard-of!C2 !arpeggio![CE]2 z4|")
    signs = {element.tag for element in note.find("notations").iter()} - {"notations"}
    assert signs == {
        "ornaments", "trill-mark", "turn", "tremolo", "technical", "up-bow", "fingering", "articulations",
        "staccato", "accent", "fermata",
    }  # fmt: skip
    assert [turn.get("slash") for turn in note.iter("turn")] == [None, "yes"]
    assert chord.find("notations/arpeggiate") is not None
    assert notes("!arpeggio![CE]8|")[1].find("notations/arpeggiate") is not None


def test_slurs_of_voices_in_one_part_have_different_numbers():
    text = tune("(C4 D4)|", voices="V:1\nV:2\n", score="%%score ( 1 2 )\n") + "V:2\n.(E4 F4)|\n"
    slurs = [
        (slur.get("type"), slur.get("number"), slur.get("line-type")) for slur in exported(text).iter("slur")
    ]
    assert slurs == [("start", "1", None), ("stop", "1", None), ("start", "2", "dotted"), ("stop", "2", None)]


def test_titles_and_authors_stand_on_the_page():
    head = "X:1\nT:Cycle\nT:Song\nC:Anna\nZ:lyricist: Ben\nZ:arranger: Cleo\nZ:rights: CC0\n"
    document = exported(f"{head}L:1/8\nM:4/4\nK:C\nc8|]\n")
    found = [
        (
            credit.findtext("credit-type"),
            credit.findtext("credit-words"),
            credit.find("credit-words").get("halign"),
        )
        for credit in document.findall("credit")
    ]
    assert found == [
        ("title", "Cycle", "center"), ("subtitle", "Song", "center"), ("composer", "Anna", "right"),
        ("lyricist", "Ben", "left"), ("arranger", "Cleo", "right"), ("rights", "CC0", "center"),
    ]  # fmt: skip
    assert [element.tag for element in document][:5] == [
        "work",
        "movement-title",
        "identification",
        "credit",
        "credit",
    ]


def test_tremolo_of_two_notes():
    first, second = notes("!trem3!(2:1:2A8c8|")
    signs = [each.find("notations/ornaments/tremolo") for each in (first, second)]
    assert [(sign.get("type"), sign.text) for sign in signs] == [("start", "3"), ("stop", "3")]
    with losses() as found:
        assert all(each.find("notations/ornaments") is None for each in notes("!trem3!A4 z4|"))
    assert found == {"tremolo of two notes without the second": 1}


def test_octave_lines_print_what_sounds_an_octave_off():
    bar = measures(tune("c2 !8va(!c'2 !8va)!d'2 e2|"))[0]
    order = [
        (
            each.find("direction-type/octave-shift").attrib
            if each.tag == "direction"
            else each.findtext("pitch/octave")
        )
        for each in bar
        if each.tag in ("direction", "note")
    ]
    start, stop = ({"type": kind, "size": "8", "number": "3"} for kind in ("down", "stop"))
    assert order == ["5", start, "6", "6", stop, "5"]


def test_lines_without_an_end_are_counted():
    with losses() as found:
        document = exported(tune("!<(!c2 !8va)!d2 !ped!e2 f2|"))
    assert not [*document.iter("wedge"), *document.iter("octave-shift"), *document.iter("pedal")]
    assert found == {f"{kind} without a start or end": 1 for kind in ("hairpin", "octave line", "pedal line")}


def test_midi_programs():
    document = exported(tune("c8|", voices='V:1 treble nm="Oboe"\n%%MIDI program 68\nV:2\n') + "V:2\nC8|\n")
    programs = [
        part.findtext("midi-instrument/midi-program") for part in document.findall("part-list/score-part")
    ]
    assert programs == ["69", None]


def directions(music, **options):
    """What each direction and chord symbol of the first measure says, in order."""
    found = []
    for element in measures(tune(music, **options))[0]:
        if element.tag == "direction":
            kinds = element.findall("direction-type/*")
            found.append(
                [(kind.tag, kind.get("type") or (kind[0].tag if len(kind) else kind.text)) for kind in kinds]
            )
        elif element.tag == "harmony":
            found.append(element)
    return found


def test_directions_beside_the_staff():
    assert directions('"^Andante"!mf!!<(!C2 "_dolce"D2 !<)!E2 !ped!"<left"F2!ped-up!!D.C.alfine!|') == [
        [("words", "Andante")], [("dynamics", "mf")], [("wedge", "crescendo")], [("words", "dolce")],
        [("wedge", "stop")], [("words", "left")], [("pedal", "start")], [("pedal", "stop")],
        [("words", "D.C. al Fine")],
    ]  # fmt: skip


def test_lines_without_their_other_end_are_left_out():
    assert directions("!<(!C2 !>)!D2 !ped!E2 !trill(!F2|") == []
    assert directions("!>(!C4 !>(!D2 !diminuendo)!D2|") == [[("wedge", "diminuendo")], [("wedge", "stop")]]
    assert not list(exported(tune("!trill(!C8 !trill)!|")).iter("wavy-line"))
    waves = [wave.get("type") for note in notes("!trill(!C4 !trill)!D4|") for wave in note.iter("wavy-line")]
    assert waves == ["start", "stop"]


def test_signs_and_jumps_say_what_players_do():
    measure = measures(tune("!segno!C4 !coda!D4!D.S.alcoda!|"))[0]
    assert [sound.attrib for sound in measure.iter("sound")] == [
        {"segno": "segno"}, {"coda": "coda"}, {"dalsegno": "segno"},
    ]  # fmt: skip
    assert [words.text for words in measure.iter("words")] == ["D.S. al Coda"]


def test_directions_name_the_staff_in_a_part_of_several():
    text = tune("C8|", voices="V:1\nV:2 bass\n", score="%%score { 1 | 2 }\n") + 'V:2\n"Am"!p!C,8|\n'
    measure = exported(text).find("part/measure")
    assert (measure.findtext("harmony/staff"), measure.findtext("direction/staff")) == ("2", "2")


def test_a_beat_that_no_note_shows_is_written_as_words():
    (direction,) = exported(tune("C8|").replace("M:", "Q:5/8=60\nM:")).iter("direction")
    assert direction.findtext("direction-type/words") == "5/8 = 60"
    assert direction.find("sound").get("tempo") == "150"
    assert directions('[Q:"Largo"]C8|') == [[("words", "Largo")]]


def test_tempo_and_section_names_stand_in_the_first_part_only():
    text = tune('[P:A] C4 [Q:"faster" 3/8=80.5] D4|', voices="V:1\nV:2\n").replace("M:", "Q:1/4=60\nM:")
    parts = exported(text + "V:2\n[P:A] C4 [Q:1/4=99] D4|\n").findall("part")
    tempos = [sound.get("tempo") for sound in parts[0].iter("sound")]
    assert tempos == ["60", "120.75", "99"]
    assert [dot.tag for dot in parts[0].iter("beat-unit-dot")] == ["beat-unit-dot"]
    assert [words.text for words in parts[0].iter("words")] == ["faster"]
    assert [label.text for label in parts[0].iter("rehearsal")] == ["A"]
    assert not list(parts[1].iter("direction"))


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("Gm7/D", ("G", None, "minor-seventh", "m7", "D")),
        ("Bb", ("B", "-1", "major", None, None)),
        ("F#dim", ("F", "1", "diminished", "dim", None)),
        ("C7(b9)", ("C", None, "other", "7(b9)", None)),
    ],
)
def test_chord_symbols(symbol, expected):
    (harmony,) = directions(f'"{symbol}"C8|')
    found = (
        harmony.findtext("root/root-step"), harmony.findtext("root/root-alter"), harmony.findtext("kind"),
        harmony.find("kind").get("text"), harmony.findtext("bass/bass-step"),
    )  # fmt: skip
    assert found == expected


def test_quoted_text_that_is_no_chord_is_words():
    assert directions('"Fine"C4 "D.C."C4|') == [[("words", "Fine")], [("words", "D.C.")]]


# --- attributes and barlines


@pytest.mark.parametrize(
    ("clef", "expected"),
    [
        ("treble", ("G", "2", None)), ("bass", ("F", "4", None)), ("alto", ("C", "3", None)),
        ("tenor", ("C", "4", None)), ("treble-8", ("G", "2", "-1")), ("bass+15", ("F", "4", "2")),
        ("bass3", ("F", "3", None)), ("perc", ("percussion", None, None)),
    ],
)  # fmt: skip
def test_clefs(clef, expected):
    (clef_element,) = measures(tune("C8|", voices=f"V:1 {clef}\n"))[0].findall("attributes/clef")
    found = tuple(clef_element.findtext(name) for name in ("sign", "line", "clef-octave-change"))
    assert found == expected


def test_attributes_change_where_the_source_says():
    first, second, third = measures(
        tune("C4 [K:G clef=bass] D4|[M:C|] E8|[M:none] F8|", meter="C", key="Ddor")
    )
    assert [time.get("symbol") for time in first.iter("time")] == ["common"]
    assert [mode.text for mode in first.iter("mode")] == ["dorian", "major"]
    assert [element.tag for element in first] == ["attributes", "note", "attributes", "attributes", "note"]
    assert [time.get("symbol") for time in second.iter("time")] == ["cut"]
    assert third.find("attributes/time/senza-misura") is not None
    beats = measures(tune("C5|", meter="(2+3)/8"))[0].find("attributes/time")
    assert (beats.findtext("beats"), beats.findtext("beat-type")) == ("2+3", "8")


def test_changes_inside_a_measure_and_at_its_end():
    first, second = measures(tune("C4 [M:3/4]D4 [K:D]|F6|"))
    assert [element.tag for element in first] == ["attributes", "note", "attributes", "note"]
    assert first.findall("attributes")[1].findtext("time/beats") == "3"
    assert [element.tag for element in second.find("attributes")] == ["key"]
    end = measures(tune("C8 [P:B][Q:1/4=60]|"))[0]
    assert [element.tag for element in end] == ["attributes", "note", "direction", "direction"]


def test_changes_come_in_the_order_of_time():
    (measure,) = measures(tune("C2 [K:C clef=bass]D2 [K:D]E4 & G8|"))
    assert [element.tag for element in measure] == [
        "attributes", "note", "attributes", "note", "attributes", "note", "backup", "note",
    ]  # fmt: skip
    assert [attributes[0].tag for attributes in measure.findall("attributes")] == ["divisions", "clef", "key"]


def test_clefs_of_each_staff_change_on_their_own():
    text = tune("C4 D4|E8|", voices="V:1\nV:2 bass\n", score="%%score { 1 | 2 }\n")
    first, second = exported(text + "V:2\nC,4 [K:C clef=treble]D4|[K:C clef=alto]E8|\n").findall(
        "part/measure"
    )
    assert [(clef.get("number"), clef.findtext("sign")) for clef in first.iter("clef")] == [
        ("1", "G"), ("2", "F"), ("2", "G"),
    ]  # fmt: skip
    assert [element.tag for element in first][-3:] == ["note", "attributes", "note"]
    assert [(clef.get("number"), clef.findtext("sign")) for clef in second.iter("clef")] == [("2", "C")]


def test_instruments():
    text = tune("!style=x!F8|", voices='V:1 perc nm="Drum" stafflines=1 transpose=-2\nK:none\n')
    document = exported(text)
    assert document.findtext("part-list/score-part/part-name") == "Drum"
    assert document.findtext("part/measure/attributes/staff-details/staff-lines") == "1"
    assert document.findtext("part/measure/attributes/transpose/chromatic") == "-2"
    assert document.findtext("part/measure/note/unpitched/display-step") == "F"
    assert document.findtext("part/measure/note/notehead") == "x"


def test_endings_and_repeats():
    barlines = [
        [barline_facts(barline) for barline in measure.findall("barline")]
        for measure in measures(tune("|:C8|1-2 D8:|3 E8||F8|]"))
    ]
    assert barlines == [
        [("left", "heavy-light", "forward", None)],
        [("left", None, None, ("1, 2", "start")), ("right", "light-heavy", "backward", ("1, 2", "stop"))],
        [("left", None, None, ("3", "start")), ("right", "light-light", None, ("3", "stop"))],
        [("right", "light-heavy", None, None)],
    ]


def test_only_a_rest_that_is_all_of_the_bar_has_no_value():
    found = [
        [(note.find("rest").get("measure"), note.findtext("type")) for note in measure.iter("note")]
        for measure in measures(tune("z8|z6|z8z2|[M:none]z3|"))
    ]
    assert found == [
        [("yes", None)], [(None, "half")], [(None, "whole"), (None, "quarter")], [("yes", None)],
    ]  # fmt: skip


def test_pickup_is_implicit_and_counted():
    first, second = measures(tune("C2|D8|"))
    assert (first.get("number"), first.get("implicit"), second.get("implicit")) == ("1", "yes", None)
    assert measures(tune("C8|D8|"))[0].get("implicit") is None


def test_overlays_are_voices_of_their_own():
    first, second = measures(tune("C4 D4 & E8|F4 G4 & A8|", voices="V:1\nV:2\n", score="%%score ( 1 2 )\n")
                             + "V:2\nC,8|C,8|\n")  # fmt: skip
    for measure in (first, second):
        assert [note.findtext("voice") for note in measure.findall("note")] == ["1", "1", "2", "3"]
        assert len(measure.findall("backup")) == 2


def test_time_goes_back_by_what_was_written():
    (measure,) = measures(tune("C4 & D8|"))
    divisions = int(measure.findtext("attributes/divisions"))
    assert int(measure.findtext("backup/duration")) == 2 * divisions
    (measure,) = measures(tune("& E8|"))
    assert [element.tag for element in measure] == ["attributes", "note"]


@pytest.mark.parametrize("score", ["", "%%score ( 1 2 )\n"])
def test_an_overlay_alone_is_written(score):
    text = tune("[K:G]& E8|", voices="V:1\nV:2\n", score=score) + "V:2\nC,8|\n"
    assert sorted(note.findtext("pitch/step") for note in exported(text).iter("note")) == ["C", "E"]


def test_bars_that_show_nothing_keep_one_rest():
    text = tune("x8|", voices="V:1\nV:2\n", score="%%score ( 1 2 )\n") + "V:2\nx8|\n"
    (note,) = exported(text).iter("note")
    assert (note.get("print-object"), note.find("rest").get("measure")) == ("no", "yes")


def test_groups_of_parts():
    text = '%%score [ 1 { 2 | 3 } ] 4\nL:1/8\nK:C\nV:1 nm="A"\nV:2 nm="B"\nV:3 nm="C"\nV:4 nm="D"\n'
    text += "[V:1]C8|[V:2]C8|[V:3]C8|[V:4]C8|\n"
    found = [
        element.get("id") or (element.get("type"), element.get("number"), element.findtext("group-symbol"))
        for element in exported(text).find("part-list")
    ]
    assert found == [
        ("start", "1", "bracket"), "P1", ("start", "2", "brace"), "P2", "P3", ("stop", "2", None),
        ("stop", "1", None), "P4",
    ]  # fmt: skip


def test_texts_are_escaped_and_titles_can_be_given():
    text = tune('"^a<b>&\x07"C8|').replace("L:", "T:Là & <ci>\x00\x1b\nC:\ud800Zoë\nL:")
    document = exported(text)
    assert document.findtext("work/work-title") == "Là & <ci>"
    assert document.findtext("identification/creator") == "Zoë"
    assert next(document.iter("words")).text == "a<b>&"
    assert exported(text, title="Other").findtext("work/work-title") == "Other"
    assert exported(text, title="").find("work") is None


def test_output_is_deterministic():
    text = CASES[1]["abc"]
    assert abc_to_musicxml(text) == abc_to_musicxml(text)


# --- what is refused, and arbitrary text


@pytest.mark.parametrize(
    ("music", "message"),
    [
        ("C8|D8|c''''''|", "voice 1, bar 3: a note is in octave 11; MusicXML allows 0 to 9"),
        ("C,,,,,|", "voice 1, bar 1: a note is in octave -1"),
        ("C9999|", "voice 1, bar 1: a note or rest is longer than 64"),
        ("C/8191|D/8179|E/8171|", "voice 1, bar 2: the note lengths need more than 16777216 divisions"),
    ],
)
def test_what_cannot_be_written_is_a_located_error(music, message):
    with pytest.raises(FormatError, match=message) as caught:
        abc_to_musicxml(tune(music))
    assert caught.value.line == 7


MUTATIONS = [case["abc"] for case in CASES]
PIECES = [
    "", "|", ":|2", "(3", "-", "&", "Z", "z", "\n", "[V:2]", "[K:F]", "/", ">", ")", "!p!", '"', "[M:none]", "[L:1/4]",
    "}", "C0", "99", "{a", "\x0b", "𝄞",
]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_mutated_pieces_give_xml_or_a_format_error(data):
    text = data.draw(st.sampled_from(MUTATIONS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 8, len(text))))
        piece = data.draw(st.sampled_from(PIECES))
        text = text[:start] + piece + text[end:]
    try:
        xml = abc_to_musicxml(text)
    except FormatError as error:
        assert error.line or not validate(text).valid
        return
    assert ElementTree.fromstring(xml).tag == "score-partwise"


def test_valid_pieces_are_written():
    valid = [case["abc"] for case in CASES if validate(case["abc"].replace("X:1\n", "")).valid]
    assert len(valid) >= 5
    for text in valid:
        assert abc_to_musicxml(text)


# --- what other programs read

PREPROCESSED = [
    case["interleaved"]
    for case in json.loads((GOLDENS / "preprocess.json").read_text())["cases"]
    if case["interleaved"]
]
RICH = (
    "%%score [ 1 2 ] { ( 3 4 ) | 5 }\nL:1/8\nQ:1/4=120\nM:C|\nK:Eb\n"
    'V:1 treble nm="Clarinet in B" snm="Cl." transpose=-2\nV:2 alto nm="Viola" snm="Vla."\n'
    'V:3 treble nm="Piano" snm="Pno."\nV:4 treble\nV:5 bass\n'
    "[V:1]\"Eb/G\"!mf!!<(! e2(fg a)b/c'/c'>b!<)!|[V:2]F2F2 F2F2|[V:3](3efg (3:2:2a2b [ce]4-|"
    '[V:4]x4 "^legato"G4|[V:5]E,,5 !>!E,3|\n'
    "[V:1]Te3 _d^d2 .c2:|[V:2]z8:|[V:3][ce]8:|[V:4]x8:|[V:5]!ped!E,,8!ped-up!:|\n"
    "[V:1][M:3/4][K:G clef=bass]b6|][V:2][M:3/4][K:G]F3 F3|][V:3][M:3/4][K:G]B2 B4 & d6|]"
    "[V:4][M:3/4][K:G]x6|][V:5][M:3/4][K:G]!fermata!z6|]\n"
)


def pieces_of_corpus():
    """A few folk tunes and chorales of the corpus that music21 carries."""
    corpus = Path(pytest.importorskip("music21").__file__).parent / "corpus"
    books = sorted((corpus / "ryansMammoth").glob("A*.abc"))[:3]
    scores = [corpus / "bach" / name for name in ("bwv1.6.mxl", "bwv66.6.mxl")]
    return [
        *(book.read_text(encoding="utf-8", errors="replace") for book in books),
        *(musicxml_to_abc(score) for score in scores),
    ]


def without_graces(text):
    return re.sub(r"\{[^{}]*\}", "", text)


def expected_notes(text):
    """Measures, and (onset, pitch) of every note head but percussion, in quarters from the start."""
    score = read_score(text)
    found, start = [], Fraction(0)
    for index in range(score.measure_count):
        for voice in score.voices.values():
            for event in (event for layer in voice.measures[index].layers for event in layer.events):
                onset = start + event.onset
                for duration, _, _ in pieces(event):
                    heads = () if voice.percussion else event.heads
                    found += [(round(float(4 * onset), 3), head.pitch.midi) for head in heads]
                    onset += duration
        start += max(voice.measures[index].duration for voice in score.voices.values())
    return score.measure_count, sorted(found)


def test_music21_reads_the_same_notes():
    music21 = pytest.importorskip("music21")
    texts = [*PREPROCESSED, RICH, *pieces_of_corpus()]
    for text in map(without_graces, texts):
        stream = music21.converter.parseData(abc_to_musicxml(text).decode(), format="musicxml")
        count, expected = expected_notes(text)
        found = []
        for part in stream.parts:
            assert len(part.getElementsByClass("Measure")) == count
            for note in part.recurse().notes:
                if not isinstance(note, music21.harmony.ChordSymbol):
                    onset = round(float(note.getOffsetInHierarchy(part)), 3)
                    found += [(onset, pitch.midi) for pitch in note.pitches]
        assert sorted(found) == expected, text


_READ_WITH_VEROVIO = """
import json, re, sys, verovio
verovio.enableLog(verovio.LOG_OFF)
found = []
for xml in json.load(sys.stdin):
    toolkit = verovio.toolkit()
    toolkit.setInputFrom("musicxml")
    assert toolkit.loadData(re.sub("<(repeat|ending)[^>]*>", "", xml))
    toolkit.renderToMIDI()
    timemap = toolkit.renderToTimemap()
    notes = [
        [round(entry["qstamp"], 3), toolkit.getMIDIValuesForElement(note)["pitch"]]
        for entry in (json.loads(timemap) if isinstance(timemap, str) else timemap)
        for note in entry.get("on", [])
        if toolkit.getMIDIValuesForElement(note)["pitch"]
    ]
    found.append([toolkit.getMEI().count("<measure "), sorted(notes)])
json.dump(found, sys.stdout)
"""


def test_verovio_reads_the_same_notes():
    pytest.importorskip("verovio")
    # Verovio counts a transposing instrument as it sounds.
    texts = [*PREPROCESSED, RICH.replace(" transpose=-2", ""), *pieces_of_corpus()]
    texts = [without_graces(text) for text in texts]
    documents = json.dumps([abc_to_musicxml(text).decode() for text in texts])
    # In a process of its own: the engraver can crash.
    run = subprocess.run(
        [sys.executable, "-c", _READ_WITH_VEROVIO],
        input=documents,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr[-500:]
    for text, (count, found) in zip(texts, json.loads(run.stdout), strict=True):
        assert (count, [tuple(note) for note in found]) == expected_notes(text), text
