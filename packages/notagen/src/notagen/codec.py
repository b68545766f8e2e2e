"""Codec between text and patches (NotaGen, arXiv 2502.18008).

Interleaved ABC text is cut into patches of 16 characters, whose ids are their code points. Header lines and, in the
tune body, the bars of each voice are cut separately, so that a patch never contains parts of two of them. A patch that
is not full ends with :data:`EOS` and is padded with :data:`PAD`.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from notagen.notation.countdown import COUNTDOWN, with_countdown
from pentatonic.errors import FormatError, UsageError

PATCH_SIZE = 16
VOCABULARY_SIZE = 128
PAD, BOS, EOS = 0, 1, 2
START_PATCH = (BOS,) * (PATCH_SIZE - 1) + (EOS,)
END_PATCH = (BOS,) + (EOS,) * (PATCH_SIZE - 1)

Patch = list[int]

# Adjacent barlines, such as `:||`, count as one.
_BARLINE = re.compile(r"((?:\|:|::|:\||\[\||\|\||\|\]|\|)+)")
_FOREIGN = re.compile(r"[^\x03-\x7f]")
#: What a line of the tune body starts with: a voice, or a countdown tag before the first voice.
BODY_STARTS = ("[V:", COUNTDOWN)
_NEWLINE = ord("\n")


def cut(text: str, *, last_open: bool = False) -> list[Patch]:
    """Cut a text every 16 characters.

    Args:
        text: Characters with code points 3 to 127.
        last_open: Whether the text continues, so that an incomplete last patch stays open. Otherwise it gets the end
            character and padding; a full patch gets neither.

    Returns:
        Patches of 16 ids in [0, 128); an open one is shorter. An empty text has no patches.
    """
    patches = [[ord(c) for c in text[i : i + PATCH_SIZE]] for i in range(0, len(text), PATCH_SIZE)]
    if patches and not last_open and len(patches[-1]) < PATCH_SIZE:
        patches[-1] = padded([*patches[-1], EOS])
    return patches


def padded(ids: Sequence[int]) -> Patch:
    """Return at most 16 ids as a full patch, with :data:`PAD` after the first :data:`EOS`."""
    end = ids.index(EOS) + 1 if EOS in ids else len(ids)
    return [*ids[:end], *[PAD] * (PATCH_SIZE - end)]


def bar_units(line: str) -> list[str]:
    """Split one line of the tune body into the units that are cut separately.

    The first unit is the text before the first barline; each further unit starts with the barline that ends the bar of
    the voice before. A last unit that names no voice, usually the final barline, is joined to the unit before it.
    """
    first, *rest = _BARLINE.split(line)
    units = [first] if first else []
    units += [barline + content for barline, content in zip(rest[::2], rest[1::2], strict=True)]
    if len(units) > 1 and "V" not in units[-1]:
        units[-2:] = ["".join(units[-2:])]
    return units


def encode_train(
    text: str,
    patch_length: int,
    *,
    stream: bool = True,
    special: bool = True,
    truncate: bool = True,
    rng: random.Random | None = None,
) -> list[Patch]:
    """Encode a piece for training.

    Args:
        text: Interleaved ABC. A body that already has its countdown tags keeps them.
        patch_length: Greatest number of patches that the model sees, at least 1.
        stream: Add a countdown tag to each body line, and start a piece that is too long at its first line, at a line
            in the middle, or at the line from which its end fits, with equal probability.
        special: Add the start patch before and the end patch after the piece.
        truncate: Drop patches beyond ``patch_length``.
        rng: Random source of that choice; ``None``: the global one of :mod:`random`.

    Returns:
        Patches of 16 ids.

    Raises:
        FormatError: There is no tune body, or a character has no id.
    """
    metadata, body = _sections(text)
    if not body:
        raise FormatError("there is no tune body; at least one line must start with '[V:' or '[r:'")
    if stream and not body[0].startswith(COUNTDOWN):
        body = with_countdown(body)
    head = [list(START_PATCH)] if special else []
    head += [patch for line in metadata for patch in cut(line)]
    lines = [[patch for unit in bar_units(line) for patch in cut(unit)] for line in body]
    tail = [list(END_PATCH)] if special else []
    excess = len(head) + sum(map(len, lines)) + len(tail) - patch_length
    if stream and excess > 0:
        lines = lines[_first_line(lines, excess, rng) :]
    patches = [*head, *(patch for line in lines for patch in line), *tail]
    return patches[:patch_length] if truncate else patches


def encode_generate(text: str, patch_length: int | None = None) -> list[Patch]:
    """Encode the text so far, for the model to continue.

    Args:
        text: Complete header lines, and body lines, the last of which may be unfinished.
        patch_length: Greatest number of patches; older lines are dropped, see :func:`keep_newest`. ``None``: no limit.

    Returns:
        The start patch and the patches of the text. The last one is shorter than 16 ids if the text ends inside it.

    Raises:
        FormatError: A character has no id.
        UsageError: The header and the last line do not fit into ``patch_length``.
    """
    metadata, body = _sections(text)
    if body and not text.endswith("\n"):
        body[-1] = body[-1].removesuffix("\n")
    patches = [list(START_PATCH), *(patch for line in metadata for patch in cut(line))]
    units = [unit for line in body for unit in bar_units(line)]
    for i, unit in enumerate(units):
        patches += cut(unit, last_open=i == len(units) - 1)
    return patches if patch_length is None else keep_newest(patches, patch_length)


def keep_newest(patches: Sequence[Patch], patch_length: int) -> list[Patch]:
    """Shorten a context to its header, as many of the newest complete lines as fit, and the unfinished line.

    Args:
        patches: Start patch, header and tune body; the last patch may be open.
        patch_length: Greatest number of patches to keep.

    Returns:
        All patches if they fit, else some of them.

    Raises:
        UsageError: The header and the unfinished line, if there is one, do not fit.
    """
    if len(patches) <= patch_length:
        return list(patches)
    starts = line_starts(patches)
    header = starts[0]
    for start in [*starts, len(patches)]:
        # A new line starts at the end of the list only if the last line is complete.
        if start == len(patches) and _NEWLINE not in patches[-1]:
            break
        if header + len(patches) - start <= patch_length:
            return [*patches[:header], *patches[start:]]
    raise UsageError(
        f"header ({header} patches) and unfinished line do not fit into {patch_length} patches of context"
    )


def line_starts(patches: Sequence[Patch]) -> list[int]:
    """Return the indices of the patches with which lines of the tune body start; without a body the patch count."""
    markers = [[ord(c) for c in start] for start in BODY_STARTS]
    first = next((i for i, patch in enumerate(patches) if patch[:3] in markers), len(patches))
    return [first, *(i + 1 for i in range(first, len(patches) - 1) if _NEWLINE in patches[i])]


def decode(patches: Iterable[Sequence[int]]) -> str:
    """Return the text of patches: of each the characters before its first :data:`EOS`, without special ids."""
    characters = []
    for patch in patches:
        for i in patch:
            if i == EOS:
                break
            if i > EOS:
                characters.append(chr(i))
    return "".join(characters)


def _sections(text: str) -> tuple[list[str], list[str]]:
    """Split a text into the lines of the header and of the tune body, each with its newline."""
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if foreign := _FOREIGN.search(line):
            raise FormatError(
                f"the character {foreign[0]!r} has no id; allowed: code points 3 to 127",
                line=number,
                column=foreign.start() + 1,
            )
        if line:
            lines.append(line + "\n")
    first = next((i for i, line in enumerate(lines) if line.startswith(BODY_STARTS)), len(lines))
    return lines[:first], lines[first:]


def _first_line(lines: Sequence[Sequence[Patch]], excess: int, rng: random.Random | None) -> int:
    """Choose the body line at which a piece with ``excess`` patches too many starts."""
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    candidates = min(bisect_left(starts, excess) + 1, len(starts))
    choose = random.choice if rng is None else rng.choice
    where = choose(["head", "tail", "middle"][: min(candidates, 3)])
    if where == "head":
        return 0
    return candidates - 1 if where == "tail" else choose(range(1, candidates - 1))
