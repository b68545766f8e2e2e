"""Generation against recorded runs, and cached and batched against plain generation."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as load_golden

from notagen.codec import EOS, decode, encode_generate, keep_newest, padded
from notagen.generation import decoding as module
from notagen.generation.decoding import Limits, Request, generate, sample_patches, stream
from notagen.generation.sampling import Sampling, draw, probabilities
from notagen.model import NotaGen, NotaGenConfig
from notagen.weights import load_file
from pentatonic.errors import FormatError, UsageError

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "generation_e2e" / "cases.json").read_text())["cases"]
PROMPT = "%Classical\n%Anon, A.\n%Art Song\n"
GREEDY = Sampling(top_k=1)


@pytest.fixture(scope="module")
def trained():
    return load_file(GOLDENS / "generation_e2e" / "weights.safetensors")


@pytest.fixture(scope="module")
def untrained():
    """A model with random weights large enough that its choices depend on the whole context."""
    torch.manual_seed(3)
    config = NotaGenConfig(patch_layers=2, char_layers=1, width=32, heads=2, patch_length=12)
    model = NotaGen(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(12)
    return model


def to_end(ids):
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c['script'].split('/')[0]}-{c['numpy_seed']}-{c['top_k']}"
)
def test_recorded_runs(case, trained, monkeypatch):
    calls, context, inner_vectors, inner_sample = [], 0, module._next_vectors, module.sample_patches

    def vectors(model, cache, jobs):
        nonlocal context
        context = 16 * len(jobs[0].context)
        return inner_vectors(model, cache, jobs)

    def sample(model, vectors, known, rngs, sampling, grammars=()):
        patches = inner_sample(model, vectors, known, rngs, sampling, grammars)
        calls.append((context + len(known[0]), patches[0][len(known[0]) :]))
        return patches

    monkeypatch.setattr(module, "_next_vectors", vectors)
    monkeypatch.setattr(module, "sample_patches", sample)
    sampling = Sampling(case["top_k"], case["top_p"], case["temperature"], compat=True)
    prompt = "".join(f"%{line}\n" for line in case["prompt"] or ())
    [piece] = generate(trained, [Request(prompt, seed=case["numpy_seed"])], sampling=sampling)
    # What follows the end character of a patch never reaches anything.
    assert calls == [(call["context_ids"], to_end(call["ids"])) for call in case["calls"]]
    assert piece.status == "finished"
    if "original" in case:
        assert piece.text == case["original"]


def test_the_context_after_a_slide_is_as_recorded(trained):
    case = next(case for case in CASES if case["context_reencodings"])
    slide = case["context_reencodings"][0]
    assert encode_generate(slide["text"]) == slide["ids"]


@pytest.mark.parametrize("name", ["model_tiny_a", "model_tiny_b"])
@pytest.mark.parametrize("kind", ["greedy_patches", "sampled_patches"])
def test_recorded_patches(name, kind):
    meta = json.loads((GOLDENS / name / "meta.json").read_text())
    io = load_golden(GOLDENS / name / "io.safetensors")
    model = load_file(GOLDENS / name / "weights.safetensors", heads=meta["config"]["num_heads"])
    sampling = Sampling(1, 1.0, 1.0, compat=True) if kind[0] == "g" else Sampling(compat=True)
    rng = np.random.RandomState(meta["generation_seed"])
    patches = io["ctx_patches"].tolist()
    for recorded in io[kind].tolist():
        vector = model.patch_decoder(torch.tensor([patches]))[:, -1]
        [patch] = sample_patches(model, vector, [[]], [rng], sampling)
        assert patch == to_end(recorded)
        patches.append(padded(patch))


@pytest.mark.parametrize("name", ["model_tiny_a", "model_tiny_b"])
def test_recorded_forced_patch(name):
    meta = json.loads((GOLDENS / name / "meta.json").read_text())
    io = load_golden(GOLDENS / name / "io.safetensors")
    model = load_file(GOLDENS / name / "weights.safetensors", heads=meta["config"]["num_heads"])
    vector = model.patch_decoder(io["ctx_patches"][None])[:, -1]
    forced = [ord(c) for c in "[r:0/"]
    [patch] = sample_patches(model, vector, [forced], [np.random.RandomState(0)], GREEDY)
    assert patch == to_end(forced + io["greedy_continuation_of_[r:0/"].tolist())


@torch.inference_mode()
def plain_patches(model, prompt, seed, sampling, count):
    """Write patches by the definition: every character from the whole context, nothing kept."""
    rng, length = np.random.RandomState(seed), model.config.patch_length
    *context, known = encode_generate(prompt, length - 1)
    for _ in range(count):
        ids, uniforms = list(known), rng.random_sample(16 - len(known))
        for uniform in uniforms:
            vector = model.patch_decoder(torch.tensor([context]))[:, -1]
            logits = model.char_decoder(vector, torch.tensor([ids], dtype=torch.int64))[0, -1]
            ids.append(int(draw(probabilities(logits, sampling), torch.tensor(uniform))))
            if ids[-1] == EOS:
                break
        yield decode([ids[len(known) :]])
        context, known = [*context, padded(ids)], []
        if len(context) == length:
            context = keep_newest(context, length // 2)


@pytest.mark.parametrize("seed", range(1, 4))
def test_cached_equals_plain_also_across_slides(trained, seed, monkeypatch):
    slides = []

    def slide(patches, budget):
        shorter = keep_newest(patches, budget)
        slides.append((len(patches), len(shorter)))
        return shorter

    monkeypatch.setattr(module, "keep_newest", slide)
    sampling = Sampling(top_k=0, top_p=1.0, temperature=1.5)  # far from what it was trained on
    prompt = CASES[0]["original"][:120]
    plain = plain_patches(trained, prompt, seed, sampling, 60)
    updates = stream(trained, [Request(prompt, seed)], sampling=sampling, limits=Limits(patches=60))
    for update in updates:
        assert update.text == next(plain)
    assert slides and all(before == 24 and after <= 12 for before, after in slides)


def test_batches_equal_single_runs(untrained, trained, monkeypatch):
    monkeypatch.setattr("notagen.model._FIRST_TOKENS", 3)  # so that caches grow
    for model in (untrained, trained):
        prompts = ["", PROMPT, PROMPT[:11], "K:C\n[r:0/9][V:1]ab|\n[r:1/8][V:1]cd", ""]
        requests = [Request(prompt, seed) for seed, prompt in enumerate(prompts)]
        options = {"sampling": Sampling(top_k=0), "limits": Limits(patches=30)}
        single = [generate(model, [request], **options)[0] for request in requests]
        assert generate(model, requests, batch_size=4, **options) == single
        assert generate(model, requests[::-1], batch_size=2, **options) == single[::-1]
        assert len({piece.text for piece in single}) > 2


def test_half_precision(trained):
    half = load_file(GOLDENS / "generation_e2e" / "weights.safetensors").to(torch.bfloat16)
    request = Request("%%score 1\n")
    assert generate(half, [request], sampling=GREEDY) == generate(trained, [request], sampling=GREEDY)


def test_updates_add_up_to_the_piece(trained):
    request = Request(PROMPT, seed=3)
    updates = list(stream(trained, [request]))
    assert PROMPT + "".join(update.text for update in updates) == generate(trained, [request])[0].text
    assert [update.status for update in updates] == [None] * (len(updates) - 1) + ["finished"]


def test_a_prompt_steers_and_is_part_of_the_piece(trained):
    [piece] = generate(trained, [Request(PROMPT, seed=5)], sampling=GREEDY)
    assert piece.text.startswith(PROMPT + "%%score 1 { 2 | 3 }\n")
    [flute] = generate(trained, [Request("%%score 1\n")], sampling=GREEDY)
    assert 'nm="Flute"' in flute.text


def test_a_slide_keeps_the_piece_going(trained):
    [piece] = generate(trained, [Request("%%score 1\n")], sampling=GREEDY)
    tags = [line[: line.index("]") + 1] for line in piece.text.splitlines() if line.startswith("[r:")]
    assert tags == [f"[r:{i}/{11 - i}]" for i in range(12)]
    assert piece.status == "finished"


def test_music_is_continued_where_it_ends(trained):
    [whole] = generate(trained, [Request("%%score 1\n")], sampling=GREEDY)
    for cut in (120, 128, 131):
        assert whole.text[:cut].count("[r:") >= 1
        [piece] = generate(trained, [Request(whole.text[:cut])], sampling=GREEDY)
        assert piece == whole


def test_the_first_tag_can_announce_the_length(trained):
    [piece] = generate(trained, [Request("%%score 1\n", bars=5)], sampling=GREEDY, limits=Limits(patches=40))
    assert next(line for line in piece.text.splitlines() if "[r:" in line).startswith("[r:0/4]")


def test_limits_keep_what_there_is(trained, monkeypatch):
    def run(**limits):
        return generate(trained, [Request(PROMPT, 3)], sampling=GREEDY, limits=Limits(**limits))[0]

    whole = run()
    few, short = run(patches=3), run(characters=100)
    assert (few.status, short.status) == ("patches", "characters")
    assert whole.text.startswith(few.text) and whole.text.startswith(short.text)
    assert 100 < len(short.text) <= 116
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    late = run(seconds=35.0)
    assert late.status == "seconds"
    assert late.text == run(patches=4).text


@pytest.mark.parametrize("compat", [True, False])
def test_a_header_that_fills_the_context_ends_the_piece(untrained, compat):
    [piece] = generate(untrained, [Request("%a\n")], sampling=Sampling(top_k=0, compat=compat))
    assert piece.status == "context"
    assert len(encode_generate("%a\n")) + 10 == untrained.config.patch_length


def test_a_prompt_must_leave_room(untrained):
    with pytest.raises(UsageError, match="do not fit"):
        generate(untrained, [Request("%a\n" * 12)])


def test_the_original_slide_survives_long_lines(untrained):
    request, options = Request("K:C\n[r:0/9][V:1]ab|\n[r:1/8][V:1]cde", 1), {"limits": Limits(patches=40)}
    [piece] = generate(untrained, [request], sampling=Sampling(0, 1.0, compat=True), **options)
    assert piece.status == "patches"


def test_cancelling_ends_all_pieces(trained):
    answers = iter([False, False, True])
    pieces = generate(
        trained, [Request(PROMPT, seed) for seed in range(3)], batch_size=2, cancel=lambda: next(answers)
    )
    assert [piece.status for piece in pieces] == ["cancelled"] * 3
    assert pieces[0].text.startswith(PROMPT + "%%score")
    assert pieces[2].text == PROMPT


def test_no_requests_no_pieces(trained):
    assert generate(trained, []) == []


def test_wrong_arguments_are_refused(trained):
    with pytest.raises(UsageError, match="seed"):
        Request(seed=-1)
    with pytest.raises(UsageError, match="bars"):
        Request(bars=0)
    with pytest.raises(UsageError, match="batch_size"):
        generate(trained, [Request()], batch_size=0)
    with pytest.raises(FormatError, match="code points"):
        generate(trained, [Request("%Dvořák\n")])
    trained.train()
    try:
        with pytest.raises(UsageError, match="training mode"):
            generate(trained, [Request()])
    finally:
        trained.eval()
