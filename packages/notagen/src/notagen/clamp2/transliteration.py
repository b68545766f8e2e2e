"""Transliteration of any text to ASCII, whose characters are the vocabulary of M3 and CLaMP 2.

The table is the one of these models and differs from that of :mod:`notagen.notation.clean`, which prepares text for
NotaGen: marks become what they look like (an em dash two hyphens), and double quotes stay double.
"""

from __future__ import annotations

import unicodedata

_LETTERS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "ħ": "h", "Ħ": "H", "\u0131": "i",
    "ŋ": "ng", "Ŋ": "NG", "ŧ": "t", "Ŧ": "T",
    # "Minor" and "major" in Chinese titles are 小调 and 大调; no other Chinese character is transliterated.
    "小": "Xiao ", "大": "Da ", "调": "Diao ",
}  # fmt: skip
_MARKS = {
    **dict.fromkeys("\u2018\u2019\u201b\u2032\xb4", "'"),
    **dict.fromkeys("\u201c\u201d\u201f", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
    **dict.fromkeys("\u2014\u2015", "--"),
    **dict.fromkeys("\xb7\u2022", "*"),
    **dict.fromkeys("\u2191\u2193\xa6", "|"),
    "\u201a": ",", "\u201e": ",,", "\u2033": "''", "«": "<<", "»": ">>", "\u2039": "<", "\u203a": ">", "…": "...",
    "°": "deg", "№": "No. ", "\xd7": "x", "÷": "/", "\u2044": "/", "½": " 1/2", "¼": " 1/4", "¾": " 3/4",
    "⅓": " 1/3 ", "⅔": " 2/3 ", "©": "(c)", "®": "(r)", "™": "(tm)", "§": "SS", "¶": "P", "†": "+", "‡": "++",
    "¿": "?", "¡": "!", "‿": "_", "♯": "#", "\u200b": " ", "\u2028": "\n", "\u2029": "\n\n",
    **dict.fromkeys("♭♮♩♪♫♬", ""),
}  # fmt: skip
# Combining accents, format characters such as the soft hyphen, and the private-use glyphs of music fonts.
_SILENT_CATEGORIES = ("Mn", "Mc", "Me", "Cf", "Co")
_MUSICAL_SYMBOLS = range(0x1D100, 0x1D200)


class _Table(dict[int, str]):
    """Code point -> ASCII; an entry is made when its character is met first."""

    def __missing__(self, code: int) -> str:
        self[code] = _ascii_of(chr(code)) or ""
        return self[code]


_TABLE = _Table()


def transliterate(text: str) -> str:
    """Return a text in ASCII.

    Latin letters lose their accents, marks become similar ones, musical symbols are left out, and so are the characters
    that :func:`untranslatable` names.

    Args:
        text: Any text; its ASCII characters stay, control characters too.
    """
    return text if text.isascii() else text.translate(_TABLE)


def untranslatable(text: str) -> str:
    """Return the distinct characters of a text that have no equivalent in ASCII, in the order in which they occur."""
    if text.isascii():
        return ""
    return "".join(character for character in dict.fromkeys(text) if _ascii_of(character) is None)


def _ascii_of(character: str) -> str | None:
    """Return what a character becomes, which may be nothing; None where it has no equivalent."""
    if character.isascii():
        return character
    for table in (_LETTERS, _MARKS):
        if character in table:
            return table[character]
    category = unicodedata.category(character)
    if category in _SILENT_CATEGORIES or ord(character) in _MUSICAL_SYMBOLS:
        return ""
    if category == "Zs":
        return " "
    decomposed = unicodedata.normalize("NFKD", character)
    if decomposed == character:
        return None
    parts = [_ascii_of(part) for part in decomposed]
    return None if None in parts else "".join(part for part in parts if part)
