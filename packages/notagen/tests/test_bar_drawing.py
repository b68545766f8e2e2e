"""Drawing bars: what is accepted, what is drawn again, and from where copies of a grammar go on."""

import pytest

from notagen.codec import EOS, encode_generate
from notagen.generation import bar_drawing as module
from notagen.generation.bar_drawing import BarDrawer, Draws
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling

HEADER = "%%score 1\nL:1/8\nM:3/4\nK:C\nV:1 treble\n"
TEXT = HEADER + "[r:0/2][V:1]c6|\n[r:1/1][V:1](3cde f2 z2|\n[r:2/0][V:1]c6|]\n"
LIKELY, UNLIKELY = -0.5, -400.0


def ids(text):
    return [ord(character) for character in text]


def drawer(prompt=HEADER + "[r:0/9][V:1]c6|\n", **sampling):
    return BarDrawer(Grammar(prompt), Sampling(**sampling))


def line(drawing, text, log_probability=LIKELY):
    """Take a line, patch by patch; return the answer to the last patch that is taken."""
    whole, taken = [*ids(text), *[EOS] * (len(text) % 16 > 0)], []
    while whole and taken == []:
        given = drawing.begin_patch()
        assert whole[: len(given)] == given
        taken = drawing.take(whole[:16], len(given), log_probability)
        whole = whole[16:]
    return taken


@pytest.mark.parametrize("cut", range(0, len(TEXT)))
def test_a_copy_of_a_grammar_goes_on_as_the_grammar_does(cut):
    patches = [each[: each.index(EOS) + 1] if EOS in each else each for each in encode_generate(TEXT)[1:]]
    flat = [each for patch in patches for each in patch]
    if cut >= len(flat):
        return
    grammar = Grammar("%%score 1\n")
    flat = flat[len("%%score 1\n") + 1 :]
    for each in flat[:cut]:
        grammar.feed(each)
    copy = grammar.fork()
    for each in flat[cut:]:
        assert copy.allowed == grammar.allowed and copy.allowed >> each & 1
        grammar.feed(each)
        copy.feed(each)
    again = grammar.fork()
    assert again.allowed == grammar.allowed and again.close() == grammar.close()


def test_ids_without_an_alternative_are_given():
    assert bytes(drawer().begin_patch()).decode() == "[r:1/8][V:1]"
    assert bytes(drawer(HEADER + "[r:0/0][V:1]c2 d4|]\n").begin_patch()) == b"\x02"  # ends the line's patch
    ended = drawer(HEADER + "[r:0/0][V:1]c4 d2 |]\n")
    ended.take(ended.begin_patch(), 1, 0.0)
    assert bytes(ended.begin_patch()) == b"\x01\x02"


def test_a_valid_bar_is_accepted_and_an_invalid_one_drawn_again():
    drawing = drawer()
    assert line(drawing, "[r:1/8][V:1]d6|\n") == [ids("[r:1/8][V:1]d6|\n")]
    assert drawing.draws == Draws(free=1)
    before = drawing.grammar.allowed
    assert line(drawing, "[r:2/7][V:1]d7|\n") is None  # too long
    assert line(drawing, "[r:2/7][V:1]d5|\n") is None  # too short
    assert drawing.grammar.allowed == before and drawing.draws == Draws(free=1)
    patches = line(drawing, "[r:2/7][V:1]d4 e2|\n")
    assert "".join(chr(each) for patch in patches for each in patch if each > EOS) == "[r:2/7][V:1]d4 e2|\n"
    assert drawing.draws == Draws(free=1, redrawn=1)
    assert bytes(drawing.begin_patch()).decode() == "[r:3/6][V:1]"


def test_after_enough_failures_the_grammar_decides_and_the_likeliest_draw_is_taken(monkeypatch):
    monkeypatch.setattr(module, "FREE_TRIES", 2)
    monkeypatch.setattr(module, "FORCED_TRIES", 3)
    drawing = drawer()
    for _ in range(2):
        assert drawing.mask is None
        assert line(drawing, "[r:1/8][V:1]d7|\n") is None
    for text, unlikely in (("e4 f2", UNLIKELY), ("d4 e2", UNLIKELY / 2), ("c4 d2", UNLIKELY)):
        given = drawing.begin_patch()
        assert drawing.mask is not None
        patches = [[*given, *ids(text)][:16], [*ids("[r:1/8][V:1]" + text + "|\n"), EOS][16:]]
        taken = []
        for number, patch in enumerate(patches):
            start = len(given) if number == 0 else len(drawing.begin_patch())
            for each in patch[start:]:
                assert drawing.mask.allowed >> each & 1
                drawing.mask.feed(each)
            taken = drawing.take(patch, start, unlikely)
        last = text == "c4 d2"
        assert (taken is not None) == last
    assert "".join(map(chr, taken[0])) == "[r:1/8][V:1]d4 e"
    assert drawing.draws == Draws(forced=1)


def test_the_likeliest_choice_is_not_drawn_again():
    drawing = drawer(top_k=1)
    assert line(drawing, "[r:1/8][V:1]d7|\n") is None
    drawing.begin_patch()
    assert drawing.mask is not None


def test_an_implausible_bar_fails():
    drawing = drawer(HEADER + "[r:0/99][V:1]c6|\n")
    drawing.take(drawing.begin_patch(), 1, 0.0)  # the end of the patch of the line before
    for number in range(1, 13):
        assert line(drawing, f"[r:{number}/{99 - number}][V:1]d4 e2|\n", LIKELY)
    assert line(drawing, "[r:13/86][V:1]d4 e2|\n", -30.0) is None
    assert line(drawing, "[r:13/86][V:1]d4 e2|\n", LIKELY)
    assert drawing.draws == Draws(free=12, redrawn=1)
