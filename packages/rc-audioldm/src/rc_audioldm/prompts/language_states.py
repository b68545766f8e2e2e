"""The states that the language model of AudioLDM 2 writes after a prompt.

Shapes: B prompts, L positions of the joined prompt, N states, P = L + N - 1 positions in all, n new positions, H width
of the language model, A heads of width D.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pentatonic.errors import InputError


@torch.no_grad()
def language_states(model: Any, sequence: Tensor, mask: Tensor, count: int, *, cached: bool = True) -> Tensor:
    """Append the last hidden state to the sequence, again and again.

    There are no tokens and nothing is drawn. Positions are counted over padding too.

    Args:
        model: A ``GPT2Model`` in evaluation mode, with the attention that transformers chooses by default.
        sequence: ``(B, L, H)``.
        mask: ``(B, L)``, 0 at padding.
        count: N.
        cached: Keep the keys and values of earlier positions; without, the model's own forward computes all positions
            for each state, and the states are equal within 1e-5.

    Returns:
        ``(B, N, H)``.

    Raises:
        InputError: Prompt and states are longer than the positions of the model.
    """
    length, most = sequence.shape[1], int(model.config.n_positions)
    if length + count > most:
        raise InputError(
            f"the prompt takes {length} positions of the language model and its states {count}; allowed: {most}"
        )
    states = (_cached_states if cached else _recomputed_states)(model, sequence, mask, count)
    return torch.cat(states, dim=1)


def _recomputed_states(model: Any, sequence: Tensor, mask: Tensor, count: int) -> list[Tensor]:
    states: list[Tensor] = []
    for _ in range(count):
        output = model(inputs_embeds=sequence, attention_mask=mask, use_cache=False)
        states.append(output.last_hidden_state[:, -1:])
        sequence = torch.cat([sequence, states[-1]], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return states


def _cached_states(model: Any, sequence: Tensor, mask: Tensor, count: int) -> list[Tensor]:
    """As :func:`_recomputed_states`; each position passes through the blocks once."""
    _store_by_output(model)
    (batch, length, width), heads = sequence.shape, int(model.config.n_head)
    positions = length + count - 1
    cache = sequence.new_empty(len(model.h), batch, positions, 3, heads, width // heads)
    real = F.pad(mask.bool(), (0, count - 1), value=True)[:, None, None]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    states = [_last_state(model, sequence, cache, 0, real[..., :length] & causal)]
    for start in range(length, positions):
        states.append(_last_state(model, states[-1], cache, start, real[..., : start + 1]))
    return states


def _store_by_output(model: Any) -> None:
    """Store the weights of a model on the CPU in the order of outputs, once; shapes and values stay.

    GPT-2 stores ``(in, out)``. The products of few rows, of which nearly all states are made, read all weights each
    time, and two rows are a third faster where those of one output lie side by side.
    """
    for name, weight in model.h.named_parameters():
        if weight.ndim == 2 and weight.device.type == "cpu" and weight.is_contiguous():
            model.h.get_parameter(name).data = weight.data.t().contiguous().t()


def _last_state(model: Any, new: Tensor, cache: Tensor, start: int, allowed: Tensor) -> Tensor:
    """Return the state of the last of some new positions.

    The forward of ``GPT2Model`` without what takes a fifth of its time where products are small: keys and values are
    written into one tensor instead of joined, masks are made once, and GELU is one operation instead of eight.

    Args:
        model: The language model.
        new: ``(B, n, H)`` at the positions from ``start``.
        cache: ``(layers, B, P, 3, A, D)`` queries, keys and values of earlier positions; those of the
            new ones are added.
        start: Number of earlier positions.
        allowed: ``(B, 1, 1 or n, start + n)`` bool: which positions a new one attends to.

    Returns:
        ``(B, 1, H)``.
    """
    end = start + new.shape[1]
    fused = model.config.activation_function == "gelu_new"
    activation = partial(F.gelu, approximate="tanh") if fused else model.h[0].mlp.act
    hidden = new + model.wpe.weight[start:end]
    for block, layer in zip(model.h, cache, strict=True):
        attention, mlp = block.attn, block.mlp
        layer[:, start:end] = attention.c_attn(block.ln_1(hidden)).unflatten(-1, layer.shape[2:])
        query, key, value = layer[:, :end].permute(2, 0, 3, 1, 4)
        query = query[:, :, start:]
        if block is model.h[-1]:  # nothing attends to what the others would become
            hidden, query, allowed = hidden[:, -1:], query[:, :, -1:], allowed[:, :, -1:]
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=attention.scaling)
        hidden = hidden + attention.c_proj(heard.transpose(1, 2).flatten(2))
        hidden = hidden + mlp.c_proj(activation(mlp.c_fc(block.ln_2(hidden))))
    return model.ln_f(hidden[:, -1:])
