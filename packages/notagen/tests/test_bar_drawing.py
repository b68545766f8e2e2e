"""Drawing bars: what is accepted, what is drawn again, and from where copies of a grammar go on."""

import pytest

from notagen.codec import BOS, EOS, bar_units, cut, encode_generate
from notagen.generation import bar_drawing as module
from notagen.generation import decoding
from notagen.generation.bar_drawing import BarDrawer, Draws
from notagen.generation.decoding import Request, generate
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen, NotaGenConfig
from notagen.notation.countdown import countdown_tag, read_countdown
from notagen.notation.validation import validate
from notagen.vocabulary import ANYTHING, Vocabulary
from pentatonic.errors import FormatError

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


PAIR = "%%score 1 2\nL:1/8\nM:3/4\nK:C\nV:1 treble\nV:2 bass\n"


def cut_line(text):
    patches = [patch for unit in bar_units(text) for patch in cut(unit)]
    return [patch[: patch.index(EOS) + 1] if EOS in patch else patch for patch in patches]


def after_drawing(header, lines, vocabulary=ANYTHING):
    """Draw lines after a header, each freely; return the drawer, and whether each line was taken."""
    drawing = BarDrawer(Grammar(header, vocabulary=vocabulary), Sampling())
    drawing.text, taken = header, []
    for text in lines:
        whole, answer = cut_line(text), []
        while whole and answer is not None:
            given = drawing.begin_patch()
            assert whole[0][: len(given)] == given
            answer = drawing.take(whole.pop(0), len(given), LIKELY)
        taken.append(bool(answer))
    return drawing, taken


@pytest.mark.parametrize(
    ("bar", "valid"),
    [
        ("(3c(3ded(3efg a2", True),  # nested tuplets
        ("(3c(3ded(3efg a3", False),
        ("c6&e6", True),
        ("c2&e2 f4&g6", False),
        ("Z", True),
        ("Z2", False),
        ("c2 [K:G] d2 e2", True),
        ("c7 [K:G]", False),
        ("c2 [L:1/4] d2", False),
        ("c2 [Q:1/4=60] d4", True),
        ("c3y d3", True),
        ("c3(3 d3", False),
        ("c5", False),
    ],
)
def test_what_the_grammar_does_not_write_is_taken_where_validation_accepts_it(bar, valid):
    lines = ["[r:0/3][V:1]c6|\n", f"[r:1/2][V:1]{bar}|\n", "[r:2/1][V:1]c6|\n", "[r:3/0][V:1]c6|]\n"]
    assert validate(HEADER + "".join(lines)).valid == valid
    drawing, taken = after_drawing(HEADER, lines if valid else lines[:2])
    assert taken == ([True] * 4 if valid else [True, False])
    assert drawing.draws == (Draws(free=4) if valid else Draws(free=1))
    if valid:
        assert drawing.text == HEADER + "".join(lines)
        assert bytes(drawing.begin_patch()) == bytes([BOS, EOS])


@pytest.mark.parametrize(
    ("before", "line", "taken"),
    [
        # Without countdown tags the piece could end here, but need not: the bar is no last bar, which may be short.
        ("[V:1]c6|\n", "[V:1]c4&e4|]\n", True),  # a bar before a double bar
        ("[V:1]c6|\n", "[V:1]c7&e7|]\n", False),
        ("[V:1]c6|\n", "[V:1]c7&e7:|\n", False),
        ("[V:1]c6|\n", "[V:1]Z2|]\n", False),
        ("[V:1]c6|\n", "[V:1]c4&e4|\n", False),
        # The first bar may be shorter, not longer.
        ("", "[r:0/2][V:1]c2&e2|\n", True),
        ("", "[r:0/2][V:1]c7&e7|\n", False),
        ("", "[r:0/2][V:1]Z2|\n", False),
        ("", "[r:0/2][V:1]||Z|\n", True),
        ("", "[r:0/2][V:1]:|Z|\n", False),
        # So may the last one, which ends the piece.
        ("[r:0/1][V:1]c6|\n", "[r:1/0][V:1]c4&e4|]\n", True),
        ("[r:0/1][V:1]c6|\n", "[r:1/0][V:1]c7&e7|]\n", False),
        ("[r:0/1][V:1]c6|\n", "[r:1/0][V:1]c6&e6|\n", False),
        ("[r:0/1][V:1]c6|\n", "[r:1/0][V:1](c6&e6|]\n", False),
        # Pick-ups after a double bar have what the bar before it lacks.
        ("[r:0/9][V:1]c6|\n[r:1/8][V:1]c4||\n", "[r:2/7][V:1]c2&e2|\n", True),
        ("[r:0/9][V:1]c6|\n[r:1/8][V:1]c4||\n", "[r:2/7][V:1]c3&e3|\n", False),
        ("[r:0/9][V:1]c6|\n[r:1/8][V:1]c4||\n", "[r:2/7][V:1]Z|\n", False),
        # Repeats and slurs.
        ("[r:0/9][V:1]c6:|\n", "[r:1/8][V:1]Z:|\n", False),
        ("[r:0/9][V:1]c6|:\n", "[r:1/8][V:1]Z:|\n", True),
        ("[r:0/9][V:1]c6|:\n", "[r:1/8][V:1]Z|:\n", False),
        ("[r:0/9][V:1](c6|\n", "[r:1/8][V:1]c6)&e6|\n", True),
        ("[r:0/9][V:1]c6|\n", "[r:1/8][V:1]c6)&e6|\n", False),
        # The line has a voice, and its countdown goes on.
        ("[r:0/9][V:1]c6|\n", "[r:1/8]Z&c6|\n", False),
        ("[r:0/9][V:1]c6|\n", "[r:1/7][V:1]Z|\n", False),
    ],
)
def test_a_line_with_other_notation_is_judged_as_others_are(before, line, taken):
    whole = HEADER + before + line
    try:
        Grammar(HEADER + before).after_line(line[:-1])
    except FormatError:
        assert not taken
    else:
        assert taken
        after = Grammar(HEADER + before).after_line(line[:-1])
        assert validate(whole + after.fork().close()).valid
        if "/0]" not in line:  # and it stays valid when the piece goes on
            counts = read_countdown(line)
            tag = countdown_tag(counts[0] + 1, counts[1] - 1) if counts else ""
            assert Grammar(f"{whole}{tag}[V:1]c6|\n")


def test_voices_with_open_slurs_must_be_on_a_line_with_other_notation():
    grammar = Grammar(PAIR + "[r:0/9][V:1](c6|[V:2]C6|\n")
    with pytest.raises(FormatError, match="slurs of voice 1"):
        grammar.after_line("[r:1/8][V:2]C6&E6|")
    assert grammar.after_line("[r:1/8][V:1]c6)&e6|")


def test_a_meter_that_changes_on_a_line_with_other_notation_decides_its_length():
    grammar = Grammar(HEADER + "[r:0/9][V:1]c6|\n[r:1/8][V:1]c4||\n")
    assert grammar.after_line("[r:2/7][V:1][M:2/4]Z|")
    with pytest.raises(FormatError, match="at most"):
        grammar.after_line("[r:2/7][V:1][M:2/4]c5&e5|")


def test_a_line_with_other_notation_is_judged_with_all_its_voices():
    first = "[r:0/9][V:1]c6|[V:2]C6|\n"
    drawing, taken = after_drawing(PAIR, [first, "[r:1/8][V:1]c2 [K:G] d4|[V:2]C2 [K:G] D4|\n"])
    assert taken == [True, True] and drawing.draws == Draws(free=4)
    assert bytes(drawing.begin_patch()).decode() == "[r:2/7][V:"
    drawing, taken = after_drawing(PAIR, [first, "[r:1/8][V:1]c6|[V:2]C6&E6|\n"])
    assert taken == [True, True] and drawing.draws == Draws(free=4)  # the first voice by the grammar
    drawing, taken = after_drawing(PAIR, [first, "[r:1/8][V:1]c2 [K:G] d4|[V:2]C6|\n"])
    assert taken == [True, False] and drawing.draws == Draws(free=2)  # the key of one voice only


def test_other_notation_keeps_to_the_vocabulary():
    lines = ["[r:0/9][V:1]c6|\n", "[r:1/8][V:1]c6&e6|\n"]
    assert after_drawing(HEADER, lines, Vocabulary(lengths=("6",), rests=(), tuplets=()))[1] == [True, True]
    lines[1] = "[r:1/8][V:1]c6&e3e3|\n"
    assert after_drawing(HEADER, lines, Vocabulary(lengths=("6",), rests=(), tuplets=()))[1] == [True, False]


def test_a_line_whose_patches_are_not_those_of_the_codec_is_refused():
    drawing, _ = after_drawing(HEADER, ["[r:0/9][V:1]c6|\n"])
    given = drawing.begin_patch()
    assert drawing.take([*given, *ids("c6&"), EOS], len(given), LIKELY) == []
    drawing.begin_patch()
    assert drawing.take([*ids("e6|\n"), EOS], 0, LIKELY) is None


def test_a_piece_with_other_notation_is_generated(monkeypatch):
    text = HEADER + "[r:0/2][V:1]c6|\n[r:1/1][V:1](3c(3ded(3efg a2|\n[r:2/0][V:1]c6|]\n"
    planned = [patch for line in text.splitlines(keepends=True)[5:] for patch in cut_line(line)]
    planned.append([BOS, EOS])

    def sample(model, vectors, known, *_):
        patch = planned.pop(0)
        assert patch[: len(known[0])] == known[0]
        return [patch]

    monkeypatch.setattr(decoding, "sample_patches", sample)
    monkeypatch.setattr(module, "_FIRST_LIMIT", -100.0)
    model = NotaGen(NotaGenConfig(1, 1, 32, 2, 64)).eval()
    [piece] = generate(model, [Request(HEADER, bars=3)], constrained=True)
    assert (piece.text, piece.status, piece.draws) == (text, "finished", Draws(free=3))
    assert planned == []
