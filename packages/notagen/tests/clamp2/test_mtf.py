"""MIDI files as text, against recorded conversions and against mido."""

import base64
import io
import itertools
import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from notagen.clamp2.mtf import MidiError, midi_to_mtf, mtf_to_midi, parse_mtf, read_midi
from notagen.clamp2.patches import decode, encode
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2" / "mtf"
# What the original refuses, and how it is read: text, and the start of each note.
REPAIRED = {
    "key_8_sharps": (
        "ticks_per_beat 96\nnote_on 0 0 60 64\nnote_off 96 0 60 0\nend_of_track 0",
        ["track 1, byte 23: the key_signature message '08 00' cannot be read"],
    ),
    "empty_channel_prefix": (
        "ticks_per_beat 96\nnote_on 0 0 60 64\nnote_off 9 0 60 0\nend_of_track 0",
        ["track 1, byte 23: the channel_prefix message '' cannot be read"],
    ),
    "short_tempo": (
        "ticks_per_beat 96\nnote_on 0 0 60 64\nnote_off 9 0 60 0\nend_of_track 0",
        ["track 1, byte 23: the set_tempo message '07 a1' cannot be read"],
    ),
    "smpte_offset_minutes_75": (
        "ticks_per_beat 96\nnote_on 0 0 60 64\nnote_off 9 0 60 0\nend_of_track 0",
        ["track 1, byte 23: the smpte_offset message '61 4b 03 04 05' cannot be read"],
    ),
    "alien_chunk": (
        "ticks_per_beat 96\nnote_on 0 0 60 64\nnote_on 0 0 64 64\nnote_off 9 0 60 0\nnote_off 0 0 64 0\nend_of_track 0",
        ["the chunk 'XFIH' at byte 34 is not a track"],
    ),
    "fewer_tracks_than_said": (
        "ticks_per_beat 96\nnote_on 0 0 60 64\nnote_off 9 0 60 0\nend_of_track 0",
        ["the header announces 2 tracks; there are 1"],
    ),
    "riff": ("ticks_per_beat 96\nnote_on 0 0 60 64\nnote_off 9 0 60 0\nend_of_track 0", []),
}
# Those that stay refused: track, byte and reason.
REFUSED = {
    "format2": (None, 8, "format 2"),
    "data_byte_over_127": (1, 29, "data byte 255"),
    "truncated": (1, 18, "the track should have 12 bytes; the file ends after 7 of them"),
}


def cases(name):
    listed = json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return [pytest.param(case, id=f"{i}-{case.get('name', '')}") for i, case in enumerate(listed)]


def midi(*tracks, form=1, division=96):
    chunks = (b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)
    return b"MThd" + struct.pack(">IHHh", 6, form, len(tracks), division) + b"".join(chunks)


def number(value):
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(digits[::-1])


@pytest.mark.parametrize("case", cases("cases"))
def test_conversions_as_recorded(case):
    data = base64.b64decode(case["midi_base64"])
    assert midi_to_mtf(data).text == case["mtf_compatible"]
    assert midi_to_mtf(data, keep="all").text == case["mtf_full"]
    patches = encode(case["mtf_compatible"])
    assert [decode([patch]) for patch in patches] == case["patch_texts_compatible"]
    again = mtf_to_midi(case["mtf_compatible"], compat=True)
    printed = [line for line in case["parsed_back"] if "end_of_track" not in line]
    mido = pytest.importorskip("mido")
    (track,) = mido.MidiFile(file=io.BytesIO(again)).tracks
    assert [str(message) for message in track[:-1]] == printed


@pytest.mark.parametrize("case", cases("edges"))
def test_unusual_files_as_recorded_or_better(case):
    data, name = base64.b64decode(case["midi_base64"]), case["name"]
    if name in REFUSED:
        track, byte, reason = REFUSED[name]
        with pytest.raises(MidiError, match=reason) as caught:
            midi_to_mtf(data, path="song.mid")
        assert (caught.value.path, caught.value.track, caught.value.byte) == ("song.mid", track, byte)
        assert str(caught.value).startswith("song.mid: ")
        assert f"byte {byte}: " in str(caught.value)
    elif "error" in case:
        text, notes = REPAIRED[name]
        found = midi_to_mtf(data)
        assert found.text == text
        assert len(found.notes) == len(notes)
        assert all(map(str.startswith, found.notes, notes))
    else:
        compatible = case["mtf_compatible"]
        for keep, key in (("m3", "mtf_compatible"), ("all", "mtf_full"), ("clamp3", "clamp3_compatible")):
            expected = compatible if case[key] == "same" else case[key]
            assert midi_to_mtf(data, keep=keep).text == expected
        garbage = ["7 bytes after the last track, from byte 34, are not read"]
        assert list(midi_to_mtf(data).notes) == (garbage if name == "trailing_garbage" else [])


@pytest.mark.parametrize("case", cases("to_midi"))
def test_files_from_text_as_recorded_or_better(case):
    name, text = case["name"], case["mtf"]
    if case["midi_base64"] is not None:
        recorded = base64.b64decode(case["midi_base64"])
        assert mtf_to_midi(text, compat=True) == recorded
        if name not in ("no_header", "unknown_meta_skipped"):
            assert mtf_to_midi(text) == recorded
    elif name in ("sequencer_one", "sysex_empty", "clock"):  # what the other direction writes
        data = mtf_to_midi(text)
        assert midi_to_mtf(data, keep="all").text == text
    else:
        with pytest.raises(FormatError, match=r"^[23]: ") as caught:
            mtf_to_midi(text)
        assert caught.value.line in (2, 3)


def test_header_line_and_unknown_meta_messages_are_read():
    with pytest.raises(FormatError, match=r"^1: the first line is 'note_on 0 0 60 64'"):
        mtf_to_midi("note_on 0 0 60 64\nend_of_track 0")
    text = "ticks_per_beat 96\nunknown_meta 96 (1, 2) 5\ntext unknown_meta (x) 1\nend_of_track 0"
    assert midi_to_mtf(mtf_to_midi(text), keep="all", preserve_time=True).text == text
    assert parse_mtf(text, compat=True)[1] == parse_mtf("ticks_per_beat 96\nend_of_track 0")[1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("note_on 0 0 60", "3 values; 4 are needed: time, channel, note, velocity"),
        ("note_on 0 16 60 64", "channel is '16'; allowed: whole numbers from 0 to 15"),
        ("note_on 268435456 0 60 64", "time is '268435456'"),
        ("note_on 1e3 0 60 64", "time is '1e3'"),
        ("pitchwheel 0 0 8192", "pitch is '8192'"),
        ("time_signature 4 3 24 8 0", "denominator 3 is not a power of two"),
        ("smpte_offset 23 1 2 3 4 5 0", "rate '23' does not exist; allowed: 24 25 29.97 30"),
        ("sysex 0 [1, 128]", "byte is '128'"),
        ("sysex 0 1, 2", "is not a list such as"),
        ("text a", "needs a text and a time"),
        (r"text \d 0", "is not an escape"),
        ("text ♪ 0", "allowed: Latin-1 characters"),
        ("clock", "has no values"),
        ("", "has no values"),
    ],
)
def test_bad_lines_are_named(line, reason):
    with pytest.raises(FormatError, match=f"^3: .*{reason}"):
        mtf_to_midi(f"ticks_per_beat 96\nclock 0\n{line}\nend_of_track 0")


def test_ends_of_track_inside_add_up():
    text = "ticks_per_beat 96\nend_of_track 5\nnote_on 1 0 60 64\nend_of_track 2\nend_of_track 3"
    assert midi_to_mtf(mtf_to_midi(text)).text == "ticks_per_beat 96\nnote_on 6 0 60 64\nend_of_track 5"
    with pytest.raises(FormatError, match=r"^3: 268435456 ticks after the message before"):
        mtf_to_midi("ticks_per_beat 96\nend_of_track 1\nnote_on 268435455 0 60 64")


def test_dropped_times_can_be_kept():
    track = b"\x00\x90\x3c\x40\x30\xff\x05\x02la\x30\x80\x3c\x00\x07\xff\x60\x00\x00\xff\x2f\x00"
    assert "note_off 48 0" in midi_to_mtf(midi(track)).text
    kept = midi_to_mtf(midi(track), preserve_time=True).text
    assert kept.endswith("note_off 96 0 60 0\nunknown_meta 96 () 7\nend_of_track 0")
    whole = midi_to_mtf(midi(track), keep="all", preserve_time=True).text
    assert "lyrics la 48\nnote_off 48 0 60 0\n" in whole


def test_unreadable_meta_messages_keep_their_time():
    track = b"\x05\xff\x59\x02\x09\x00\x04\x90\x3c\x40\x00\xff\x2f\x00"
    assert "note_on 9 0 60 64" in midi_to_mtf(midi(track)).text


def test_files_with_too_many_messages_are_refused_before_messages_are_made(monkeypatch):
    track = b"\x00\x90\x3c\x40" + b"\x01\x3c\x00" * 9
    assert len(read_midi(midi(track), max_messages=10).messages) == 11
    monkeypatch.setattr("notagen.clamp2.mtf.midi_reading._read_track", None)
    with pytest.raises(MidiError, match=r"^a\.mid: the file has more than 9 messages"):
        read_midi(midi(track), max_messages=9, path="a.mid")
    two = midi(track, track)
    with pytest.raises(MidiError, match="more than 19"):
        read_midi(two, max_messages=19)


@pytest.mark.parametrize(
    ("data", "track", "byte", "reason"),
    [
        (b"", None, 0, "no MThd header"),
        (b"MThd", None, 0, "no MThd header"),
        (b"RIFF\x00\x00\x00\x00RMIDdata", None, 16, "no MThd header"),
        (b"MThd\x00\x00\x00\x04\x00\x00\x00\x01", None, 4, "the header is 4 bytes long"),
        (midi()[:10] + b"\x00\x01\x00\x60", None, 14, "there is no track; the header announces 1"),
        (midi(b"\x00\x3c\x40"), 1, 23, "data byte 60 without a status byte"),
        (midi(b"\x00\xf0\x01\x01\x00\x3c\x40"), 1, 27, "data byte 60 without a status byte"),
        (midi(b"\x00\xf4\x00"), 1, 23, "status byte 0xf4 is undefined"),
        (midi(b"\x00"), 1, 23, "goes beyond the end of the track"),
        (midi(b"\x00\x90\x3c"), 1, 23, "goes beyond the end of the track"),
        (midi(b"\x00\xff\x01\x05abc"), 1, 23, "goes beyond the end of the track"),
        (midi(b"\x81\x80\x80\x80\x00\xf8"), 1, 22, "more than 4 bytes"),
        (midi(b"\x00\xff\x2f\x00", b"\x00\xf0\x03\x01\x80\xf7"), 2, 38, "byte 128 of a system exclusive"),
    ],
)
def test_damaged_files_are_refused_with_their_place(data, track, byte, reason):
    with pytest.raises(MidiError, match=reason) as caught:
        read_midi(data)
    assert (caught.value.track, caught.value.byte) == (track, byte)


def test_many_notes_are_counted():
    track = b"\x00\xff\x51\x00" * 40 + b"\x00\xff\x2f\x00"
    notes = read_midi(midi(track)).notes
    assert len(notes) == 17
    assert notes[-1] == "24 further remarks"


CHANNEL = st.builds(
    lambda status, data: bytes([status, *data[: 1 if status >> 4 in (0xC, 0xD) else 2]]),
    st.integers(0x80, 0xEF),
    st.tuples(st.integers(0, 127), st.integers(0, 127)),
)
METER = st.builds(
    lambda data, exponent: bytes([0xFF, 0x58, 4, data[0], exponent, *data[1:]]),
    st.binary(min_size=3, max_size=3),
    st.integers(0, 28),  # mido takes 2 ** 29 for no power of two
)
META_LENGTHS = {0x20: 1, 0x21: 1, 0x51: 3, 0x00: 2, 0x2F: 0}
META = st.builds(
    lambda kind, data: bytes([0xFF, kind]) + number(len(data)) + data,
    st.sampled_from([1, 3, 5, 8, 9, 0x60, 0x7F, 0x80]),
    st.binary(max_size=150),
) | st.sampled_from(list(META_LENGTHS)).flatmap(
    lambda kind: st.binary(min_size=META_LENGTHS[kind], max_size=META_LENGTHS[kind]).map(
        lambda data: bytes([0xFF, kind, len(data)]) + data
    )
)
KEY = st.builds(
    lambda sharps, mode: bytes([0xFF, 0x59, 2, sharps & 0xFF, mode]), st.integers(-7, 7), st.integers(0, 1)
)
SYSEX = st.builds(
    lambda start, data: bytes([start]) + number(len(data) + 1) + data + b"\xf7",
    st.sampled_from([0xF0, 0xF7]),
    st.lists(st.integers(0, 127), max_size=20).map(bytes),
)
SYSTEM = st.sampled_from([b"\xf1\x35", b"\xf2\x05\x01", b"\xf3\x07", b"\xf6", b"\xf8", b"\xfa", b"\xfe"])
EVENT = st.tuples(st.integers(0, 20000).map(number), CHANNEL | META | METER | KEY | SYSEX | SYSTEM).map(
    b"".join
)
FILES = st.lists(st.lists(EVENT, max_size=12).map(b"".join), min_size=1, max_size=4).map(
    lambda tracks: midi(*tracks)
)


@settings(deadline=None)
@given(FILES)
def test_text_is_that_of_mido(data):
    """Without what mido drops: the original's own conversion is a merge by mido, written message by message."""
    mido = pytest.importorskip("mido")
    merged = mido.MidiFile(file=io.BytesIO(data)).merged_track
    content = read_midi(data, preserve_time=False)
    assert [message.time for message in content.messages] == [message.time for message in merged]
    for ours, theirs in zip(content.messages, merged, strict=True):
        assert ours.kind == theirs.type
        named = theirs.dict()
        named.pop("type"), named.pop("time")
        values = [list(value) if isinstance(value, tuple | list) else value for value in named.values()]
        if ours.kind == "unknown_meta":
            values = [theirs.type_byte, list(theirs.data)]
        elif ours.kind == "sysex":
            values = [list(theirs.data)]
        elif ours.kind == "polytouch":
            values = [theirs.channel, theirs.note, theirs.value]
        assert [list(value) if isinstance(value, bytes) else value for value in ours.values] == values


@settings(deadline=None)
@given(FILES, st.sampled_from(["m3", "clamp3", "all"]), st.booleans())
def test_the_way_there_and_back_is_stable(data, keep, preserve_time):
    text = midi_to_mtf(data, keep=keep, preserve_time=preserve_time).text
    # An end of a track inside it can give such a message a time, which is lost when it is read again.
    assume(preserve_time or not re.search(r"^unknown_meta .* [1-9]\d*$", text, re.MULTILINE))
    again = mtf_to_midi(text)
    assert midi_to_mtf(again, keep=keep, preserve_time=preserve_time).text == text
    if keep == "all" and preserve_time:  # nothing is lost
        first, second = read_midi(data), read_midi(again)
        assert first.messages == second.messages
        assert parse_mtf(text)[1] == list(first.messages)


@settings(deadline=None)
@given(FILES, st.data())
def test_damaged_files_are_read_or_refused(data, draw):
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(changed) - 1))
        changed[place] = draw.draw(st.integers(0, 255))
    changed = changed[: draw.draw(st.integers(0, len(changed)))]
    try:
        text = midi_to_mtf(bytes(changed), keep="all", preserve_time=True).text
    except MidiError:
        return
    assert text.isascii()
    try:
        again = mtf_to_midi(text)
    except FormatError as error:
        assert "ticks" in error.reason or "time" in error.reason
    else:
        assert midi_to_mtf(again, keep="all", preserve_time=True).text == text


@settings(deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_random_bytes_never_give_another_error(data, header):
    data = midi(data) if header else data
    try:
        content = read_midi(data)
    except MidiError:
        return
    ticks = list(itertools.accumulate(message.time for message in content.messages))
    assert ticks == sorted(ticks)
    assert content.messages[-1].kind == "end_of_track"


@settings(deadline=None)
@given(st.text(st.sampled_from("ticks_per_beat note_on text sysex 0123456789.-[](),\\x\n"), max_size=80))
def test_random_text_never_gives_another_error(text):
    for compat in (False, True):
        try:
            data = mtf_to_midi(f"ticks_per_beat 96\n{text}", compat=compat)
        except FormatError:
            continue
        read_midi(data)
