"""The tensors that the original hands to the pipelines, and the noise that its clips get in effect.

Shapes: B prompts of a batch, D dimensions of CLAP, T tokens of T5 of width W, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pentatonic.errors import UsageError
from rc_audioldm.legacy.blending import Mixing, mix_condition, to_hidden_size, unit
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.encoder import text_states
from rc_audioldm.prompts.tokens import Tokens, token_limit, tokenize

MUSIC_ANCHOR = "instrumental music, no vocals"
"""Text of the vector that ``music_anchor_weight`` moves towards."""
SPEECH = "speech, vocals, singing, human voice, spoken word"
"""Text of the vector that ``speech_push`` moves away from."""

_SMALLEST_MARGIN = 1e-6


def retrieval_embeds(encoded: Tensor, blended: Tensor, mixing: Mixing, beta: float) -> Tensor:
    """Return the ``prompt_embeds`` of AudioLDM 1 with retrieval.

    The pipeline takes all rows for prompts, so it makes twice as many clips, of which the original keeps the last
    half; the negative prompt guides none of them.

    Args:
        encoded: ``(2 B, D)``: vectors of the negative prompts, then of the prompts.
        blended: ``(B, D)`` vectors of prompts with style.
        mixing: The original's ``cond_mix``.
        beta: Its ``cond_mix_beta``.

    Returns:
        ``(2 B, D)``.

    Raises:
        UsageError: The numbers of rows do not fit, or the mixing is unknown.
    """
    if len(encoded) != 2 * len(blended):
        raise UsageError(
            f"there are {len(encoded)} encoded rows for {len(blended)} prompts; needed: twice as many"
        )
    negative, condition = encoded.chunk(2)
    return torch.cat([negative, mix_condition(condition, blended, mixing, beta)])


def retrieval_noise(
    generator: torch.Generator, count: int, shape: tuple[int, int, int], guidance: float
) -> Tensor:
    """Draw the noise that a batch of AudioLDM 1 with retrieval gets in effect.

    With guidance the pipeline draws for twice as many clips, and those that are kept are the last half. Together with
    the empty text as the negative prompt, the kept clips are the same as in a batch of their own.

    Args:
        generator: Of the whole run, on the CPU; the next batch goes on with it.
        count: Clips of the batch.
        shape: Of the latents of one clip.
        guidance: At 1 and below nothing is drawn twice.

    Returns:
        ``(B, C, T, F)``.
    """
    drawn = 2 * count if guidance > 1 else count
    return torch.randn((drawn, *shape), generator=generator)[-count:]


@dataclass(frozen=True, eq=False)
class LanguageInputs:
    """Arguments of the pipeline of AudioLDM 2, for prompts or for negative prompts.

    Args:
        prompt_embeds: ``(B, T, W)`` states of T5.
        attention_mask: ``(B, T)`` int64.
        generated_prompt_embeds: ``(B, 1, H)`` in the place of the states of the language model.
    """

    prompt_embeds: Tensor
    attention_mask: Tensor
    generated_prompt_embeds: Tensor


def language_inputs(
    model: AudioLDM, texts: Sequence[str], vectors: Tensor, how: Literal["pad", "linear"], seed: int
) -> LanguageInputs:
    """Return what the original hands to AudioLDM 2 with retrieval.

    A CLAP vector stands where the model has learned to hear eight states of its language model, which is why the
    prompt is hardly followed.

    Args:
        model: An AudioLDM 2.
        texts: B prompts, or negative prompts.
        vectors: ``(B, D)``: for prompts their blends with style, for negative prompts the vector of the empty text.
        how: The original's ``style2lm_map``.
        seed: Of the run.
    """
    tokenizer = model.tokenizer_2
    if tokenizer is None:
        raise UsageError("these inputs are those of AudioLDM 2; the model is an AudioLDM 1")
    limit = token_limit(tokenizer, int(model.language_model.config.n_positions))
    rows = [tokenize(tokenizer, text, limit, length=limit) for text in texts]
    tokens = Tokens(torch.cat([row.ids for row in rows]), torch.cat([row.mask for row in rows]))
    with model.placed("text_encoder_2"):
        states = text_states(model, tokens)
    generated = to_hidden_size(vectors, int(model.language_model.config.n_embd), how, seed)
    return LanguageInputs(states, tokens.mask, generated[:, None])


@dataclass(frozen=True)
class EmbedMode:
    """Options of the original's embed mode, by its names.

    Args:
        alpha_style: Share of the style.
        blend_mode: ``orth``: only what of the style is not in the text.
        prior_weight: Share of the text prior.
        music_anchor_weight: Share of the music anchor.
        style_gate_margin: A style that is no nearer to the text than this is left out; 0: none is.
        speech_push: How far to move away from speech.
        center_style_bank: Take the mean off the rows of the bank.
        normalize_after_blend: Bring the result to norm 1.
    """

    alpha_style: float = 0.12
    blend_mode: Literal["orth", "plain"] = "orth"
    prior_weight: float = 0.0
    music_anchor_weight: float = 0.0
    style_gate_margin: float = 0.0
    speech_push: float = 0.0
    center_style_bank: bool = False
    normalize_after_blend: bool = False


def embed_mode(
    texts: Tensor,
    bank: Tensor,
    options: EmbedMode,
    *,
    prior: Tensor | None = None,
    anchor: Tensor | None = None,
    speech: Tensor | None = None,
) -> Tensor:
    """Return the ``prompt_embeds`` of AudioLDM 1 in the original's embed mode.

    Args:
        texts: ``(B, D)`` CLAP vectors of the prompts.
        bank: ``(N, D)``; prompt i gets row i mod N.
        options: How.
        prior: ``(D,)`` of the text prior.
        anchor: ``(D,)`` of ``MUSIC_ANCHOR``.
        speech: ``(D,)`` of ``SPEECH``.

    Returns:
        ``(B, D)``.
    """
    text = unit(texts)
    for vector, weight in ((prior, options.prior_weight), (anchor, options.music_anchor_weight)):
        if vector is not None and weight > 0:
            text = unit((1 - weight) * text + weight * unit(vector))
    rows = bank - bank.mean(dim=0, keepdim=True) if options.center_style_bank else bank
    style = unit(rows[torch.arange(len(text)) % len(rows)])
    if options.style_gate_margin > 0:
        margin = options.style_gate_margin
        near = (text * style).sum(dim=1, keepdim=True)
        style = unit(((near - margin) / max(_SMALLEST_MARGIN, 1 - margin)).clamp(0, 1) * style)
    if options.blend_mode == "orth":
        style = unit(style - (style * text).sum(dim=1, keepdim=True) * text)
    blended = (1 - options.alpha_style) * text + options.alpha_style * style
    if options.normalize_after_blend:
        blended = unit(blended)
    if speech is not None and options.speech_push > 0:
        blended = unit(blended - options.speech_push * unit(speech))
    return blended
