"""Infilling: what is kept does not change, what is new fits in its place."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from notagen.abc.duration import bar_duration, parse_meter
from notagen.abc.parser import parse_bar
from notagen.abc.syntax import Slur
from notagen.generation import infilling as module
from notagen.generation.decoding import Limits
from notagen.generation.infilling import infill
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen, NotaGenConfig
from notagen.notation.bars import read_tune
from notagen.notation.layout import deinterleave, interleave
from notagen.notation.rests import complete_rests, omit_rests
from notagen.notation.validation import validate
from pentatonic.errors import FormatError, InputError, UsageError

CASES = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
PIECES = {case["name"]: case["interleaved"] for case in CASES if case["interleaved"]}
SONG, PIANO, QUARTET = PIECES["song"], PIECES["piano"], PIECES["quartet"]
SLURRED = """%%score 1 2
L:1/8
M:3/4
K:D
V:1 treble nm="Violin"
V:2 bass
[r:0/4][V:1]|:(d2 e2 f2|[V:2]|:D6|
[r:1/3][V:1]g2) (a2 f2|[V:2](D2 E2 F2|
[r:2/2][V:1]e6)|[V:2]G6|
[r:3/1][V:1](d4 c/8B/8c/4d/2e)|[V:2]A6)|
[r:4/0][V:1]d6:|[V:2]D6:|
"""


SHORT = Limits(patches=30)  # random models are in no hurry to end a bar


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = NotaGen(NotaGenConfig(patch_layers=1, char_layers=1, width=16, heads=2, patch_length=128)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
    return model


def check(before, after, bars, voices):
    """Compare two pieces bar by bar."""
    old, new = read_tune(before), read_tune(after)
    assert new.header == old.header
    meter = parse_meter(next(line[2:] for line in old.header if line.startswith("M:")))
    changed = 0
    for name, voice in old.voices.items():
        assert new.voices[name].barlines == voice.barlines
        for index, (was, now) in enumerate(zip(voice.bars, new.voices[name].bars, strict=True)):
            if name not in voices or index + 1 not in bars:
                assert now == was
            else:
                assert bar_duration(now, meter=meter) == bar_duration(was, meter=meter)
                changed += now != was
    assert changed
    assert validate(after if "[V:" in after else interleave(after)).issues == ()


@pytest.mark.parametrize("name", ["piano", "quartet", "modes"])
@pytest.mark.parametrize(
    "part", [(None, ["2"]), (range(2, 4), None), (range(1, 2), None), (range(2, 5), ["1"])]
)
def test_new_bars_fit_in_the_place_of_the_old(model, name, part):
    bars, voices = part
    text = PIECES[name]
    after = infill(model, text, bars=bars, voices=voices, candidates=2, limits=SHORT)
    names = voices or list(read_tune(text).voices)
    check(text, after, bars or range(1, 99), names)


def test_only_the_lines_of_the_bars_change(model):
    after = infill(model, SLURRED, bars=range(2, 4), voices=["1"]).splitlines()
    before = SLURRED.splitlines()
    assert [i for i, line in enumerate(after) if line != before[i]] == [7, 8]
    for i in (7, 8):
        start, voice = before[i].index("[V:2]"), after[i].index("[V:2]")
        assert after[i][voice:] == before[i][start:]
        assert after[i].startswith(before[i][: len("[r:1/3][V:1]")])


def depths(text):
    """Return how many slurs are open after each bar of each voice."""
    after = {}
    for name, voice in read_tune(text).voices.items():
        signs = [[e.text for e in parse_bar(bar).elements if isinstance(e, Slur)] for bar in voice.bars]
        changes = [sum(-1 if sign == ")" else 1 for sign in bar) for bar in signs]
        after[name] = list(itertools.accumulate(changes))
    return after


@pytest.mark.parametrize("bars", [range(1, 2), range(2, 3), range(2, 4), range(3, 5), range(1, 6)])
def test_slurs_stay_balanced(model, bars):
    for seed in range(2):
        after = infill(model, SLURRED, bars=bars, voices=["1", "2"], seed=seed, candidates=1, limits=SHORT)
        assert validate(after).issues == ()
        assert depths(after) == depths(SLURRED)


def test_layouts_come_back_as_given(model):
    reduced = omit_rests(read_tune(QUARTET))
    after = infill(model, reduced, bars=range(1, 2), voices=["2"])
    assert "[V:3]" not in after.splitlines()[-4]  # it rests, and is left out as before
    standard = "X:7\nT:Träume\n" + deinterleave(PIANO)
    after = infill(model, standard, bars=range(2, 4), voices=["1", "4"])
    assert after.startswith("X:7\nT:Träume\n%%score")
    assert "[V:" not in after
    check(standard, after, range(2, 4), ["1", "4"])
    tune = 'X:1\nM:2/4\nK:C\n"Kurze Übung"CDEF|GABc|c4|]\n'
    after = infill(model, tune, bars=range(2, 3))
    assert after.startswith("X:1\nM:2/4\nK:C\nV:1\n") and '"Kurze Übung"CDEF' in after


def test_seeds_decide(model):
    def run(seed):
        return infill(model, SLURRED, bars=range(2, 4), seed=seed, candidates=1)

    assert run(5) == run(5) != run(6)
    assert infill(model, SLURRED, bars=range(2, 4), seed=5) == infill(
        model, SLURRED, bars=range(2, 4), seed=5
    )


def test_the_music_that_follows_chooses_the_draft(model, monkeypatch):
    seen = []

    def likelihood(model, text, following):
        seen.append((text, following))
        return float(len(seen) == 2)

    single = [infill(model, SLURRED, bars=range(2, 3), seed=seed, candidates=1) for seed in range(3)]
    monkeypatch.setattr(module, "_log_probability", likelihood)
    assert infill(model, SLURRED, bars=range(2, 3), candidates=3) == single[1]
    assert len({text for text, _ in seen}) == 3
    assert {following for _, following in seen} == {"".join(SLURRED.splitlines(keepends=True)[8:])}


def test_likelihood_is_that_of_the_plain_model(model):
    start, following = SLURRED[: SLURRED.index("[r:3")], SLURRED[SLURRED.index("[r:3") :]

    def whole(text):
        patches = torch.tensor(module.encode_train(text, 999, stream=False)[:-1])
        with torch.no_grad():
            return model.log_probabilities(patches[None], torch.ones(1, len(patches)))[0]

    expected = whole(start + following) - whole(start)
    assert module._log_probability(model, start, following) == pytest.approx(float(expected), rel=1e-4)


def test_limits_and_cancelling_still_fill_the_bars(model):
    for options in ({"limits": Limits(patches=1)}, {"cancel": lambda: True}):
        after = infill(model, SLURRED, bars=range(2, 5), candidates=2, **options)
        assert validate(after).issues == ()
        assert after.count("\n") == SLURRED.count("\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bars": range(0, 2)}, "bars"),
        ({"bars": range(3, 7)}, "between 1 and 5, got bars 3-6$"),
        ({"bars": range(9, 10)}, "got bar 9$"),
        ({"bars": range(2, 2)}, "got none$"),
        ({"bars": range(1, 4, 2)}, "got bars 1-3 in steps of 2$"),
        ({"voices": ["9"]}, "no voice 9; the piece has 1 2"),
        ({"voices": []}, "voices"),
        ({"candidates": 0}, "candidates"),
        ({"sampling": Sampling(compat=True)}, "compat"),
    ],
)
def test_wrong_arguments_are_refused(model, options, message):
    with pytest.raises(UsageError, match=message):
        infill(model, SLURRED, **options)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "K:C\n",
        SLURRED.replace("g2)", "g2?"),
        SLURRED.replace("g2)", "(9g2)"),
        SLURRED.replace("a2 f2|", "[K:G]a2 f2|"),
        SLURRED.replace("a2 f2|", "a2 f2"),
        SLURRED.replace("K:D\n", ""),
        SLURRED.replace("V:2 bass\n", ""),
    ],
)
def test_pieces_that_cannot_be_read_are_refused(model, text):
    with pytest.raises(InputError):
        infill(model, text, bars=range(2, 3))


def test_numbers_of_bars_are_no_music(model):
    standard = deinterleave(complete_rests(SLURRED).text)
    numbered = "".join(f"{line} %5\n" if "|" in line else f"{line}\n" for line in standard.splitlines())
    options = {"bars": range(2, 3), "voices": ["1"], "candidates": 1, "limits": SHORT}
    assert infill(model, numbered, **options) == infill(model, standard, **options)


def test_the_place_of_an_error_is_told(model):
    with pytest.raises(FormatError, match="bar 2, voice 1") as caught:
        infill(model, SLURRED.replace("g2)", "g2?"), bars=range(2, 3))
    assert caught.value.line == 8
