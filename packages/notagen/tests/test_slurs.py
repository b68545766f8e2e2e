"""Slurs between voices, on grace notes and in great number, from MusicXML through ABC and back."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.score import read_score
from notagen.score.losses import losses
from notagen.score.slurs import MAX_MEASURES_BETWEEN_LAYERS, MAX_SLURS

HEADER = "X:1\n%%score ( 1 2 )\nL:1/8\nM:4/4\nK:C\nV:1\nV:2\n"
ATTRIBUTES = (
    "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
)


def note(pitch, voice, signs=(), *, grace=False):
    """A quarter note or grace note; signs such as ``start 1``."""
    slurs = "".join('<slur type="{}" number="{}"/>'.format(*sign.split()) for sign in signs)
    return (
        f"<note>{'<grace/>' if grace else ''}<pitch><step>{pitch[0]}</step><octave>{pitch[1]}</octave></pitch>"
        f"{'' if grace else '<duration>1</duration>'}<voice>{voice}</voice><notations>{slurs}</notations></note>"
    )


def piece(*measures):
    """A part of two voices; each measure is the notes of the first and those of the second."""
    back = "<backup><duration>4</duration></backup>"
    content = "".join(
        f"<measure>{'' if index else ATTRIBUTES}{''.join(first)}{back}{''.join(second)}</measure>"
        for index, (first, second) in enumerate(measures)
    )
    parts = '<part-list><score-part id="P1"><part-name/></score-part></part-list>'
    return f'<score-partwise>{parts}<part id="P1">{content}</part></score-partwise>'.encode()


def slurs(document):
    """Pairs of the first and the last note of each slur, by their numbers in the order of the file."""
    root = ElementTree.fromstring(document)
    opened, waiting, found = {}, {}, []
    for each in root.iter("note"):
        name = each.findtext("pitch/step", "") + each.findtext("pitch/octave", "")
        for slur in sorted(each.iter("slur"), key=lambda slur: slur.get("type") == "start"):
            number, starts = slur.get("number"), slur.get("type") == "start"
            ours, others = (opened, waiting) if starts else (waiting, opened)
            assert number not in ours, "a number is used twice at the same time"
            if number in others:
                other = others.pop(number)
                found.append((name, other) if starts else (other, name))
            else:
                ours[number] = name
    assert not opened and not waiting
    return sorted(found)


def plain(letters, voice):
    return [note(pitch, voice) for pitch in letters.split()]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # From the upper voice to the lower one, and the other way round.
        ([("C5", "start 1"), "D5", "E5", "F5"], ["C4", "D4", ("E4", "stop 1"), "F4"], [("C5", "E4")]),
        (["C5", "D5", ("E5", "stop 1"), "F5"], [("C4", "start 1"), "D4", "E4", "F4"], [("C4", "E5")]),
        # With a slur of its own in the upper voice.
        (
            [("C5", "start 1"), ("D5", "start 2"), ("E5", "stop 2"), "F5"],
            ["C4", "D4", "E4", ("F4", "stop 1")],
            [("C5", "F4"), ("D5", "E5")],
        ),
        # A note that ends one and starts another.
        (
            ["C5", ("D5", "stop 1", "start 2"), "E5", ("F5", "stop 2")],
            [("C4", "start 1"), "D4", "E4", "F4"],
            [("C4", "D5"), ("D5", "F5")],
        ),
    ],
)
def test_slurs_between_voices_survive(first, second, expected):
    rows = [
        [note(each[0], voice, each[1:]) if isinstance(each, tuple) else note(each, voice) for each in row]
        for voice, row in ((1, first), (2, second))
    ]
    with losses() as found:
        again = abc_to_musicxml(musicxml_to_abc(piece(rows)))
    assert slurs(again) == expected and not found


def test_slurs_between_voices_over_a_barline():
    first = ([*plain("C5 D5 E5", 1), note("F5", 1, ["start 1"])], plain("C4 D4 E4 F4", 2))
    second = (plain("C5 D5 E5 F5", 1), [note("G4", 2, ["stop 1"]), *plain("A4 B4 C4", 2)])
    assert slurs(abc_to_musicxml(musicxml_to_abc(piece(first, second)))) == [("F5", "G4")]


def test_a_slur_that_the_brackets_of_abc_would_take_for_another_one_is_counted():
    # "(C (D E)" in the upper voice would end the slur from D there, and not the one from C.
    first = [note("C5", 1, ["start 1"]), note("D5", 1, ["start 2"]), note("E5", 1, ["stop 1"]), note("F5", 1)]
    second = [*plain("C4 D4 E4", 2), note("F4", 2, ["stop 2"])]
    with losses() as found:
        text = musicxml_to_abc(piece((first, second)))
    assert found == {"slur from one voice to another": 1}
    assert slurs(abc_to_musicxml(text)) == [("C5", "E5")]


def test_ends_without_a_start_and_starts_without_an_end_are_counted():
    first = [note("C5", 1, ["stop 1"]), *plain("D5 E5", 1), note("F5", 1, ["start 2"])]
    with losses() as found:
        text = musicxml_to_abc(piece((first, plain("C4 D4 E4 F4", 2))))
    assert found == {"slur without a start or end": 2}
    assert "(" not in text.partition("V:1\n")[2]


def test_slurs_of_grace_notes():
    first = [
        note("G5", 1, ["start 1"], grace=True),
        note("C5", 1, ["stop 1"]),
        note("D5", 1, ["start 1"]),
        note("A5", 1, ["start 2"], grace=True),
        note("B5", 1, ["stop 2", "stop 1"], grace=True),
        *plain("E5 F5", 1),
    ]
    text = musicxml_to_abc(piece((first, plain("C4 D4 E4 F4", 2))))
    assert "({g}c2) (d2 {(ab))}e2 f2 |]" in text
    assert slurs(abc_to_musicxml(text)) == [("A5", "B5"), ("D5", "B5"), ("G5", "C5")]


def test_a_slur_before_grace_notes_starts_at_them_and_one_after_them_at_the_note():
    score = read_score("X:1\nL:1/8\nM:4/4\nK:C\n({g}c2 d2) {g}(e2 f2)|\n")
    first, second, third, fourth = score.voices["1"].measures[0].layers[0].events
    assert first.marks.grace[0].slurs and not first.slurs and second.slurs
    assert not third.marks.grace[0].slurs and third.slurs and fourth.slurs


def test_signs_of_two_voices_that_are_far_apart_are_no_slur():
    for bars, count in ((MAX_MEASURES_BETWEEN_LAYERS, 1), (MAX_MEASURES_BETWEEN_LAYERS + 1, 0)):
        rests = "z8|" * (bars - 1)
        text = f"{HEADER}V:1\n(c8|{rests}c8|\nV:2\nC8|{rests}C8)|\n"
        with losses() as found:
            assert len(slurs(abc_to_musicxml(text))) == count
        assert found["slur without a start or end"] == 2 * (1 - count)


def test_more_slurs_at_once_than_musicxml_has_numbers_are_counted():
    count = MAX_SLURS + 3
    text = f"{HEADER}V:1\n{'(' * count}c4 d4{')' * count}|\nV:2\nC8|\n"
    with losses() as found:
        assert len(slurs(abc_to_musicxml(text))) == MAX_SLURS
    assert found == {f"slur beyond {MAX_SLURS} at the same time": 3}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["(c", "c)", "(c)", "c", "({g}c", "{(g}c", "{g)}c", "((c"]), min_size=8, max_size=8),
       st.lists(st.sampled_from(["(C", "C)", "(C)", "C", "C))"]), min_size=8, max_size=8))  # fmt: skip
def test_any_brackets_give_slurs_that_have_two_ends(upper, lower):
    text = f"{HEADER}V:1\n{' '.join(upper)}|\nV:2\n{' '.join(lower)}|\n"
    with losses() as found:
        written = slurs(abc_to_musicxml(text))
    signs = sum(piece.count("(") + piece.count(")") for piece in upper + lower)
    assert 2 * len(written) + found["slur without a start or end"] == signs
