"""Patches of M3 and CLaMP 2: text is cut into header lines, bars or MIDI messages of 64 ids each.

Ids are code points of ASCII characters; 0 to 3 are special. The rules are those that the released models were trained
with, the loss of text after the last barline of a line included.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from notagen.clamp2.transliteration import transliterate
from pentatonic.errors import FormatError

PATCH_SIZE = 64
PATCH_LENGTH = 512
"""Greatest number of patches that the released models see at once."""
VOCABULARY_SIZE = 128
PAD, BOS, EOS, MASK = 0, 1, 2, 3
MTF_FIRST_WORD = "ticks_per_beat"
"""First word of a MIDI file as text, see :mod:`notagen.clamp2.mtf`; any other text is taken for ABC."""

Truncation = Literal["head", "random"]
"""Which patches of a long piece are kept: the first, or by chance the first, the last or some in the middle."""

_BARLINE = re.compile(r"(\|:|::|:\||\[\||\|\||\|\]|\|)")
_UNIT_LENGTH = "L:1/8\n"
_ENDS = (" nm=", " snm=")


def encode(
    text: str,
    *,
    special: bool = False,
    truncation: Truncation | None = None,
    patch_length: int = PATCH_LENGTH,
    rng: random.Random | None = None,
    drop_unit_length: bool = False,
) -> NDArray[np.uint8]:
    """Cut a text into patches.

    Args:
        text: Interleaved ABC, or MTF; any Unicode text.
        special: Put a patch of :data:`BOS` before and one of :data:`EOS` after the others, as the models expect.
        truncation: Which patches to keep where there are more than ``patch_length``; None keeps all.
        patch_length: At least 1.
        rng: Random source of the truncation; None: the global one of :mod:`random`. As in the original, ``"head"``
            draws from it too.
        drop_unit_length: Leave out ``L:1/8``, as CLaMP 3 does, and CLaMP 2 in training.

    Returns:
        ``(N, 64)``, ids below 128; padded with :data:`PAD`. 63 characters and more fill a patch: it has no end, and
        further characters are lost.

    Raises:
        FormatError: As for :func:`patch_texts`.
    """
    texts = patch_texts(text, drop_unit_length=drop_unit_length)
    if special:
        texts = [chr(BOS) * PATCH_SIZE, *texts, chr(EOS) * PATCH_SIZE]
    if truncation is not None and len(texts) > patch_length:
        texts = _truncated(texts, truncation, patch_length, rng)
    patches = np.full((len(texts), PATCH_SIZE), PAD, np.uint8)
    for row, content in zip(patches, texts, strict=True):
        ids = bytes([BOS, *content[: PATCH_SIZE - 1].encode("ascii"), EOS])[:PATCH_SIZE]
        row[: len(ids)] = np.frombuffer(ids, np.uint8)
    return patches


def patch_texts(text: str, *, drop_unit_length: bool = False) -> list[str]:
    """Return the text of each patch, of any length, in ASCII.

    Args:
        text: Interleaved ABC, or MTF; any Unicode text.
        drop_unit_length: Leave out every ``L:1/8`` at a line's end, with its newline.

    Returns:
        None for a text of blank lines.

    Raises:
        FormatError: The text is empty, or a line of ABC is one barline and nothing else, not even a newline.
    """
    text = transliterate(text)
    if drop_unit_length:
        text = text.replace(_UNIT_LENGTH, "")
    if not text:
        raise FormatError("the text is empty")
    lines = _lines(text)
    return _message_patches(lines) if is_mtf(text) else _abc_patches(lines)


def decode(patches: Iterable[Sequence[int]] | NDArray[np.uint8]) -> str:
    """Return the characters of patches, without the special ids."""
    return "".join(chr(i) for patch in patches for i in patch if i > MASK)


def is_mtf(text: str) -> bool:
    """Whether a text is a MIDI file as text."""
    return text.split("\n", 1)[0].split(" ", 1)[0] == MTF_FIRST_WORD


def split_bars(line: str) -> list[str]:
    """Split a line of ABC into bars, each with the barline after it.

    A barline at the start of the line belongs to the first bar. Text after the last barline is dropped. A barline
    inside a quoted string counts too.

    Raises:
        FormatError: The line is one barline and nothing else.
    """
    pieces = [piece for piece in _BARLINE.split(line) if piece]
    if pieces and _BARLINE.fullmatch(pieces[0]):
        if len(pieces) == 1:
            raise FormatError(f"the line {line!r} is one barline and nothing else; a bar needs content")
        pieces[:2] = [pieces[0] + pieces[1]]
    return [bar + barline for bar, barline in zip(pieces[::2], pieces[1::2], strict=False)]


def without_instrument_names(text: str) -> str:
    """Remove the names of instruments, an augmentation of training.

    Args:
        text: ABC, whose ``V:`` lines end before ``nm=`` or ``snm=`` then; or MTF, whose programs become 0.
    """
    if is_mtf(text):
        return "".join(map(_without_program, _lines(text)))
    return "".join(map(_without_name, _lines(text)))


def _lines(text: str) -> list[str]:
    """Split at newlines, which stay at the ends of the lines; other line separators are ordinary characters."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1].removesuffix("\n")
    return lines if lines[-1] else lines[:-1]


def _abc_patches(lines: Iterable[str]) -> list[str]:
    patches: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("%%") or (line[0].isalpha() and line[1:2] == ":"):
            patches.append(line)
            continue
        try:
            bars = split_bars(line)
        except FormatError as error:
            raise FormatError(error.reason, line=number) from None
        if bars:
            bars[-1] += "\n"
        patches += bars
    return patches


def _message_patches(lines: Iterable[str]) -> list[str]:
    """Join neighbouring messages of one type while they fit: the type is written once, the rest after tabs."""
    patches = [""]
    for line in lines:
        kind, _, values = line.partition(" ")
        current = patches[-1]
        if current.startswith(kind) and len(current) + len(values) <= PATCH_SIZE - 2:
            patches[-1] = f"{current[:-1]}\t{values}"
        else:
            patches.append(line)
    return patches[1:]


def _truncated(texts: list[str], truncation: Truncation, length: int, rng: random.Random | None) -> list[str]:
    source = random if rng is None else rng
    # Drawn for "head" too, so that what is drawn afterwards is the same as in the original.
    where = source.choice(["head", "tail", "middle"])
    if truncation == "head" or where == "head":
        return texts[:length]
    start = len(texts) - length
    if where == "middle":
        start = source.randint(1, start)
    return texts[start : start + length]


def _without_name(line: str) -> str:
    if line.startswith("V:"):
        for end in _ENDS:
            if end in line:
                return line.split(end, 1)[0] + "\n"
    return line


def _without_program(line: str) -> str:
    if not line.startswith("program_change"):
        return line
    values = line.rstrip("\n")
    return f"{values.rpartition(' ')[0]} 0{line[len(values) :]}"
