"""The best of several candidates of a piece, by the model's own score.

The score is the mean natural log-probability of the characters that the model has drawn, by the model itself, without
filters and temperature. It is a mean so that long pieces are not punished; and one over characters, not over bars,
because a bar of many notes or voices has more characters, each of which can only lower the score of the bar.

A score by likelihood prefers music that repeats itself to music that surprises (arXiv 1904.09751), so few candidates
are better than many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from notagen.codec import decode, encode_generate
from notagen.generation.decoding import Piece, Request, Status, Update, stream
from notagen.model import NotaGen
from pentatonic.errors import UsageError

# Pieces that are equal may get scores that differ by rounding, depending on the batch.
_DIGITS = 5


@dataclass(frozen=True)
class Candidate:
    """What is kept of a candidate.

    Attributes:
        seed: With it as the seed of the request, the model writes this candidate again.
        score: Mean natural log-probability of the drawn characters; None where none was drawn or it was not asked for.
        status: As in :class:`notagen.generation.decoding.Update`.
    """

    seed: int
    score: float | None
    status: Status


@dataclass(frozen=True)
class Choice:
    """The chosen candidate of a piece.

    Attributes:
        piece: Its text and what is known of it.
        candidates: All candidates, in the order in which they were asked for.
        chosen: Index of the chosen one.
    """

    piece: Piece
    candidates: tuple[Candidate, ...]
    chosen: int


def candidate_requests(request: Request, count: int) -> list[Request]:
    """Return the requests of the candidates of a piece.

    The first one is the request itself, and fewer candidates are the first of more. The seeds of the others are
    hashed, so that they are not those of pieces with neighbouring seeds.

    Args:
        request: The piece.
        count: Number of candidates, at least 1.
    """
    further = [np.random.SeedSequence((request.seed, number)) for number in range(1, count)]
    return [request, *(replace(request, seed=int(each.generate_state(1)[0])) for each in further)]


def best_pieces(
    model: NotaGen,
    requests: Sequence[Request],
    *,
    best_of: int,
    watch: Callable[[Update], None] = lambda update: None,
    **options: Any,
) -> Iterator[tuple[int, Choice]]:
    """Write several candidates of each piece, and keep the one with the highest score.

    Candidates that the model has finished are preferred to those that a limit has ended. The choice does not depend on
    the other pieces.

    Args:
        model: The model, in evaluation mode.
        requests: The pieces.
        best_of: Number of candidates, at least 1.
        watch: Called with each update; its ``index`` counts the candidates of all pieces, those of a piece together.
        options: Further arguments of :func:`notagen.generation.decoding.stream`; limits are those of one candidate.

    Yields:
        The index of a request and its choice, as soon as its last candidate has ended.

    Raises:
        UsageError: ``best_of`` is less than 1.
        FormatError, UsageError, BackendUnavailable: As :func:`notagen.generation.decoding.stream`.
    """
    if best_of < 1:
        raise UsageError(f"best_of must be at least 1, got {best_of}")
    candidates = [each for request in requests for each in candidate_requests(request, best_of)]
    texts = [decode(encode_generate(each.prompt)) for each in candidates]
    pieces: list[dict[int, Piece]] = [{} for _ in requests]
    for update in stream(model, candidates, scored=best_of > 1, **options):
        watch(update)
        texts[update.index] += update.text
        if update.status is None:
            continue
        index, number = divmod(update.index, best_of)
        seed, text = candidates[update.index].seed, texts[update.index]
        pieces[index][number] = Piece(text, update.status, seed, update.closing, update.draws, update.score)
        if len(pieces[index]) == best_of:
            yield index, _choice([piece for _, piece in sorted(pieces[index].items())])


def _choice(pieces: Sequence[Piece]) -> Choice:
    chosen = max(range(len(pieces)), key=lambda i: _preference(pieces[i]))
    candidates = tuple(Candidate(piece.seed, piece.score, piece.status) for piece in pieces)
    return Choice(pieces[chosen], candidates, chosen)


def _preference(piece: Piece) -> tuple[bool, float]:
    score = -math.inf if piece.score is None or math.isnan(piece.score) else piece.score
    return piece.status == "finished", round(score, _DIGITS)
