"""Scores read from ABC: times, pitches, ties, slurs, tuplets, layout, barlines and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.abc.duration import Key, Meter
from notagen.notation.layout import deinterleave
from notagen.notation.rests import complete_rests
from notagen.score import (
    Annotation,
    Change,
    Clef,
    Group,
    Part,
    Pitch,
    SlurEnd,
    Tempo,
    TimeSignature,
    TupletMark,
    read_score,
)
from notagen.score.layout import read_layout, read_tempo
from notagen.score.passages import MAX_VOICES
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
RAW = [case["input"] for case in json.loads((GOLDENS / "rest_completion.json").read_text())["cases"]]
HEADER = "X:1\nL:1/8\nM:4/4\nK:C\n"


def events(music, header=HEADER):
    """The events of the first layer of all measures of voice 1."""
    score = read_score(header + music + "\n")
    return [event for measure in score.voices["1"].measures for event in measure.layers[0].events]


def measures(music, header=HEADER):
    return read_score(header + music + "\n").voices["1"].measures


def midi(music, header=HEADER):
    return [tuple(head.pitch.midi for head in event.heads) for event in events(music, header)]


def times(music, header=HEADER):
    """Onset and duration of each event, in eighths."""
    return [(8 * event.onset, 8 * event.duration) for event in events(music, header)]


# --- times


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        ("C2 z E/F/ G4|", [(0, 2), (2, 1), (3, Fraction(1, 2)), (Fraction(7, 2), Fraction(1, 2)), (4, 4)]),
        ("C>D E<<F G4|", [(0, Fraction(3, 2)), (Fraction(3, 2), Fraction(1, 2)), (2, Fraction(1, 4)),
                          (Fraction(9, 4), Fraction(7, 4)), (4, 4)]),
        ("(3CDE [CE]2 x4|", [(0, Fraction(2, 3)), (Fraction(2, 3), Fraction(2, 3)),
                             (Fraction(4, 3), Fraction(2, 3)), (2, 2), (4, 4)]),
        ("Z|", [(0, 8)]),
        ("[L:1/4] C4 [L:1/16] D16|", [(0, 8), (8, 8)]),
        ("C4|D2", [(0, 4), (0, 2)]),
    ],
)  # fmt: skip
def test_onsets_and_durations_are_exact(music, expected):
    assert times(music) == expected


def test_tuplets_with_rounded_lengths_fill_whole_units():
    # Three times 21/64 of an eighth in the time of two is 21/32; with a fourth part missing 1/64 it is made up.
    lengths = [duration for _, duration in times("(3:2:3C95/64D95/64E95/64 F6|")]
    assert lengths[:3] == [Fraction(95, 64) * Fraction(2, 3)] * 3  # 95/32 is more than 1/64 from 3
    lengths = [duration for _, duration in times("(3:2:3C191/128D191/128E192/128 F6|")]
    assert sum(lengths[:3]) == 3
    assert lengths[0] < lengths[2]


def test_free_meter_and_meters_by_sign():
    assert measures("C3|", "L:1/4\nM:none\nK:C\n")[0].nominal_duration is None
    measure = measures("C8|", "L:1/8\nM:C|\nK:C\n")[0]
    assert measure.time == TimeSignature(Meter(2, 2), "C|")
    assert measure.nominal_duration == 1


# --- pitches


@pytest.mark.parametrize(
    ("music", "key", "expected"),
    [
        ("C c c' C, |", "C", [60, 72, 84, 48]),
        ("F f B b|", "D", [66, 78, 71, 83]),
        ("B E A|", "Eb", [70, 63, 68]),
        ("^F F f|F|", "C", [66, 66, 77, 65]),
        ("^^F __B =C|", "G", [67, 69, 60]),
        ("^F [K:D] F =F [K:D] F|", "C", [66, 66, 65, 66]),
        ("{^g}a g|g|", "C", [81, 80, 79]),
        ("F B E A D|", "G#", [66 + 1, 72, 65, 70, 63]),
        ("F F|", "none", [65, 65]),
    ],
)
def test_pitches_follow_key_and_accidentals(music, key, expected):
    header = f"X:1\nL:1/8\nM:4/4\nK:{key}\n"
    assert [pitch for chord in midi(music, header) for pitch in chord] == expected


def test_a_tie_carries_its_alteration_over_the_barline_to_one_note_only():
    first, tied, after = events("^F-|F F|")
    assert [event.heads[0].pitch.alter for event in (first, tied, after)] == [1, 1, 0]
    assert (first.heads[0].tie_start, tied.heads[0].tie_stop, after.heads[0].tie_stop) == (True, True, False)


def test_a_tie_of_an_overlay_ends_where_the_next_bar_has_none():
    assert not any(
        head.tie_stop
        for measure in measures("C8 & E8-|C8|C8 & E8|")
        for layer in measure.layers
        for event in layer.events
        for head in event.heads
    )


def test_fields_between_the_lines_count_from_there_on():
    first, second = measures("C8|\nK:D %new\nM:3/4\nP:B\nF6|")
    assert (first.key.fifths, second.key.fifths, second.time.text) == (0, 2, "3/4")
    assert second.changes == (Change(Fraction(0), "B"),)


@pytest.mark.parametrize("music", ["^F-|=F|", "F-|G|", "F-z F|", "F-|f|", "F-|", "C-|z|C|"])
def test_ties_that_lead_nowhere_are_left_out(music):
    assert not any(head.tie_start or head.tie_stop for event in events(music) for head in event.heads)


def test_ties_of_chords():
    def ties(music):
        first, second = events(music)
        return [head.tie_start for head in first.heads], [head.tie_stop for head in second.heads]

    assert ties("[CEG]-|[CEA]|") == ([True, True, False], [True, True, False])
    assert ties("[CE-G]|[CEG]|") == ([False, True, False], [False, True, False])
    assert ties("[C -E] [CE]|") == ([True, False], [True, False])
    assert ties("C - C|") == ([True], [True])


# --- marks


def test_marks_stand_at_the_event_that_follows():
    first, second, last = events('"Am""^up"!f!T.A "_down"{/bc}[!1!CE] z "@end"!fine!|')
    assert first.marks.decorations == ("f", "trill", "staccato")
    assert first.marks.chord_symbols == ("Am",)
    assert first.marks.annotations == (Annotation("up", "above"),)
    assert second.marks.annotations == (Annotation("down", "below"),)
    assert second.marks.decorations == ("1",)
    assert [(note.heads[0].pitch.midi, note.duration, note.slash) for note in second.marks.grace] == [
        (83, Fraction(1, 8), True),
        (72, Fraction(1, 8), True),
    ]
    assert not last.marks
    trailing = measures('z "@end"!fine!|')[0].layers[0].trailing
    assert trailing.annotations == (Annotation("end", ""),)
    assert trailing.decorations == ("fine",)


def test_marks_after_the_last_barline_belong_to_the_last_measure():
    assert measures("C8|!D.C.!")[0].layers[0].trailing.decorations == ("D.C.",)


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        ("(C D) E|", [[(1, True)], [(1, False)], []]),
        ("(C|D)|", [[(1, True)], [(1, False)]]),
        ("(C (D E) F)|", [[(1, True)], [(2, True)], [(2, False)], [(1, False)]]),
        ("(C (D) E)|", [[(1, True)], [(1, False), (2, True)], [(2, False)]]),
        ("(C) D|", [[], []]),
        ("C) (D|", [[], []]),
        ("( ) C D|", [[], []]),
        ("[(CE] [F)A]|", [[(1, True)], [(1, False)]]),
    ],
)
def test_slurs(music, expected):
    found = [sorted((slur.number, slur.starts) for slur in event.slurs) for event in events(music)]
    assert found == [sorted(slurs) for slurs in expected]


def test_dotted_slur():
    assert events(".(C D)|")[0].slurs == (SlurEnd(1, True, True),)


def test_tuplet_marks_nest():
    a, b, c, d = events("(3:2:4A(3BcdE|")[:4]
    assert a.tuplets == (TupletMark(3, 2, True, False),)
    assert b.tuplets == (TupletMark(3, 2, False, False), TupletMark(3, 2, True, False))
    assert d.tuplets == (TupletMark(3, 2, False, True), TupletMark(3, 2, False, True))
    assert c.written_duration == Fraction(1, 8)
    assert events("(5ABcde|", "L:1/8\nM:6/8\nK:C\n")[0].tuplets[0].normal == 3


def test_short_notes_without_a_blank_between_are_joined():
    assert [event.joined for event in events('CD "a"E(F [GA])`B|')] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]


def test_overlay_is_another_layer():
    measure = measures("C4 & E2^G2|")[0]
    assert [layer.duration for layer in measure.layers] == [Fraction(1, 2)] * 2
    assert [event.onset for event in measure.layers[1].events] == [0, Fraction(1, 4)]


# --- changes


def test_fields_before_the_first_note_are_in_force_at_the_start_and_later_ones_are_changes():
    first, second = measures("[K:G][M:3/4] F2 [K:D clef=bass] F2 F2|[Q:1/4=60] F6|")
    assert (first.key.fifths, first.time.text, first.clef) == (1, "3/4", Clef("treble"))
    at = Fraction(1, 4)
    assert first.changes == (Change(at, Clef("bass")), Change(at, Key("D", "maj", 2)))
    assert (second.key.fifths, second.clef) == (2, Clef("bass"))
    assert second.changes == (Change(Fraction(0), Tempo(Fraction(1, 4), Fraction(60), "")),)


@pytest.mark.parametrize("clef", ["bass", "treble", "tenor", "alto", "clef=bass", "bass-8"])
def test_a_clef_alone_changes_neither_key_nor_accidentals(clef):
    first, second = measures(f"[K:D clef=soprano] ^G4 [K:{clef}] G4|G8|")
    word = clef.removeprefix("clef=")
    assert [change.value for change in first.changes] == [Clef(word)] and second.clef == Clef(word)
    assert first.key == second.key == Key("D", "maj", 2)
    events = [*first.layers[0].events, *second.layers[0].events]
    octave = 3 if word == "bass-8" else 4
    assert [event.heads[0].pitch for event in events] == [
        Pitch("G", 1, 4), Pitch("G", 1 if octave == 4 else 0, octave), Pitch("G", 0, octave)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1/4=92", Tempo(Fraction(1, 4), Fraction(92))),
        ('"Allegro" 3/8=60', Tempo(Fraction(3, 8), Fraction(60), "Allegro")),
        ('1/4 1/8 = 40.5 "slow"', Tempo(Fraction(3, 8), Fraction(81, 2), "slow")),
        ("120", Tempo(Fraction(1, 8), Fraction(120))),
        ('"Largo"', Tempo(None, None, "Largo")),
        ("1/0=92", None),
        ("0/4=92", None),
        ("1/4=0", None),
        ("C=120", None),
        ("", None),
    ],
)
def test_tempo(value, expected):
    assert read_tempo(value, Fraction(1, 8)) == expected


def test_seconds_of_a_tempo():
    assert Tempo(Fraction(1, 4), Fraction(120)).whole_note_s == 2.0
    assert Tempo(None, None, "Largo").whole_note_s is None


# --- barlines and endings


def test_repeats_and_endings():
    found = [
        (m.repeat_starts, m.repeat_stops, m.ending, m.ending_starts, m.ending_stops)
        for m in measures("C8|:D8|1,3 E8|F8:|2 G8||A8|]")
    ]
    assert found == [
        (False, False, (), False, False),
        (True, False, (), False, False),
        (False, False, (1, 3), True, False),
        (False, True, (1, 3), False, True),
        (False, False, (2,), True, True),
        (False, False, (), False, False),
    ]


@pytest.mark.parametrize("signs", ["::", ":|:", ":||:", ":|\n|:", ":| |:"])
def test_one_barline_ends_a_repeat_and_starts_another(signs):
    first, second = measures(f"|:C8{signs}D8:|")
    assert (first.repeat_starts, first.repeat_stops) == (True, True)
    assert (second.repeat_starts, second.repeat_stops) == (True, True)


def test_ending_on_the_next_line_and_range():
    found = measures("|:C8|\n[1-3 D8:|\n[4 E8|]")
    assert [measure.ending for measure in found] == [(), (1, 2, 3), (4,)]


def test_an_ending_stops_where_the_next_one_starts_and_numbers_stay_with_their_barline():
    assert [measure.ending_stops for measure in measures("C8|1 D8|2 E8|]")] == [False, True, True]
    assert [measure.ending for measure in measures("C8|1 |D8:|")] == [(), (1,)]


def test_a_bar_goes_on_over_the_line_end_and_comments_are_no_music():
    found = measures("C4 % first half\nD4 | E8 %2\n%%text\nw: la la\n|]")
    assert [8 * measure.duration for measure in found] == [8, 8]


# --- voices and layout


def test_many_barlines_without_music_between():
    (measure,) = measures("[K:D]y|" * 9000 + "F8|")
    assert measure.key.fifths == 2


def test_all_layouts_give_the_same_score():
    compared = 0
    for raw in RAW:
        completed = complete_rests(raw).text
        try:
            standard = timed(read_score(deinterleave(completed)))
        except FormatError:
            continue  # golden cases of broken text
        generated = read_score("%Classical\n%Mozart, Wolfgang Amadeus\n%Keyboard\n" + raw)
        assert timed(read_score(completed)) == timed(generated) == standard
        compared += 1
    assert compared >= 4


def timed(score):
    return {
        name: [
            (measure.left, measure.right, [(e.onset, e.duration, e.heads, e.invisible) for e in layer.events])
            for measure in voice.measures
            for layer in measure.layers
        ]
        for name, voice in score.voices.items()
    }


def test_voices_that_are_not_on_a_line_rest_as_long_as_the_others():
    score = read_score(
        "%%score ( 1 2 ) 3\nL:1/8\nM:4/4\nK:C\nV:1\nV:2\nV:3\n"
        "[r:0/2][V:1]C6|:\n[r:1/1][V:2]D4|[V:3]E4|\n[r:2/0][V:1]F8:|[V:3]G8:|\n"
    )
    rests = {
        name: [
            (8 * m.duration, m.layers[0].events[0].invisible)
            for m in v.measures
            if m.layers[0].events[0].rest
        ]
        for name, v in score.voices.items()
    }
    assert rests == {"1": [(4, False)], "2": [(6, True), (8, True)], "3": [(6, False)]}
    assert [[m.right for m in v.measures] for v in score.voices.values()] == [["|:", "|", ":|"]] * 3


def test_blanks_before_a_line_mean_nothing():
    score = read_score(f"{HEADER}[r:0/1][V:1]C8|[V:2]D8|\n [r:1/0][V:1]C8|[V:2]D8|]\n")
    assert score.measure_count == 2


def test_a_voice_that_comes_late_rests_before():
    score = read_score(f"{HEADER}[V:1]C8|[V:2]D8|\n[V:1]C8|[V:3]E8|]\n")
    assert [len(voice.measures) for voice in score.voices.values()] == [2, 2, 2]
    assert score.voices["3"].measures[0].layers[0].events[0].rest


def test_rests_of_several_bars_are_spelt_out_in_standard_layout():
    score = read_score(f"{HEADER}V:1\nZ3|C8|]\nV:2\nC8|D8|E8|F8|]\n")
    assert [measure.duration for measure in score.voices["1"].measures] == [1] * 4
    assert [measure.right for measure in score.voices["1"].measures] == ["|", "|", "|", "|]"]


def test_barlines_of_a_rest_of_several_bars():
    assert [measure.right for measure in measures("Z2:|Z2|]")] == ["|", ":|", "|", "|]"]


def test_rests_are_as_long_as_most_of_the_other_voices():
    score = read_score(f"{HEADER}V:1\nV:2\nV:3\nV:4\n[r:0/0][V:1]C8|[V:2]C6|[V:3]C6|\n")
    assert 8 * score.voices["4"].measures[0].duration == 6


def test_declarations_of_voices():
    score = read_score(
        "T:A Title % comment\nT:Second\nC:Someone\n%%score 1 2\nL:1/16\nQ:1/4=80\nM:4/4\nK:Eb\n"
        'V:1 treble-8 nm="Clarinet in B" snm="Cl." transpose=-2\nK:F\n'
        "V:2 perc stafflines=1\nK:none\n[V:1]B16|[V:2]B16|\n"
    )
    first, second = score.voices.values()
    assert (first.full_name, first.abbreviation, first.transpose) == ("Clarinet in B", "Cl.", -2)
    assert (first.measures[0].clef, first.measures[0].key.fifths) == (Clef("treble-8"), -1)
    assert (second.percussion, second.staff_lines, second.measures[0].key.fifths) == (True, 1, 0)
    assert (score.title, score.composer, score.unit_length) == ("A Title", "Someone", Fraction(1, 16))
    assert (score.key.tonic, score.time.text, score.measure_count) == ("F", "4/4", 1)
    assert score.tempo == Tempo(Fraction(1, 4), Fraction(80))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1 2", (Part((("1",),)), Part((("2",),)), Part((("3",),)), Part((("4",),)))),
        ("{ ( 1 2 ) | ( 3 4 ) }", (Part((("1", "2"), ("3", "4"))),)),
        ("[ 1 { 2 | 3 } ] 4", (
            Group("bracket", (Part((("1",),)), Part((("2",), ("3",)))), False), Part((("4",),)),
        )),
        ("[ 1 | 2 ( 3 4", (Group("bracket", (Part((("1",),)), Part((("2",),)), Part((("3", "4"),))), True),)),
        ("[ ( 1 2 } 3 ) ] 9 1 *4", (Part((("1", "2", "3"),)), Part((("4",),)))),
        ("", (Part((("1",),)), Part((("2",),)), Part((("3",),)), Part((("4",),)))),
    ],
)  # fmt: skip
def test_layout(value, expected):
    assert read_layout(value, dict.fromkeys("1234", False)) == expected


def test_a_brace_around_named_staves_keeps_them_parts():
    named = {"1": True, "2": True, "3": False, "4": False}
    one, two = Part((("1",),)), Part((("2",),))
    assert read_layout("{ 1 | 2 } { 3 4 }", named) == (
        Group("brace", (one, two), True),
        Part((("3",), ("4",))),
    )


def test_music_without_v_after_a_declaration_is_of_that_voice():
    assert list(read_score("L:1/8\nK:C\nV:T1 treble\nC8|\n").voices) == ["T1"]
    assert list(read_score("L:1/8\nV:T1 treble\nK:C\nC8|\n").voices) == ["T1"]
    assert list(read_score("L:1/8\nK:C\nC8|\n").voices) == ["1"]


# --- errors


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("", "no music", None),
        (HEADER, "no music", None),
        (HEADER + "|:|\n", "no music", None),
        (HEADER + "C8|\nD8|(3EF|\n", "voice 1, bar 3: a tuplet of 3 notes has only 2", 6),
        (HEADER + "C8|[M:4/x]D8|\n", "voice 1, bar 2: meter '4/x'", 5),
        (HEADER + "C0|\n", "voice 1, bar 1: the length of a note or rest is 0", 5),
        (HEADER + "C1/9973D1/9967E1/9949|\n", "voice 1, bar 1: the note lengths need a common denominator", 5),
        (HEADER + "C&D&E&F&G|\n", "more than 4 layers", 5),
        (HEADER + "V:1\nC8|D8|\nV:2\nC8|\n", r"different numbers of bars \(V:1 2, V:2 1\)", None),
        (HEADER + "[V:1]C8|D8|[V:2]C8|\n", r"different numbers of bars: \[2, 1\]", 5),
        (HEADER + "[V:1]C8|[V:2]C8|\nD8|\n", "music without", 6),
        (HEADER + "[V:1]C8|[V:1]C8|\n", "on the line twice", 5),
        (HEADER + "V:\nC8|\n", "V: needs a name", 5),
        ("L:1/8\nM:5\nK:C\nC8|\n", "meter '5'", 2),
        ("L:1/8\nK:H\nC8|\n", "key 'H'", 2),
        (HEADER + "Z9999|\n" * 8, "more than 65536 bars", 11),
        (f"{HEADER}V:1\n{'Z999|' * 40}\nV:2\n{'Z999|' * 40}\n", "more than 65536 bars", None),
        (HEADER + "".join(f"V:{n}\n" for n in range(100)) + "[r:0/1][V:0]C|\n" * 700, "more than 65536 bars", 760),
        (HEADER + "".join(f"V:{n}\n" for n in range(MAX_VOICES + 1)) + "C8|\n", "more than 128 voices", 133),
    ],
)  # fmt: skip
def test_errors_are_located(text, message, line):
    with pytest.raises(FormatError, match=message) as caught:
        read_score(text)
    assert caught.value.line == line


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["C", "^F", "_b,", "z2", "x", "Z", "[CE]", "-", "(", ")", "(3", "(3:2:4", ">", "<<", "|", "|:", ":|", "|1",
             ":|2", "|]", "&", "!<(!", "!trill(!", '"Am"', '"^t"', "{/c}", "[K:D]", "[M:3/4]", "[L:1/16]", "[Q:1/4=9]",
             "[V:1]", "[V:2]", "V:2\n", "[r:0/3]", "\n", " ", "/", "3", "y", "$", "%x", "K:G\n", "\x00", "é", "!", '"']
        ),
        max_size=30,
    ).map("".join)
)  # fmt: skip
def test_any_text_is_a_score_or_a_format_error(text):
    try:
        score = read_score(HEADER + text)
    except FormatError:
        return
    assert {len(voice.measures) for voice in score.voices.values()} == {score.measure_count}
    assert sorted(name for part in score.parts for name in part.voices) == sorted(score.voices)
    for voice in score.voices.values():
        for measure in voice.measures:
            for layer in measure.layers:
                ends = [Fraction(0), *(event.end for event in layer.events)]
                assert [event.onset for event in layer.events] == ends[:-1]
