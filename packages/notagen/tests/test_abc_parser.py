"""Reading and printing tunes and bars."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.abc import parse_bar, parse_tune, print_bar, print_elements, print_tune, total_duration
from notagen.abc.parser import MAX_LINE_CHARACTERS, MAX_TUNE_CHARACTERS
from notagen.abc.syntax import (
    Bar,
    Barline,
    Broken,
    Chord,
    Comment,
    Decoration,
    Field,
    Grace,
    InlineField,
    LineBreak,
    MusicLine,
    Note,
    Overlay,
    QuotedText,
    Rest,
    Slur,
    Space,
    Spacer,
    Tie,
    Tuplet,
    VoiceLine,
    length_of,
)
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
PIECES = json.loads((GOLDENS / "preprocess.json").read_text())["cases"]
TEXTS = [text for case in PIECES for text in (case["input"], case["interleaved"]) if text]
QUARTET = (
    '%Classical\n%%score { ( 1 2 ) | 3 }\nL:1/8\nM:C|\nK:Bb\nV:1 treble nm="Piano"\nV:2 treble\nV:3 bass \n'
    '[r:0/1][V:1][K:F]|:"^dolce"!p!(3c2d(e) [CEG-]2>>.f|1,3[V:3]{/gab}z2 .(C,,)y x2|1,3\n'
    "[r:1/0][V:1]Tc4 & e4- :|[V:2]Z:|[V:3]z4:|\n"
)
LENGTHS = st.sampled_from(["", "2", "3/2", "/", "//", "/4", "7/"])
NOTES = st.builds(
    Note,
    st.sampled_from(["", "^", "^^", "=", "_", "__"]),
    st.sampled_from("ABCDEFGabcdefg"),
    st.sampled_from(["", "'", "''", ",", ",,"]),
    LENGTHS,
    st.booleans(),
)
CHORDS = st.builds(Chord, st.lists(NOTES, min_size=1, max_size=3).map(tuple), LENGTHS, st.booleans())
ELEMENTS = st.one_of(
    NOTES,
    CHORDS,
    st.builds(Rest, st.sampled_from("zx"), LENGTHS),
    st.builds(Grace, st.lists(NOTES, min_size=1, max_size=2).map(tuple), st.booleans()),
    st.sampled_from(
        [Tuplet(3), Tuplet(5, 4, 5), Tuplet(3, None, 2), Slur("("), Slur(")"), Slur(".("), Overlay()]
    ),
    st.sampled_from(
        [Broken(">"), Decoration("!mf!"), Decoration("~"), QuotedText('"Am"'), InlineField("K", "D")]
    ),
    st.just(Space(" ")),
)


def test_tree_of_an_interleaved_tune():
    tune = parse_tune(QUARTET)
    assert [voice.value.split()[0] for voice in tune.header.fields("V")] == ["1", "2", "3"]
    assert [field.value for field in tune.header.fields("M")] == ["C|"]
    assert tune.header.lines[:2] == (Comment("%Classical"), Comment("%%score { ( 1 2 ) | 3 }"))
    first, second = tune.body
    assert isinstance(first, MusicLine)
    assert first.countdown == InlineField("r", "0/1")
    assert [voice.voice for voice in first.voices] == ["1", "3"]
    (bar,) = first.voices[0].bars
    assert bar.prefix == (InlineField("K", "F"),)
    assert (bar.left, bar.right) == (Barline("|:"), Barline("|", "1,3"))
    assert bar.elements == (
        QuotedText('"^dolce"'),
        Decoration("!p!"),
        Tuplet(3),
        Note("", "c", "", "2"),
        Note("", "d"),
        Slur("("),
        Note("", "e"),
        Slur(")"),
        Space(" "),
        Chord((Note("", "C"), Note("", "E"), Note("", "G", tie=True)), "2"),
        Broken(">>"),
        Decoration("."),
        Note("", "f"),
    )
    grace, rest, _, slur, *_ = first.voices[1].bars[0].elements
    assert grace == Grace((Note("", "g"), Note("", "a"), Note("", "b")), slash=True)
    assert rest == Rest("z", "2")
    assert slur == Slur(".(")
    assert Spacer() in first.voices[1].bars[0].elements
    assert isinstance(second, MusicLine)
    assert second.voices[1] == VoiceLine("2", (Bar((Rest("Z"),), Barline(":|")),))


def test_plain_abc_in_voices_with_lyrics_and_comments():
    text = "X:1\nK:G\nV:1\nV:2 bass\nV:1\n c2 | d e |1 f :|2 g |] %3\nw: la la\nV:2\nC4 |\\\nD4 ||\n"
    tune = parse_tune(text)
    assert tune.header.lines[-1] == Field("V", "2 bass")
    assert tune.body[0] == Field("V", "1")
    music = tune.body[1]
    assert isinstance(music, MusicLine)
    assert music.comment == "%3"
    assert [bar.right for bar in music.voices[0].bars] == [
        Barline("|"),
        Barline("|", "1"),
        Barline(":|", "2"),
        Barline("|]"),
    ]
    assert tune.body[2] == Field("w", " la la")
    assert print_tune(tune) == text


@pytest.mark.parametrize("text", [QUARTET, *TEXTS])
def test_real_tunes_print_as_they_stand(text):
    tune = parse_tune(text)
    printed = print_tune(tune)
    assert parse_tune(printed) == tune

    def words(source: str) -> list[str]:
        return [line.replace(" ", "") for line in source.split("\n") if line.strip()]

    assert words(printed) == words(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c4",
        "|",
        "|:c|",
        "[K:D] [M:3/4]|: z4 :|",
        "c|[1",
        "[r:1/2]C4",
        "-C4",
        "$C4",
        "J3",
        "H4c2",
        "(3:2c",
        "(3::2a",
        "[1c",
        "[!1!C(E)]",
        "(3:|",
        "c-)-",
        "c\\",
        "|| c |]",
        "::c:|]",
        "[|c:||:",
        "c3//",
        "y2c",
        "`c``d`|",
        "X2|",
    ],
)
def test_bars_print_as_they_stand(text):
    bar = parse_bar(text)
    assert print_bar(bar) == text
    assert parse_bar(print_bar(bar)) == bar


@given(st.lists(ELEMENTS, max_size=12))
def test_built_elements_are_read_back(elements):
    # Neighbours can merge ("." and "(", two notes' marks), so compare after one reading.
    once = parse_bar(print_elements(elements))
    assert parse_bar(print_bar(once)) == once
    assert [e for e in once.elements if isinstance(e, Chord)] == [e for e in elements if isinstance(e, Chord)]
    assert [e for e in once.elements if isinstance(e, Note)] == [e for e in elements if isinstance(e, Note)]


def test_a_changed_note_prints_changed():
    bar = parse_bar("c2 d")
    note, *others = bar.elements
    assert isinstance(note, Note)
    assert print_elements((replace(note, accidental="^", letter="D", marks=","), *others)) == "^D,2 d"


def test_positions_do_not_take_part_in_comparisons():
    (first,) = parse_tune("K:C\n[V:1]c|[V:2]dd|e").body
    assert isinstance(first, MusicLine)
    bars = [bar for voice in first.voices for bar in voice.bars]
    assert [(bar.line, bar.column) for bar in bars] == [(2, 6), (2, 13), (2, 16)]
    assert bars[0] == Bar((Note("", "c"),), Barline("|"))


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ('K:C\nc "abc', 2, 3, "closing"),
        ("K:C\n\nc|d !mf e", 3, 5, "closing !"),
        ("K:C\nc {ab", 2, 3, "closing }"),
        ("K:C\n[V:1]c|[CE", 2, 8, "closing ]"),
        ("K:C\nc d=", 2, 4, "no meaning"),
        ("K:C\nc/0", 2, 1, "zero"),
        ("K:C\nc2 d12345", 2, 4, "digits"),
        ("K:C\nc2 d//3", 2, 4, "n/m"),
        ("K:C\nc /", 2, 3, "no meaning"),
        ("K:C\nab[CE|G]", 2, 6, "inside a chord"),
        ("K:C\nab[C{g}E/0]", 2, 5, "inside a chord"),
        ("K:C\nab[CE/0]", 2, 5, "zero"),
        ("K:C\nab{ c|}", 2, 6, "inside grace notes"),
        ("K:C\nab[]", 2, 3, "at least one note"),
        ("K:C\nc(0ab", 2, 2, "1 to 99"),
        ("K:C\nc(123ab", 2, 2, "99"),
        ("K:C\nc''''''''''", 2, 1, "octave"),
        ("K:C\nc é", 2, 3, "no meaning"),
        ("X:1\nK:C\nc|\n\nX:2\nK:C\nd|", 5, 1, "second tune"),
        (f"K:C\n{'c' * (MAX_LINE_CHARACTERS + 1)}", 2, MAX_LINE_CHARACTERS + 1, "at most"),
        ("\n" * (MAX_TUNE_CHARACTERS + 1), 1, 1, "at most"),
    ],
)
def test_errors_say_where(text, line, column, reason):
    with pytest.raises(FormatError, match=reason) as caught:
        parse_tune(text)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize("text", ["c|d", "c|d|", "[V:1]c", "c %4", "c\nd", "c" * (MAX_LINE_CHARACTERS + 1)])
def test_more_than_a_bar_is_no_bar(text):
    with pytest.raises(FormatError) as caught:
        parse_bar(text, line=7, column=3)
    assert caught.value.line == 7
    assert caught.value.column is not None and caught.value.column >= 3


def test_lengths_and_octaves():
    spelled = {
        "": "1",
        "3": "3",
        "3/2": "3/2",
        "/4": "1/4",
        "/": "1/2",
        "//": "1/4",
        "7/": "7/2",
        "3//": "3/4",
    }
    assert {text: str(length_of(text)) for text in spelled} == spelled
    assert Note("", "C,").octave == 4
    assert (Note("", "C").octave, Note("", "c").octave, Note("", "B", ",,").octave) == (4, 5, 2)
    assert Chord((Note("", "C", "", "2"), Note("", "E")), "3/2").length == Fraction(3)
    for text in ("x", "1/x", "²", "-1", "1//2", "/" * 9):
        with pytest.raises(FormatError):
            length_of(text)


@settings(max_examples=300)
@given(st.data())
def test_damaged_tunes_are_read_or_refused_with_a_place(data):
    text = data.draw(st.sampled_from([QUARTET, *TEXTS[:4]]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        piece = data.draw(st.text('[]{}()|:"!%/^_=-<>&+.,0139abVKxzZ \n', max_size=3) | st.text(max_size=2))
        text = text[:at] + piece + text[at + cut :]
    try:
        tune = parse_tune(text)
    except FormatError as error:
        lines = text.split("\n")
        assert error.line is not None and error.column is not None
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    else:
        assert parse_tune(print_tune(tune)) == tune


@settings(max_examples=200)
@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        tune = parse_tune(text)
    except FormatError as error:
        assert error.line is not None and error.column is not None
    else:
        assert parse_tune(print_tune(tune)) == tune


def test_lines_without_notes_are_kept_unless_blank():
    text = "K:C\n[r:0/1]\n[V:1]\n %a\n|:\n"
    assert print_tune(parse_tune(text)) == text
    assert print_tune(parse_tune("K:C\n` `\n\n \r\nc|\n")) == "K:C\nc|\n"


def test_detached_tie():
    assert parse_bar("c) -").elements[-1] == Tie()


@pytest.mark.parametrize("line", ["c2 d2|!", "c2 d2 !", "c2|!d2 e2|", "c2 d2|]*", "c2 | *"])
def test_line_breaks_of_old_tunes(line):
    tune = parse_tune(f"K:C\n{line}\n")
    [music] = tune.body
    elements = [element for bar in music.voices[0].bars for element in bar.elements]
    assert LineBreak(line[line.index("!" if "!" in line else "*")]) in elements
    assert parse_tune(print_tune(tune)) == tune


@pytest.mark.parametrize("line", ["!p c4|", "c2 !d2|", "c2 * d2|"])
def test_a_lone_mark_between_notes_is_no_line_break(line):
    with pytest.raises(FormatError):
        parse_tune(f"K:C\n{line}\n")


def test_many_lone_marks_take_linear_time():
    with pytest.raises(FormatError):
        parse_bar("c" + "!" * 60000 + "c")


def test_rests_inside_chords_have_no_effect():
    bar = parse_bar("[C2z2] [zE]3|")
    assert [note.letter for chord in (bar.elements[0], bar.elements[2]) for note in chord.notes] == ["C", "E"]
    assert total_duration(bar) == 5
    assert print_bar(bar) == "[C2z2] [zE]3|"
    with pytest.raises(FormatError, match="a chord needs at least one note"):
        parse_bar("[z2]")
