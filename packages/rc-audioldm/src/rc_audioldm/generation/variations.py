"""The same noise in other circumstances: at other strengths of the style, and without one of its clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.denoising.sampling import OnStep
from rc_audioldm.generation.batches import Prepared, hear, sample_prepared
from rc_audioldm.generation.modes import Context, prompt_alone
from rc_audioldm.generation.result import Result
from rc_audioldm.ledger.causal import leave_one_out
from rc_audioldm.level import turn_down

KNOB_STRENGTHS = (0.0, 0.5, 1.0)


def with_knobs(
    context: Context, kept: Sequence[Result], prepared: Mapping[int, Prepared], on_step: OnStep | None
) -> list[Result]:
    """Make the best clip of each request with a style again, at each strength and with its noise.

    Args:
        context: Of the run.
        kept: The clips of a batch.
        prepared: Its requests, by their numbers.
        on_step: Told of each step.

    Returns:
        All clips, the best ones with their ``knob``.
    """
    best = [each for each in kept if each.variant == 0 and prepared[each.request.index].style is not None]
    draws = {each.request.index: each.draw for each in best}
    found: dict[int, dict[float, tuple[Tensor, float]]] = {index: {} for index in draws}
    for strength in KNOB_STRENGTHS if best else ():
        turned = []
        for each in best:
            own = prepared[each.request.index]
            request = replace(own.request, strength=strength)
            assert own.style is not None
            turned.append(replace(own, request=request, heard=hear(context, own.mode, request, own.style)))
        for clip in sample_prepared(context, turned, draws=draws, on_step=on_step):
            found[clip.item.index][strength] = turn_down(clip.audio)
    return [
        _with_knob(each, found[each.request.index])
        if each.variant == 0 and each.request.index in found
        else each
        for each in kept
    ]


def _with_knob(result: Result, clips: Mapping[float, tuple[Tensor, float]]) -> Result:
    return replace(
        result,
        knob={strength: audio for strength, (audio, _) in clips.items()},
        knob_gains={strength: gain for strength, (_, gain) in clips.items()},
    )


def with_effects(
    context: Context, result: Result, prepared: Prepared, clap: ClapEncoder | None, on_step: OnStep | None
) -> Result:
    """Leave out each clip of a style in turn, with the same noise.

    Args:
        context: Of the run.
        result: The clip with the whole style.
        prepared: Its request.
        clap: Compares the clips.
        on_step: Told of each step.

    Returns:
        The clip with its ``causal``; unchanged where its style is not of a bank, or is no vector.
    """
    style, mode, finder = prepared.style, prepared.mode, context.finder
    rows = [each.row for each in result.influences if each.row is not None]
    if style is None or style.bank is None or finder is None or clap is None or not rows:
        return result
    if mode.needs != "style":
        return result
    rate = context.model.sample_rate

    def make(rows: Sequence[int], weights: Sequence[float]) -> np.ndarray:
        if rows:
            heard = hear(context, mode, result.request, finder.of_rows(rows, weights, style.bank))
        else:
            heard = prompt_alone(context, result.request)
        turned, draws = replace(prepared, heard=heard), {result.request.index: result.draw}
        (clip,) = sample_prepared(context, [turned], draws=draws, on_step=on_step)
        return (clip.audio * result.gain).numpy()  # one level, so that the loudness of all can be compared

    effects = leave_one_out(
        make,
        rows,
        [each.weight for each in result.influences],
        style.bank.rows(rows),
        lambda samples: clap.embed_audio(torch.from_numpy(samples), rate)[0].numpy(),
        rate,
    )
    measured = zip(result.influences, effects.shares, effects.ranks, strict=True)
    influences = tuple(replace(each, effect=share, effect_rank=rank) for each, share, rank in measured)
    return replace(result, influences=influences, causal=effects)
