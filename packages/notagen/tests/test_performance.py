"""Playing a piece out: the right notes at the right time, repeats and endings in the right order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction as F
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.abc.duration import Meter
from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.score import Measure, read_score
from notagen.score.losses import losses
from notagen.sound import performance as playback
from notagen.sound.instruments import drum_of, programme_of
from notagen.sound.performance import Performance, perform
from notagen.sound.play_order import Signs, order_of, play_order, signs_of
from pentatonic.errors import FormatError, InputError

GOLDENS = Path(__file__).parent / "goldens"
CASES = {case["name"]: case for case in json.loads((GOLDENS / "abc_to_musicxml.json").read_text())["cases"]}


def tune(music: str, header: str = "L:1/4\nM:4/4\nK:C\n") -> str:
    return f"X:1\n{header}{music}\n"


def heard(performance: Performance, voice: int = 0) -> list[tuple[F, int, F]]:
    """(position, pitch, length) of the notes of a voice, in quarters."""
    notes = performance.tracks[voice].notes
    return [(note.position * 4, note.pitch, note.length * 4) for note in notes]


def order(music: str) -> str:
    """The bars of a tune of one note each, as they are played."""
    score = read_score(tune(music, "L:1/1\nM:4/4\nK:C\n"))
    (voice,) = score.voices.values()
    names = [measure.layers[0].events[0].heads[0].pitch.step for measure in voice.measures]
    return "".join(names[index] for index in play_order(signs_of(score), limit=1000))


# --- order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("music", "played"),
    [
        ("A|B!D.C.!|]", "ABAB"),
        ("A!fine!|B!D.C.!|]", "ABA"),
        ("A|B!fine!|C|D!D.C.alfine!|]", "ABCDAB"),
        ("A|!segno!B|C!fine!|D!D.S.alfine!|]", "ABCDBC"),
        ("A|!segno!B!dacoda!|C!D.S.alcoda!|!coda!D|E|]", "ABCBDE"),
        ("A|!segno!B!coda!|C!D.S.!|!coda!D|E|]", "ABCBDE"),  # the first coda leads to the last one
        ("|:A|1B:|2C!D.C.!|]", "ABACAC"),  # without repeats, and with the last ending
        ("|:A|B!fine!:|C!D.C.!|]", "ABABCAB"),
        ("|:A|B!D.C.!:|C|]", "ABABABC"),  # jumps when the repeats are over
        ("A!dacoda!|B!D.C.alcoda!|!coda!|:C:|]", "ABACC"),
        ("A|B!D.S.!|C|]", "ABC"),  # there is no segno
        ("A!dacoda!|B!D.C.alcoda!|C|]", "ABABC"),  # there is no coda
        ("A|B!D.C.alfine!|C|]", "ABABC"),  # there is no fine
        ("A!fine!|B|]", "AB"),  # a fine without a jump
        ("A|B!D.C.!|C!D.C.!|]", "ABABC"),  # one jump of a movement is followed
        ("A|]B|C!fine!|D!D.C.alfine!|]E|]", "ABCDBCE"),  # da capo to the start of the movement
        ("A|]|:B!fine!:|]|:C!D.C.!:|D|]", "ABBCCBD"),  # a minuet, its trio, and the minuet again
        ("A:|[M:2/2]B!fine!|C!D.C.!|]D|]", "AABCBD"),  # a repeat sign before another meter ends a movement
        ("A|B:|C!fine!|D!D.C.!|]", "ABABCDABC"),  # before the same meter it does not
        ("A!fine!|B!D.C.!|]C!fine!|D!D.C.!|]", "ABACDC"),  # each movement has a jump
        ("A|]B|C!D.C.!|]D|]", "ABCD"),  # to where is not said
    ],
)
def test_jumps_are_played(music, played):
    score = read_score(tune(music, "L:1/1\nM:4/4\nK:C\n"))
    (voice,) = score.voices.values()
    names = [measure.layers[0].events[0].heads[0].pitch.step for measure in voice.measures]
    assert "".join(names[index] for index in order_of(score, limit=1000)) == played


def test_a_jump_counts_as_played_bars():
    score = read_score(tune("A|B!D.C.!|]", "L:1/1\nM:4/4\nK:C\n"))
    assert len(order_of(score, limit=4)) == 4
    with pytest.raises(InputError, match="more than 3 bars"):
        order_of(score, limit=3)


def test_jumps_of_musicxml_are_heard():
    text = tune("A|!segno!B|C!fine!|D!D.S.alfine!|]", "L:1/1\nM:4/4\nK:C\n")
    notes = [pitch for _, pitch, _ in heard(perform(text))]
    assert [pitch for _, pitch, _ in heard(perform(musicxml_to_abc(abc_to_musicxml(text))))] == notes
    assert len(notes) == 6


@pytest.mark.parametrize(
    ("music", "played"),
    [
        ("A|B|]", "AB"),
        ("|:A|B:|", "ABAB"),
        ("A|B:|C|]", "ABABC"),
        ("A|:B:|C:|", "ABBCC"),  # after a repeat, the next one goes back to its end
        ("|:A::B:|", "AABB"),
        ("|:A|1B:|2C|]", "ABAC"),
        ("A|:B|1C:|2D||E|]", "ABCBDE"),
        ("|:A|1B|C:|2D|E:|F|]", "ABCADEF"),
        ("|:A|1,2B:|3C|]", "ABABAC"),
        ("A|]B:|C|]", "ABBC"),  # a movement ends with a final barline
        ("|:A|]B:|C|]", "ABABC"),
        ("|:A:|B|]C:|", "AABCC"),
        ("|:A|1B:|2C|]D:|", "ABACDD"),
        ("|::A::|B|]", "AAAB"),
        ("A|B::|C:::|D|]", "ABABABCCCCD"),
        ("|::A::|:B:|", "AAABB"),
        ("|:A:|::B::|", "AABBB"),
        ("|::A|1,2B::|3C|]", "ABABAC"),
        ("|::A|1,2B::|C|]", "ABABAC"),
        ("|:A|1-3B:|4C|]", "ABABABAC"),
        ("|:A|1B:|2C:|3D|]", "ABACAD"),
        ("|:A|1B:|C|]", "ABAC"),  # without a second ending, the repeat leaves the first one out
        ("|:A|1B:|2C||D:|E|]", "ABACDDE"),  # the second ending ends the repeat
        ("|:A|:B:|", "ABB"),
        ("A|1B|2C|]", "ABC"),  # without a repeat sign nothing is left out
        ("|:A|1B:|2C|]|:A|1B:|2C|]", "ABACABAC"),
    ],
)
def test_repeats_and_endings_are_played_out(music: str, played: str) -> None:
    assert order(music) == played


def test_a_repeat_sign_of_one_voice_holds_for_all() -> None:
    text = "X:1\nL:1/4\nM:1/4\nK:C\nV:1\nV:2\n[V:1]c|[V:2]C|\n[V:1]d|[V:2]D:|\n"
    assert [pitch for _, pitch, _ in heard(perform(text))] == [72, 74, 72, 74]


@given(
    st.lists(
        st.builds(
            Signs,
            st.booleans(),
            st.booleans(),
            st.sampled_from([(), (1,), (2,), (1, 3), (99,)]),
            st.booleans(),
            st.integers(2, 4),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_any_signs_end_and_play_every_bar_before_the_first_ending(signs: list[Signs]) -> None:
    played = play_order(signs, limit=100_000)
    plain = next((i for i, sign in enumerate(signs) if sign.ending), len(signs))
    assert set(range(plain)) <= set(played) <= set(range(len(signs)))
    assert all(b == a + 1 or b <= a or signs[a + 1].ending for a, b in pairwise(played))


def test_repeats_without_end_are_refused() -> None:
    with pytest.raises(InputError, match="more than 100 bars"):
        play_order([Signs(True, False), Signs(False, True, tuple(range(1, 100)), True)], limit=100)


# --- notes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name != "anacrusis_C"])
def test_pitches_and_times_are_those_of_the_reference_score(name: str) -> None:
    """Notes of each part, against the exporter of the original project; grace notes are not in its summary."""
    case = CASES[name]
    score = read_score(case["abc"])
    tracks = {track.voice: track for track in perform(re.sub(r"\{.*?\}", "", case["abc"])).tracks}
    for part, golden in zip(score.parts, case["parts"], strict=True):
        expected: set[tuple[float, int]] = set()
        start = 0.0
        for index in play_order(signs_of(score), limit=1000):
            measures = [score.voices[name].measures[index] for name in part.voices]
            notes = set(_onsets(golden["measures"][index]["events"]))
            expected |= {(round(start + at, 3), pitch) for at, pitch in notes - set(_tied(measures))}
            start += 4 * max(float(voice.measures[index].duration) for voice in score.voices.values())
        notes = [note for voice in part.voices for note in tracks[voice].notes]
        assert {(round(4 * float(note.position), 3), note.pitch) for note in notes} == expected


def _onsets(events: list[dict]) -> list[tuple[float, int]]:
    """(quarters since the start of the measure, pitch) of the notes in a measure of the reference."""
    found, now, last = [], 0.0, 0.0
    for event in events:
        if "backup" in event:
            now -= event["backup"]
        elif "forward" in event:
            now += event["forward"]
        elif "quarters" in event and not event.get("grace"):
            at = last if event.get("chord") else now
            if "midi" in event:
                found.append((round(at, 3) + 0.0, event["midi"]))
            if not event.get("chord"):
                last, now = now, now + event["quarters"]
    return found


def _tied(measures: list[Measure]) -> Iterator[tuple[float, int]]:
    """Notes that continue the one before."""
    for event in (event for measure in measures for layer in measure.layers for event in layer.events):
        for head in event.heads:
            if head.tie_stop:
                yield float(event.onset * 4), head.pitch.midi


def test_verovio_plays_the_same() -> None:
    verovio = pytest.importorskip("verovio")
    from base64 import b64decode

    from symusic.core import ScoreTick

    from notagen.musicxml import abc_to_musicxml
    from notagen.sound.midi import midi_bytes

    def notes(data: bytes) -> list[tuple[F, int]]:
        score = ScoreTick.from_midi(data)
        quarter = score.ticks_per_quarter
        return sorted((F(note.time, quarter), note.pitch) for track in score.tracks for note in track.notes)

    for name in ("song_C", "quartet_C", "single_C", "modes_C", "all_rest_bar_C"):
        toolkit = verovio.toolkit()
        assert toolkit.loadData(abc_to_musicxml(CASES[name]["abc"]).decode())
        assert notes(midi_bytes(perform(CASES[name]["abc"]))) == notes(b64decode(toolkit.renderToMIDI())), (
            name
        )


def test_ties_make_one_note_over_barlines() -> None:
    assert heard(perform(tune("c4-|c2-c2|[ce]4-|[ce]2 z2|]"))) == [(0, 72, 8), (8, 72, 6), (8, 76, 6)]


def test_a_tie_into_the_first_ending_is_not_held_in_the_second() -> None:
    found = heard(perform(tune("|:c4-|1c4:|2e4|]")))
    assert found == [(0, 72, 8), (8, 72, 4), (12, 76, 4)]


def test_a_tie_out_of_the_first_ending_is_not_held_over_the_repeat() -> None:
    found = heard(perform(tune("|:d4|1c4-:|2c4|]")))
    assert found == [(0, 74, 4), (4, 72, 4), (8, 74, 4), (12, 72, 4)]


def test_a_tied_note_is_not_shortened_before_its_end() -> None:
    assert heard(perform(tune(".c4-|c4|"))) == [(0, 72, 8)]
    assert heard(perform(tune("c4-|.c4|"))) == [(0, 72, 6)]


def test_quarter_tones_are_cents_beside_the_natural() -> None:
    with losses() as lost:
        played = perform(tune("_/c^/c_3/2c^3/2c|[c_/e]4|]"))
    (track,) = played.tracks
    assert [(note.pitch, note.cents) for note in track.notes] == [
        *((72, -50), (72, 50), (71, -50), (73, 50)),
        *((72, 0), (76, -50)),
    ]
    assert not lost


def test_a_quarter_tone_is_tied_to_the_same_one_only() -> None:
    (track,) = perform(tune("^/c4-|^/c4|^/c4-|=c4|]")).tracks
    assert [(note.position * 4, note.length * 4, note.cents) for note in track.notes] == [
        *((0, 8, 50), (8, 4, 50), (12, 4, 0)),
    ]


def test_a_quarter_tone_and_its_natural_sound_together() -> None:
    (track,) = perform(tune("[c^/c]4|]")).tracks
    assert [(note.pitch, note.cents) for note in track.notes] == [(72, 0), (72, 50)]


def test_voices_transpose_and_layers_sound_together() -> None:
    text = "X:1\nL:1/4\nM:2/4\nK:C\nV:1 treble transpose=-2\nV:2 bass\n[V:1]c2&e2|[V:2]C,C,|\n"
    performance = perform(text)
    assert heard(performance) == [(0, 70, 2), (0, 74, 2)]
    assert heard(performance, 1) == [(0, 48, 1), (1, 48, 1)]


def test_unisons_of_layers_are_one_note() -> None:
    assert heard(perform(tune("c4&c2d2|"))) == [(0, 72, 4), (2, 74, 2)]


def test_notes_that_midi_lacks_are_left_out() -> None:
    assert heard(perform(tune("C,,,,,, c z2|"))) == [(1, 72, 1)]


def test_grace_notes_take_their_time_from_the_note() -> None:
    eighth = F(1, 8)
    assert heard(perform(tune("{de}c4|"))) == [
        (0, 74, eighth),
        (eighth, 76, eighth),
        (2 * eighth, 72, 4 - 2 * eighth),
    ]
    short = heard(perform(tune("{defg}c/8 z31/8|")))
    assert [length for _, _, length in short] == 4 * [F(1, 64)] + [F(1, 16)]


def test_articulation_and_accents() -> None:
    staccato, plain, accented = perform(tune("!mf!.c d !>!e z|")).tracks[0].notes
    assert (staccato.length, plain.length) == (F(1, 8), F(1, 4))
    assert (staccato.velocity, plain.velocity, accented.velocity) == (74, 74, 88)


def test_dynamics_hold_for_the_part_and_return_with_the_repeat() -> None:
    text = (
        'X:1\n%%score { 1 | 2 } 3\nL:1/4\nM:1/4\nK:C\nV:1\nV:2\nV:3 nm="B"\n'
        "[V:1]|:c|[V:2]|:C|[V:3]|:G|\n[V:1]!ff!d:|[V:2]D:|[V:3]A:|\n"
    )
    tracks = perform(text).tracks
    for track in tracks[:2]:
        assert [note.velocity for note in track.notes] == [80, 102, 80, 102]
    assert {note.velocity for note in tracks[2].notes} == {80}


def test_seconds_follow_the_tempo() -> None:
    performance = perform(tune("c4|[Q:1/4=60]d4|[Q:1/2=120]e2 f2|"))
    assert performance.tempi == ((F(0), 2.0), (F(1), 4.0), (F(2), 1.0))
    assert [(n.onset_s, n.duration_s) for n in performance.tracks[0].notes] == [
        (0, 2),
        (2, 4),
        (6, 0.5),
        (6.5, 0.5),
    ]
    assert performance.duration_s == 7
    assert perform(tune("c4|", "L:1/4\nQ:3/8=40\nM:4/4\nK:C\n")).duration_s == 4


def test_a_tempo_inside_a_bar_holds_in_the_next_one() -> None:
    assert perform(tune("c2[Q:1/4=60]d2|e4|")).tempi == ((F(0), 2.0), (F(1, 2), 4.0))


def test_a_repeat_returns_to_the_tempo_of_its_start() -> None:
    assert perform(tune("Q:1/4=60\n|:c4|[Q:1/4=240]d4:|")).tempi == (
        (F(0), 4.0),
        (F(1), 1.0),
        (F(2), 4.0),
        (F(3), 1.0),
    )


def test_a_fermata_slows_its_note_down_in_all_voices() -> None:
    text = "X:1\nL:1/4\nM:4/4\nK:C\nV:1\nV:2\n[V:1]c2 Hd2|[V:2]!fermata!C4|\n"
    performance = perform(text)
    assert performance.tempi == ((F(0), 2.0), (F(1, 2), 3.5))
    assert performance.duration_s == performance.tracks[1].notes[0].duration_s == 2.75


def test_meters_and_keys_are_kept_where_they_change() -> None:
    performance = perform(tune("c4|[M:3/4][K:D]d3|e3|"))
    assert performance.meters == ((F(0), Meter(4, 4)), (F(1), Meter(3, 4)))
    assert [(position, key.tonic) for position, key in performance.keys] == [(0, "C"), (1, "D")]


def test_generated_text_is_played_with_its_silent_voices() -> None:
    text = "%Baroque\nL:1/8\nM:2/4\nK:C\nV:1\nV:2\n[r:0/1][V:1]c4|[V:2]C4|\n[r:1/0][V:2]D4|]\n"
    performance = perform(text)
    assert [len(track.notes) for track in performance.tracks] == [1, 2]
    assert performance.length == 1


@pytest.mark.parametrize(
    ("name", "programme"),
    [
        ("Violin I", 40),
        ("Violoncello", 42),
        ("Viola da gamba", 41),
        ("Contrabass", 43),
        ("Bassoon", 70),
        ("Bass Clarinet in Bb", 71),
        ("Alto Saxophone", 66),
        ("Bass", 52),
        ("Harpsichord", 6),
        ("Harp", 46),
        ("Basso continuo", 6),
        ("Corni in F", 60),
        ("English Horn", 69),
        ("PIANO", 0),
        ("", 0),
        ("Zzz", 0),
    ],
)
def test_instruments_by_name(name: str, programme: int) -> None:
    assert programme_of(name) == programme


def test_drums_by_name_or_by_line() -> None:
    assert (drum_of("Triangle", 60), drum_of("Drums", 65), drum_of("", 0)) == (81, 36, 38)
    text = 'X:1\nL:1/4\nM:2/4\nK:C\nV:1 perc nm="Bass Drum"\n[V:1]c c|\n'
    (track,) = perform(text).tracks
    assert track.percussion
    assert {note.pitch for note in track.notes} == {36}


def test_names_of_a_part_hold_for_its_other_voices() -> None:
    tracks = perform(CASES["piano_C"]["abc"]).tracks
    assert [track.name for track in tracks] == 4 * ["Piano"]


# --- limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "X:1\nK:C\n", "\x00", "X:1\nK:C\n[ceg|\n", "[V:1]c|[V:1]d|\n"])
def test_what_is_no_piece_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        perform(text)


def test_pieces_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="hours"):
        perform(tune("z9999|c9999|", "L:1/1\nQ:1/1=1\nM:none\nK:C\n"))
    monkeypatch.setattr(playback, "MAX_PLAYED_BARS", 5)
    with pytest.raises(InputError, match="more than 5 bars"):
        perform(tune("|:c4|d4|e4:|"))


HEADER = "X:1\nL:1/4\nM:4/4\n"


@pytest.mark.parametrize(
    ("text", "pitches"),
    [
        ("K:C clef=bass octave=-1\nC E G c|]\n", [48, 52, 55, 60]),
        ("K:C octave=1\nV:1 octave=-2\nV:1\nC D [K:C octave=0]C z|]\n", [36, 38, 60]),
        ("K:D Phr ^f\nD E F G|]\n", [62, 63, 66, 67]),
        ("K:D exp _b^f\nC F B E|]\n", [60, 66, 70, 64]),
        ("K:C\n^C c z2|]\n", [61, 72]),
        ("%%propagate-accidentals octave\nK:C\n^C C c z|]\n", [61, 61, 72]),
        ("%%propagate-accidentals pitch\nK:C\n^C c =c C|]\n", [61, 73, 72, 60]),
        ("%%propagate-accidentals not\nK:C\n^C C z2|]\n", [61, 60]),
        ("P:AAB\nK:C\nP:A\nC4|]\nP:B\nD4|]\n", [60, 60, 62]),
        ("P:(AB)2.C\nK:C\nB,4|\nP:A\nC4|\nP:B\nD4:|\nP:C\nE4|]\n", [59, 60, 62, 62, 60, 62, 62, 64]),
        ("P:C4D\nK:C\nP:A\nC4|]\nP:B\nD4|]\n", [60, 62]),
        ("K:C\nP:B\nC4|]\nP:A\nD4|]\n", [60, 62]),
    ],
)
def test_what_fields_do_to_the_sound(text: str, pitches: list[int]) -> None:
    (track,) = perform(HEADER + text).tracks
    assert [note.pitch for note in track.notes] == pitches


def test_other_readings_of_accidentals_are_noted() -> None:
    (note,) = read_score(f"{HEADER}K:C\n^C c =c C|^C C c2|]\n").notes
    assert "in the same octave only; if they held in all octaves, 3 notes would be altered otherwise" in note
    for same in ("K:C\n^C C|c4|]\n", "%%propagate-accidentals octave\nK:C\n^C c|]\n"):
        assert read_score(HEADER + same).notes == ()
