"""The character bigram: counts, loss, and what it writes."""

import math
from itertools import pairwise

import pytest
import torch

from notagen.codec import encode_train
from notagen.evaluation.bigram import Bigram
from notagen.generation.sampling import Sampling
from pentatonic.errors import UsageError

ALL = Sampling(top_k=0, top_p=1.0, temperature=1.0)


def piece(text):
    return torch.tensor(encode_train(text, 100, stream=False))


PIECE = piece("K:C\n[V:1]cc|]\n")


def test_probabilities_are_smoothed_shares():
    bigram = Bigram([PIECE], smoothing=0.5)
    after_c = bigram.log_p[ord("c")].exp()
    # "cc" and "c|" each once.
    assert after_c[ord("c")] == pytest.approx(1.5 / (2 + 127 * 0.5))
    assert after_c[ord("x")] == pytest.approx(0.5 / (2 + 127 * 0.5))
    assert float(after_c.sum()) == pytest.approx(1.0) and after_c[0] == 0
    with pytest.raises(UsageError):
        Bigram([], smoothing=0.0)


def test_the_loss_is_over_all_ids_but_padding_and_the_start():
    bigram = Bigram([PIECE])
    total, last, count = 0.0, 2, 0
    for patch in PIECE[1:].tolist():
        for i in patch:
            if i:
                total += float(bigram.log_p[last, i])
                last, count = i, count + 1
    assert bigram.log_probability(PIECE) == pytest.approx(total)
    assert count == int((PIECE[1:] != 0).sum())
    assert math.exp(total / count) > 1 / 128


def test_what_is_written_ends_like_the_pieces():
    texts = ["K:C\n[V:1]cdc|]\n", "K:C\n[V:1]eee|]\n"]
    bigram = Bigram([piece(text) for text in texts], smoothing=1e-9)
    written = {bigram.generate("%P\n", seed=seed, sampling=ALL) for seed in range(30)}
    assert len(written) > 3 and all(finished for _, finished in written)
    # A patch may be followed by what follows another one: here the header by a header.
    known = {*(pair for text in texts for pair in pairwise(text)), ("\n", "K")}
    for text, _ in written:
        assert text.startswith("%P\n")
        assert set(pairwise(text[3:])) <= known
    assert bigram.generate("%P\n", seed=3, sampling=ALL) == bigram.generate("%P\n", seed=3, sampling=ALL)


def test_a_limit_ends_what_goes_on():
    bigram = Bigram([piece("K:C\n[V:1]cccccccccccccccccccccccccccccccccc|]\n")], smoothing=1e-9)
    text, finished = bigram.generate("K:C\n[V:1]c", seed=1, sampling=Sampling(top_k=1), max_characters=30)
    assert (len(text), finished) == (30, False)
