"""Constrained generation: random models write well-formed pieces, however they are batched, slid and cut off."""

import itertools

import numpy as np
import pytest
import torch

from notagen.codec import EOS, decode, encode_generate, keep_newest, padded
from notagen.generation import bar_drawing
from notagen.generation import decoding as module
from notagen.generation.bar_drawing import BarDrawer
from notagen.generation.decoding import Limits, Request, generate, sample_patches, stream
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling, draw, probabilities
from notagen.model import NotaGen, NotaGenConfig
from notagen.musicxml import abc_to_musicxml
from notagen.notation.rests import final_text
from notagen.notation.validation import validate
from pentatonic.errors import FormatError, UsageError

HEADER = "%%score 1 2\nL:1/8\nM:3/4\nK:C\nV:1 treble\nV:2 bass\n"
PROMPTS = (
    "",
    "%Baroque\n",
    HEADER,
    HEADER + "[r:0/3][V:1]|:c6|[V:2]|:C6|\n",
    HEADER + "[r:0/3][V:1](3cde f2",
)
UNTAGGED = HEADER + "[V:1]c6|\n"


def random_model(patch_length, scale=10.0, width=16):
    torch.manual_seed(patch_length)
    config = NotaGenConfig(patch_layers=1, char_layers=1, width=width, heads=2, patch_length=patch_length)
    model = NotaGen(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
    return model


@pytest.fixture(scope="module")
def model():
    return random_model(40)


@pytest.fixture(scope="module")
def roomy():
    return random_model(256)


def check(text):
    assert validate(text).issues == ()
    assert abc_to_musicxml(final_text(text))


def test_a_hundred_pieces_of_a_random_model(roomy):
    requests = [Request(PROMPTS[seed % 5], seed, bars=(None, 3)[seed % 2]) for seed in range(100)]
    limits = Limits(patches=45)
    pieces = generate(roomy, requests, limits=limits, batch_size=50, constrained=True)
    for piece, request in zip(pieces, requests, strict=True):
        check(piece.text)
        assert piece.text.endswith(piece.closing)
        assert piece.status in ("finished", "patches")
        if piece.status == "finished":
            assert piece.closing == ""
            # The number of bars is the announced one.
            bars = 4 if "[V:" in request.prompt else request.bars
            assert bars in (None, piece.text.count("[V:1]"), piece.text.count("\n[r:"))
    assert {piece.status for piece in pieces} == {"finished", "patches"}


@pytest.mark.parametrize(
    "sampling",
    [Sampling(top_k=1), Sampling(top_k=0, top_p=1.0, temperature=3.0), Sampling(top_k=2, top_p=0.1)],
)
def test_any_sampling(roomy, sampling):
    requests = [Request(HEADER, seed, bars=2) for seed in range(6)]
    options = {"sampling": sampling, "limits": Limits(patches=50), "constrained": True}
    for piece in generate(roomy, requests, **options):
        check(piece.text)


def test_a_model_without_numbers(roomy):
    broken = random_model(64)
    with torch.no_grad():
        broken.char_decoder.trunk.norm.bias.fill_(torch.nan)
    [piece] = generate(broken, [Request(HEADER, bars=1)], limits=Limits(patches=30), constrained=True)
    check(piece.text)


@torch.no_grad()
def plain_bars(model, prompt, seed, sampling, count):
    """Write constrained bars by the definition: every character from the whole context and text, nothing kept."""
    rng, length, accepted = np.random.RandomState(seed), model.config.patch_length, []
    context, known = encode_generate(prompt, length - 1), []
    if len(context[-1]) < 16:
        *context, known = context
    before = decode(encode_generate(prompt)).removesuffix(decode([known]))
    for _ in range(count):
        for attempt in itertools.count():
            grammar, forced = Grammar(prompt), attempt >= bar_drawing.FREE_TRIES
            for each in accepted:
                grammar.feed(each)
            drawn, patches, valid, other = list(context), [], True, False
            while valid and not (patches and (EOS in patches[-1] or grammar.begins_line) and not other):
                if len(drawn) == length:
                    drawn = keep_newest(drawn, length // 2)
                ids = [*(known if not patches else []), *(grammar.determined() if not other else [])]
                for uniform in rng.random_sample(16 - len(ids)):
                    if ids[-1:] == [EOS]:
                        break
                    vector = model.patch_decoder(torch.tensor([drawn]))[:, -1]
                    logits = model.char_decoder(vector, torch.tensor([ids], dtype=torch.int64))[0, -1]
                    allowed = torch.tensor([bool(grammar.allowed >> i & 1) for i in range(128)])
                    p = probabilities(logits, sampling, allowed if forced else None)
                    ids.append(int(draw(p, torch.tensor(uniform))))
                    valid = valid and (other or bool(grammar.allowed >> ids[-1] & 1))
                    if valid and not other:
                        grammar.feed(ids[-1])
                patches, drawn = [*patches, ids], [*drawn, padded(ids)]
                if (
                    not valid and not forced and grammar.in_music
                ):  # a whole line with other notation is judged
                    valid = other = bool(bar_drawing._OTHER_NOTATION.search(decode(patches)))
                if other and (ord("\n") in ids or bar_drawing._is_lost(before, patches)):
                    valid = False  # random text is not well-formed
            if valid:
                break
        text, before = decode(patches)[len(known) :], before + decode(patches)
        accepted += [each for ids in patches for each in ids][len(known) :]
        yield text
        context, known = drawn, []


@pytest.mark.parametrize("prompt", [UNTAGGED, UNTAGGED + "[V:1]c2 (d"])
def test_cached_equals_plain_also_across_slides(model, prompt, monkeypatch):
    slides = []
    monkeypatch.setattr(module, "keep_newest", lambda *args: slides.append(1) or keep_newest(*args))
    monkeypatch.setattr(Grammar, "patches_to_close", 0)
    monkeypatch.setattr(bar_drawing, "FREE_TRIES", 2)
    monkeypatch.setattr(BarDrawer, "_is_implausible", lambda *_: False)
    sampling = Sampling(top_k=0, top_p=1.0)
    updates = list(
        stream(model, [Request(prompt, 4)], sampling=sampling, limits=Limits(patches=50), constrained=True)
    )
    written = [text for update in updates if (text := update.text.removesuffix(update.closing))]
    plain = (text for text in plain_bars(model, prompt, 4, sampling, len(updates)) if text)
    assert written == list(itertools.islice(plain, len(written)))
    assert slides
    check(decode(encode_generate(prompt)) + "".join(update.text for update in updates))


def test_batches_equal_single_runs(model):
    requests = [Request(PROMPTS[seed % 5], seed) for seed in range(8)]
    options = {"limits": Limits(patches=30), "constrained": True}
    single = [generate(model, [request], **options)[0] for request in requests]
    assert generate(model, requests, batch_size=8, **options) == single
    assert generate(model, requests[::-1], batch_size=3, **options) == single[::-1]


def test_a_full_context_ends_the_piece_properly():
    requests = [Request(HEADER, seed, bars=999) for seed in range(12)]
    pieces = generate(random_model(20), requests, limits=Limits(patches=150), constrained=True)
    ended = [piece for piece in pieces if piece.status == "context"]
    assert ended
    for piece in pieces:
        check(piece.text)


@pytest.mark.parametrize(
    "limits", [{"patches": 35}, {"characters": 450}, {"patches": 1}, {"characters": 10}, {"seconds": 30.0}]
)
def test_limits_leave_room_for_the_end(roomy, limits, monkeypatch):
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    for seed in range(2):
        [piece] = generate(
            roomy, [Request(HEADER, seed, bars=999)], limits=Limits(**limits), constrained=True
        )
        [status] = limits
        assert piece.status == status
        assert piece.text.endswith(piece.closing)
        check(piece.text)
        if limits.get("characters", 0) > 100:
            assert len(piece.text) <= limits["characters"]
        if limits.get("patches", 0) > 10:
            assert len(encode_generate(piece.text)) - len(encode_generate(HEADER)) <= limits["patches"]


def test_cancelling_ends_begun_pieces_properly(roomy):
    answers = iter([False] * 5 + [True])
    requests = [Request(HEADER, seed, bars=999) for seed in range(3)]
    pieces = generate(roomy, requests, batch_size=2, cancel=lambda: next(answers), constrained=True)
    assert [piece.status for piece in pieces] == ["cancelled"] * 3
    for piece in pieces[:2]:
        check(piece.text)
    assert pieces[2].text == HEADER and pieces[2].closing == ""


def test_updates_have_the_closing_last(roomy):
    updates = list(stream(roomy, [Request(HEADER, 1)], limits=Limits(patches=50), constrained=True))
    check(HEADER + "".join(update.text for update in updates))
    assert all(update.closing == "" for update in updates[:-1])
    assert updates[-1].text.endswith(updates[-1].closing)


def test_ill_formed_prompts_are_refused_before_anything_is_written(roomy):
    with pytest.raises(FormatError, match="bar 2") as caught:
        generate(roomy, [Request(HEADER + "[r:0/5][V:1]c6|\n[r:1/4][V:1]c5|\n")], constrained=True)
    assert caught.value.line == 8
    with pytest.raises(UsageError, match="compat"):
        generate(roomy, [Request()], sampling=Sampling(compat=True), constrained=True)


def test_only_the_rows_with_a_grammar_are_constrained(roomy):
    vectors = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    rngs = [np.random.RandomState(seed) for seed in (1, 1)]
    free, also_free = sample_patches(roomy, vectors[:1].expand(2, -1), [[], []], rngs, Sampling())
    rngs = [np.random.RandomState(seed) for seed in (1, 1)]
    held, still_free = sample_patches(
        roomy, vectors[:1].expand(2, -1), [[], []], rngs, Sampling(), [Grammar(HEADER), None]
    )
    assert free == also_free == still_free != held
    assert decode([held]).startswith("[r:0/")


def test_the_model_decides_among_what_is_allowed():
    logits = torch.tensor([9.0, 8.0, 1.0, 2.0, 3.0])
    allowed = torch.tensor([False, False, True, True, False])
    p = probabilities(logits, Sampling(top_k=2, top_p=0.9, temperature=1.0), allowed)
    torch.testing.assert_close(p[2:4], torch.tensor([1.0, 2.0], dtype=torch.float64).softmax(0))
    assert p[[0, 1, 4]].tolist() == [0.0, 0.0, 0.0]
    hopeless = torch.tensor([0.0, -2000.0, -2001.0])
    p = probabilities(
        hopeless, Sampling(top_k=0, top_p=1.0, temperature=1.0), torch.tensor([False, True, True])
    )
    torch.testing.assert_close(p[1:], torch.tensor([0.0, -1.0], dtype=torch.float64).softmax(0))
    never = torch.full((3,), -torch.inf)
    p = probabilities(never, Sampling(), torch.tensor([False, True, True]))
    assert p.tolist() == [0.0, 0.5, 0.5]
