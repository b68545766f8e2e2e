"""Which of the clips of a request are kept: those that can be heard, or the best of them by CLAP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pentatonic.errors import NonFiniteAudio, PentatonicError, SilentAudio, UsageError
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.denoising.candidates import rank_candidates
from rc_audioldm.denoising.sampling import Clip
from rc_audioldm.evaluation.signal import without_silent_ends
from rc_audioldm.generation.batches import Prepared
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.result import Result
from rc_audioldm.generation.settings import RankBy, Settings
from rc_audioldm.level import turn_down

OnFailure = Callable[[Request, int, PentatonicError], None]
"""Told of a request, a variant and why there is no clip of it."""


@dataclass(frozen=True, eq=False)
class _Compared:
    """A clip that can be heard, its samples within full scale, and its CLAP vector and cosines where they are known."""

    clip: Clip
    audio: Tensor
    gain: float
    vector: Tensor | None = None
    text: float | None = None
    style: float | None = None

    def score(self, rank_by: RankBy) -> float:
        """Return the mean cosine to what clips are ranked by."""
        wanted = {"text": [self.text], "style": [self.style], "both": [self.text, self.style]}[rank_by]
        values = [each for each in wanted if each is not None]
        if not values:
            raise UsageError(f"candidates are ranked by {rank_by}, and a prompt has no style")
        return sum(values) / len(values)


def kept_clips(
    prepared: Prepared,
    clips: Sequence[Clip],
    settings: Settings,
    clap: ClapEncoder | None,
    sample_rate: int,
    failed: OnFailure,
) -> Iterator[Result]:
    """Choose the clips of a request.

    Args:
        prepared: The request.
        clips: All that were made of it.
        settings: Say how many are kept, and by what they are ranked.
        clap: Compares them with the prompt and the style; None: nothing does.
        sample_rate: Of the clips, in Hz.
        failed: Told of each clip that is missing.

    Yields:
        Those that are kept, the best first where they are ranked.

    Raises:
        UsageError: They are ranked by a style, and there is none.
    """
    usable: list[_Compared] = []
    reason: PentatonicError | None = None
    for clip in clips:
        fault = _fault(prepared.request, clip)
        if fault is None:
            usable.append(_compared(prepared, clip, clap, sample_rate))
            continue
        reason = fault
        if not settings.ranks:
            failed(prepared.request, clip.variant, fault)
    scores = torch.zeros(0)
    numbered = [(each.clip.variant, each) for each in usable]
    if settings.ranks:
        scores = torch.tensor([each.score(settings.rank_by) for each in usable])
        order = rank_candidates(scores[None])[0].tolist() if usable else []
        for variant in range(len(order), settings.variants):
            assert reason is not None
            failed(prepared.request, variant, reason)
        numbered = [(variant, usable[place]) for variant, place in enumerate(order[: settings.variants])]
    for variant, each in numbered:
        yield _result(prepared, variant, each, tuple(scores.tolist()), sample_rate)


def _fault(request: Request, clip: Clip) -> PentatonicError | None:
    """Why a clip cannot be heard; None: it can."""
    name = f"{request.index:03d} {request.prompt}"
    if not clip.audio.isfinite().all():
        return NonFiniteAudio(name, "the model gave NaN or infinite samples")
    if not len(without_silent_ends(clip.audio.numpy())):
        return SilentAudio(name, "the model gave silence")
    return None


def _compared(prepared: Prepared, clip: Clip, clap: ClapEncoder | None, sample_rate: int) -> _Compared:
    audio, gain = turn_down(clip.audio)
    if clap is None:
        return _Compared(clip, audio, gain)
    style = prepared.style
    vector = clap.embed_audio(audio, sample_rate)[0]
    text = float(vector @ clap.embed_text([prepared.request.prompt])[0])
    comparable = style is not None and len(style.vector) == len(vector)
    near = float(vector @ style.vector) if style and comparable else None
    return _Compared(clip, audio, gain, vector, text, near)


def _result(
    prepared: Prepared, variant: int, kept: _Compared, scores: tuple[float, ...], sample_rate: int
) -> Result:
    heard, clip = prepared.heard, kept.clip
    return Result(
        request=prepared.request,
        mode=prepared.mode.name,
        variant=variant,
        draw=clip.variant,
        seed=clip.seed,
        audio=kept.audio,
        gain=kept.gain,
        sample_rate=sample_rate,
        prompt_used=heard.prompt,
        words=heard.words,
        influences=heard.influences,
        cos_text=heard.cos_text,
        cos_style=heard.cos_style,
        clap_text=kept.text,
        clap_style=kept.style,
        style=prepared.style,
        vector=kept.vector,
        scores=scores,
    )
