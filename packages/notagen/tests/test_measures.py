"""Measures of pieces, counted by hand."""

from notagen.evaluation.measures import Share, measure, pooled
from notagen.evaluation.measures.sounding import sounds_of
from notagen.score.reader import read_score
from notagen.vocabulary import ANYTHING, Vocabulary

TUNE = (
    "%%score 1\nL:1/8\nM:2/4\nK:G\nV:1 treble\n"
    '[r:0/3][V:1]"^solo"c2 d2|\n[r:1/2][V:1]c2 d2|\n[r:2/1][V:1]z4|\n[r:3/0][V:1]"Gm"a2 g2|]\n'
)
HEADER = "%%score [ 1 | 2 | 3 ]\nL:1/8\nM:2/4\nK:C\nV:1 treble\nV:2 treble\nV:3 bass\n"


def test_words_and_bars():
    found = measure(TUNE, Vocabulary(texts=("^solo",), lengths=("2",), rests=("z2",)))
    assert found.invented_text == Share(1, 2)
    assert found.lengths_off_grid == Share(1, 7)  # z4
    assert found.silent_bars == Share(1, 4)
    assert found.repeated_bars == Share(1, 2)  # nothing follows silence
    assert found.last_on_tonic == Share(1, 1)
    assert found.voice_range == Share(9, 1)  # c to a
    assert found.no_chords == found.parallels == found.crossings == Share(0, 0)
    assert found.unreadable == Share(0, 1)
    assert found.to_dict()["last_on_tonic"] == {"count": 1, "of": 1, "value": 1.0}


def test_without_a_vocabulary_nothing_is_invented():
    found = measure(TUNE, ANYTHING)
    assert found.invented_text is None and found.lengths_off_grid is None
    assert found.to_dict()["invented_text"] is None


def test_a_text_that_is_no_tune_only_counts_as_such():
    found = measure("%%score 1\nK:C\n", ANYTHING)
    assert found.unreadable == Share(1, 1) and found.silent_bars == Share(0, 0)
    assert pooled([found, measure(TUNE, ANYTHING)]).unreadable == Share(1, 2)
    assert pooled([found, measure(TUNE, ANYTHING)]).silent_bars == Share(1, 4)


def test_chords():
    # C major, G7 without its third, a cluster, and C with D
    text = HEADER + "[V:1]ef|[V:2]cd|[V:3]CG,|\n[V:1]cd|[V:2]Bc|[V:3]A,C|]\n"
    text = text.replace("ef|", "e2 f2|").replace("cd|", "c2 d2|", 1).replace("CG,|", "C2 G,2|")
    text = text.replace("\n[V:1]cd|[V:2]Bc|[V:3]A,C|]", "\n[V:1]c2 d2|]")
    found = measure(text.replace("\n[V:1]c2 d2|]", "\n[V:1]c2 e2|][V:2]B2 d2|][V:3]A,2 C2|]"), ANYTHING)
    # G d f is part of G7; A B c is none, C d e is none
    assert found.no_chords == Share(2, 4)


def test_voice_leading():
    # fifths C-G to D-A in voices 3 and 1, an octave C-c to D-d in 3 and 2, and a fourth in 1 and 2
    text = HEADER + "[V:1]g2 a2|][V:2]c2 d2|][V:3]C2 D2|]\n"
    found = measure(text, ANYTHING)
    # c-g to d-a is a fifth, too
    assert found.parallels == Share(3, 3)
    assert found.crossings == Share(0, 4)
    still = measure(HEADER + "[V:1]g2 g2|][V:2]c2 e2|][V:3]C2 C2|]\n", ANYTHING)
    assert still.parallels == Share(0, 0)
    contrary = measure(HEADER + "[V:1]g2 A2|][V:2]c2 d2|][V:3]C2 C2|]\n", ANYTHING)
    assert contrary.parallels == Share(0, 1)
    crossed = measure(HEADER + "[V:1]c2 d2|][V:2]e2 c2|][V:3]C2 C2|]\n", ANYTHING)
    assert crossed.crossings == Share(1, 4)
    assert crossed.voice_range == Share(2 + 4 + 0, 3)


def test_the_last_chord_and_ties():
    text = HEADER + "[V:1]e4|[V:2]c4|[V:3]G,2 C2-|\n[V:1]e4|][V:2]c4|][V:3]C4|]\n"
    assert measure(text, ANYTHING).last_on_tonic == Share(1, 1)
    assert measure(text.replace("C4|]", "E,4|]"), ANYTHING).last_on_tonic == Share(0, 1)
    assert measure(text.replace("K:C", "K:Amin"), ANYTHING).last_on_tonic == Share(0, 1)
    assert measure(text.replace("K:C", "K:none"), ANYTHING).last_on_tonic == Share(0, 0)
    bass = sounds_of(read_score(text))[2]
    assert [(float(sound.start), float(sound.end)) for sound in bass] == [(0.0, 0.25), (0.25, 1.0)]
