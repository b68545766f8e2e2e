"""Marks of MusicXML with a decoration named after them: both ways equal, nothing lost, unknown to the models."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element

import pytest

from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.notation import named_marks
from notagen.notation.clean import clean
from notagen.notation.transposed_text import Interval, transpose_text
from notagen.notation.validation import validate
from notagen.score.losses import losses
from pentatonic.errors import InputError

ATTRIBUTES = (
    "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
)


def note(more: str = "", step: str = "C", *, chord: bool = False, before: str = "", length: int = 2) -> str:
    pitch = f"<pitch><step>{step}</step><octave>5</octave></pitch>"
    timed = "" if before else f"<duration>{length}</duration>"
    return f"<note>{before}{'<chord/>' * chord}{pitch}{timed}<voice>1</voice><type>half</type>{more}</note>"


def marked(notations: str, step: str = "C", *, chord: bool = False) -> str:
    return note(f"<notations>{notations}</notations>", step, chord=chord)


def direction(content: str) -> str:
    return f"<direction><direction-type>{content}</direction-type></direction>"


def score(*content: str) -> bytes:
    parts = '<part-list><score-part id="P1"><part-name/></score-part></part-list>'
    music = f'<part id="P1"><measure number="1">{ATTRIBUTES}{"".join(content)}</measure></part>'
    return f"<score-partwise>{parts}{music}</score-partwise>".encode()


def there_and_back(*content: str) -> tuple[str, Element, dict[str, int]]:
    """The bar in ABC, the measure that it becomes, and what was lost."""
    with losses() as lost:
        text = musicxml_to_abc(score(*content))
        measure = XML(abc_to_musicxml(text)).find("part/measure")
    assert measure is not None
    return text.splitlines()[-1].removesuffix("|] %1").strip(), measure, dict(lost)


def shape(element: Element) -> tuple:
    """An element without what says only where it is printed."""
    attributes = {
        name: value for name, value in element.attrib.items() if name not in ("number", "placement")
    }
    return element.tag, attributes, (element.text or "").strip(), [shape(child) for child in element]


MARKS = [
    *((group, f"<{name}/>", f"!{name}!") for name, group in named_marks.MARKS.items()),
    ("technical", "<string>3</string>", "!string=3!"),
    ("technical", "<fret>12</fret>", "!fret=12!"),
    ("technical", "<pluck>p</pluck>", "!pluck=p!"),
    ("technical", "<harmonic/>", "!harmonic!"),
    ("technical", "<harmonic><natural/></harmonic>", "!harmonic=natural!"),
    (
        "technical",
        "<harmonic><artificial/><touching-pitch/></harmonic>",
        "!harmonic=artificial,touching!",
    ),
]


@pytest.mark.parametrize(("group", "mark", "decoration"), MARKS)
def test_marks_of_a_note(group, mark, decoration):
    text, measure, lost = there_and_back(marked(f"<{group}>{mark}</{group}>"), note())
    assert text == f"{decoration}c4 c4" and lost == {}
    (found,) = measure.find(f"note/notations/{group}")
    assert shape(found) == shape(XML(mark))


def test_a_mark_above_an_ornament_comes_after_it():
    ornament = "<ornaments><trill-mark/><accidental-mark>flat</accidental-mark></ornaments>"
    text, measure, lost = there_and_back(marked(ornament), marked("<accidental-mark>sharp</accidental-mark>"))
    assert text == "T!accidental-mark=flat!c4 !accidental-mark=sharp!c4" and lost == {}
    assert [each.tag for each in measure.find("note/notations/ornaments")] == [
        "trill-mark",
        "accidental-mark",
    ]
    assert measure.findtext("note/notations/accidental-mark") == "sharp"


def test_forms_of_marks():
    marks = "<ornaments><turn slash='yes'/><inverted-turn slash='yes'/></ornaments><fermata type='inverted'/>"
    text, measure, lost = there_and_back(marked(marks), note())
    assert text == "!turnx!!invertedturnx!!invertedfermata!c4 c4" and lost == {}
    assert measure.find("note/notations/ornaments/turn").get("slash") == "yes"
    assert measure.find("note/notations/fermata").get("type") == "inverted"
    assert clean(f"X:1\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:1\n{text}|]\n").splitlines()[-1] == (
        "!turn!!invertedturn!!fermata!c4 c4|]"
    )


def test_a_detached_legato_is_both_marks_that_it_is_made_of():
    text, measure, lost = there_and_back(marked("<articulations><detached-legato/></articulations>"), note())
    assert text == ".!tenuto!c4 c4" and lost == {}
    assert {each.tag for each in measure.find("note/notations/articulations")} == {"staccato", "tenuto"}


@pytest.mark.parametrize("head", sorted(set(named_marks.HEADS) - {"normal"}))
@pytest.mark.parametrize("attributes", ["", ' filled="no"', ' filled="yes" parentheses="yes"'])
def test_note_heads(head, attributes):
    text, measure, lost = there_and_back(note(f"<notehead{attributes}>{head}</notehead>"), note())
    assert text.startswith(f"!style={named_marks.HEADS[head]}") and lost == {}
    assert shape(measure.find("note/notehead")) == shape(XML(f"<notehead{attributes}>{head}</notehead>"))
    assert measure.findall("note")[1].find("notehead") is None


def test_a_usual_note_head_has_no_decoration():
    assert there_and_back(note("<notehead>normal</notehead>"), note())[0] == "c4 c4"
    text, measure, _ = there_and_back(note('<notehead parentheses="yes">normal</notehead>'), note())
    assert text == "!style=normal,parentheses!c4 c4"
    assert measure.find("note/notehead").attrib == {"parentheses": "yes"}
    _, _, lost = there_and_back(note("<notehead>moon</notehead>"), note())
    assert lost == {"note head that ABC does not have": 1}


def test_notes_of_a_chord_have_their_own_heads_strings_and_frets():
    strings = [
        "<notations><technical><string>{}</string><fret>{}</fret></technical></notations>".format(*each)
        for each in ((3, 0), (2, 1), (1, 0))
    ]
    chord = (
        note(f"<notehead>x</notehead>{strings[0]}"),
        note(strings[1], "E", chord=True),
        note(f"<notehead>square</notehead>{strings[2]}", "G", chord=True),
    )
    text, measure, lost = there_and_back(*chord, note())
    assert text == ("[!style=x!!string=3!!fret=0!c!string=2!!fret=1!e!style=square!!string=1!!fret=0!g]4 c4")
    assert lost == {}
    notes = measure.findall("note")
    assert [each.findtext("notehead") for each in notes] == ["x", None, "square", None]
    technical = [[shape(mark) for mark in each.iterfind("notations/technical/*")] for each in notes]
    assert [[mark[2] for mark in marks] for marks in technical] == [["3", "0"], ["2", "1"], ["1", "0"], []]
    assert validate(f"L:1/8\nM:4/4\nK:C\nV:1 treble\n[V:1]{text}|]\n").valid  # its letters are none of notes
    same = (note("<notehead>x</notehead>"), note("<notehead>x</notehead>", "E", chord=True))
    text, measure, _ = there_and_back(*same, note())
    assert text == "!style=x![ce]4 c4"
    assert [each.findtext("notehead") for each in measure.findall("note")] == ["x", "x", None]


def test_a_chord_that_is_not_broken_has_a_bracket_at_its_outer_notes():
    bottom, top = (f'<non-arpeggiate type="{place}"/>' for place in ("bottom", "top"))
    chord = (marked(bottom), note(step="E", chord=True), marked(top, "G", chord=True))
    text, measure, lost = there_and_back(*chord, note())
    assert text == "!non-arpeggio![ceg]4 c4" and lost == {}
    found = [each.find("notations/non-arpeggiate") for each in measure.findall("note")]
    assert [None if each is None else each.get("type") for each in found] == ["bottom", None, "top", None]


@pytest.mark.parametrize("tag", sorted(named_marks.NOTE_LINES))
def test_lines_between_notes(tag):
    name, group, _ = named_marks.NOTE_LINES[tag]
    wrap = f"<{group}>{{}}</{group}>" if group else "{}"
    start, stop = (wrap.format(f'<{tag} type="{kind}"/>') for kind in ("start", "stop"))
    text, measure, lost = there_and_back(marked(start), marked(start + stop, "D"), marked(stop, "E"))
    assert text == f"!{name}(!c4 !{name})!!{name}(!d4 !{name})!e4" and lost == {}
    found = [[each.get("type") for each in one.iter(tag)] for one in measure.findall("note")]
    assert found == [["start"], ["stop", "start"], ["stop"]]
    _, measure, lost = there_and_back(marked(start), note())
    assert measure.find(f".//{tag}") is None
    assert lost == {f"{tag.replace('-', ' ')} without a start or end": 1}


def test_what_a_line_between_notes_cannot_say_is_counted():
    line = '<slide type="start" line-type="dotted">gliss.</slide>'
    assert there_and_back(marked(line), marked('<slide type="stop"/>'))[2] == {
        "type of the line of a slide": 1,
        "text of a slide": 1,
    }


@pytest.mark.parametrize("end", named_marks.BRACKET_ENDS)
@pytest.mark.parametrize("line", ["solid", "dashed", "dotted", "wavy"])
def test_brackets_over_notes(end, line):
    start = direction(f'<bracket type="start" line-end="{end}" line-type="{line}"/>')
    stop = direction('<bracket type="stop" line-end="down"/>')
    text, measure, lost = there_and_back(start, note(), note(step="D"), stop)
    dashed = "" if line == "solid" else f"-{line}"
    assert text == f"!bracket-{end}{dashed}(!c4 !bracket-down)!d4" and lost == {}
    first, last = measure.iter("bracket")
    assert (first.get("line-end"), first.get("line-type", "solid")) == (end, line)
    assert (last.get("type"), last.get("line-end")) == ("stop", "down")


def test_dashed_lines():
    dashes = [direction(f'<dashes type="{kind}" number="2"/>') for kind in ("start", "stop")]
    text, measure, lost = there_and_back(dashes[0], note(), dashes[1], note())
    assert text == "!dashes(!c4 !dashes)!c4" and lost == {}
    assert [each.get("type") for each in measure.iter("dashes")] == ["start", "stop"]
    _, measure, lost = there_and_back(dashes[0], note(), note())
    assert measure.find(".//dashes") is None and set(lost) == {"dashed line without a start or end"}


def test_changes_of_a_pedal():
    kinds = [direction(f'<pedal type="{kind}" line="yes"/>') for kind in ("start", "change", "discontinue")]
    kinds += [direction('<pedal type="resume" line="yes"/>'), direction('<pedal type="stop"/>')]
    notes = [note(length=1) for _ in range(4)]
    notes.insert(2, "")  # the pedal goes on at once
    content = [each for pair in zip(kinds, notes, strict=True) for each in pair]
    text, measure, lost = there_and_back(*content)
    assert text == "!ped!c2 !ped-change!c2 !ped-discontinue!!ped-resume!c2 !ped-up!c2" and lost == {}
    found = [each.get("type") for each in measure.iter("pedal")]
    assert found == ["start", "change", "discontinue", "resume", "stop"]


@pytest.mark.parametrize(
    ("content", "decoration"),
    [
        ("<damp/>", "damp"),
        ("<damp-all/>", "damp-all"),
        ("<eyeglasses/>", "eyeglasses"),
        ('<string-mute type="on"/>', "string-mute=on"),
        ('<staff-divide type="up-down"/>', "staff-divide=up-down"),
        ("<dynamics><ppppp/></dynamics>", "ppppp"),
        (
            "<accordion-registration><accordion-high/><accordion-middle>2</accordion-middle><accordion-low/>"
            "</accordion-registration>",
            "accordion=h2l",
        ),
        ("<accordion-registration/>", "accordion="),
        (
            "<accordion-registration><accordion-low/></accordion-registration>",
            "accordion=l",
        ),
    ],
)
def test_directions(content, decoration):
    text, measure, lost = there_and_back(direction(content), note(), note())
    assert text == f"!{decoration}!c4 c4" and lost == {}
    (found,) = measure.find("direction/direction-type")
    assert shape(found) == shape(XML(content))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (
            "<accordion-registration><accordion-middle>5</accordion-middle></accordion-registration>",
            "accordion registration",
        ),
        ('<string-mute type="maybe"/>', "string mute"),
        ("<harp-pedals/>", "harp pedals"),
    ],
)
def test_other_directions_are_counted(content, kind):
    assert there_and_back(direction(content), note(), note())[2] == {f"direction: {kind}": 1}


def test_marks_of_grace_notes_are_counted():
    mark = "<notehead>none</notehead><notations><articulations><staccato/></articulations></notations>"
    lost = there_and_back(note(mark, before="<grace/>"), note(), note())[2]
    assert lost == {"mark of a grace note": 1, "note head of a grace note": 1}


@pytest.mark.parametrize("bad", ["string=0", "fret=x", "style=moon", "accordion=7", "string-mute=no"])
def test_decorations_with_other_values_are_counted(bad):
    with losses() as lost:
        abc_to_musicxml(f"X:1\nL:1/8\nM:4/4\nK:C\n!{bad}!c8|]\n")
    assert lost == {"decoration that MusicXML does not have": 1}


def every_decoration() -> list[str]:
    names = [
        *named_marks.MARKS,
        *sorted(named_marks.DIRECTIONS | named_marks.DYNAMICS),
        named_marks.NON_ARPEGGIO,
    ]
    names += [f"style={name}" for name in named_marks.HEADS.values()] + ["style=x,open", "accordion=h2l"]
    names += [*named_marks.PEDAL_CHANGES.values(), "string=1", "fret=3", "pluck=p", "accidental-mark=flat"]
    names += ["harmonic", "harmonic=natural", "string-mute=on", "staff-divide=down", "dashes(", "dashes)"]
    names += [f"{name}{sign}" for name, _, _ in named_marks.NOTE_LINES.values() for sign in "()"]
    return names + [
        f"bracket-{end}{line}(" for end in named_marks.BRACKET_ENDS for line in named_marks.BRACKET_LINES
    ]


@pytest.mark.parametrize("name", every_decoration())
def test_text_for_the_models_has_none(name):
    text = f"X:1\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:1\n!{name}!c4 [!{name}!ce]4|]\n"
    known = name in ("style=x", "style=harmonic", "style=rhythm", "style=triangle", "style=normal")
    assert (f"!{name}!" in clean(text)) == known
    assert clean(text.replace(name, "trill")).count("!trill!") == 2


@pytest.mark.parametrize("name", every_decoration())
def test_letters_in_a_decoration_are_not_transposed(name):
    if name.startswith(("string", "fret")):
        return
    moved = transpose_text(f"X:1\nL:1/8\nM:4/4\nK:C\n!{name}!c4 [!{name}!ce]4|]\n", Interval(semitones=2))
    assert moved.splitlines()[-1] == f"!{name}!d4 [!{name}!df]4|]"


def test_a_transposed_note_has_no_string_and_fret():
    text = "X:1\nL:1/8\nM:4/4\nK:C\n!string=1!!fret=3!c4 [!fret=1!c!fret=2!e]4|]\n"
    with losses() as lost:
        moved = transpose_text(text, Interval(semitones=2))
    assert moved.splitlines()[-1] == "d4 [df]4|]" and lost == {"string or fret of a transposed note": 4}
    with losses() as lost:
        assert transpose_text(text, Interval(semitones=0)) == text
    assert not lost


def test_a_mark_that_is_no_text_is_no_error():
    for mark in ("<fret/>", "<string>x</string>", "<pluck>1</pluck>"):
        lost = there_and_back(marked(f"<technical>{mark}</technical>"), note())[2]
        assert sum(lost.values()) == 1
    with pytest.raises(InputError):
        abc_to_musicxml("X:1\nK:C\n!fret=1\n")
