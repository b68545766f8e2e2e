"""Transposition of ABC as people write it, and of files."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest

from notagen.files.transposing import transpose_files
from notagen.musicxml import abc_to_musicxml, musicxml_to_abc
from notagen.notation.transposed_text import Interval, transpose_text
from notagen.score import Head, read_score
from notagen.sound.performance import perform
from pentatonic.errors import UsageError

HEADER = "X:1\nT:A Fine Bagged Cabbage\nL:1/8\nM:4/4\n"
BODY = '"Am7/G"!fade!c^c=c_B "^slow"[ceg]2 "Fine"+fermata+A2|%  a comment b\nw:a b c d e f g\n(3cde {/f}g4 z2|]\n'


def sounding(text: str, *, drums: bool = False) -> list[tuple[Fraction, int]]:
    """Position and pitch of the notes, in order."""
    tracks = [track for track in perform(text).tracks if track.percussion == drums]
    return sorted((note.position, note.pitch) for track in tracks for note in track.notes)


def test_all_but_notes_keys_and_chord_symbols_stays() -> None:
    moved = transpose_text(f"{HEADER}K:C\n{BODY}", Interval(semitones=2))
    assert moved == HEADER + "K:D\n" + (
        '"Bm7/A"!fade!d^d=d=c "^slow"[dfa]2 "Fine"+fermata+B2|%  a comment b\nw:a b c d e f g\n(3def {/g}a4 z2|]\n'
    )


@pytest.mark.parametrize(
    ("key", "interval", "moved"),
    [
        ("C", Interval(semitones=1), "Db"), ("C", Interval(semitones=6), "F#"), ("F", Interval(semitones=1), "Gb"),
        ("Am", Interval(tonic="C"), "Cm"), ("D dor", Interval(tonic="Bb"), "Bb dor"),
        ("G", Interval(semitones=12), "G"),
        ("A", Interval(semitones=-13), "Ab"), ("Gb", Interval(semitones=-12), "Gb"), ("E", Interval(tonic="G#"), "Ab"),
    ],
)  # fmt: skip
def test_keys(key: str, interval: Interval, moved: str) -> None:
    assert f"\nK:{moved}\n" in transpose_text(f"{HEADER}K:{key}\nCDEF|]\n", interval)


@pytest.mark.parametrize("key", ["C", "Ebm", "F#", "Bb mix", "Gm ^f"])
def test_all_sounds_move_by_the_interval(key: str) -> None:
    """Accidentals hold to the end of the bar, also on the next line, and not for the octave of another clef."""
    rng = random.Random(key)
    for semitones in range(-25, 26):
        signs, letters = (rng.choices(of, k=15) for of in (["^", "_", "=", "", "", ""], "CDEFGABcdefgab"))
        notes = [sign + letter for sign, letter in zip(signs, letters, strict=True)]
        music = f"{''.join(notes[:9])}\n{''.join(notes[9:])}A|[K:bass]^cc|[K:E]fc|]\n"
        text = f"{HEADER}K:{key}\nV:1 treble-8\n{music}V:2 clef=perc\nCDEF|C|C|]\n"
        moved = transpose_text(text, Interval(semitones=semitones))
        assert sounding(moved) == [(at, pitch + semitones) for at, pitch in sounding(text)]
        assert sounding(moved, drums=True) == sounding(text, drums=True) != []


def test_quarter_tones_move_by_the_interval() -> None:
    text = f"{HEADER}K:C\n^/c^1/2c_/d_3/2dd [^3/2FA]2|]\n"
    alterations = [
        Fraction(1, 2),
        Fraction(1, 2),
        -Fraction(1, 2),
        -Fraction(3, 2),
        -Fraction(3, 2),
        Fraction(3, 2),
        0,
    ]
    assert [head.pitch.alter for head in _heads(text)] == alterations
    for semitones in range(-12, 13):
        moved = transpose_text(text, Interval(semitones=semitones))
        before, after = ([head.pitch.semitones for head in _heads(each)] for each in (text, moved))
        assert after == [pitch + semitones for pitch in before]
        again = transpose_text(moved, Interval(semitones=-semitones))
        assert [head.pitch.semitones for head in _heads(again)] == before


def _heads(text: str) -> list[Head]:
    (voice,) = read_score(text).voices.values()
    return [head for measure in voice.measures for event in measure.layers[0].events for head in event.heads]


def test_tunes_of_a_book_have_keys_of_their_own() -> None:
    book = f"{HEADER}K:C\nCE|]\n\n{HEADER}K:G\nGB|]\n"
    assert transpose_text(book, Interval(tonic="A")) == f"{HEADER}K:A\nA,C|]\n\n{HEADER}K:A\nAc|]\n"


@pytest.mark.parametrize("values", [{}, {"semitones": 1, "tonic": "C"}, {"semitones": 37}, {"tonic": "H"}])
def test_bad_intervals(values: dict) -> None:
    with pytest.raises(UsageError):
        Interval(**values)


def test_files_keep_their_format(tmp_path: Path) -> None:
    text = f"{HEADER}K:C\nCDEF GABc|]\n"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.abc").write_text(text)
    (tmp_path / "in" / "b.musicxml").write_bytes(abc_to_musicxml(text))
    (tmp_path / "in" / "c.xml").write_bytes(b"<score")
    report = transpose_files([tmp_path / "in"], tmp_path / "out", Interval(semitones=-3))
    assert report.count("done") == 2 and report.count("failed") == 1
    wanted = [pitch - 3 for _, pitch in sounding(text)]
    assert [pitch for _, pitch in sounding((tmp_path / "out" / "a.abc").read_text())] == wanted
    assert [pitch for _, pitch in sounding(musicxml_to_abc(tmp_path / "out" / "b.musicxml"))] == wanted
    assert not (tmp_path / "out" / "c.musicxml").exists()
    with pytest.raises(UsageError, match="input"):
        transpose_files([tmp_path / "in" / "a.abc"], tmp_path / "in", Interval(semitones=1))


def test_text_without_a_tune_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("# Notes\n\nC D E\n")
    report = transpose_files([tmp_path / "notes.txt"], tmp_path / "out", Interval(semitones=1))
    assert report.count("failed") == 1 and "no K: line" in report.entries[0]["reason"]
    assert not (tmp_path / "out" / "notes.txt").exists()


@pytest.mark.parametrize(
    ("mode", "semitones", "moved"),
    [
        ("Gmin", 6, "K:C#min"),
        ("G Minor", 6, "K:C# Minor"),
        ("G mix", 6, "K:Db mix"),
        ("Gloc", 6, "K:C#loc"),
        ("Clyd", 1, "K:Dblyd"),
        ("Gdor", -1, "K:F#dor"),
        ("Dphr", 6, "K:G#phr"),
    ],
)
def test_a_key_in_the_middle_gets_at_most_seven_signs_and_its_notes_follow(mode, semitones, moved) -> None:
    text = f"X:1\nL:1/4\nM:4/4\nK:G\nGABc|\nK:{mode}\nGABc|d_e^fg|]\n"
    result = transpose_text(text, Interval(semitones=semitones))
    assert moved in result.splitlines()
    before, after = (
        [
            head.pitch.semitones
            for measure in read_score(each).voices["1"].measures
            for event in measure.layers[0].events
            for head in event.heads
        ]
        for each in (text, result)
    )
    assert after == [pitch + semitones for pitch in before]


def test_the_key_of_a_tune_gets_at_most_seven_signs() -> None:
    text = "X:1\nL:1/4\nM:4/4\nK:Dphr\nFBd=e|]\n"
    assert transpose_text(text, Interval(semitones=6)) == "X:1\nL:1/4\nM:4/4\nK:G#phr\nBeg^a|]\n"
