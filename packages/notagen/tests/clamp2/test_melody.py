"""Search for melodies: against a search by brute force, and what counts as a melody."""

import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.clamp2.melody.folder import index_folder, score_files
from notagen.clamp2.melody.index import MelodyIndex, MelodyIndexBuilder, Tune
from notagen.clamp2.melody.lines import Line, LineNote, lines_of, pitch_name
from notagen.clamp2.melody.midi_lines import midi_lines
from notagen.clamp2.melody.query import BY, MelodyQuery, parse_melody
from notagen.clamp2.melody.search import search
from notagen.musicxml import abc_to_musicxml
from notagen.score import read_score
from notagen.sound.midi import midi_bytes
from notagen.sound.performance import perform
from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import CheckpointError, FormatError, InputError, UsageError

TUNE = "X:1\nT:Scale\nL:1/8\nM:4/4\nK:G\nG2A2 B2c2|d4 c2B2|A2G2 F4|G8|]\n"


def _line(pitches, spans, gaps, voice="1", overlay=False):
    notes, onset = [], Fraction(0)
    for i, (pitch, span, gap) in enumerate(zip(pitches, spans, gaps, strict=True)):
        notes.append(LineNote(pitch, 0, 1 + i // 4, onset, span * gap))
        onset += span
    return Line(voice, tuple(notes), overlay)


def _index(*texts):
    builder = MelodyIndexBuilder()
    for number, text in enumerate(texts, 1):
        builder.add(Tune(f"{number}.abc", "", f"tune {number}"), lines_of(read_score(text)))
    return builder.build()


def _found(text, melody, **options):
    return search(_index(text), parse_melody(melody, **options))


def _equal_ratios(one, other):
    return all(b * c == a * d for (a, b), (c, d) in zip(pairwise(one), pairwise(other), strict=True))


def _brute_force(tunes, query):
    """Return (tune, line, note) of all matches, straight from the definition."""
    found, wanted, count = [], query.notes, len(query.notes)
    for tune, lines in enumerate(tunes):
        for number, line in enumerate(lines):
            for start in range(len(line.notes) - count + 1):
                notes = line.notes[start : start + count]
                steps = [b.pitch - a.pitch for a, b in pairwise(notes)]
                steps_wanted = [b.pitch - a.pitch for a, b in pairwise(wanted)]
                right = not query.starts or (start == 0 and not line.overlay)
                if "interval" in query.by:
                    right = right and steps == steps_wanted
                if "contour" in query.by:
                    right = right and [np.sign(s) for s in steps] == [np.sign(s) for s in steps_wanted]
                if "rhythm" in query.by:
                    right = right and _equal_ratios(Line("", notes).spans, Line("", wanted).spans)
                if query.same_key:
                    right = right and (notes[0].pitch - wanted[0].pitch) % 12 == 0
                if right:
                    found.append((tune, number, start))
    return found


_SPANS = st.sampled_from([Fraction(1, 8), Fraction(1, 4), Fraction(1, 12), Fraction(3, 8)])
_GAPS = st.sampled_from([Fraction(1), Fraction(1, 2)])


@st.composite
def _lines(draw, most=30):
    count = draw(st.integers(1, most))
    pitches = draw(st.lists(st.integers(60, 63), min_size=count, max_size=count))
    spans = draw(st.lists(_SPANS, min_size=count, max_size=count))
    gaps = draw(st.lists(_GAPS, min_size=count, max_size=count))
    return _line(pitches, spans, gaps, overlay=draw(st.booleans()))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(_lines(), max_size=3), min_size=1, max_size=4),
    _lines(5).filter(lambda line: len(line.notes) > 1),
    st.sets(st.sampled_from(BY), min_size=1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_equal_to_a_search_by_brute_force(tunes, wanted, by, starts, same_key, from_tunes):
    longest = max(
        (line for lines in tunes for line in lines), key=lambda line: len(line.notes), default=wanted
    )
    if from_tunes and len(longest.notes) > 3:  # a melody that is there
        wanted = Line("", longest.notes[1:4])
    query = MelodyQuery(wanted.notes, frozenset(by), starts, same_key and "interval" in by)
    builder = MelodyIndexBuilder()
    for number, lines in enumerate(tunes):
        builder.add(Tune(str(number), "", ""), lines)
    found = search(builder.build(), query, limit=10_000)
    expected = _brute_force(tunes, query)
    assert found.count == len(expected) == len(found.hits)
    assert found.tune_count == len({tune for tune, _, _ in expected})
    for hit, (tune, line, start) in zip(found.hits, expected, strict=True):
        first = tunes[tune][line].notes[start]
        assert (hit.tune.file, hit.bar, hit.semitones) == (
            str(tune),
            first.bar,
            first.pitch - wanted.notes[0].pitch,
        )
        assert hit.notes[0] == pitch_name(first.pitch, 0)


def test_a_hit_says_where_and_which_notes():
    found = _found(TUNE, "c B A G")
    assert [(hit.tune.title, hit.voice, hit.bar, hit.notes) for hit in found.hits] == [
        ("tune 1", "1", 2, ("C5", "B4", "A4", "G4"))
    ]
    assert found.hits[0].semitones == 0


@pytest.mark.parametrize(
    ("melody", "options", "bars"),
    [
        ("C D E F", {}, [1]),  # in any key
        ("G A B c", {"same_key": True}, [1]),
        ("g a b c'", {"same_key": True}, [1]),  # in any octave
        ("A B ^c d", {"same_key": True}, []),
        ("C D E F", {"starts": True}, [1]),
        ("D E F", {"starts": True}, []),
        ("C E G c", {"by": ["contour"]}, [1, 1]),
        ("C4 C2 C2", {"by": ["rhythm"]}, [2]),
        ("C2 C C", {"by": ["rhythm"]}, [2]),  # at any speed
        ("d2 c B", {"by": ["interval", "rhythm"]}, [2]),
        ("d c B", {"by": ["interval", "rhythm"]}, []),
        ("d2 c B", {"by": ["contour", "rhythm"]}, [2]),
    ],
)
def test_ways_to_search(melody, options, bars):
    assert [hit.bar for hit in _found(TUNE, melody, **options).hits] == bars


@pytest.mark.parametrize(
    ("music", "melody", "by", "count"),
    [
        ("C2-C2 D4", "C D", ("interval",), 1),  # a tied note is one note,
        ("C2-C2 D4", "C C", ("interval",), 0),
        ("C2-C2 D4", "C4 D4", ("interval", "rhythm"), 1),  # as long as both
        ("C4-|C4 D8", "C8 D8", ("interval", "rhythm"), 1),
        ("C2 {d}E2 F4", "C E F", ("interval",), 1),  # grace notes do not count
        ("C2 z2 D4", "C D", ("interval",), 1),  # rests are no notes,
        ("C2 z2 D4", "C4 D4", ("interval", "rhythm"), 1),  # but time of the note before
        ("C2 z2 D4", "C2 D4", ("interval", "rhythm"), 0),
        ("C2 D2 z4", "C D", ("interval", "rhythm"), 1),  # after the last note they do not matter
        ("[CE]2 [DF]2 [EG]4", "E F G", ("interval",), 1),  # the highest notes of chords
        ("[CE]2 [DF]2 [EG]4", "C D E", ("interval",), 0),
        ("C4 D4 & E4 G4", "E G", ("interval",), 1),  # overlays are lines of their own
        ("(3CDE F2 G4", "(3CDE F2", ("interval", "rhythm"), 1),
        ("C>D E4", "C3 D", ("interval", "rhythm"), 1),
    ],
)
def test_what_counts_as_a_melody(music, melody, by, count):
    found = _found(f"X:1\nL:1/8\nM:none\nK:C\n{music}|]\n", melody, by=by)
    assert found.count == count


def test_lines_do_not_run_into_each_other():
    index = _index("X:1\nL:1/8\nK:C\nC D|]\n", "X:1\nL:1/8\nK:C\nF G|]\n")
    for by in BY:
        assert search(index, parse_melody("C D E", by=[by])).count == 0
        assert search(index, parse_melody("C D", by=[by])).tune_count == 2


def test_names_of_notes_and_transposing_instruments():
    score = read_score("X:1\nL:1/8\nK:Bb\nV:1 transpose=-2\n_B2 c2 d2|]\n")
    assert [note.name for note in lines_of(score)[0].notes] == ["Ab4", "Bb4", "C5"]


def test_quarter_tones_are_found_as_their_naturals():
    tune = TUNE.replace("G2A2 B2c2", "G2^/A2 _/B2c2")
    (hit,) = _found(tune, "G A B c").hits
    (in_key,) = _found(tune, "G A B c", same_key=True).hits
    assert hit == in_key and hit.bar == 1


def test_limit_and_each_tune_once():
    index = _index(TUNE, TUNE.replace("K:G", "K:D"))
    found = search(index, parse_melody("C D"), limit=1)
    assert (found.count, found.tune_count, len(found.hits)) == (6, 2, 1)
    once = search(index, parse_melody("C D"), each_tune_once=True)
    assert [hit.tune.file for hit in once.hits] == ["1.abc", "2.abc"]
    with pytest.raises(UsageError, match="limit must be at least 0"):
        search(index, parse_melody("C D"), limit=-1)


@pytest.mark.parametrize(
    ("melody", "error", "message"),
    [
        ("C", UsageError, "has 2 to 200 notes; this one has 1"),
        ("", UsageError, "this one has 0"),
        ("C [", FormatError, "is not ABC"),
        ("C D & E F", FormatError, "several voices"),
        ("C " * 201, UsageError, "this one has 201"),
    ],
)
def test_melodies_that_cannot_be_searched(melody, error, message):
    with pytest.raises(error, match=message):
        parse_melody(melody)


def test_ways_that_are_unknown():
    with pytest.raises(UsageError, match="searched by colour; allowed: interval, contour, rhythm"):
        parse_melody("C D", by=["colour"])
    with pytest.raises(UsageError, match="only a search by interval"):
        parse_melody("C D", by=["contour"], same_key=True)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "scores"
    (root / "more").mkdir(parents=True)
    (root / "a.abc").write_text(TUNE)
    book = TUNE + "\n" + TUNE.replace("X:1", "X:7").replace("G2A2 B2c2", "d2e2 f2g2")
    (root / "book.abc").write_text(book + "\nX:9\nT:Bad\nK:C\nV:1\nC|D|\nV:2\nE|\n")
    (root / "more/b.musicxml").write_bytes(abc_to_musicxml(TUNE))
    (root / "more/c.mid").write_bytes(midi_bytes(perform(TUNE)))
    (root / "broken.mid").write_bytes(b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\x09\0\x90")
    (root / "empty.abc").write_text("")
    (root / "notes.txt").write_text("no score")
    return root


def test_folder_of_scores(folder, tmp_path):
    seen = []
    index = index_folder(folder, progress=seen.append)
    assert seen == score_files(folder)
    found = search(index, parse_melody("G A B c"))
    assert [(hit.tune.file, hit.tune.number) for hit in found.hits] == [
        ("a.abc", ""),
        ("book.abc", "1"),
        ("book.abc", "7"),
        ("more/b.musicxml", ""),
        ("more/c.mid", ""),
    ]
    assert {hit.bar for hit in found.hits} == {1}
    failed = dict(index.failures)
    assert sorted(failed) == ["book.abc, tune 9", "broken.mid", "empty.abc"]
    assert "track 1" in failed["broken.mid"]
    assert str(folder) not in "".join(failed.values())
    index.save(tmp_path / "melodies.safetensors")
    again = MelodyIndex.load(tmp_path / "melodies.safetensors")
    assert search(again, parse_melody("G A B c")) == found
    assert again.failures == index.failures


def test_midi_has_the_lines_of_the_score():
    text = (
        "X:1\nL:1/8\nM:3/4\nQ:1/4=90\nK:D\n%%score { 1 | 2 }\nV:1\nV:2 bass\n"
        "V:1\nA2 d2 f2|[Ad]2-[Ad]2 z2|(3efg f2 e2|d6|]\nV:2\nD,6|F,2 A,2 D2|A,6|D,6|]\n"
    )
    written = lines_of(read_score(text))
    played = midi_lines(midi_bytes(perform(text)))
    assert [[note.pitch for note in line.notes] for line in played] == [
        [note.pitch for note in line.notes] for line in written
    ]
    assert [[note.bar for note in line.notes] for line in played] == [
        [note.bar for note in line.notes] for line in written
    ]
    assert [line.spans[:-1] for line in played] == [line.spans[:-1] for line in written]


def test_folders_without_scores(tmp_path):
    with pytest.raises(InputError, match="no scores in it"):
        index_folder(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        index_folder(tmp_path / "missing")


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.pop("bar"),
        lambda t: t.update(pitch=t["pitch"][:-1]),
        lambda t: t.update(pitch=t["pitch"] + 128),
        lambda t: t.update(line_tune=t["line_tune"] + 9),
        lambda t: t.update(line_starts=t["line_starts"].flip(0)),
        lambda t: t.update(interval=t["interval"].roll(1)),
        lambda t: t.update(ratios=t["ratios"] * 0),
        lambda t: t.update(texts=torch.tensor(list(b"[[["), dtype=torch.uint8)),
        lambda t: t.update(texts=torch.tensor(list(json.dumps({"tunes": [1]}).encode()), dtype=torch.uint8)),
    ],
)
def test_damaged_indexes_are_refused(tmp_path, damage):
    path = tmp_path / "melodies.safetensors"
    _index(TUNE).save(path)
    tensors = {name: tensor.clone() for name, tensor in load_tensors(path).items()}
    damage(tensors)
    save_tensors(path, tensors)
    with pytest.raises(CheckpointError, match=r"melodies\.safetensors"):
        MelodyIndex.load(path)


def test_times_with_too_many_digits_leave_the_index_as_it_was():
    onsets = [i + Fraction(1, 2**31 - k) for i, k in enumerate((1, 19, 61))]
    strange = Line("1", tuple(LineNote(60, 0, 1, onset, Fraction(1, 8)) for onset in onsets))
    builder = MelodyIndexBuilder()
    with pytest.raises(FormatError, match="no usual fractions"):
        builder.add(Tune("strange", "", ""), [strange])
    builder.add(Tune("a", "", ""), lines_of(read_score(TUNE)))
    assert search(builder.build(), parse_melody("G A B c")).count == 1
