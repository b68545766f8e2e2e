"""MusicXML to ABC: the form of the text, every kind of mark, damage of every kind, and real scores."""

from __future__ import annotations

import gc
import io
import json
import random
import re
import subprocess
import sys
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.notation.bars import alignment, read_tune
from notagen.notation.clean import clean
from notagen.notation.layout import interleave
from notagen.notation.rests import complete_rests, omit_rests
from notagen.notation.tunebook import standard_tune
from notagen.notation.validation import validate
from notagen.score import read_score
from notagen.score.losses import losses
from notagen.sound.performance import perform
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
DOCTYPE = (
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">'
)
ATTRIBUTES = (
    "<attributes><divisions>12</divisions><key><fifths>0</fifths></key>"
    "<time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
)


def note(
    pitch: str = "C4", duration: int = 12, more: str = "", *, chord: bool = False, voice: str = ""
) -> str:
    """A note, a rest for ``"z"``, an unpitched one for ``"?F4"``; ``more`` comes after the voice."""
    if pitch == "z":
        what = "<rest/>"
    elif pitch.startswith("?"):
        place = f"<display-step>{pitch[1]}</display-step><display-octave>{pitch[2]}</display-octave>"
        what = f"<unpitched>{place}</unpitched>"
    else:
        alter = pitch.count("#") - pitch.count("b")
        what = f"<pitch><step>{pitch[0]}</step><alter>{alter}</alter><octave>{pitch[-1]}</octave></pitch>"
    named = f"<voice>{voice}</voice>" if voice else ""
    return f"<note>{'<chord/>' if chord else ''}{what}<duration>{duration}</duration>{named}{more}</note>"


def typed(pitch: str, duration: int, more: str = "") -> str:
    return note(pitch, duration, f"<type>quarter</type>{more}")


def marked(pitch: str, notations: str, duration: int = 12) -> str:
    return note(pitch, duration, f"<notations>{notations}</notations>")


def score(*parts: str, listed: str = "", head: str = "") -> bytes:
    """Parts are their measures; ``{A}`` in them stands for attributes in C major and 4/4."""
    content = "".join(
        f'<part id="P{number}">{measures.replace("{A}", ATTRIBUTES)}</part>'
        for number, measures in enumerate(parts, 1)
    )
    return (
        f"{DOCTYPE}<score-partwise>{head}<part-list>{listed}</part-list>{content}</score-partwise>".encode()
    )


def measure(*content: str) -> str:
    return f"<measure>{''.join(content)}</measure>"


def bars(source: bytes, voice: str = "1") -> list[str]:
    """The bars of a voice, with the barline after each."""
    found = read_tune(clean(musicxml_to_abc(source))).voices[voice]
    return [f"{bar}{line}" for bar, line in zip(found.bars, found.right_barlines, strict=True)]


def one_bar(*content: str) -> str:
    (text,) = bars(score(measure("{A}", *content)))
    return text.removesuffix("|]")


def golden(name: str) -> list[dict]:
    return json.loads((GOLDENS / name).read_text(encoding="utf-8"))["cases"]


# --- the form of the text


def test_the_whole_form() -> None:
    listed = (
        '<part-group number="1" type="start"><group-symbol>bracket</group-symbol>'
        "<group-barline>yes</group-barline></part-group>"
        '<score-part id="P1"><part-name>Clarinet in B♭</part-name><part-abbreviation>Cl.</part-abbreviation>'
        '</score-part><score-part id="P2"><part-name>Viola "solo"</part-name></score-part>'
        '<part-group number="1" type="stop"/><score-part id="P3"><part-name>Piano</part-name></score-part>'
    )
    head = (
        "<work><work-title>Étude\nfirst</work-title></work><movement-title>Allegro</movement-title>"
        '<identification><creator type="composer">Anon</creator><creator type="poet">No</creator></identification>'
    )
    meter = "<time><beats>3</beats><beat-type>4</beat-type></time>"
    clarinet = measure(
        f"<attributes><divisions>2</divisions><key><fifths>2</fifths><mode>major</mode></key>{meter}"
        "<clef><sign>G</sign><line>2</line></clef><transpose><chromatic>-2</chromatic></transpose></attributes>",
        "<direction><direction-type><metronome><beat-unit>quarter</beat-unit><beat-unit-dot/>"
        "<per-minute>c. 92</per-minute></metronome></direction-type></direction>",
        note("F#4", 6),
    )
    viola = measure(
        f"<attributes><divisions>2</divisions><key><fifths>0</fifths></key>{meter}"
        "<clef><sign>C</sign><line>3</line></clef></attributes>",
        note("E4", 6),
    )
    piano = measure(
        f"<attributes><divisions>2</divisions><key><fifths>0</fifths></key>{meter}<staves>2</staves>"
        '<clef number="1"><sign>G</sign><line>2</line><clef-octave-change>-1</clef-octave-change></clef>'
        '<clef number="2"><sign>F</sign><line>4</line></clef></attributes>',
        note("G4", 6, "<staff>1</staff>", voice="1"),
        "<backup><duration>6</duration></backup>",
        note("E4", 2, "<staff>1</staff>", voice="2"),
        "<backup><duration>2</duration></backup>",
        note("C3", 6, "<staff>2</staff>", voice="5"),
    )
    text = musicxml_to_abc(
        score(*(part + part for part in (clarinet, viola, piano)), listed=listed, head=head)
    )
    assert text == (
        "X:1\nT:Étude first\nT:Allegro\nC:Anon\nZ:poet: No\n"
        "%%score [ 1 | 2 ] { ( 3 4 ) | 5 }\nL:1/8\nQ:3/8=92\nM:3/4\nK:D\n"
        'V:1 treble transpose=-2 nm="Clarinet in B♭" snm="Cl."\nV:2 alto nm="Viola \'solo\'"\n'
        'V:3 treble-8 nm="Piano"\nV:4 treble-8 \nV:5 bass \n'
        "V:1\n F6 | F6 |] %2\nV:2\n[K:C] E6 | E6 |] %2\nV:3\n[K:C] g6 | g6 |] %2\n"
        "V:4\n[K:C] e2 x4 | e2 x4 |] %2\nV:5\n[K:C] C,6 | C,6 |] %2\n"
    )


def test_long_voices_are_wrapped_and_numbered() -> None:
    text = musicxml_to_abc(score(measure("{A}", note("C4", 48)) + measure(note("C4", 48)) * 39))
    lines = text[text.index("V:1\n") :].splitlines()[1:]
    assert lines[0].endswith("| %20") and lines[2] == " C8 |] %40"
    assert all(len(line) <= 105 and line.startswith(" C8 |") for line in lines)
    assert len(read_tune(clean(text)).voices["1"].bars) == 40


def test_percussion_has_no_key() -> None:
    clef = "<attributes><clef><sign>percussion</sign></clef><staff-details><staff-lines>1</staff-lines></staff-details>"
    text = musicxml_to_abc(score(measure("{A}", f"{clef}</attributes>", note("?F4", 48)), measure("{A}")))
    assert "K:C\nV:1 perc stafflines=1 \nK:none\nV:2 treble \n" in text and "V:1\n F8 |]" in text


@pytest.mark.parametrize(
    ("fifths", "mode", "key"),
    [(0, "", "C"), (-7, "major", "Cb"), (7, "minor", "A#min"), (2, "dorian", "Edor"), (-7, "lydian", "Fblyd"),
     (1, "mixolydian", "Dmix"), (0, "phrygian", "Ephr"), (0, "locrian", "Bloc"), (3, "aeolian", "F#min")],
)  # fmt: skip
def test_keys(fifths: int, mode: str, key: str) -> None:
    signature = f"<attributes><key><fifths>{fifths}</fifths><mode>{mode}</mode></key></attributes>"
    text = musicxml_to_abc(score(measure(signature, note())))
    assert f"\nK:{key}\n" in text
    assert read_score(text).key.fifths == fifths


def test_meters() -> None:
    def meter(content: str) -> str:
        text = musicxml_to_abc(
            score(measure(f"<attributes><time>{content}</time></attributes>", note("C4", 4)))
        )
        return next(line for line in text.splitlines() if line.startswith("M:"))

    assert meter("<beats>3+2</beats><beat-type>8</beat-type>") == "M:3+2/8"
    assert (
        meter("<beats>2</beats><beat-type>4</beat-type><beats>3</beats><beat-type>8</beat-type>") == "M:7/8"
    )
    assert meter("<senza-misura/>") == "M:none"


@pytest.mark.parametrize(
    ("sign", "line", "word"),
    [
        ("G", 2, "treble"),
        ("C", 4, "tenor"),
        ("F", 4, "bass"),
        ("C", 1, "alto1"),
        ("F", 3, "bass3"),
        ("TAB", 5, "treble"),
    ],
)
def test_clefs(sign: str, line: int, word: str) -> None:
    clef = f"<attributes><clef><sign>{sign}</sign><line>{line}</line></clef></attributes>"
    assert f"\nV:1 {word} \n" in musicxml_to_abc(score(measure(clef, note())))


def test_changes_stand_where_they_come_into_force() -> None:
    meter = "<time><beats>2</beats><beat-type>4</beat-type></time>"
    change = f"<attributes><key><fifths>-1</fifths></key>{meter}</attributes>"
    clef = "<attributes><clef><sign>F</sign><line>4</line></clef></attributes>"
    tempo = '<sound tempo="60"/>'
    source = score(
        measure("{A}", '<sound tempo="90.4"/>', note("B4", 48))
        + measure(change, tempo, note("Bb4"), clef, note("Bb3"))
        + measure(change, clef, tempo, note("B4", 24))
    )
    assert "\nQ:1/4=90\n" in musicxml_to_abc(source)
    assert bars(source) == ["B8|", "[K:F][M:2/4][Q:1/4=60]B2 [K:bass]B,2|", "=B4|]"]


def test_a_tempo_of_several_parts_stands_once() -> None:
    second = measure('<sound tempo="60"/>', note("C4", 48))
    source = score(*[measure("{A}", '<sound tempo="90"/>', note("C4", 48)) + second] * 2)
    assert bars(source, "1")[1] == "[Q:1/4=60]C8|]" and bars(source, "2")[1] == "C8|]"


# --- notes


def test_pitches_octaves_and_accidentals() -> None:
    assert one_bar(*(note(f"C{octave}") for octave in range(2, 8))) == "C,,2 C,2 C2 c2 c'2 c''2"
    # The same letter in another octave has an accidental of its own, and keeps it up to the barline.
    assert one_bar(note("F#4"), note("F#4"), note("F4"), note("F#5")) == "^F2 F2 =F2 ^f2"
    assert one_bar(note("Bbb4"), note("Bb4"), note("F##4"), note("F#4")) == "__B2 _B2 ^^F2 ^F2"
    assert bars(score(measure("{A}", note("F#4", 48)) + measure(note("F#4", 48)))) == ["^F8|", "^F8|]"]


def test_a_key_ends_the_accidentals_and_a_clef_does_not() -> None:
    clef = "<attributes><clef><sign>F</sign><line>4</line></clef></attributes>"
    assert one_bar(note("G#4", 24), clef, note("G#4", 24)) == "^G4 [K:bass]G4"
    key = "<attributes><key><fifths>1</fifths></key></attributes>"
    assert one_bar(note("G#4", 24), key, note("G#4", 24)) == "^G4 [K:G]^G4"


OCTAVE_CLEFS = [
    (sign, line, word, change, suffix)
    for sign, line, word in (("G", 2, "treble"), ("F", 4, "bass"), ("C", 3, "alto"), ("C", 4, "tenor"))
    for change, suffix in ((-2, "-15"), (-1, "-8"), (1, "+8"), (2, "+15"))
]


@pytest.mark.parametrize(("sign", "line", "word", "change", "suffix"), OCTAVE_CLEFS)
def test_a_note_under_an_octave_clef_is_the_note_on_the_staff(
    sign: str, line: int, word: str, change: int, suffix: str
) -> None:
    clef = (
        f"<attributes><clef><sign>{sign}</sign><line>{line}</line>"
        f"<clef-octave-change>{change}</clef-octave-change></clef></attributes>"
    )
    written = {-2: "c'", -1: "c", 1: "C,", 2: "C,,"}[change]
    text = musicxml_to_abc(score(measure("{A}", clef, note("C4", 48))))
    assert f"\nV:1 {word}{suffix} \n" in text and f" {written}8 |]" in text
    # And back: the sound of the text, and its MusicXML.
    (voice,) = read_score(text).voices.values()
    assert voice.measures[0].layers[0].events[0].heads[0].pitch.midi == 60
    assert [each.pitch for each in perform(text).tracks[0].notes] == [60]
    exported = abc_to_musicxml(text).decode()
    assert (
        f"<clef-octave-change>{change}</clef-octave-change>" in exported and "<octave>4</octave>" in exported
    )
    assert musicxml_to_abc(exported.encode()).partition("L:")[2] == text.partition("L:")[2]


def test_an_octave_clef_inside_a_bar_moves_the_notes_after_it() -> None:
    clef = "<clef><sign>G</sign><line>2</line><clef-octave-change>-1</clef-octave-change></clef>"
    text = one_bar(note("F#4", 24), f"<attributes>{clef}</attributes>", note("F#4", 24))
    assert text == "^F4 [K:treble-8]f4"  # the same pitch, so the sharp still holds
    heads = [
        event.heads[0]
        for event in read_score(f"L:1/8\nK:C\n{text}|]").voices["1"].measures[0].layers[0].events
    ]
    assert [head.pitch.midi for head in heads] == [66, 66]


def test_chords_and_ties() -> None:
    tie = '<tie type="start"/>'
    chord = note("C4", 24, tie) + note("E4", 24, tie, chord=True)
    assert one_bar(chord, note("C4", 24), note("E4", 24, chord=True)) == "[CE]4- [CE]4"
    assert one_bar(chord, note("C4", 24), note("F4", 24, chord=True)) == "[C-E]4 [CF]4"
    tied = score(measure("{A}", note("F#4", 48, tie)) + measure(note("F#4", 48, tie)))
    assert bars(tied) == ["^F8-|", "^F8|]"]  # the last one leads nowhere


def test_rests() -> None:
    hidden = '<note print-object="no"><rest/><duration>12</duration><type>quarter</type></note>'
    gap = "<forward><duration>12</duration></forward>"
    assert bars(score(measure("{A}", note(), typed("z", 12), hidden, gap) * 2))[0] == "C2 z2 x2 x2|"
    whole = "<note><rest measure='yes'/><duration>99</duration></note>"
    source = score(
        measure("{A}", whole) + measure(), measure("{A}", note("C4", 12)) + measure(note("C4", 48))
    )
    assert bars(source, "1") == ["z2|", "z8|]"]  # as long as what the others play
    assert bars(score(measure("{A}", whole) + measure())) == ["z8|", "z8|]"]


def test_voices_without_a_note_in_a_bar() -> None:
    two = note("C4", 48, voice="1") + "<backup><duration>48</duration></backup>" + note("E4", 48, voice="2")
    source = score(
        measure("{A}", two) + measure(note("G4", 48, voice="2")) + measure(note("A4", 48, voice="1"))
    )
    assert bars(source, "1") == ["C8|", "x8|", "A8|]"]
    assert bars(source, "2") == ["E8|", "G8|", "x8|]"]


def test_one_number_for_voices_of_two_staves() -> None:
    back = "<backup><duration>48</duration></backup>"
    source = score(
        measure("{A}", note("C5", 48, "<staff>1</staff>"), back, note("C3", 48, "<staff>2</staff>"))
    )
    assert (bars(source, "1"), bars(source, "2")) == (["c8|]"], ["C,8|]"])
    crossing = score(
        measure("{A}", note("C5", 24, "<staff>1</staff>"), note("C3", 12, "<staff>2</staff>"), note("E5", 12))
    )
    assert bars(crossing, "1") == ["c4 [I:staff +1]C,2 [I:staff -1]e2|]"]  # the voice stays together


def test_notes_that_overlap_go_to_layers() -> None:
    source = score(measure("{A}", note("C4", 48), "<backup><duration>24</duration></backup>", note("E4", 24)))
    assert (bars(source, "1"), bars(source, "2")) == (["C8|]"], ["x4 E4|]"])


def test_beams_join_notes() -> None:
    beams = [f'<beam number="1">{kind}</beam>' for kind in ("begin", "continue", "end")]
    assert one_bar(*(note("C4", 6, beam) for beam in beams), note("C4", 6), note("C4", 24)) == "CCC C C4"


def test_lengths() -> None:
    assert one_bar(*(note("C4", length) for length in (3, 9, 18, 12, 2, 4))) == "C/ C3/2 C3 C2 C/3 C2/3"
    assert bars(score(measure("{A}", note("C4", 24 * 4)))) == ["C16|]"]


TRIPLET = (
    "<time-modification><actual-notes>3</actual-notes><normal-notes>2</normal-notes></time-modification>"
)


def test_tuplets() -> None:
    three = [note("C4", 4, TRIPLET)] * 3
    assert one_bar(*three, note("D4", 36)) == "(3C C C D6"
    assert one_bar(*three, *three) == "(3C C C (3C C C"
    uneven = one_bar(note("C4", 8, TRIPLET), note("D4", 4, TRIPLET))
    assert uneven == "(3:2:2C2 D"
    start, stop = (
        '<notations><tuplet type="start"/></notations>',
        '<notations><tuplet type="stop"/></notations>',
    )
    duplet = TRIPLET.replace("3", "4").replace("2", "3").replace("4", "2")
    assert one_bar(note("C4", 9, duplet + start), note("D4", 9, duplet + stop)) == "(2C D"
    quintuplet = TRIPLET.replace("2", "4").replace("3", "5")
    source = score(
        measure("<attributes><divisions>5</divisions></attributes>", note("C4", 1, quintuplet) * 5)
    )
    assert bars(source) == ["(5:4:5C/ C/ C/ C/ C/|]"]


def test_rounded_tuplets_are_exact() -> None:
    lengths = (85, 86, 85)
    notes = "".join(note("C4", length, f"<type>eighth</type>{TRIPLET}") for length in lengths)
    back = "<backup><duration>256</duration></backup>"
    source = score(
        measure(
            "<attributes><divisions>256</divisions></attributes>", notes, back, note("E4", 256, voice="2")
        )
    )
    assert (bars(source, "1"), bars(source, "2")) == (["(3C C C|]"], ["E2|]"])


def test_grace_notes() -> None:
    grace = "<note><grace/><pitch><step>G</step><octave>4</octave></pitch></note>"
    stroke = grace.replace("<grace/>", '<grace slash="yes"/>')
    chord = grace.replace("<grace/>", "<grace/><chord/>").replace("G", "B")
    assert one_bar(stroke, note("A4", 24), grace, chord, grace, note("A4", 24)) == "{/G}A4 {[GB]G}A4"
    assert one_bar(note("A4", 48), grace) == "A8{G}"


def test_cue_notes_are_left_out() -> None:
    cue = note("E4", 24, "").replace("<note>", "<note><cue/>")
    assert one_bar(cue, cue.replace("<cue/>", "<cue/><chord/>"), note("C4", 24)) == "x4 C4"
    first, _ = bars(score(measure("{A}", note("C4", 24), cue) + measure(note("C4", 48))))
    assert first == "C4 x4|"  # the bar keeps the time of cue notes at its end
    grace = cue.replace("<cue/>", "<grace/><cue/>").replace("<duration>24</duration>", "")
    assert one_bar(grace, note("C4", 48)) == "C8"
    assert one_bar(grace.replace("<cue/>", ""), note("C4", 48)) == "{E}C8"


def test_notes_without_time_are_left_out() -> None:
    assert one_bar(note("E4", 0), note("C4", 48)) == "C8"


def test_slurs() -> None:
    start, stop = '<slur type="start"/>', '<slur type="stop"/>'
    both = marked("D4", stop + start)
    assert one_bar(marked("C4", start), both, marked("E4", stop), marked("F4", stop)) == "(C2 (D2) E2) F2"
    assert one_bar(marked("C4", start), note("D4", 36)) == "C2 D6"  # without an end
    tuplet = f"{TRIPLET}<notations>{start}</notations>"
    notes = (
        note("C4", 4, tuplet)
        + note("D4", 4, TRIPLET)
        + note("E4", 4, f"{TRIPLET}<notations>{stop}</notations>")
    )
    assert one_bar(notes) == "(3(C D E)"


# --- marks


@pytest.mark.parametrize(
    ("notations", "mark"),
    [
        ("<articulations><staccato/></articulations>", "."),
        ("<articulations><accent/><tenuto/></articulations>", "!>!!tenuto!"),
        (
            "<articulations><strong-accent/><staccatissimo/><breath-mark/></articulations>",
            "!^!!wedge!!breath!",
        ),
        ("<ornaments><trill-mark/><wavy-line type='start'/></ornaments>", "T!trill(!"),
        (
            "<ornaments><mordent/><inverted-mordent/><turn/><inverted-turn/></ornaments>",
            "MP!turn!!invertedturn!",
        ),
        ("<technical><up-bow/><down-bow/><open-string/><stopped/></technical>", "uv!open!!plus!"),
        (
            "<technical><snap-pizzicato/><thumb-position/><fingering>1</fingering></technical>",
            "!snap!!thumb!",
        ),
        ("<fermata/><arpeggiate/><dynamics><sfz/></dynamics>", "!fermata!!arpeggio!!sfz!"),
    ],
)
def test_marks_of_notes(notations: str, mark: str) -> None:
    assert one_bar(marked("C4", notations, 48)) == f"{mark}C8"


def direction(content: str, placement: str = "", more: str = "") -> str:
    place = f' placement="{placement}"' if placement else ""
    return f"<direction{place}><direction-type>{content}</direction-type>{more}</direction>"


def test_directions() -> None:
    assert one_bar(direction("<words>dolce</words>"), note("C4", 48)) == '"^dolce"C8'
    assert one_bar(direction('<words>a "b"\n c</words>', "below"), note("C4", 48)) == "\"_a 'b' c\"C8"
    both = direction("<dynamics><mp/></dynamics>") + direction("<words>Andante</words>")
    assert one_bar(both, note("C4", 48)) == '"^Andante"!mp!C8'
    assert one_bar(direction("<segno/>"), direction("<coda/>"), note("C4", 48)) == "!segno!!coda!C8"
    jump = direction("<words>D.C. al Fine</words>", more='<sound dacapo="yes"/>')
    assert one_bar(note("C4", 48), jump) == "!D.C.!C8"
    pedal = (
        direction('<pedal type="start"/>'),
        note("C4", 24),
        direction('<pedal type="stop"/>'),
        note("C4", 24),
    )
    assert one_bar(*pedal) == "!ped!C4 !ped-up!C4"


def test_hairpins_end_as_they_begin() -> None:
    begin, end = direction('<wedge type="diminuendo"/>'), direction('<wedge type="stop"/>')
    assert one_bar(begin, note("C4", 24), note("D4", 24), end) == "!>(!C4 !>)!D4"
    assert one_bar(end, note("C4", 48)) == "C8"


def test_directions_have_an_offset_and_a_staff() -> None:
    late = direction("<words>x</words>", more="<offset>12</offset>")
    assert one_bar(late, note("C4", 12), note("C4", 36)) == 'C2 "^x"C6'
    low = direction("<words>low</words>", more="<staff>2</staff>")
    back = "<backup><duration>48</duration></backup>"
    source = score(
        measure(
            "{A}",
            low,
            note("C5", 48, "<staff>1</staff>"),
            back,
            note("C3", 48, "<staff>2</staff>", voice="5"),
        )
    )
    assert (bars(source, "1"), bars(source, "2")) == (["c8|]"], ['"^low"C,8|]'])


@pytest.mark.parametrize(
    ("content", "symbol"),
    [
        (
            "<root><root-step>G</root-step></root><kind>minor-seventh</kind><bass><bass-step>D</bass-step></bass>",
            "Gm7/D",
        ),
        ("<root><root-step>B</root-step><root-alter>-1</root-alter></root><kind>major</kind>", "Bb"),
        (
            "<root><root-step>F</root-step><root-alter>1</root-alter></root><kind>half-diminished</kind>",
            "F#m7b5",
        ),
        (
            "<root><root-step>C</root-step></root><kind>dominant</kind><degree><degree-value>9</degree-value>"
            "<degree-alter>-1</degree-alter><degree-type>add</degree-type></degree>",
            "C7(b9)",
        ),
    ],
)
def test_chord_symbols(content: str, symbol: str) -> None:
    assert one_bar(f"<harmony>{content}</harmony>", note("C4", 48)) == f'"{symbol}"C8'


def test_chord_symbols_without_a_known_kind_are_left_out() -> None:
    assert one_bar("<harmony><function>IV</function><kind>major</kind></harmony>", note("C4", 48)) == "C8"
    other = "<harmony><root><root-step>C</root-step></root><kind>Neapolitan</kind></harmony>"
    assert one_bar(other, note("C4", 48)) == "C8"


# --- barlines


def barline(side: str, style: str = "", repeat: str = "", ending: str = "") -> str:
    style = style and f"<bar-style>{style}</bar-style>"
    ending = ending and f'<ending number="{ending}" type="start"/>'
    repeat = repeat and f'<repeat direction="{repeat}"/>'
    return f'<barline location="{side}">{style}{ending}{repeat}</barline>'


def test_barlines_repeats_and_endings() -> None:
    full = note("C4", 48)
    source = score(
        measure("{A}", barline("left", "heavy-light", "forward"), full)
        + measure(full, barline("right", "light-light"))
        + measure(barline("left", ending="1, 2"), full, barline("right", "light-heavy", "backward"))
        + measure(barline("left", ending="3"), full)
        + measure(full, barline("right", "", "backward"))
        + measure(barline("left", "", "forward"), full, barline("right", "light-heavy", "backward"))
    )
    tune = read_tune(clean(musicxml_to_abc(source)))
    assert tune.voices["1"].barlines == ("|:", "|", "||1,2", ":|3", "|", "::", ":|")


def test_a_barline_of_one_part_is_that_of_all() -> None:
    full = note("C4", 48)
    source = score(
        measure("{A}", full) + measure(full),
        measure("{A}", full, barline("right", "light-light")) + measure(full),
    )
    assert bars(source, "1") == bars(source, "2") == ["C8||", "C8|]"]


def test_a_last_gap_after_a_pick_up_is_no_time() -> None:
    gap = "<forward><duration>12</duration></forward>"
    source = score(measure("{A}", note("C4", 12)) + measure(note("C4", 48)) + measure(note("C4", 36), gap))
    assert bars(source) == ["C2|", "C8|", "C6|]"]


def test_measures_cut_in_two_are_joined() -> None:
    full = measure("{A}", note("C4", 48))

    def cut(number: str, right: str = "") -> list[str]:
        first, second = measure(note("D4", 36), right), measure(direction("<words>x</words>"), note("E4", 12))
        return bars(
            score(full + first + second.replace("<measure>", f"<measure {number}>") + measure(note("F4", 48)))
        )

    assert cut('number="2a"') == cut('number="3" implicit="yes"') == ["C8|", 'D6 "^x"E2|', "F8|]"]
    assert len(cut('number="3"')) == len(cut('number="2a"', barline("right", "light-light"))) == 4


def test_parts_of_different_length_are_filled() -> None:
    source = score(measure("{A}", note("C4", 48)) * 3, measure("{A}", note("C4", 48)))
    assert bars(source, "2") == ["C8|", "z8|", "z8|]"]


# --- files


def test_timewise_and_every_encoding_read_the_same() -> None:
    partwise = score(measure("{A}", note("C4", 48)) + measure(note("D4", 48)), measure("{A}", note("E4", 48)))
    timewise = (
        f'<score-timewise><part-list/><measure><part id="P1">{ATTRIBUTES}{note("C4", 48)}</part>'
        f'<part id="P2">{ATTRIBUTES}{note("E4", 48)}</part></measure>'
        f'<measure><part id="P1">{note("D4", 48)}</part></measure></score-timewise>'
    )
    wanted = musicxml_to_abc(partwise)
    assert musicxml_to_abc(timewise.encode()) == wanted
    titled = "<movement-title>Élégie</movement-title>"
    text = score(measure("{A}", note()), head=titled).decode()
    for name, encoding in (
        ("UTF-8", "utf-8-sig"),
        ("UTF-16", "utf-16"),
        ("ISO-8859-1", "latin-1"),
        ("windows-1252", "cp1252"),
    ):
        declared = f'<?xml version="1.0" encoding="{name}"?>{text}'
        assert "\nT:Élégie\n" in musicxml_to_abc(declared.encode(encoding))


def mxl(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), data)
    return buffer.getvalue()


CONTAINER = b'<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'


def test_compressed_files(tmp_path: Path) -> None:
    plain = score(measure("{A}", note("C4", 48)))
    path = tmp_path / "Élégie.mxl"
    path.write_bytes(mxl(META_INF__container_xml=b"").replace(b"META_INF", b"META-INF"))
    with pytest.raises(FormatError) as caught:
        musicxml_to_abc(path)
    assert caught.value.path == path
    compressed = mxl(META_INF__container_xml=CONTAINER, score_xml=plain).replace(b"META_INF", b"META-INF")
    path.write_bytes(compressed)
    assert musicxml_to_abc(path) == musicxml_to_abc(compressed) == musicxml_to_abc(plain)
    without = mxl(score_xml=plain)
    with pytest.raises(FormatError, match=r"'META-INF/container\.xml' is not in it"):
        musicxml_to_abc(without)
    bomb = mxl(META_INF__container_xml=CONTAINER, score_xml=b" " * (4 << 20)).replace(
        b"META_INF", b"META-INF"
    )
    with pytest.raises(FormatError, match="expands more than 200 times"):
        musicxml_to_abc(bomb)


BODY = "<score-partwise><part-list/></score-partwise>"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not well-formed XML: no element found"),
        (b"plain text", "1:1: not well-formed XML"),
        (b"<a><b></a>", "not well-formed XML: mismatched tag"),
        (b"<html/>", "the root element is 'html'"),
        (BODY.encode(), "the score has no measures"),
        (f'<!DOCTYPE x [<!ENTITY a "b">]>{BODY}'.encode(), "declarations of its own"),
        (f'<!DOCTYPE x SYSTEM "file:///etc/passwd" []>{BODY}'.encode(), "declarations of its own"),
        (f'<?xml version="1.0" encoding="none-such"?>{BODY}'.encode(), "unknown encoding"),
        (b"<a>" * 300, "more than 256 levels"),
        (score(measure(note("C4")), "").replace(b"P2", b"P1"), "two parts have the id 'P1'"),
    ],
)
def test_documents_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        musicxml_to_abc(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<note><pitch><step>H</step><octave>4</octave></pitch><duration>1</duration></note>", "step 'H'"),
        ("<note><pitch><step>C</step><octave>99</octave></pitch><duration>1</duration></note>", "octave is '99'"),
        ("<note><pitch><step>C</step><alter>3</alter></pitch><duration>1</duration></note>", "alter is 3"),
        ("<note><pitch><step>C</step></pitch></note>", "note without duration"),
        ("<note><duration>1</duration></note>", "neither pitch nor rest"),
        (note("C4", -1), "must not be negative"),
        (note("C4", 99999), "a number above 9999"),
        ("<attributes><divisions>0</divisions></attributes>", "divisions must be positive"),
        ("<attributes><divisions>1e9</divisions></attributes>", "divisions '1e9' is not a number"),
        ("<attributes><key><fifths>100</fifths></key></attributes>", "fifths is '100'; allowed are -99 to 99"),
        ("<attributes><time><beats>x</beats><beat-type>4</beat-type></time></attributes>", "beats 'x'"),
        ("<attributes><staves>999</staves></attributes>", "staves is '999'"),
        ((note("C4", 4) + "<backup><duration>4</duration></backup>") * 9, "more than 8 notes of one voice overlap"),
    ],
)  # fmt: skip
def test_values_that_are_refused(content: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        musicxml_to_abc(score(measure("{A}") + measure(content)))
    assert "measure 2: " in str(caught.value)


def test_scores_without_bound_are_refused() -> None:
    def refused(data: bytes, match: str) -> None:
        with pytest.raises(FormatError, match=match):
            musicxml_to_abc(data)

    refused(score("<measure/>" * 20_001), "20000 measures")
    refused(score(*["<measure/>"] * 257), "more than 256 parts")
    refused(score("<measure/>" * 2000, *["<measure/>"] * 100), "200000 of all parts")
    refused(
        score(measure("{A}", *(note("C4", 48, voice=str(n)) for n in range(300)))), "more than 256 voices"
    )
    clefs = "<clef><sign>G</sign></clef>" * 65
    refused(score(measure(f"<attributes>{clefs}</attributes>", note())), "more than 64 changes")
    refused(score(measure("{A}", note("C4", 3) * 21_000)), "a bar of .* characters")
    starts, stops = (
        "".join(f'<part-group number="{n}" type="{kind}"/>' for n in range(257)) for kind in ("start", "stop")
    )
    listed = f'{starts}<score-part id="P1"/>{stops}<score-part id="P2"/>'
    refused(score(measure(note()), measure(note()), listed=listed), "257 groups of parts")


def test_an_external_document_type_is_not_fetched(tmp_path: Path) -> None:
    target = tmp_path / "never-read.dtd"
    target.write_text('<!ENTITY title "leaked">', encoding="utf-8")
    head = "<movement-title>a&title;b</movement-title>"
    source = score(measure(note()), head=head).replace(
        b"http://www.musicxml.org/dtds/partwise.dtd", str(target).encode()
    )
    assert "\nT:ab\n" in musicxml_to_abc(source)


def test_a_missing_file_is_a_format_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        musicxml_to_abc(tmp_path / "none.xml")


def test_mutated_files_give_nothing_but_format_errors() -> None:
    chord = note("G4", 12, chord=True)
    original = score(
        measure("{A}", direction("<words>dolce</words>"), note("F#4", 12), chord, note("z", 36))
        + measure(
            *[note("C4", 4, TRIPLET)] * 3,
            marked("D4", '<slur type="start"/>', 36),
            barline("right", "", "backward"),
        ),
        listed='<score-part id="P1"><part-name>A</part-name></score-part>',
    )
    rng = random.Random(11)
    alphabet = b"00112233445566778899--.<>/&;\"' az\x00\xff"
    digits = [index for index, byte in enumerate(original) if chr(byte).isdigit()]
    outcomes: Counter[str] = Counter()
    for _ in range(600):
        data = bytearray(original)
        for _ in range(rng.randint(1, 5)):
            at = rng.choice(digits) if rng.random() < 0.9 else rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 1, 1, 9))] = bytes([rng.choice(alphabet)])
        try:
            text = musicxml_to_abc(bytes(data))
        except FormatError:
            outcomes["refused"] += 1
            continue
        tune = read_tune(clean(text))
        assert tune.bar_count and alignment(tune).durations
        outcomes["read"] += 1
    assert min(outcomes["refused"], outcomes["read"]) > 50


# --- there and back


def sounding(text: str) -> list[tuple]:
    """Of each measure: barlines, key, meter, and its notes with onset, length and tie."""
    piece = read_score(text)
    found = []
    for index in range(piece.measure_count):
        measures = [voice.measures[index] for voice in piece.voices.values()]
        notes = Counter(
            (event.onset, event.duration, head.pitch, head.tie_start)
            for each in measures
            for layer in each.layers
            for event in layer.events
            for head in event.heads
        )
        first = measures[0]
        found.append((first.left, first.right, first.ending, first.key.fifths, first.time.meter, notes))
    return found


@pytest.mark.parametrize("case", golden("preprocess.json"), ids=lambda case: case["name"])
def test_abc_there_and_back(case: dict) -> None:
    if case["name"].startswith("unequal"):
        pytest.skip("not a piece that can be written")
    back = musicxml_to_abc(abc_to_musicxml(case["input"]))
    assert sounding(back) == sounding(case["input"])
    assert abc_to_musicxml(musicxml_to_abc(abc_to_musicxml(back))) == abc_to_musicxml(back)


# --- real scores


def corpus(name: str) -> Path:
    music21 = pytest.importorskip("music21")
    return Path(music21.__file__).parent / "corpus" / name


def oracle(path: Path) -> list[Counter]:
    """Per measure: onset in quarter notes and pitch of each note, of all parts together."""
    from music21 import converter, stream

    measures: list[Counter] = []
    for part in converter.parse(path, forceSource=True).parts:
        for index, each in enumerate(part.getElementsByClass(stream.Measure)):
            measures += [Counter()] * (index == len(measures))
            measures[index] = measures[index] + Counter(
                (Fraction(element.getOffsetInHierarchy(each)).limit_denominator(1000), int(pitch.ps))
                for element in each.recurse().notes
                if not element.duration.isGrace and "Harmony" not in element.classes
                for pitch in element.pitches
            )
    return measures


REAL: dict[str, set[str]] = {  # score -> the kinds of issues that it has
    "bach/bwv66.6.mxl": set(),
    "bach/bwv846.mxl": set(),  # one voice changes its clef
    "mozart/k155/movement2.mxl": set(),
    "haydn/opus1no1/movement4.mxl": set(),
    "leadSheet/fosterBrownHair.mxl": set(),  # one voice
    "schumann_clara/polonaise_op1n1.mxl": {"repeat"},
    "demos/two-voices.xml": set(),
}


def slow_but(*names: str) -> list:
    """The names of real scores; all but some are for the slow tests."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in REAL]


@pytest.mark.parametrize(
    "name", slow_but("bach/bwv66.6.mxl", "demos/two-voices.xml", "leadSheet/fosterBrownHair.mxl")
)
def test_real_scores_have_the_notes_that_music21_reads(name: str) -> None:
    text = musicxml_to_abc(corpus(name))
    ours = [
        Counter((onset * 4, pitch.midi) for onset, _, pitch, _ in notes.elements())
        for *_, notes in sounding(text)
    ]
    assert ours == oracle(corpus(name))


@pytest.mark.parametrize(
    "name", slow_but("bach/bwv66.6.mxl", "demos/two-voices.xml", "haydn/opus1no1/movement4.mxl")
)
def test_real_scores_go_through_the_pipeline(name: str) -> None:
    text = musicxml_to_abc(corpus(name))
    cleaned = clean(text)
    tune = read_tune(cleaned)
    aligned = alignment(tune)
    assert aligned.barlines and aligned.counts and aligned.durations
    interleaved = interleave(cleaned)
    completed = complete_rests(omit_rests(tune))
    assert not completed.undeclared
    assert sounding(completed.text) == sounding(interleaved) == sounding(text)
    assert {issue.kind for issue in validate(interleaved).issues if not issue.warning} == REAL[name]
    assert sounding(musicxml_to_abc(abc_to_musicxml(text))) == sounding(text)


@pytest.mark.slow
def test_every_score_of_the_corpus_is_read() -> None:
    scores = [path for path in corpus("").rglob("*") if path.suffix in (".mxl", ".xml", ".musicxml")]
    assert len(scores) > 600
    for path in scores:
        tune = read_tune(clean(musicxml_to_abc(path)))
        aligned = alignment(tune)
        assert aligned.barlines and aligned.counts and aligned.durations, path


# --- what is local stays local, relations survive, and losses are counted

PERCUSSION = "<attributes><clef><sign>percussion</sign></clef></attributes>"
TREBLE = "<attributes><clef><sign>G</sign><line>2</line></clef></attributes>"


def played(text: str) -> list[tuple[bool, list[tuple[float, float, int]]]]:
    """For each voice whether it is percussion, and its notes: start and length in quarter notes, MIDI number."""
    return [
        (track.percussion, [(float(n.position * 4), float(n.length * 4), n.pitch) for n in track.notes])
        for track in perform(text).tracks
    ]


def there_and_back(source: bytes) -> str:
    """The text of a score; MusicXML that is written from it has the same text."""
    text = musicxml_to_abc(source)
    assert musicxml_to_abc(abc_to_musicxml(text)).partition("L:")[2] == text.partition("L:")[2]
    return text


def test_a_percussion_clef_in_one_bar_leaves_the_pitches() -> None:
    first, second = measure("{A}", TREBLE, note("C5", 48)), measure(PERCUSSION, note("E5", 48))
    text = there_and_back(score(first + second + measure(TREBLE, note("G5", 48))))
    assert text.endswith(" c8 | [K:perc]e8 | [K:treble]g8 |] %3\n")
    assert played(text) == [(False, [(0, 4, 72), (4, 4, 76), (8, 4, 79)])]


def test_one_note_without_pitch_is_a_percussion_voice_of_its_own() -> None:
    text = there_and_back(score(measure("{A}", note("C5", 24), note("?B4", 24)) + measure(note("G5", 48))))
    assert "%%score ( 1 2 )" in text and "V:1 treble \nV:2 perc \nK:none\n" in text
    assert played(text) == [(False, [(0, 2, 72), (4, 4, 79)]), (True, [(2, 2, 38)])]


def test_a_change_of_transposition() -> None:
    first, second = (
        f"<attributes><transpose><chromatic>{n}</chromatic></transpose></attributes>" for n in (-2, -3)
    )
    source = score(measure("{A}", first, note("C5", 48)) + measure(note("C5", 24), second, note("C5", 24)))
    text = there_and_back(source)
    assert "V:1 treble transpose=-2 \n" in text and text.endswith(" c8 | c4 [K:transpose=-3]c4 |] %2\n")
    assert [pitch for _, _, pitch in played(text)[0][1]] == [70, 70, 69]
    assert validate(interleave(standard_tune(text))).issues == ()


def test_a_tie_goes_on_in_another_voice() -> None:
    back, tie = "<backup><duration>48</duration></backup>", '<tie type="start"/>'
    source = score(
        measure("{A}", note("C5", 24, voice="1"), note("F#4", 24, tie, voice="1"))
        + measure(note("E5", 48, voice="1"), back, note("F#4", 24, voice="2"), note("F4", 24, voice="2"))
    )
    text = there_and_back(source)
    assert "c4 ^F4- | e8 |]" in text and "x8 | ^F4 =F4 |]" in text
    assert played(text) == [(False, [(0, 2, 72), (2, 4, 66), (4, 4, 76)]), (False, [(6, 2, 65)])]
    assert abc_to_musicxml(text).count(b"<tied ") == 2


def test_notes_of_one_voice_on_two_staves() -> None:
    staves = "<attributes><staves>2</staves></attributes>"
    source = score(
        measure("{A}", staves, note("C3", 24, "<staff>2</staff>"), note("E5", 24, "<staff>1</staff>"))
        + measure(note("G5", 24, "<staff>1</staff>"), note("C3", 24, "<staff>2</staff>"))
    )
    text = there_and_back(source)
    assert "\nV:2\n C,4 [I:staff -1]e4 | g4 [I:staff +1]C,4 |] %2" in text
    written = re.findall(
        r"<octave>(.)</octave>.*?<staff>(.)</staff>", abc_to_musicxml(text).decode(), re.DOTALL
    )
    assert written == [("3", "2"), ("5", "1"), ("5", "1"), ("3", "2")]


def test_a_staff_that_the_part_does_not_have_is_counted() -> None:
    with losses() as found:
        read_score("L:1/8\nK:C\nC4 [I:staff +1]C4|]")
    assert found == {"change to a staff that the part does not have": 1}


def test_a_real_note_in_a_chord_with_a_cue_note_is_kept() -> None:
    cue = note("C5", 24).replace("<note>", "<note><cue/>")
    assert one_bar(cue, note("E5", 24, chord=True), note("G5", 24)) == "e4 g4"
    assert one_bar(note("E5", 24), cue.replace("<cue/>", "<cue/><chord/>"), note("G5", 24)) == "e4 g4"


def lyric(number: int, text: str, kind: str = "single", extend: str = "") -> str:
    return f'<lyric number="{number}"><syllabic>{kind}</syllabic><text>{text}</text>{extend}</lyric>'


def test_lyrics_of_several_verses() -> None:
    source = score(
        measure(
            "{A}",
            note("C4", 12, lyric(1, "Ky", "begin") + lyric(2, "one-two")),
            note("D4", 12, lyric(1, "ri", "middle")),
            note("z", 12),
            note("E4", 12, lyric(1, "e", "end", "<extend/>") + lyric(2, "a b_c")),
        )
        + measure(note("F4", 24), note("G4", 24, lyric(2, "end")))
    )
    text = there_and_back(source)
    assert "w:Ky- ri- e _ _\nw:one\\-two * a~b\\_c * end\n" in text
    found = re.findall(
        r'<lyric number="(.)">\s*<syllabic>(\w+)</syllabic>\s*<text>([^<]*)</text>\s*(<extend />)?',
        abc_to_musicxml(text).decode(),
    )
    assert found == [
        ("1", "begin", "Ky", ""), ("2", "single", "one-two", ""), ("1", "middle", "ri", ""),
        ("1", "end", "e", "<extend />"), ("2", "single", "a b_c", ""), ("2", "single", "end", ""),
    ]  # fmt: skip
    assert "w:" not in clean(text)


@pytest.mark.parametrize(
    ("line", "sung"),
    [
        ("la la la la", ["la", "la", "la", "la"]),
        ("one- two three", ["one", "two", "three", None]),
        ("* two _ four % a comment", [None, "two", None, "four"]),
        ("hold - - ing", ["hold", None, None, "ing"]),
        ("one | next", ["one", None, "next", None]),
        ("a~b c\\-d", ["a b", "c-d", None, None]),
        ("one two three four five", ["one", "two", "three", "four"]),
    ],
)
def test_lines_of_lyrics(line: str, sung: list[str | None]) -> None:
    (voice,) = read_score(f"L:1/8\nK:C\nC2 z2 D2 | (EF) & x2|]\nw:{line}\nG8|]\n").voices.values()
    events = [event for measure in voice.measures for event in measure.layers[0].events if event.heads]
    found = [event.lyrics[0].text if event.lyrics and event.lyrics[0] else None for event in events]
    assert found == [*sung, None]


def test_titles_and_credits() -> None:
    creators = "".join(
        f'<creator type="{role}">{name}</creator>'
        for role, name in (("composer", "Wolf"), ("lyricist", "Eichendorff"), ("arranger", "Anon"))
    )
    head = (
        "<work><work-title>Lieder</work-title></work><movement-title>Liebe</movement-title>"
        f"<identification>{creators}<rights>CC0</rights></identification>"
    )
    text = musicxml_to_abc(score(measure("{A}", note("C4", 48)), head=head))
    assert text.startswith(
        "X:1\nT:Lieder\nT:Liebe\nC:Wolf\nZ:lyricist: Eichendorff\nZ:arranger: Anon\nZ:rights: CC0\n"
    )
    assert musicxml_to_abc(abc_to_musicxml(text)).partition("L:")[0] == text.partition("L:")[0]


def test_dynamics_and_tremolos_are_kept_but_not_in_training_text() -> None:
    sf = "<direction><direction-type><dynamics><sf/></dynamics></direction-type></direction>"
    tremolo = '<ornaments><tremolo type="single">3</tremolo></ornaments>'
    text = there_and_back(score(measure("{A}", sf, marked("C4", tremolo, 48))))
    assert " !sf!!///!C8 |]" in text and "\n C8 |]" in clean(text)


def test_a_meter_of_one_part_holds_for_all() -> None:
    meter = "<attributes><time><beats>2</beats><beat-type>4</beat-type></time></attributes>"
    first = measure("{A}", note("C4", 48))
    text = musicxml_to_abc(score(first + measure(meter, note("C4", 24)), first + measure(note("C4", 24))))
    assert text.count("[M:2/4]C4 |]") == 2


@pytest.mark.parametrize(
    ("content", "bar"),
    [
        ("<attributes><key><fifths>-11</fifths></key></attributes>" + note("Bbb4", 48), "[K:G]__B8"),
        ("<attributes><key><fifths>10</fifths></key></attributes>" + note("F##4", 48), "[K:Bb]^^F8"),
        ("<attributes><staves>0</staves></attributes>" + note("C4", 48), "C8"),
        (note("C0", 48).replace("<octave>0", "<octave>-1"), "C,,,,,8"),
    ],
)
def test_values_out_of_the_ordinary_are_read(content: str, bar: str) -> None:
    assert bars(score(measure("{A}", content))) == [f"{bar}|]"]


@pytest.mark.parametrize("divisions", ["12", "7.5", "17", "0.3"])
def test_times_that_are_no_whole_ticks_are_exact(divisions: str) -> None:
    """Divisions by 17, and notes of a 17-tuplet, are fractions of a tick."""
    ratio = "<time-modification><actual-notes>17</actual-notes><normal-notes>16</normal-notes></time-modification>"
    length = float(divisions) / 4 * 16 / 17  # rounded, as programs do
    runs = "".join(
        note("D4").replace("<duration>12", f"<duration>{length:.6f}").replace("</note>", f"{more}</note>")
        for more in [f"<type>16th</type>{ratio}"] * 17
    )
    attributes = ATTRIBUTES.replace("<divisions>12", f"<divisions>{divisions}")
    assert bars(score(measure(attributes, runs))) == [f"(17:16:17{' '.join(['D/'] * 17)}|]"]


def test_both_ways_to_parse_give_the_same_text_and_losses() -> None:
    shown = "<credit><credit-words>by</credit-words></credit><defaults><staff-size>80</staff-size></defaults>"
    cued = note().replace("<note>", "<note><cue/>")
    plain = score(measure("{A}", cued, note(), "<figured-bass><figure/></figured-bass>"), head=shown)
    converted = {}
    for encoding in ("UTF-8", "windows-1252"):  # only of the first is it known how many elements there may be
        with losses() as found:
            text = musicxml_to_abc(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + plain)
        converted[encoding] = text, found
    assert converted["UTF-8"] == converted["windows-1252"]
    expected = {"cue note": 1, "figured bass": 1, "size of a staff": 1, "text on the page": 1}
    assert converted["UTF-8"][1] == expected


# In a process of its own: in this one, threads and caches of other tests leave cycles of theirs behind.
CYCLES = """
import gc, sys
from notagen.musicxml import musicxml_to_abc
source = sys.stdin.buffer.read()
musicxml_to_abc(source)
while gc.collect():
    pass
gc.disable()
musicxml_to_abc(source)
assert not gc.isenabled()
print(gc.collect())
"""


def test_converting_leaves_no_cycles() -> None:
    source = score(measure("{A}", note("C4", 24, "<dot/>"), note("D4", 24)))
    command = [sys.executable, "-P", "-c", CYCLES]
    done = subprocess.run(command, input=source, capture_output=True, check=True, timeout=120)
    assert int(done.stdout) < 100


def test_collections_run_again_after_an_error() -> None:
    with pytest.raises(FormatError):
        musicxml_to_abc(b"<score/>")
    assert gc.isenabled()
