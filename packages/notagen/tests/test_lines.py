"""Reading of interleaved lines with meter, note length and slurs in force, and countdown tags."""

from __future__ import annotations

from fractions import Fraction

import pytest

from notagen.abc import Meter
from notagen.notation.countdown import (
    countdown_tag,
    has_countdown,
    read_countdown,
    with_countdown,
    without_countdown,
)
from notagen.notation.lines import InterleavedReader, field_changes, keyless_voices
from pentatonic.errors import FormatError


def test_changes_hold_from_their_place_on():
    reader = InterleavedReader(Meter(4, 4), Fraction(1, 8))
    lengths = []
    for line in ("[r:0/3][V:1]Z|", "[V:1][M:3/4]Z|", "[V:1]Z[M:2/4]|", "[V:1]Z|", "[V:1][L:1/16]Z|"):
        (voice,) = reader.read(line)
        lengths.append(voice.length)
    assert lengths == [8, 6, 6, 4, 8]
    assert (reader.meter, reader.unit, reader.bar_length) == (Meter(2, 4), Fraction(1, 16), 8)


def test_the_first_voice_with_a_field_decides():
    reader = InterleavedReader(Meter(4, 4), Fraction(1, 8))
    voices = reader.read("[V:1]Z|[V:2][M:3/4]Z|[V:3][M:2/4]Z|")
    assert [voice.length for voice in voices] == [6, 6, 6]
    reader.read("[V:1][M:none][L:0]c|")
    assert (reader.meter, reader.unit) == (None, Fraction(1, 8))


def test_open_slurs_are_counted_for_each_voice():
    reader = InterleavedReader()
    assert [voice.slurs for voice in reader.read("[V:1]((c d)|[V:2]c)|")] == [1, 0]
    assert [voice.slurs for voice in reader.read("[V:2](c|")] == [1]
    assert reader.slurs == {"1": 1, "2": 1}


def test_what_cannot_be_read_is_an_error_of_its_voice():
    good, bad, endless = InterleavedReader().read("[V:1]|:c|[V:2]|:?:|[V:3](3c|")
    assert (good.left, good.right, good.error) == ("|:", "|", None)
    assert (bad.left, bad.right, bad.bar, bad.length) == ("|:", ":|", None, None)
    with pytest.raises(FormatError, match="no meaning"):
        bad.parsed()
    assert endless.parsed().elements
    assert endless.length is None and endless.error is not None


def test_changes_of_a_bar():
    changes = field_changes('"[K:A]"[K: D][Q:1/4=60]c[M:3/4][L:0]|')
    assert [(change.name, change.text, change.leading) for change in changes] == [
        ("K", "D", True),
        ("M", "3/4", False),
        ("L", "0", False),
    ]
    assert changes[1].value == Meter(3, 4) and changes[1].error is None
    assert changes[2].value is None and changes[2].error is not None


def test_voices_without_a_key():
    assert keyless_voices(["K:C", "V:1", "V:2", "K:none", "V:3", "K:Q"]) == {"2"}
    assert keyless_voices(["V:1", "K:none", "V:2", "K:D"]) == set()


def test_countdown_tags():
    assert with_countdown(["a", "b", "c"]) == ["[r:0/2]a", "[r:1/1]b", "[r:2/0]c"]
    assert read_countdown(countdown_tag(3, 4) + "[V:1]c|") == (3, 4)
    assert read_countdown("[r:3/x]") is None and has_countdown("[r:3/x]")
    assert without_countdown(" [r:3/4][V:1]c|") == "[V:1]c|"
    assert without_countdown("[V:1]c|[r:0/1]") == "[V:1]c|[r:0/1]"
