"""Decorations for what MusicXML has and ABC has no decoration for: they carry its name, such as ``!soft-accent!``.

ABC lets a program pass over decorations that it does not know, so that such text stays ABC for all. Marks with a value
are written ``!fret=3!``, lines ``!dashes(!`` and ``!dashes)!``. The models do not know them:
:func:`notagen.notation.clean.clean` leaves them out.
"""

from __future__ import annotations

import re

#: Element of a note -> its group in ``<notations>``.
MARKS = {
    **dict.fromkeys((
        "soft-accent", "stress", "unstress", "doit", "falloff", "plop",
    ), "articulations"),
    **dict.fromkeys((
        "delayed-turn", "delayed-inverted-turn", "vertical-turn", "inverted-vertical-turn", "shake", "schleifer",
        "haydn",
    ), "ornaments"),
    **dict.fromkeys((
        "double-tongue", "triple-tongue", "heel", "toe", "fingernails", "golpe", "brass-bend", "flip", "smear",
        "half-muted",
    ), "technical"),
}  # fmt: skip
#: Element of a note with a value -> its group, and the values.
VALUES = {
    "string": ("technical", re.compile("[1-9][0-9]?")),
    "fret": ("technical", re.compile("[0-9]{1,2}")),
    "pluck": ("technical", re.compile("[a-z]{1,3}")),
    "accidental-mark": ("ornaments", re.compile("[a-z][a-z0-9-]{0,30}")),
}
#: Chord that is not to be broken.
NON_ARPEGGIO = "non-arpeggio"
#: What a harmonic may say: how it is made, and which pitch is printed; ``!harmonic=natural,touching!``.
HARMONICS = ("natural", "artificial", "base", "touching", "sounding")
#: Line from one note to another -> its name in the decorations, its group, and the type of line that it has.
NOTE_LINES = {
    "glissando": ("~", "", "wavy"), "slide": ("-", "", "solid"),
    "hammer-on": ("hammer-on", "technical", ""), "pull-off": ("pull-off", "technical", ""),
}  # fmt: skip
#: Direction without a value.
DIRECTIONS = frozenset({"damp", "damp-all", "eyeglasses"})
#: Direction -> its attribute with a value, and the values.
DIRECTION_VALUES = {
    "string-mute": ("type", re.compile("on|off")),
    "staff-divide": ("type", re.compile("down|up|up-down")),
}
#: Ends and lines of a bracket over notes, as they stand in ``!bracket-down(!`` and ``!bracket-down-dashed(!``.
BRACKET_ENDS = ("up", "down", "both", "arrow", "none")
BRACKET_LINES = ("", "-dashed", "-dotted", "-wavy")
#: Changes of a pedal line that is down.
PEDAL_CHANGES = {"change": "ped-change", "discontinue": "ped-discontinue", "resume": "ped-resume"}
#: Dynamics that the ABC standard does not name.
DYNAMICS = frozenset({"ppppp", "pppppp", "fffff", "ffffff", "sfzp", "pf", "n"})

#: Shapes of note heads with a name of their own in ABC.
USUAL_HEADS = {"x": "x", "diamond": "harmonic", "slash": "rhythm", "triangle": "triangle"}
#: Shape of a note head in MusicXML -> its name in ``!style=…!``.
HEADS = USUAL_HEADS | {
    name: name.replace(" ", "-")
    for name in (
        "normal", "square", "cross", "circle-x", "inverted triangle", "arrow down", "arrow up", "circled", "slashed",
        "back slashed", "cluster", "circle dot", "left triangle", "rectangle", "none", "do", "re", "mi", "fa",
        "fa up", "so", "la", "ti",
    )
}  # fmt: skip
#: What may follow the name of a note head -> the attribute of ``<notehead>`` and its value.
HEAD_DETAILS = {"open": ("filled", "no"), "filled": ("filled", "yes"), "parentheses": ("parentheses", "yes")}

_REGISTERS = re.compile("h?[123]?l?")
_ACCORDION = "accordion"

_LINES = "|".join(map(re.escape, ["dashes", *(name for name, _, _ in NOTE_LINES.values())]))
_DECORATIONS = "|".join([
    *sorted({NON_ARPEGGIO, *MARKS, *DIRECTIONS, *PEDAL_CHANGES.values(), *DYNAMICS}),
    rf"(?:{_LINES}|bracket-[a-z-]+)[()]",
    "harmonic(?:=[^!]*)?",
    rf"(?:{'|'.join([*VALUES, *DIRECTION_VALUES, _ACCORDION])})=[^!]*",
    rf"style=(?!(?:{'|'.join(USUAL_HEADS.values())}|normal)!)[^!]*",
])  # fmt: skip
#: A decoration of this module, as it is written in ABC.
NAMED_MARK = re.compile(rf"!(?:{_DECORATIONS})!")


def is_of_one_note(decoration: str) -> bool:
    """Whether a decoration, without ``!``, is of one note of a chord: the shape of its head, its string or fret."""
    return decoration.startswith(("style=", "string=", "fret="))


def registration(high: bool, middle: int, low: bool) -> str:
    """Return the decoration, without ``!``, of an accordion registration; ``middle`` is 0 to 3."""
    return f"{_ACCORDION}={'h' * high}{middle or ''}{'l' * low}"


def registers(decoration: str) -> tuple[bool, int, bool] | None:
    """Return what an accordion registration says; None for another decoration."""
    name, _, value = decoration.partition("=")
    if name != _ACCORDION or not _REGISTERS.fullmatch(value):
        return None
    return "h" in value, int(value.strip("hl") or 0), "l" in value
