"""The best of several candidates: their seeds, their scores, and which one is kept."""

import math

import pytest
import torch
from torch.nn import functional as F

from notagen.codec import END_PATCH, EOS, PAD, PATCH_SIZE, encode_generate, encode_train
from notagen.generation import best_of as module
from notagen.generation.best_of import best_pieces, candidate_requests
from notagen.generation.decoding import Limits, Request, Update, generate
from notagen.generation.sampling import Sampling
from notagen.weights import from_pretrained
from pentatonic.errors import UsageError

PROMPT = "%Folk\n%Aird, James\n%Flute\n"


@pytest.fixture(scope="module")
def model():
    return from_pretrained("notagen-tiny")


def test_seeds_of_candidates():
    request = Request("%Folk\n", seed=7, bars=4)
    four = candidate_requests(request, 4)
    assert four[0] == request and candidate_requests(request, 2) == four[:2]
    assert {(each.prompt, each.bars) for each in four} == {("%Folk\n", 4)}
    seeds = [each.seed for seed in range(200) for each in candidate_requests(Request(seed=seed), 4)]
    assert len(set(seeds)) == 800
    # Recorded, because a stored piece must come again after an update.
    assert [each.seed for each in four] == [7, 369571992, 1009178997, 3466196061]


def plain_score(model, text, given):
    """Mean log-probability of a piece and its end, without the first ``given`` characters."""
    patches = torch.tensor([encode_train(text, model.config.patch_length, stream=False)])
    logits = model.char_decoder(model.patch_decoder(patches)[0, :-1], patches[0, 1:, :-1])
    losses = F.cross_entropy(
        logits.flatten(0, 1), patches[0, 1:].flatten(), ignore_index=PAD, reduction="none"
    )
    characters = losses[patches[0, 1:].flatten() != PAD]
    after_end = (
        PATCH_SIZE - END_PATCH.index(EOS) - 1
    )  # the end patch is written up to its first end character
    return -float(characters[given:-after_end].mean())


@torch.no_grad()
def test_the_score_is_the_mean_over_drawn_characters(model):
    header = f"{PROMPT}%%score 1\nL:1/8\nM:2/4\nK:G\nV:1 treble\n"
    request = Request(header, seed=1, bars=8)
    [piece] = generate(model, [request], sampling=Sampling(), scored=True)
    assert piece.status == "finished"
    patches = encode_generate(header)[1:]
    given = sum(each != PAD for patch in patches for each in patch) + len("[r:0/7]")
    assert piece.score == pytest.approx(plain_score(model, piece.text, given), abs=1e-4)
    assert generate(model, [request], sampling=Sampling())[0].score is None


@pytest.mark.parametrize("constrained", [True, False])
def test_the_likeliest_is_kept_whatever_the_batch(model, constrained):
    requests = [Request(PROMPT, seed=seed, bars=2) for seed in (0, 1)]
    options = {"constrained": constrained, "limits": Limits(patches=24), "sampling": Sampling()}
    found = {}
    for batch_size in (1, 3):
        best = dict(best_pieces(model, requests, best_of=2, batch_size=batch_size, **options))
        for index, choice in best.items():
            alone = generate(model, candidate_requests(requests[index], 2), scored=True, **options)
            scores = [piece.score for piece in alone]
            finished = [i for i in range(2) if alone[i].status == "finished"] or range(2)
            assert choice.chosen == max(finished, key=lambda i: scores[i])
            assert choice.piece.text == alone[choice.chosen].text
            assert [each.score for each in choice.candidates] == pytest.approx(scores, abs=1e-5)
            assert [each.status for each in choice.candidates] == [piece.status for piece in alone]
        found[batch_size] = [best[index].piece.text for index in range(2)]
    assert found[1] == found[3]


def chosen(monkeypatch, *ends):
    """The index that is kept of candidates with these ends and scores."""
    updates = [Update(i, "", status, score=score) for i, (status, score) in enumerate(ends)]
    monkeypatch.setattr(module, "stream", lambda *_, **__: iter(updates))
    [(_, choice)] = best_pieces(None, [Request()], best_of=len(ends))  # type: ignore[arg-type]
    return choice.chosen


def test_finished_pieces_come_first_and_equal_ones_in_their_order(monkeypatch):
    assert chosen(monkeypatch, ("finished", -0.9), ("patches", -0.1)) == 0
    assert chosen(monkeypatch, ("patches", -0.9), ("patches", -0.1)) == 1
    assert chosen(monkeypatch, ("finished", -0.5), ("finished", -0.5 + 1e-7)) == 0
    assert chosen(monkeypatch, ("finished", math.nan), ("finished", -9.0)) == 1
    assert chosen(monkeypatch, ("cancelled", None), ("cancelled", None)) == 0


def test_no_candidate_is_refused(model):
    with pytest.raises(UsageError, match="best_of must be at least 1, got 0"):
        next(best_pieces(model, [Request()], best_of=0))
