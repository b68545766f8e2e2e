"""The states that the language model of AudioLDM 2 writes after a prompt.

Shapes: B prompts, L positions of the joined prompt, H width of the language model, N states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pentatonic.errors import InputError


@torch.no_grad()
def language_states(model: Any, sequence: Tensor, mask: Tensor, count: int, *, cached: bool = True) -> Tensor:
    """Append the last hidden state to the sequence, again and again.

    There are no tokens and nothing is drawn. Positions are counted over padding too.

    Args:
        model: A ``GPT2Model``.
        sequence: ``(B, L, H)``.
        mask: ``(B, L)``, 0 at padding.
        count: N.
        cached: Keep the keys and values of earlier positions; the states are equal without.

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
    states, cache, new = [], None, sequence
    for _ in range(count):
        output = model(inputs_embeds=new, attention_mask=mask, past_key_values=cache, use_cache=cached)
        state = output.last_hidden_state[:, -1:]
        states.append(state)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        cache = output.past_key_values if cached else None
        new = state if cached else torch.cat([new, state], dim=1)
    return torch.cat(states, dim=1)
