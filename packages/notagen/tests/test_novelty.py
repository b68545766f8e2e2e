"""What counts as known music."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.evaluation.novelty import KnownMusic, voice_notes
from notagen.notation.bars import read_tune
from notagen.notation.layout import interleaved
from notagen.notation.transpose import transpose
from pentatonic.errors import FormatError, UsageError

TUNE = "L:1/8\nM:4/4\nK:D\nV:1 treble\n[V:1]D2 FA d2 fa|\n[V:1]b/a/g f2 e2 d2|\n[V:1]A4 F4|]\n"


def test_notes_are_steps_and_lengths():
    text = 'L:1/4\nK:C\nV:1\nV:2\n[V:1]"C"C{d}!trill!d/ [ceg]2 z|[V:2][K:D]x4|\n'
    assert voice_notes(text) == [((0, 1, 4), (8, 1, 8), (-1, 1, 4), (2, 1, 4), (2, 1, 4)), ()]
    with pytest.raises(FormatError):
        voice_notes("K:C\n")


@pytest.mark.parametrize("key", ["D", "Gb", "B"])
def test_a_transposed_quotation_is_a_copy(key):
    moved = interleaved(transpose(read_tune(TUNE), key)).replace("|", "||").replace("b", "!trill!b")
    found = KnownMusic([TUNE], n=4).novelty(moved)
    assert (found.ngrams, found.known, found.longest_known, found.copy) == (11, 11, 14, True)
    assert found.known == found.ngrams


def test_new_music_is_new_and_a_quotation_is_as_long_as_it_is():
    known = KnownMusic(["no tune", TUNE], n=4)
    new = known.novelty("L:1/8\nK:C\n[V:1]CCCC DDDD|EEEE FFFF|]\n")
    assert (new.known, new.longest_known, new.copy) == (0, 0, False)
    # Six notes of the tune, a sixth lower, between others.
    part = known.novelty("L:1/8\nK:C\n[V:1]cc F2 AC F2 AC dd|]\n".replace("AC F2 AC", "Ac f2 ac'"))
    assert (part.known, part.longest_known, part.copy) == (3, 6, False)
    silent = known.novelty("L:1/8\nK:C\n[V:1]z8|]\n")
    assert (silent.ngrams, silent.known, silent.copy) == (0, 0, False)


def test_a_copy_needs_all_voices():
    other = TUNE.replace("V:1 treble\n", "V:1\nV:2\n").replace("|\n", "|[V:2]ABcd efga|\n")
    assert not KnownMusic([TUNE], n=4).novelty(other).copy
    assert KnownMusic([other], n=4).novelty(TUNE).copy


def test_the_run_length_is_checked():
    with pytest.raises(UsageError):
        KnownMusic([], n=0)


@given(st.text(alphabet="KL:V1/8 []|\nabCD,'2{}!\"z4(", max_size=80))
def test_any_text_gives_counts_or_a_typed_error(text):
    try:
        found = KnownMusic([text], n=2).novelty(text)
    except FormatError:
        return
    assert found.known == found.ngrams
