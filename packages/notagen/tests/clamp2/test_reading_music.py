"""The text to embed of files, against what the original read."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.clamp2.patches import encode
from notagen.clamp2.reading import music_texts, read_music
from notagen.musicxml import abc_to_musicxml
from pentatonic.errors import FormatError, InputError

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2"
READING = [
    pytest.param(case, id=case["name"])
    for case in json.loads((GOLDENS / "m3_patchilizer" / "reading.json").read_text(encoding="utf-8"))["cases"]
    if case["suffix"] != ".txt"
]
MIDI = [
    base64.b64decode(case["midi_base64"])
    for case in json.loads((GOLDENS / "mtf" / "cases.json").read_text())["cases"]
]
HEADER = "X:1\nT:Tune\nL:1/8\nM:4/4\nK:G\nV:1 treble\nV:2 bass\n"
STANDARD = (
    HEADER + 'V:1\nz8|"^a long text of more than forty characters, of that kind"G8|A8|]\nV:2\nz8|G,8|D,8|]\n'
)


@pytest.mark.parametrize("as_is", [True, False])
@pytest.mark.parametrize("case", READING)
def test_files_as_recorded(case, as_is):
    data = base64.b64decode(case["bytes_base64"])
    for variant in ("clamp2", "notagen", "clamp3"):
        expected = case["variants"][variant]
        if isinstance(expected, str):
            expected = case["variants"][expected.removeprefix("same as ")]
        preparation = "notagen" if variant == "notagen" else "clamp2"
        if "raises" in expected:
            with pytest.raises(FormatError, match=r"is not UTF-8|there is no text"):
                music_texts(data, case["suffix"], preparation=preparation, as_is=as_is)
            continue
        if case["name"] == "mtf_leading_blank_line" and not as_is:  # embedded as a text without patches
            with pytest.raises(FormatError, match=r"^1: the first line is ''"):
                music_texts(data, case["suffix"], preparation=preparation)
            continue
        (piece,) = music_texts(data, case["suffix"], preparation=preparation, as_is=as_is)
        if case["name"] == "standard_abc_not_interleaved" and not as_is:
            assert piece.text.endswith("[V:1]d2 c2 B2 A2|\n[V:1]G8|]\n")
            continue
        assert piece.text == expected["text_before_patchilizer"]
        patches = encode(piece.text, special=True, drop_unit_length=variant == "clamp3")
        assert hashlib.sha256(patches.astype("<i4").tobytes()).hexdigest() == expected["digest"]


def test_standard_abc_is_interleaved_in_either_way():
    (piece,) = music_texts(STANDARD.encode(), ".abc")
    assert piece.text == HEADER[len("X:1\nT:Tune\n") :] + (
        '[V:1]"^a long text of more than forty characters, of that kind"G8|[V:2]G,8|\n[V:1]A8|][V:2]D,8|]\n'
    )
    (piece,) = music_texts(STANDARD.encode(), ".abc", preparation="notagen")
    assert piece.text.endswith("[V:1]z8|[V:2]z8|\n[V:1]G8|[V:2]G,8|\n[V:1]A8|][V:2]D,8|]\n")
    (piece,) = music_texts(STANDARD.encode(), ".abc", as_is=True)
    assert piece.text == STANDARD


def test_prompts_and_byte_order_mark_of_standard_abc():
    text = "\ufeff%Baroque\n" + STANDARD
    (piece,) = music_texts(text.encode(), ".abc")
    assert piece.text == music_texts(STANDARD.encode(), ".abc")[0].text


def test_musicxml_is_interleaved():
    (piece,) = music_texts(abc_to_musicxml(STANDARD), ".musicxml")
    assert "\n[V:1]" in piece.text and "T:" not in piece.text and "z8" not in piece.text
    (piece,) = music_texts(abc_to_musicxml(STANDARD), ".xml", as_is=True)
    assert "\nV:1\n" in piece.text and "T:Tune" in piece.text


def test_midi_is_text_of_messages():
    (piece,) = music_texts(MIDI[0], ".MID")
    assert piece.text.startswith("ticks_per_beat 480\ntime_signature 3 4 24 8 0\n")
    (other,) = music_texts(MIDI[0], ".mid", keep="clamp3")
    assert "sysex" in other.text and "sysex" not in piece.text
    with pytest.raises(FormatError, match="more than 10 messages"):
        music_texts(MIDI[0], ".mid", max_messages=10)


def test_tunes_of_a_book_are_read_alone():
    book = "X:1\nL:1/8\nM:4/4\nK:G\nG8|]\n\nX:5\nK:G\nV:1\nG8|A8|\nV:2\nG8|\n\nX:7\nL:1/8\nM:4/4\nK:D\nd8|]\n"
    first, second, third = music_texts(book.encode(), ".abc")
    assert [first.name, second.name, third.name] == ["1", "5", "7"]
    assert first.text.endswith("[V:1]G8|]\n") and third.text.endswith("[V:1]d8|]\n")
    assert first.error is None
    assert second.text == "" and "V:1 2, V:2 1" in str(second.error)
    assert len(music_texts(book.encode(), ".abc", as_is=True)) == 1


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "song.abc"
    path.write_bytes(b"T:Caf\xe9\nK:C\nC8|\n")
    with pytest.raises(FormatError, match=r"song\.abc:1: the byte 0xe9 is not UTF-8"):
        read_music(path)
    path.write_text(STANDARD.replace("|A8|]", "|]"))
    with pytest.raises(FormatError, match=r"song\.abc: voices have different numbers of bars"):
        read_music(path)
    path.write_text("X:1\nK:C\nC8|\n\nX:2\nC8|\n")
    assert str(read_music(path)[1].error) == f"{path}: the tune has no K: line; a header ends with one"
    midi = tmp_path / "song.mid"
    midi.write_bytes(MIDI[0][:-9])
    with pytest.raises(FormatError, match=r"song\.mid: track 3, byte \d+: the track should have"):
        read_music(midi)
    with pytest.raises(InputError, match=r"none\.abc: is missing"):
        read_music(tmp_path / "none.abc")


def test_files_over_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("notagen.clamp2.reading.MAX_MIDI_BYTES", 1 << 20)
    midi = tmp_path / "song.mid"
    midi.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(InputError, match=r"song\.mid: more than 1 MiB"):
        read_music(midi)


def test_characters_without_equivalent_are_noted():
    (piece,) = music_texts("T:Чай\nK:C\n[V:1]C8|\n".encode(), ".abc")
    assert piece.notes == ("characters without an equivalent are left out: Чай",)
    (piece,) = music_texts(
        ("T:" + "".join(map(chr, range(0x4E00, 0x4E20))) + "\n[V:1]C8|\n").encode(), ".abc"
    )
    assert piece.notes[0].endswith(" and 12 more")


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([".abc", ".mtf", ".mid", ".xml"]), st.booleans())
def test_random_bytes_never_give_another_error(data, suffix, as_is):
    for content in (data, b"X:1\nK:C\n" + data):
        try:
            pieces = music_texts(content, suffix, as_is=as_is)
        except InputError:
            continue
        assert all(piece.text or piece.error for piece in pieces)
