"""The grammar: whatever it allows ends well-formed, what music needs is allowed, and prompts are checked."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.codec import BOS, END_PATCH, EOS, PAD, PATCH_SIZE, decode, encode_generate, encode_train, padded
from notagen.generation.grammar import Grammar
from notagen.notation.bars import read_tune
from notagen.notation.rests import final_text, omit_rests
from notagen.notation.validation import validate
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
PIECES = {
    case["name"]: case["interleaved"]
    for case in json.loads((GOLDENS / "preprocess.json").read_text())["cases"]
    if case["interleaved"]
}
HEADER = "%%score 1 2 3\nL:1/8\nM:3/4\nK:C\nV:1 treble\nV:2 bass\nV:3 perc\nK:none\n"
START = "[r:0/4][V:1]"
HEADERS = (
    "",
    "%Baroque\n",
    HEADER,
    "%%score { ( 1 2 ) | 3 }\nL:1/16\nM:7/8\nK:Amin\n",
    "M:none\nL:1/4\nK:D\n",
    "X:1\nT:Air\nV:a treble\nV:b bass\nM:C|\n",
    "%%score 1\nL:1/4\nM:5/16\nK:C\nV:1 treble\n",
    "%%score 1\nL:1/8\nM:2/4\nK:C\nV:1 treble\n[r:0/5][V:1]|:(3cde f2|\n",
    "%%score 1\nL:1/8\nM:2/4\nK:C\nV:1 treble\n[r:0/5][V:1]c4|1\n[r:1/4][V:1]c2(d",
    "%%score 1 2\nL:1/8\nM:4/4\nK:C\nV:1\nV:2\n[V:1]c8/3 c16/3|[V:2]e8|\n[V:1](c2",
)  # fmt: skip


def ids_of(bits):
    return [i for i in range(128) if bits >> i & 1]


def walk(grammar, rng, length, *, musical=0.8):
    """Draw ids that the grammar allows, mostly plain notes, then take its short way to the end."""
    ids = []
    while not grammar.ended and len(ids) < length:
        allowed = ids_of(grammar.allowed)
        likely = [i for i in allowed if chr(i) in "ABcde2/|(3) \n[K:M"] if rng.random() < musical else []
        ids.append(rng.choice(likely or allowed))
        grammar.feed(ids[-1])
    return ids


def patches_of(ids):
    patches = [[]]
    for i in ids:
        patches[-1].append(i)
        if i == EOS or len(patches[-1]) == PATCH_SIZE:
            patches.append([])
    return [padded(patch) for patch in patches if patch]


def text_of(ids):
    return decode(patches_of(ids))


def check_ending(prompt: str, seed: int, length: int, musical: float, bars: int | None) -> None:
    """Write ids that a grammar allows after a prompt, close the piece, and check it and its final text."""
    grammar = Grammar(prompt, bars=bars)
    written = text_of(walk(grammar, random.Random(seed), length, musical=musical))
    ended = (
        grammar.ended
    )  # closing may end a piece before the announced number of bars, even without more text
    closing = grammar.close()
    assert grammar.ended and grammar.allowed == 0
    text = decode(encode_generate(prompt)) + written + closing
    assert validate(text).issues == (), text
    assert validate(final_text(text)).valid, text
    if bars is not None and "[V:" not in prompt and ended:
        assert text.count("[r:") == bars


@settings(max_examples=30, deadline=None)
@given(
    prompt=st.sampled_from(HEADERS),
    seed=st.integers(0, 10**6),
    length=st.integers(0, 300),
    musical=st.sampled_from([0.0, 0.7, 0.95]),
    bars=st.sampled_from([None, None, 1, 4]),
)
def test_whatever_is_allowed_ends_well_formed(prompt, seed, length, musical, bars):
    check_ending(prompt, seed, length, musical, bars)


@pytest.mark.slow
def test_ten_thousand_pieces_end_well_formed():
    rng = random.Random()
    for _ in range(10_000):
        seed, length = rng.randrange(10**6), rng.randrange(301)
        musical, bars = rng.choice([0.0, 0.7, 0.95]), rng.choice([None, None, 1, 4])
        check_ending(rng.choice(HEADERS), seed, length, musical, bars)


@pytest.mark.parametrize(
    ("header", "bar", "completed"),
    [
        (
            "%%score 1 2\nL:1/8\nM:4/4\nK:G\nV:1 treble\nV:2 bass\n",
            "[r:0/0][V:2][K:C]z8|]",
            "[V:1][K:C]z8|][V:2][K:C]z8|]",
        ),
        (
            "%%score 1 2\nL:1/8\nM:4/4\nK:G\nV:1 treble\nV:2 bass\n",
            "[r:0/0][V:2][M:3/4]z6|]",
            "[V:1][M:3/4]z6|][V:2][M:3/4]z6|]",
        ),
        (
            "%%score 1 4 2 3\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:4 bass\nV:2 alto\nV:3 tenor\n",
            "[r:0/0][V:4]c8|][V:2]z8|]",
            "[V:1]z8|][V:4]c8|][V:2]z8|][V:3]z8|]",
        ),
        (
            "V:1 treble\nV:2 bass\n%%score 1 2\nL:1/8\nM:4/4\nK:none\n",  # the key of the tune, not of voice 2
            "[r:0/0][V:2][K:G]c8|]",
            "[V:1][K:G]z8|][V:2][K:G]c8|]",
        ),
        (
            "%%score 1 2\nL:1/8\nM:6/8\nK:C\nV:1 treble\nV:2 bass\n",  # five in the time of three
            "[r:0/0][V:2](5CCCCCC3|]",
            "[V:1]z6|][V:2](5CCCCCC3|]",
        ),
    ],
)
def test_the_final_text_of_a_valid_piece_is_valid(header, bar, completed):
    text = header + bar + "\n"
    assert Grammar(text).close() == ""
    assert validate(text).issues == ()
    assert final_text(text) == f"X:1\n{header}{completed}\n"
    assert validate(final_text(text)).valid


@pytest.mark.parametrize("seed", range(15))
def test_patches_end_where_the_codec_ends_them(seed):
    prompt = HEADERS[:3][seed % 3]
    ids = walk(Grammar(prompt), random.Random(seed), 300, musical=0.9)
    patches, text = patches_of(ids), prompt + text_of(ids)
    if ids[-2:] == [BOS, EOS]:
        patches[-1] = list(END_PATCH)
    if "\n[" not in text:  # the header is not complete yet
        text += "\n[V:1]|\n"
    expected = encode_train(text, 10**6, stream=False)[len(encode_generate(prompt)) :]
    whole = len(patches) - 1  # the last patch may be unfinished
    assert patches[:whole] == expected[:whole]


def allows(text, ids):
    """Whether these ids may follow each other from the start of a prompt on."""
    grammar = Grammar(text)
    for i in ids:
        if not grammar.allowed >> i & 1:
            return False
        grammar.feed(i)
    return True


def test_a_meter_with_a_bar_in_it_is_cut_there():
    line = "[r:0/1][V:1][M:C|][K:G]c8|[V:2][M:C|][K:G]C8|[V:3][M:C|]c8|\n"
    ids = [i for patch in encode_train(line, 99, stream=False, special=False) for i in patch if i != PAD]
    assert decode(encode_train(line, 99, stream=False, special=False)).startswith("[r:0/1][V:1][M:C|]")
    assert allows(HEADER, ids)
    last = "[r:1/0][V:1][M:2/4]c4|][V:2][M:2/4]C4|][V:3][M:2/4]c4|]\n"
    assert validate(HEADER + line + last).issues == ()


# The others are not allowed: a bar is too short, a repeat has no start, and the grammar does not have !style=x!.
@pytest.mark.parametrize("name", sorted(set(PIECES) - {"unequal_durations", "anacrusis", "transposing"}))
def test_real_pieces_are_allowed(name):
    grammar = Grammar("")
    patches = encode_train(omit_rests(read_tune(PIECES[name])), 10**6)[1:]
    for i in [i for patch in patches for i in patch if i != PAD]:
        if not grammar.ended:
            assert grammar.allowed >> i & 1
            grammar.feed(i)
    assert grammar.ended


MUSIC = (
    '!mf! [Bd]2 ^c2 (3de_f', "B>c d<e {/g}f2", "B>>c d<<<e f2 ", '"Gm7/D""^dolce"c2 .d2 Te2', "(g/f/e/d/)(c2 B2)",
    "(5:4:5c/d/e/f/g/ c2 [c-e-]2", "(3:2:2c2 d c'4", "((cd) (ef)g2)",
    "(9:8:9c/d/e/f/g/a/b/c'/d'/ z2", "c'3 c3/2d/4e/4 f-",
    "=B,,,,2 __e2 ^^f//g//a/-", "!<(!!p!c6!<)!", 'c6"_fine"', "Td6{cd}", "z2 x4", "[K:G]c6",
    "(12:8:12c/d/e/f/g/a/b/c/d/e/f/g/ A2",
)  # fmt: skip


@pytest.mark.parametrize("music", MUSIC)
def test_ordinary_notation_is_allowed(music):
    assert allows(HEADER + START + music.rstrip(), [EOS] if len(START + music.rstrip()) % 16 else [])
    assert allows(HEADER, [ord(c) for c in START + music.rstrip()] + [ord("|")])


CHANGES = ("[K:Ebmin]c6", "[M:C|]c8", "[M:C]c8", "[M:2/4]c4", "[K:G][M:6/8]c6", "[Q:1/4=66]c6", " c6")


@pytest.mark.parametrize("music", CHANGES)
def test_changes_are_followed_by_the_other_voices(music):
    grammar = Grammar(f"{HEADER}{START}c6|\n[r:1/3][V:1]{music}")
    assert validate(f"{HEADER}{START}c6|\n[r:1/3][V:1]{music}{grammar.close()}").valid
    if "K:" in music or "M:" in music:
        assert not Grammar(f"{HEADER}{START}c6|\n[r:1/3][V:1]{music}").allowed >> ord("|") & 1


WRONG = (
    (START, "|"), (START + "c6", "c"), (START + "c6 ", "c"), (START + "c59", "9"), (START + "c4(3cd", "|"),
    (START + "c4(3:2:3c2d2", "|"), (START + "c6|", "1:"), (START + "(c6", "\n"), (START + "c6:|\n[r:1/3][V:1]c6", ":"),
    (START + "|:c6|\n[r:1/3][V:1]c6|", ":"), (START + "c6|[V:", "1"), (START + "c6|[V:2]c6", ":"),
    (START + "c6|[V:2]c", "|"), (START + "c6|\n[r:", "2"), (START + "c6|\n[r:1/", "4"), (START + "c6|]\n", "\x01"),
    (START + "c", ">|"), (START + "c6", ">"), (START + "(", "z"), (START + "!p", "|"), (START + '"Am', "|"),
    (START + "[ce", "|"), (START + "[", "]"), (START + "{c", "|"), (START + "v", "|"), (START + "c6)", "|"),
    (START + "c'", "'''"), (START + "c/3", "|"), (START + "z6", "-"), (START + "[M:2/4]c5", "|"),
    (START[:5] + "0][V:1](c6", "|"), (START[:5] + "0][V:1](c4", "z"),
)  # fmt: skip


@pytest.mark.parametrize(("music", "wrong"), WRONG)
def test_what_is_not_well_formed_is_not_allowed(music, wrong):
    try:
        grammar = Grammar(HEADER + music)
    except FormatError as error:
        assert error.line == HEADER.count("\n") + music.count("\n") + 1
        return
    for character in wrong[:-1]:
        grammar.feed(ord(character))
    assert not grammar.allowed >> ord(wrong[-1]) & 1


def test_slurs_keep_their_voice_on_the_line():
    grammar = Grammar(f"{HEADER}{START}c6|[V:2](c6|\n[r:1/3][V:1]c6")
    assert grammar.allowed & (1 << EOS | 1 << ord("|")) == 1 << EOS
    assert ")|]\n" in grammar.close()


def test_the_prompt_decides_tags_and_end():
    untagged = HEADER + "[V:1]c6|\n[V:1]d6|]\n"
    assert Grammar(untagged).close() == ""
    assert "[r:" not in Grammar(untagged[: untagged.index("d6")]).close()
    grammar = Grammar(HEADER + START + "c6|\n", bars=9)
    assert grammar.close() == "[r:1/3][V:1]z6|]\n"
    assert Grammar(HEADER, bars=9).close() == "[r:0/8][V:1]z6|]\n"
    assert Grammar("").close().startswith("%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\n[r:0/0][V:1]z8|]")


@pytest.mark.parametrize("seed", range(12))
def test_the_end_is_as_near_as_promised(seed):
    rng, prompt = random.Random(seed), HEADERS[seed % len(HEADERS)]
    ids, promised = [], []
    for length in range(0, 20 * PATCH_SIZE, PATCH_SIZE):
        grammar = Grammar(prompt)
        for i in ids:
            grammar.feed(i)
        more = walk(grammar, rng, PATCH_SIZE)
        promised.append(grammar.patches_to_close)
        if grammar.ended:
            break
        assert len(grammar.close()) <= PATCH_SIZE * min(promised[-2:]), (seed, length)
        ids += more


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("some words\n", 1),
        ("V:\n", 1),
        ("%%score ( 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\n", 1),
        ("%%score 1\nL:1/8\nM:4/4\nK:Q\nV:1 treble\n", 4),
        ("%%score 1\nM:x\n", 2),
        ("%%score 1\nL:0\n", 2),
        ("K:C\nV:1\n[V:1]c8|\n", 3),
        (HEADER + START + "c7|\n[r:1/3][V:1]c5|\n", 10),
        (HEADER + START + "c6|\n[r:1/3][V:2]c6||[V:3]c6|\n", 10),
        (HEADER + START + "c6|\n[r:1/3][V:2]c6?|\n", 10),
        (HEADER + START + "c6|\n[r:1/3][V:4]c6|\n", 10),
        (HEADER + "[r:0/0][V:1]c6|\n", 9),
    ],
)
def test_prompts_that_cannot_be_continued_are_refused(prompt, line):
    with pytest.raises(FormatError) as caught:
        Grammar(prompt)
    assert caught.value.line == line


@pytest.mark.parametrize("name", sorted(set(PIECES) - {"unequal_durations", "anacrusis", "transposing"}))
def test_prompts_may_end_anywhere_in_the_music(name):
    text = omit_rests(read_tune(PIECES[name]))
    start = text.index("[V:")
    lines = text[start:].splitlines(keepends=True)
    body = "".join(f"[r:{k}/{len(lines) - 1 - k}]{line}" for k, line in enumerate(lines))
    for cut in range(3, len(body), 7):
        prompt = text[:start] + body[:cut]
        assert validate(prompt + Grammar(prompt).close()).issues == ()


@given(st.text(alphabet='%VLMKQ:|[]r/0123 \n(cz"!{', max_size=60))
def test_any_prompt_is_followed_or_refused(text):
    for prompt in (text, HEADER + START + text):
        try:
            grammar = Grammar(prompt)
        except FormatError:
            continue
        assert validate(decode(encode_generate(prompt)) + grammar.close()).valid


def test_a_single_voice_may_do_without_a_score_line():
    grammar = Grammar("%Folk\n")
    for character in "L:1/8\nM:4/4\nK:C\n":
        if grammar.allowed == 1 << EOS:
            grammar.feed(EOS)
        assert grammar.allowed >> ord(character) & 1, character
        grammar.feed(ord(character))
    text = "L:1/8\nM:4/4\nK:C\n" + grammar.close()
    assert "%%score" not in text and "V:1 treble\n" in text and "V:2" not in text
    assert validate(text).valid
    given = "L:1/8\nM:4/4\nK:C\nV:A treble\n"
    assert validate(given + Grammar(given).close()).valid


def follow(grammar: Grammar, text: str) -> str | None:
    """Feed a text; return the first character that is not allowed."""
    for character in text:
        while grammar.allowed == 1 << EOS:
            grammar.feed(EOS)
        if not grammar.allowed >> ord(character) & 1 and grammar.allowed >> EOS & 1:
            grammar.feed(EOS)
        if not grammar.allowed >> ord(character) & 1:
            return character
        grammar.feed(ord(character))
    return None


@pytest.mark.parametrize(
    ("bars", "refused"),
    [
        ("A2|\n[r:1/3][V:1]c6|\n[r:2/2][V:1]c4||\n[r:3/1][V:1]d2|\n", None),  # the rest of the short bar
        ("A2|\n[r:1/3][V:1]c6|\n[r:2/2][V:1]c4||\n[r:3/1][V:1]d3|\n", "|"),
        ("A2|\n[r:1/3][V:1]c6|\n[r:2/2][V:1]c4||\n[r:3/1][V:1]d|\n", "\n"),
        ("A2|\n[r:1/3][V:1]c6|\n[r:2/2][V:1]c6||\n[r:3/1][V:1]d2|\n", "\n"),  # nothing is missing
        ("A2|\n[r:1/3][V:1]c6|\n[r:2/2][V:1]c4|\n", "\n"),
        ("A2|:\n[r:1/3][V:1]c6|\n[r:2/2][V:1]c4:|\n[r:3/1][V:1]d|:", None),  # repeats are free
    ],
)
def test_a_short_bar_before_a_double_bar_is_completed_after_it(bars: str, refused: str | None):
    grammar = Grammar("%%score 1\nL:1/8\nM:3/4\nK:C\nV:1 treble\n", bars=5)
    assert follow(grammar, "[r:0/4][V:1]" + bars) == refused
    prompt = "%%score 1\nL:1/8\nM:3/4\nK:C\nV:1 treble\n[r:0/3][V:1]c6|\n[r:1/2][V:1]c4||\n"
    given = Grammar(prompt)
    assert follow(given, "[r:2/1][V:1]d2|") is None
    assert follow(Grammar(prompt), "[r:2/1][V:1]d4|") == "|"
