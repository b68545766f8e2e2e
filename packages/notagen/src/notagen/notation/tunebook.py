"""Tune books: ABC files as people write them, cut into tunes and brought into the form that the models read.

That is the form in which the original's MusicXML converter writes: the header is ``%%score``, ``L:``, ``Q:``, ``M:``,
``K:`` and the voices, in this order, without fields and comments that say nothing about the sound.
"""

from __future__ import annotations

import re
from itertools import takewhile

from notagen.abc.duration import default_unit_length, parse_meter
from notagen.notation.bars import BarTable, declared_voice, is_field, read_tune
from notagen.notation.clean import clean
from notagen.notation.layout import interleave, without_comment
from pentatonic.errors import FormatError

_ABOUT = re.compile("[XTC]:|%(?!%)")
_TUNE = re.compile(r"^X:(?![|:])", re.MULTILINE)  # `X:|` is a rest before a repeat sign
# Name of a field that may be in a file header, or of a directive.
_FILE_HEADER = re.compile(r"([ABCDFGHILMmNOQRSUZ]:|%%\w+)")
_NUMBER = re.compile(r"X:\s*(\d*)")
_TEMPO = re.compile(r"\s*\d{1,3}/\d{1,3}\s*=\s*\d{1,4}\s*\Z")
_BLANKS = re.compile(r'("[^"\n]*")|[ \t]+')  # outside of quotes
_BRACKETED_VOLTA = re.compile(r"(\||:\|)[ \t]*\[[ \t]*(?=\d)")
_LAST_BARLINE = re.compile(r"(?<![|:\]])\|{0,2}\s*\Z")
_EMPTY_REPEAT, _TWO_REPEATS = re.compile(r"\|:\|"), re.compile(r"(?<!:):\|\s*\|:(?!:)|(?<!:):\|:(?!:)")
_SECTION = re.compile(
    r'"[^"\n]*"|\[[A-Za-z]:[^\[\]\n]*\]|(:{2,}\|:*(?!\|)|:?\|:{2,}(?!\|)|\|:|::|:\||\|\|)(?:(?=\s*(\d))|)'
)
_MUSIC_FIELDS = "KLMQV"


def split_tunes(text: str) -> list[tuple[str, str]]:
    """Cut a tune book at its ``X:`` lines.

    In a book of several tunes a tune also ends at the first blank line after its key, so that prose between tunes is
    not read as music. Fields and directives of a file header (ABC 2.1, section 2.2.3) come after the ``X:`` line of
    each tune that has no such field or directive of its own.

    Args:
        text: A file of any number of tunes; without ``X:`` it is one tune.

    Returns:
        Pairs of the number after ``X:`` (empty where there is none) and the tune's text.
    """
    starts = [match.start() for match in _TUNE.finditer(text)]
    shared = _file_header(text[: starts[0]]) if starts else []
    if len(starts) < 2:
        match = _NUMBER.search(text, starts[0]) if starts else None
        return [(match[1] if match else "", _with_defaults(text[starts[0] :], shared) if starts else text)]
    tunes = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        tune = text[start:end]
        key = re.search(r"^K:", tune, re.MULTILINE)
        blank = re.compile(r"\n[ \t]*\n").search(tune, key.end()) if key else None
        number = _NUMBER.match(tune)
        tune = tune[: blank.start() + 1] if blank else tune
        tunes.append((number[1] if number else "", _with_defaults(tune, shared)))
    return tunes


def place_file_header(text: str) -> str:
    """Return the text of a file of one tune with its file header behind the ``X:`` line, as in :func:`split_tunes`.

    Comments before the tune, such as prompts, stay where they are. Any other text comes back unchanged.
    """
    starts = [match.start() for match in _TUNE.finditer(text)]
    if len(starts) != 1 or not (shared := _file_header(text[: starts[0]])):
        return text
    comments = [line for line in text[: starts[0]].splitlines() if re.match("%(?!%)", line)]
    return "".join(f"{line}\n" for line in comments) + _with_defaults(text[starts[0] :], shared)


def _file_header(text: str) -> list[str]:
    """Return the fields and directives of the block of lines that a file starts with; none of a block of prose."""
    block = list(takewhile(str.strip, text.lstrip().splitlines()))
    if not all(line.startswith("%") or is_field(line) for line in block):
        return []
    return [line for line in block if _FILE_HEADER.match(line)]


def _with_defaults(tune: str, shared: list[str]) -> str:
    """Return a tune with those lines of the file header that it does not set itself."""
    if not shared:
        return tune
    first, newline, rest = tune.partition("\n")
    header = [*takewhile(lambda line: not line.startswith("K:"), rest.splitlines()), "K:"]
    own = {match[1] for line in header if (match := _FILE_HEADER.match(line))}
    added = [line for line in shared if (match := _FILE_HEADER.match(line)) and match[1] not in own]
    return "".join([first, newline or "\n", *(f"{line}\n" for line in added), rest])


def standard_tune(text: str) -> str:
    """Bring one tune into the form that the models read, in standard layout.

    Comments and information fields are dropped, and lines that end with a backslash are joined with the next one. The
    header gets its fields in order, an ``L:`` and, for a tune without ``V:``, ``%%score 1`` and ``V:1 treble``. A tune
    of one voice gets a final barline. In interleaved layout only the header changes.

    Args:
        text: One tune in ABC.

    Returns:
        The tune; every line ends with a newline.

    Raises:
        FormatError: There is no ``K:`` line, or the meter cannot be parsed.
    """
    uncommented = map(without_comment, text.replace("\\\n", " ").splitlines())
    lines = [
        line for line in uncommented if line.strip() and (line.lstrip()[0] != "%" or line.startswith("%%"))
    ]
    key = next((i for i, line in enumerate(lines) if line.startswith("K:")), None)
    if key is None:
        raise FormatError("the tune has no K: line; a header ends with one")
    header = {line[0]: line[2:].strip() for line in lines[: key + 1] if is_field(line) and line[0] in "LMK"}
    meter = header.get("M") or "none"
    unit = header.get("L") or default_unit_length(parse_meter(meter))
    tempo = next((line for line in lines[:key] if line.startswith("Q:") and _TEMPO.match(line[2:])), None)
    score = next((line for line in lines if line.startswith("%%score")), None)
    voices = [line for line in lines[:key] if line.startswith("V:")]
    rest = [line for line in lines[key + 1 :] if not line.startswith("%") and _is_kept(line)]
    if not voices and not any("V:" in line for line in rest):
        score, voices, rest = "%%score 1", ["V:1 treble"], _one_voice(rest)
    fields = [score, f"L:{unit}", tempo, f"M:{meter}", f"K:{header['K']}", *voices, *rest]
    return "".join(f"{line}\n" for line in fields if line)


def interleaved_tune(text: str) -> str:
    """Bring one tune in standard layout into the form that the models read, and interleave it.

    Comments before the header, such as prompts, and number, titles and composers are kept.

    Args:
        text: One tune in ABC.

    Returns:
        The tune in interleaved layout.

    Raises:
        FormatError: There is no ``K:`` line or no music, or the voices have different numbers of bars.
    """
    tune = interleave(standard_tune(text))
    before_key = takewhile(lambda line: not line.startswith("K:"), text.splitlines())
    about = [line for line in before_key if _ABOUT.match(line)]
    return "".join(f"{line}\n" for line in about) + tune


def prepare_tune(text: str) -> BarTable:
    """Bring one tune into the form of the training data, cut in voices and bars.

    Args:
        text: One tune of ABC, of any origin.

    Returns:
        The tune; all voices have the same number of bars.

    Raises:
        FormatError: The text is not a tune, or its voices have different numbers of bars.
    """
    tune = read_tune(clean(standard_tune(text)))
    if not tune.bar_count:
        raise FormatError("there is no music")
    return tune


def _is_kept(line: str) -> bool:
    if not is_field(line):
        return True
    if line.startswith("V:") and declared_voice(line) is None:
        return False
    return line[0] in _MUSIC_FIELDS and (line[0] != "Q" or bool(_TEMPO.match(line[2:])))


def _one_voice(lines: list[str]) -> list[str]:
    """Write voltas without brackets, and write out the final barline and all starts of repeats.

    Back quotes and runs of blanks, by which people line up notes on the screen, are dropped: a model that has learned
    such runs writes walls of blanks.
    """
    music = "\n".join(line if is_field(line) else _BLANKS.sub(_one_blank, line) for line in lines)
    music = _BRACKETED_VOLTA.sub(r"\1", music.replace("`", ""))
    return ["V:1", *_LAST_BARLINE.sub("|]", _with_repeat_starts(music)).splitlines()]


def _one_blank(match: re.Match[str]) -> str:
    return match[1] or " "


def _with_repeat_starts(music: str) -> str:
    """Write the ``|:`` that a later ``:|`` repeats from, where only the end of a section implies it."""
    music = _EMPTY_REPEAT.sub("||", _TWO_REPEATS.sub("::", music))
    pieces: list[str] = []
    position, opened, boundary = 0, False, None
    for match in _SECTION.finditer(music):
        if match[1] is None:
            continue
        sign, volta = match[1], match[2]
        pieces += [music[position : match.start()], sign]
        position = match.end()
        if sign.startswith(":"):
            if not opened and boundary is not None:
                ended = pieces[boundary]
                pieces[boundary] = f"{ended}:" if ended.startswith("::") else "::" if ended == ":|" else "|:"
            boundary = None if volta else len(pieces) - 1
            opened = sign.endswith(":")
        elif sign.endswith(":"):
            opened = True
        elif not opened:
            boundary = len(pieces) - 1
    return "".join([*pieces, music[position:]])
