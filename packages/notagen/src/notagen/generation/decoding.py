"""Generation of pieces patch by patch, in batches.

Both decoders cache their keys and values, so a patch costs one step of the patch decoder and at most 16 steps of the
character decoder, regardless of the length of the piece. Each piece has its own random stream and does not depend on
the other pieces of the batch. Constrained pieces are drawn bar by bar, which
:mod:`notagen.generation.bar_drawing` describes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from notagen.codec import (
    BODY_STARTS,
    BOS,
    EOS,
    PATCH_SIZE,
    Patch,
    decode,
    encode_generate,
    keep_newest,
    line_starts,
    padded,
)
from notagen.generation.bar_drawing import BarDrawer, Draws, Score
from notagen.generation.compiled_step import CharStep
from notagen.generation.drafting import drafter_for
from notagen.generation.grammar import Grammar
from notagen.generation.patch_drawing import log_probabilities, sample_patches
from notagen.generation.sampling import Sampling
from notagen.model import DecoderCache, NotaGen
from notagen.notation.countdown import COUNTDOWN
from pentatonic.errors import UsageError

Status = Literal["finished", "characters", "patches", "seconds", "context", "cancelled"]
_MOST_BARS = 10**9  # the countdown tag must fit into one patch


@dataclass(frozen=True)
class Request:
    """A piece to generate.

    Args:
        prompt: Start of the text: prompt lines such as ``%Classical``, header lines, and possibly music with countdown
            tags, the last line of which may be unfinished.
        seed: Seed of the random stream of the piece, 0 to 2^32 - 1.
        bars: Number of bars that the first countdown tag announces, 1 to 10^9; ``None``: the model decides. Ignored if
            the prompt has music. A constrained piece has exactly this number of bars.

    Raises:
        UsageError: A value is out of range.
    """

    prompt: str = ""
    seed: int = 0
    bars: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed must be 0 to 2^32 - 1, got {self.seed}")
        if self.bars is not None and not 1 <= self.bars <= _MOST_BARS:
            raise UsageError(f"bars must be 1 to {_MOST_BARS}, got {self.bars}")


@dataclass(frozen=True)
class Limits:
    """Limits at which generation of a piece stops; the text so far is kept.

    A constrained piece is completed within its limits, so the model stops somewhat earlier; the text exceeds a limit
    only if that is too small for any complete piece.

    Args:
        characters: Characters of the whole text, including the prompt.
        patches: Patches written by the model; ``None``: no limit.
        seconds: Seconds since the piece was started; ``None``: no limit. Checked after each patch.
    """

    characters: int = 102_400
    patches: int | None = None
    seconds: float | None = None


_LIMITS = Limits()


@dataclass(frozen=True)
class Update:
    """Progress of one piece.

    Attributes:
        index: Index of the request.
        text: Text that was added; the texts of all updates of a piece form the text after its prompt.
        status: ``None`` while the piece is unfinished, else why it ended: ``"finished"`` by the model, one of the
            limits, ``"context"`` (header and unfinished line fill the context), or ``"cancelled"``.
        closing: The last part of ``text``, with which a constrained piece was completed without the model at a limit.
        draws: How the bars of a constrained piece came about; None while it is unfinished.
        score: Mean natural log-probability, by the model itself, of the characters that it drew; None while the piece
            is unfinished, and where it was not asked for.
    """

    index: int
    text: str
    status: Status | None
    closing: str = ""
    draws: Draws | None = None
    score: float | None = None


@dataclass(frozen=True)
class Piece:
    """A piece, finished or not.

    Attributes:
        text: Interleaved ABC with countdown tags; starts with the prompt, without its empty lines.
        status: As in :class:`Update`.
        seed: Seed of the request.
        closing: As in :class:`Update`.
        draws: How the bars came about; None for pieces that are not constrained.
        score: As in :class:`Update`; its last digits depend on the batch, so equal pieces may have others.
    """

    text: str
    status: Status
    seed: int
    closing: str = ""
    draws: Draws | None = None
    score: float | None = field(default=None, compare=False)


def generate(
    model: NotaGen,
    requests: Sequence[Request],
    *,
    sampling: Sampling | None = None,
    limits: Limits = _LIMITS,
    batch_size: int = 16,
    cancel: Callable[[], bool] = lambda: False,
    constrained: bool = False,
    compiled: bool = False,
    scored: bool = False,
) -> list[Piece]:
    """Generate pieces; the arguments are those of :func:`stream`.

    Returns:
        One piece for each request, in their order.

    Raises:
        FormatError, UsageError, BackendUnavailable: As :func:`stream`.
    """
    texts = [[decode(encode_generate(request.prompt))] for request in requests]
    ends: dict[int, Update] = {}
    options = {"sampling": sampling, "limits": limits, "batch_size": batch_size, "cancel": cancel}
    options |= {"constrained": constrained, "compiled": compiled, "scored": scored}
    for update in stream(model, requests, **options):
        texts[update.index].append(update.text)
        if update.status is not None:
            ends[update.index] = update
    return [
        Piece("".join(texts[i]), end.status, requests[i].seed, end.closing, end.draws, end.score)
        for i, end in sorted(ends.items())
        if end.status is not None
    ]


def stream(
    model: NotaGen,
    requests: Sequence[Request],
    *,
    sampling: Sampling | None = None,
    limits: Limits = _LIMITS,
    batch_size: int = 16,
    cancel: Callable[[], bool] = lambda: False,
    constrained: bool = False,
    compiled: bool = False,
    scored: bool = False,
) -> Iterator[Update]:
    """Generate pieces, and report each patch as soon as it is written, of constrained pieces each bar of a voice.

    A full context is shortened to half its length: header, newest complete lines and unfinished line. With
    ``sampling.compat`` it is shortened as in the original: to half the number of lines that the first full context had.

    Args:
        model: The model, in evaluation mode; its device and dtype are used.
        requests: The pieces to generate.
        sampling: How characters are chosen; None: as ``model.sampling`` says.
        limits: Limits at which pieces end.
        batch_size: Greatest number of pieces generated at the same time, at least 1; affects memory and speed only.
        cancel: Called before each patch; when it returns true, all unfinished pieces end.
        constrained: Take only bars after which the piece can still become well-formed by the rules of
            :func:`notagen.notation.validation.validate` and which consist of what is in ``model.vocabulary``; complete
            pieces that a limit ends.
        compiled: Use a compiled function for the character decoder (:mod:`notagen.generation.compiled_step`). It is
            compiled before the first patch, which takes up to a minute the first time.
        scored: Also give the score of pieces that are not constrained. It costs one pass of the character decoder for
            each patch; constrained pieces always have one.

    Yields:
        Updates; the last one of each piece has a status.

    Raises:
        FormatError: A prompt has a character without an id, or no well-formed piece starts with it (``constrained``).
        UsageError: Header and last line of a prompt do not fit into the context, ``batch_size`` is less than 1, the
            model is in training mode, or ``constrained`` is combined with ``sampling.compat``.
        BackendUnavailable: ``compiled`` is true, but this machine cannot compile.
    """
    sampling = sampling or model.sampling
    if constrained and sampling.compat:
        raise UsageError(
            "the original has no constrained generation, so it has no compat mode; leave out compat or constrained"
        )
    grammars = [
        Grammar(request.prompt, bars=request.bars, vocabulary=model.vocabulary) if constrained else None
        for request in requests
    ]
    yield from run(
        model,
        requests,
        grammars,
        sampling=sampling,
        limits=limits,
        batch_size=batch_size,
        cancel=cancel,
        compiled=compiled,
        scored=scored,
    )


def run(
    model: NotaGen,
    requests: Sequence[Request],
    grammars: Sequence[Grammar | None],
    *,
    sampling: Sampling,
    limits: Limits,
    batch_size: int,
    cancel: Callable[[], bool],
    compiled: bool = False,
    scored: bool = False,
) -> Iterator[Update]:
    """Generate pieces with given grammars, which may end before the piece does; otherwise as :func:`stream`.

    Args:
        model: As in :func:`stream`.
        requests: As in :func:`stream`.
        grammars: One for each request, after its prompt; ``None``: the piece is not constrained.
        sampling: As in :func:`stream`.
        limits: As in :func:`stream`.
        batch_size: As in :func:`stream`.
        cancel: As in :func:`stream`.
        compiled: As in :func:`stream`.
        scored: As in :func:`stream`.

    Yields:
        Updates.

    Raises:
        FormatError, UsageError, BackendUnavailable: As :func:`stream`.
    """
    if model.training:
        raise UsageError("the model is in training mode; put it into evaluation mode first")
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    waiting = [
        _Job(i, request, model.config.patch_length, grammar and BarDrawer(grammar, sampling), scored)
        for i, (request, grammar) in enumerate(zip(requests, grammars, strict=True))
    ][::-1]
    jobs = [waiting.pop() for _ in range(min(batch_size, len(waiting)))]
    cache = DecoderCache(model.patch_decoder.trunk, len(jobs))
    if compiled and jobs:
        sample = partial(sample_patches, step=CharStep(model, len(jobs), sampling))
    elif drafter := drafter_for(model, len(jobs)):
        sample = partial(sample_patches, drafter=drafter)
    else:
        sample = sample_patches
    while jobs:
        if cancel():
            yield from (job.end("", "cancelled") for job in [*jobs, *waiting[::-1]])
            return
        updates = _advance(model, cache, jobs, sampling, limits, sample)
        for slot in reversed(range(len(jobs))):
            if updates[slot].status is None:
                continue
            if waiting:
                jobs[slot] = waiting.pop()
            else:  # the last job takes the free row
                jobs[slot] = jobs[-1]
                jobs.pop()
                cache.drop(slot)
        yield from updates


@dataclass
class _Job:
    """A piece that is being generated.

    Attributes:
        drawer: Draws the bars of a constrained piece; ``None``: any character may follow.
        scored: Whether the score is asked for.
        score: Of the patches of a piece that is not constrained.
        context: Patches that the model sees, all complete.
        accepted: The context without the bar that is being drawn: patches that may have grown, and their number.
        known: Ids at the start of the next patch that the prompt has.
        cached: Whether the context except its last patch is in the cache.
        text: Prompt and generated text.
        tagged: Whether the tune body has started.
        written: Number of generated patches.
        kept_lines: Number of lines that the original keeps of a full context; ``None`` before the first full one.
    """

    index: int
    request: Request
    patch_length: int
    drawer: BarDrawer | None
    scored: bool = False
    score: Score = field(init=False, default_factory=Score)
    context: list[Patch] = field(init=False)
    accepted: tuple[list[Patch], int] = field(init=False)
    known: list[int] = field(init=False, default_factory=list)
    cached: bool = False
    text: str = field(init=False)
    tagged: bool = field(init=False)
    written: int = 0
    kept_lines: int | None = None
    started: float | None = None

    def __post_init__(self) -> None:
        self.rng = np.random.RandomState(self.request.seed)
        self._restart(encode_generate(self.request.prompt, self.patch_length - 1))
        self.text = decode(encode_generate(self.request.prompt))
        if self.drawer is not None:
            self.drawer.text = self.text[: len(self.text) - len(decode([self.known]))]
        self.tagged = line_starts(self.context)[0] < len(self.context) or bool(self.known)

    @property
    def first_tag(self) -> list[int]:
        """Ids that the tune body must start with."""
        left = "" if self.request.bars is None else f"{self.request.bars - 1}]"
        return [ord(c) for c in f"{COUNTDOWN}0/{left}"]

    def accept(self, patch: Patch, limits: Limits, compat: bool) -> Update:
        """Add a patch, including its known ids, and return the progress."""
        if patch[:2] == [BOS, EOS]:
            return self.end("", "finished")
        added = decode([patch[len(self.known) :]])
        self.text += added
        self.written += 1
        self.context.append(padded(patch))
        self.known = []
        status = self._exceeded(limits) or self._slide(compat)
        return self.end(added, status) if status else Update(self.index, added, None)

    def next_ids(self) -> list[int]:
        """Return the ids at the start of the next patch that are not drawn."""
        if self.drawer is None:
            return self.known
        of_prompt = [] if self.drawer.pending else self.known
        return of_prompt + self.drawer.begin_patch()

    def draw(self, patch: Patch, given: int, log_probability: float, limits: Limits) -> Update:
        """Add a patch to the bar that is being drawn, and return the progress: the bar if it is accepted."""
        assert self.drawer is not None
        taken = self.drawer.take(patch, given, log_probability)
        if taken is None:
            self._keep_accepted()
            status = self._exceeded(limits)
        elif taken:
            return self._add_bar(taken, patch, limits)
        else:
            self.context.append(padded(patch))
            status = self._exceeded(limits) or self._slide(compat=False)
            if status == "context" and self.drawer.give_up():
                self._keep_accepted()
                status = None
        return self.end("", status) if status else Update(self.index, "", None)

    def _add_bar(self, patches: list[Patch], newest: Patch, limits: Limits) -> Update:
        """Add the patches of a bar, the last of which is usually the newest one."""
        assert self.drawer is not None
        added = decode(patches)[len(decode([self.known])) :]
        if patches[-1] is newest:
            self.context.append(padded(newest))
        else:  # an earlier draw of this bar, whose keys and values are no longer in the cache
            self._keep_accepted()
            self.context += map(padded, patches)
            self.cached = False
        self.text += added
        self.written += len(patches)
        self.known, self.accepted = [], (self.context, len(self.context))
        if self.drawer.grammar.ended:
            return self.end(added, "finished")
        status = self._exceeded(limits) or self._slide(compat=False)
        return self.end(added, status) if status else Update(self.index, added, None)

    def _keep_accepted(self) -> None:
        """Drop the patches of a failed bar; what the cache has of them is overwritten."""
        patches, count = self.accepted
        self.cached &= patches is self.context
        self.context = patches
        del patches[count:]

    def end(self, added: str, status: Status) -> Update:
        """End the piece after the text that was added last; complete it if the model has begun it."""
        if self.drawer is None:
            return Update(self.index, added, status, score=_mean(self.score) if self.scored else None)
        closing = "" if self.started is None else self.drawer.grammar.close()
        score = _mean(self.drawer.score)
        return Update(self.index, added + closing, status, closing, self.drawer.draws, score)

    def _exceeded(self, limits: Limits) -> Status | None:
        assert self.started is not None
        reserve = 0
        if self.drawer is not None:
            reserve = self.drawer.grammar.patches_to_close + len(self.drawer.pending)
        if len(self.text) + PATCH_SIZE * reserve > limits.characters:
            return "characters"
        if limits.patches is not None and self.written + reserve >= limits.patches:
            return "patches"
        if limits.seconds is not None and time.monotonic() - self.started >= limits.seconds:
            return "seconds"
        return None

    def _slide(self, compat: bool) -> Status | None:
        """Shorten a full context; return a status if that is not possible."""
        if len(self.context) < self.patch_length:
            return None
        if compat:
            shorter = self._upstream_context()
            if shorter is None:
                return "context"
            self._restart(shorter[: self.patch_length])
            return None
        try:
            shorter = keep_newest(self.context, self.patch_length // 2)
        except UsageError:
            return "context"
        whole = self.accepted[1] == len(self.context)
        self.context, self.cached = shorter, False
        if whole:  # otherwise a bar that fails needs the context before it
            self.accepted = shorter, len(shorter)
        return None

    def _upstream_context(self) -> list[Patch] | None:
        """Return the shortened context of the original: header and last lines; None without music."""
        lines = self.text.split("\n")
        body = next((i for i, line in enumerate(lines) if line.startswith(BODY_STARTS)), len(lines))
        if body >= len(lines) - 1:
            return None
        if self.kept_lines is None:
            self.kept_lines = (len(lines) - body) // 2
        kept = [*lines[:body], *lines[body:][-self.kept_lines :]]
        return encode_generate("\n".join(kept) + "\n")

    def _restart(self, patches: list[Patch]) -> None:
        """Replace the context; its last patch may be open."""
        self.known = patches.pop() if len(patches[-1]) < PATCH_SIZE else []
        self.context, self.cached, self.accepted = patches, False, (patches, len(patches))


def _mean(score: Score) -> float | None:
    return score.mean if score.characters else None


def _advance(
    model: NotaGen,
    cache: DecoderCache,
    jobs: Sequence[_Job],
    sampling: Sampling,
    limits: Limits,
    sample: Callable[..., list[Patch]],
) -> list[Update]:
    """Generate one patch for each job with a form of ``sample_patches``; row i of the cache belongs to job i."""
    vectors = _next_vectors(model, cache, jobs)
    known = [job.next_ids() for job in jobs]
    given = [len(ids) for ids in known]
    masks = [job.drawer and job.drawer.mask for job in jobs]
    patches = sample(model, vectors, known, [job.rng for job in jobs], sampling, masks)
    begun = [
        i
        for i, job in enumerate(jobs)
        if not job.tagged and job.drawer is None and decode([patches[i]]).startswith(COUNTDOWN)
    ]
    if begun:  # generate these again, starting with a well-formed countdown tag
        again = [jobs[i] for i in begun]
        tags, rngs = [job.first_tag for job in again], [job.rng for job in again]
        for i, patch in zip(begun, sample(model, vectors[begun], tags, rngs, sampling), strict=True):
            patches[i], jobs[i].tagged, given[i] = patch, True, len(jobs[i].first_tag)
    scores = [0.0] * len(jobs)
    if any(job.drawer is not None or job.scored for job in jobs):
        scores = log_probabilities(model, vectors, patches, given)
    updates = []
    for job, patch, count, score in zip(jobs, patches, given, scores, strict=True):
        if job.drawer is None:
            job.score.add(score, len(patch) - count)
            updates.append(job.accept(patch, limits, sampling.compat))
        else:
            updates.append(job.draw(patch, count, score, limits))
    return updates


@torch.no_grad()
def _next_vectors(model: NotaGen, cache: DecoderCache, jobs: Sequence[_Job]) -> Tensor:
    """Return the vectors of the patch decoder for the next patch of each job: ``(B, C)``."""
    for row, job in enumerate(jobs):
        if job.started is None:
            job.started = time.monotonic()
        cache.lengths[row] = len(job.context) - 1  # less than before where a bar has failed
        if not job.cached:
            if earlier := job.context[:-1]:
                model.patch_decoder(
                    torch.tensor([earlier], device=model.device), cache.row(row, len(earlier))
                )
            job.cached = True
    newest = torch.tensor([[job.context[-1]] for job in jobs], device=model.device)
    return model.patch_decoder(newest, cache)[:, 0]
