"""Writing pieces patch by patch, many at a time.

Both decoders keep their keys and values, so a patch costs one step of the patch decoder and at most 16 of the
character decoder however long the piece is. Each piece draws from its own random stream: what it becomes does not
depend on the pieces beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from notagen.codec import (
    BOS,
    EOS,
    PATCH_SIZE,
    VOCABULARY_SIZE,
    Patch,
    decode,
    encode_generate,
    keep_newest,
    line_starts,
    padded,
)
from notagen.generation.compiled_step import CharStep
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling, draw, probabilities
from notagen.model import DecoderCache, NotaGen
from pentatonic.errors import UsageError

Status = Literal["finished", "characters", "patches", "seconds", "context", "cancelled"]
_TAG = "[r:"
_MOST_BARS = 10**9  # its tag leaves room in the first patch
_ANYTHING = (1 << VOCABULARY_SIZE) - 1


@dataclass(frozen=True)
class Request:
    """One piece to write.

    Args:
        prompt: What it starts with: prompt lines such as ``%Classical``, header lines, or also music with its
            ``[r:done/left]`` tags, the last line of which may be unfinished.
        seed: Of the piece's own random stream, 0 to 2^32 - 1.
        bars: Bars that the first tag announces, 1 to 10^9; ``None``: the model decides. Without effect where the
            prompt has music. A constrained piece has exactly as many.

    Raises:
        UsageError: A value is out of its range.
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
    """Where an unfinished piece is given up; what there is of it is kept.

    A constrained piece is brought to its end by then, so the model stops somewhat earlier; only where the limit is too
    small for any proper ending, the text goes beyond it.

    Args:
        characters: Of the whole text, prompt included.
        patches: Written by the model; ``None``: no limit.
        seconds: Since the piece was begun; ``None``: no limit. Looked at after each patch.
    """

    characters: int = 102_400
    patches: int | None = None
    seconds: float | None = None


_SAMPLING, _LIMITS = Sampling(), Limits()


@dataclass(frozen=True)
class Update:
    """News of one piece.

    Attributes:
        index: Of the request.
        text: What was added; the texts of all updates of a piece make up what follows its prompt.
        status: ``None`` while the piece goes on, else why it ended: ``"finished"`` by the model, one of the limits,
            ``"context"`` (header and unfinished line leave no room), or ``"cancelled"``.
        closing: The last part of ``text``: what brought a constrained piece, ended by a limit, to its end without the
            model.
    """

    index: int
    text: str
    status: Status | None
    closing: str = ""


@dataclass(frozen=True)
class Piece:
    """A piece, finished or not.

    Attributes:
        text: Interleaved ABC with ``[r:done/left]`` tags; starts with the prompt, of which empty lines are left out.
        status: As in :class:`Update`.
        seed: Of the request.
        closing: As in :class:`Update`.
    """

    text: str
    status: Status
    seed: int
    closing: str = ""


def generate(
    model: NotaGen,
    requests: Sequence[Request],
    *,
    sampling: Sampling = _SAMPLING,
    limits: Limits = _LIMITS,
    batch_size: int = 16,
    cancel: Callable[[], bool] = lambda: False,
    constrained: bool = False,
    compiled: bool = False,
) -> list[Piece]:
    """Write pieces; the arguments are those of :func:`stream`.

    Returns:
        One piece for each request, in their order.

    Raises:
        FormatError, UsageError, BackendUnavailable: As :func:`stream`.
    """
    texts = [[decode(encode_generate(request.prompt))] for request in requests]
    ends: dict[int, tuple[Status, str]] = {}
    options = {"sampling": sampling, "limits": limits, "batch_size": batch_size, "cancel": cancel}
    for update in stream(model, requests, constrained=constrained, compiled=compiled, **options):
        texts[update.index].append(update.text)
        if update.status is not None:
            ends[update.index] = (update.status, update.closing)
    return [
        Piece("".join(texts[i]), status, requests[i].seed, closing)
        for i, (status, closing) in sorted(ends.items())
    ]


def stream(
    model: NotaGen,
    requests: Sequence[Request],
    *,
    sampling: Sampling = _SAMPLING,
    limits: Limits = _LIMITS,
    batch_size: int = 16,
    cancel: Callable[[], bool] = lambda: False,
    constrained: bool = False,
    compiled: bool = False,
) -> Iterator[Update]:
    """Write pieces, and report each patch as soon as it is there.

    When a context is full it is shortened to header, newest complete lines and unfinished line, in half of the
    context's length. With ``sampling.compat`` it is shortened as the original does: half the number of lines that
    there were the first time.

    Args:
        model: In evaluation mode; its device and dtype are used.
        requests: What to write.
        sampling: How characters are chosen.
        limits: Where to give up.
        batch_size: Most pieces written at the same time, at least 1; decides memory and speed only.
        cancel: Asked before each patch; once it answers true, all open pieces end.
        constrained: Draw only characters after which the piece can still become well-formed by the rules of
            :func:`notagen.notation.validation.validate`, and bring pieces that a limit ends to a proper end.
        compiled: Write characters by a compiled function (:mod:`notagen.generation.compiled_step`), which takes a
            while to make, the first time a minute, before anything is written.

    Yields:
        Updates; the last one of each piece has a status.

    Raises:
        FormatError: A prompt has a character without an id, or, constrained, no well-formed piece starts with it.
        UsageError: A prompt's header and last line do not fit into the context, ``batch_size`` is less than 1,
            the model is in training mode, or ``constrained`` goes with ``sampling.compat``.
        BackendUnavailable: ``compiled`` is true, and it cannot be compiled here.
    """
    if constrained and sampling.compat:
        raise UsageError(
            "constrained generation is not what the original does; leave out compat or constrained"
        )
    grammars = [Grammar(request.prompt, bars=request.bars) if constrained else None for request in requests]
    yield from run(
        model,
        requests,
        grammars,
        sampling=sampling,
        limits=limits,
        batch_size=batch_size,
        cancel=cancel,
        compiled=compiled,
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
) -> Iterator[Update]:
    """Write pieces under grammars of their own, which may end before the piece does; the rest is as in :func:`stream`.

    Args:
        model: The model.
        requests: What to write.
        grammars: One for each request, which has followed its prompt; ``None``: the piece is not constrained.
        sampling: See there.
        limits: See there.
        batch_size: See there.
        cancel: See there.
        compiled: See there.

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
        _Job(i, request, model.config.patch_length, grammar)
        for i, (request, grammar) in enumerate(zip(requests, grammars, strict=True))
    ][::-1]
    jobs = [waiting.pop() for _ in range(min(batch_size, len(waiting)))]
    cache = DecoderCache(model.patch_decoder.trunk, len(jobs))
    step = CharStep(model, len(jobs), sampling) if compiled and jobs else None
    while jobs:
        if cancel():
            yield from (job.end("", "cancelled") for job in [*jobs, *waiting[::-1]])
            return
        updates = _advance(model, cache, jobs, sampling, limits, step)
        for slot in reversed(range(len(jobs))):
            if updates[slot].status is None:
                continue
            if waiting:
                jobs[slot] = waiting.pop()
            else:  # the last row moves into the gap
                jobs[slot] = jobs[-1]
                jobs.pop()
                cache.drop(slot)
        yield from updates


@dataclass
class _Job:
    """A piece in the making.

    Attributes:
        grammar: What may come next; ``None``: anything.
        context: Patches that the model sees, all full.
        known: Ids of the patch to write that are already there.
        cached: Whether all of the context but its last patch is in the cache.
        text: Prompt and what was written.
        tagged: Whether the tune body has begun.
        written: Number of patches written.
        kept_lines: Lines that the original keeps of a full context, once it is known.
    """

    index: int
    request: Request
    patch_length: int
    grammar: Grammar | None
    context: list[Patch] = field(init=False)
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
        self.tagged = line_starts(self.context)[0] < len(self.context) or bool(self.known)

    @property
    def first_tag(self) -> list[int]:
        """Ids of what the tune body must begin with."""
        left = "" if self.request.bars is None else f"{self.request.bars - 1}]"
        return [ord(c) for c in f"{_TAG}0/{left}"]

    def accept(self, patch: Patch, limits: Limits, compat: bool) -> Update:
        """Add a patch, known ids included, and see whether the piece goes on."""
        if patch[:2] == [BOS, EOS]:
            return Update(self.index, "", "finished")
        added = decode([patch[len(self.known) :]])
        self.text += added
        self.written += 1
        self.context.append(padded(patch))
        self.known = []
        if self.grammar is not None and self.grammar.ended:
            return Update(self.index, added, "finished")
        status = self._exceeded(limits) or self._slide(compat)
        return self.end(added, status) if status else Update(self.index, added, None)

    def end(self, added: str, status: Status) -> Update:
        """Give the piece up after what was added last; close it where the model has written any of it."""
        closing = self.grammar.close() if self.grammar is not None and self.written else ""
        return Update(self.index, added + closing, status, closing)

    def _exceeded(self, limits: Limits) -> Status | None:
        assert self.started is not None
        reserve = 0 if self.grammar is None else self.grammar.patches_to_close
        if len(self.text) + PATCH_SIZE * reserve > limits.characters:
            return "characters"
        if limits.patches is not None and self.written + reserve >= limits.patches:
            return "patches"
        if limits.seconds is not None and time.monotonic() - self.started >= limits.seconds:
            return "seconds"
        return None

    def _slide(self, compat: bool) -> Status | None:
        """Shorten a full context."""
        if len(self.context) < self.patch_length:
            return None
        if compat:
            shorter = self._upstream_context()
            if shorter is None:
                return "context"
            self._restart(shorter[: self.patch_length])
            return None
        try:
            self._restart(keep_newest(self.context, self.patch_length // 2))
        except UsageError:
            return "context"
        return None

    def _upstream_context(self) -> list[Patch] | None:
        """Encode the header and the last lines, as many as half of those at the first time; None without music."""
        lines = self.text.split("\n")
        body = next((i for i, line in enumerate(lines) if line.startswith((_TAG, "[V:"))), len(lines))
        if body >= len(lines) - 1:
            return None
        if self.kept_lines is None:
            self.kept_lines = (len(lines) - body) // 2
        kept = [*lines[:body], *lines[body:][-self.kept_lines :]]
        return encode_generate("\n".join(kept) + "\n")

    def _restart(self, patches: list[Patch]) -> None:
        """Take another context, the last patch of which may be open."""
        self.known = patches.pop() if len(patches[-1]) < PATCH_SIZE else []
        self.context, self.cached = patches, False


def _advance(
    model: NotaGen,
    cache: DecoderCache,
    jobs: Sequence[_Job],
    sampling: Sampling,
    limits: Limits,
    step: CharStep | None,
) -> list[Update]:
    """Write one patch of each job; row i of the cache belongs to job i."""
    vectors = _next_vectors(model, cache, jobs)
    grammars = [job.grammar for job in jobs]
    sample = sample_patches if step is None else partial(sample_patches, step=step)
    patches = sample(
        model, vectors, [job.known for job in jobs], [job.rng for job in jobs], sampling, grammars
    )
    begun = [
        i
        for i, job in enumerate(jobs)
        if not job.tagged and job.grammar is None and decode([patches[i]]).startswith(_TAG)
    ]
    if begun:  # write these again, from a well-formed first tag on
        again = [jobs[i] for i in begun]
        known, rngs = [job.first_tag for job in again], [job.rng for job in again]
        for i, patch in zip(begun, sample(model, vectors[begun], known, rngs, sampling), strict=True):
            patches[i], jobs[i].tagged = patch, True
    return [job.accept(patch, limits, sampling.compat) for job, patch in zip(jobs, patches, strict=True)]


@torch.no_grad()
def _next_vectors(model: NotaGen, cache: DecoderCache, jobs: Sequence[_Job]) -> Tensor:
    """Return what the patch decoder says about the next patch of each job: ``(B, C)``."""
    for row, job in enumerate(jobs):
        if job.started is None:
            job.started = time.monotonic()
        if not job.cached:
            cache.lengths[row], earlier = len(job.context) - 1, job.context[:-1]
            if earlier:
                model.patch_decoder(
                    torch.tensor([earlier], device=model.device), cache.row(row, len(earlier))
                )
            job.cached = True
    newest = torch.tensor([[job.context[-1]] for job in jobs], device=model.device)
    return model.patch_decoder(newest, cache)[:, 0]


@torch.no_grad()
def sample_patches(
    model: NotaGen,
    vectors: Tensor,
    known: Sequence[Sequence[int]],
    rngs: Sequence[np.random.RandomState],
    sampling: Sampling,
    grammars: Sequence[Grammar | None] = (),
    step: CharStep | None = None,
) -> list[Patch]:
    """Draw the characters of one patch of each piece.

    Args:
        model: The model.
        vectors: ``(B, C)`` from the patch decoder, one for each patch to write.
        known: Ids that the patches begin with, fewer than 16 each.
        rngs: Random stream of each piece. One number is taken for each of the 16 places that is not known, also for
            those after the end, so that a stream does not depend on where patches end.
        sampling: How characters are chosen.
        grammars: What may follow in each piece, its known ids included; each goes on with what is drawn. None given,
            or ``None`` for a piece: anything may follow.
        step: Compiled for this model and sampling, and at least B rows; ``None``: go without.

    Returns:
        Patches, known ids included, each up to its first end character or 16 ids long.
    """
    decoder, device = model.char_decoder, vectors.device
    cache = DecoderCache(decoder.trunk, len(vectors))
    given = torch.tensor([[*ids, *[-1] * (PATCH_SIZE - len(ids))] for ids in known], device=device)
    uniforms = torch.tensor(
        np.stack([_uniforms(rng, len(ids)) for rng, ids in zip(rngs, known, strict=True)]), device=device
    )
    chosen = torch.zeros_like(given)
    inputs, ended = vectors, torch.zeros(len(vectors), dtype=torch.bool, device=device)
    constrained = [(row, grammar) for row, grammar in enumerate(grammars) if grammar is not None]
    for place in range(PATCH_SIZE):
        followed = [(row, grammar) for row, grammar in constrained if place >= len(known[row])]
        allowed = _allowed(followed, len(vectors)).to(device) if followed else None
        if step is None:
            logits = decoder.logits(decoder.trunk(inputs[:, None], cache)[:, 0])
            drawn = draw(probabilities(logits, sampling, allowed), uniforms[:, place])
        else:
            drawn = step(inputs, place, uniforms[:, place], allowed)
        chosen[:, place] = torch.where(given[:, place] < 0, drawn, given[:, place])
        ids = chosen[:, place].tolist() if followed else []
        for row, grammar in followed:
            grammar.feed(ids[row])
        constrained = [(row, grammar) for row, grammar in constrained if not ids or ids[row] != EOS]
        ended |= chosen[:, place] == EOS
        if ended.all():
            break
        inputs = decoder.embed(chosen[:, place])
    return [ids[: ids.index(EOS) + 1] if EOS in ids else ids for ids in chosen.tolist()]


def _allowed(followed: Sequence[tuple[int, Grammar]], rows: int) -> Tensor:
    """Return ``(B, V)`` bool: what the grammars of some rows allow, and everything in the others."""
    sets = [_ANYTHING] * rows
    for row, grammar in followed:
        sets[row] = grammar.allowed
    return torch.stack([_mask(allowed) for allowed in sets])


@lru_cache(maxsize=4096)
def _mask(allowed: int) -> Tensor:
    return torch.tensor([bool(allowed >> i & 1) for i in range(VOCABULARY_SIZE)])


def _uniforms(rng: np.random.RandomState, known: int) -> np.ndarray:
    """Return ``(S,)`` float64: the numbers of one patch, none for the known places."""
    return np.concatenate((np.zeros(known), rng.random_sample(PATCH_SIZE - known)))
