"""What the UNet hears of prompts: one condition for each, and batches of them.

Shapes: B conditions, D dimensions of CLAP, N states of width H, T tokens of T5 of width W.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pentatonic.errors import UsageError

# The UNet turns a mask m into the bias (1 - m) * -10000.
_BIAS_PER_MASK = 10_000.0


@dataclass(frozen=True, eq=False)
class Condition:
    """A prompt as the UNet hears it, float32 on the CPU.

    Args:
        vector: Unit CLAP vector ``(D,)``, of AudioLDM 1 alone.
        states: ``(N, H)`` of the language model, of AudioLDM 2 as all that follow.
        text: ``(T, W)`` of T5, without padding.
        states_bias: ``(N,)`` that is added to the attention to the states; None: zeros.
    """

    vector: Tensor | None = None
    states: Tensor | None = None
    text: Tensor | None = None
    states_bias: Tensor | None = None

    def replaced(self, **changes: Tensor | None) -> Condition:
        """Return the condition with other tensors in it."""
        return dataclasses.replace(self, **changes)


def unet_inputs(
    conditions: Sequence[Condition],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    text_length: int | None = None,
) -> dict[str, Tensor | None]:
    """Join conditions to a batch: arguments of the UNet by name.

    Rows of unequal length are padded under a mask, which does not change the result; where all are of a length there
    is no mask.

    Args:
        conditions: All of one family.
        device: Of the tensors.
        dtype: Of the tensors.
        text_length: Pad the states of T5 to so many tokens, instead of to the longest.

    Raises:
        UsageError: The conditions are of two families, ``text_length`` is less than they have, or there is a bias
            of states in half precision, which cannot hold it.
    """
    if all(condition.vector is not None for condition in conditions):
        rows = torch.stack([condition.vector for condition in conditions if condition.vector is not None])
        return {"encoder_hidden_states": None, "class_labels": rows.to(device, dtype)}
    states = [condition.states for condition in conditions if condition.states is not None]
    texts = [condition.text for condition in conditions if condition.text is not None]
    if not len(states) == len(texts) == len(conditions):
        raise UsageError("conditions of AudioLDM 1 and AudioLDM 2 cannot be in one batch")
    biases = [condition.states_bias for condition in conditions]
    state_rows, state_mask = _padded(states)
    if any(bias is not None for bias in biases):
        if dtype != torch.float32:
            raise UsageError(f"a bias of states needs a UNet in float32, not {dtype}")
        zeros = (
            torch.zeros(len(rows)) if bias is None else bias
            for rows, bias in zip(states, biases, strict=True)
        )
        state_mask = _padded([1 + bias / _BIAS_PER_MASK for bias in zeros])[0]
    text_rows, text_mask = _padded(texts, text_length)
    return {
        "encoder_hidden_states": state_rows.to(device, dtype),
        "encoder_attention_mask": None if state_mask is None else state_mask.to(device),
        "encoder_hidden_states_1": text_rows.to(device, dtype),
        "encoder_attention_mask_1": None if text_mask is None else text_mask.to(device),
    }


def _padded(rows: Sequence[Tensor], length: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Rows ``(N, ...)`` with zeros after them, and a mask of the real ones; None where all are."""
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max()) if length is None else length
    if (lengths > longest).any():
        raise UsageError(f"a prompt has {int(lengths.max())} tokens; text_length is {longest}")
    padded = pad_sequence(list(rows), batch_first=True)
    extra = padded.new_zeros(len(rows), longest - padded.shape[1], *padded.shape[2:])
    mask = (torch.arange(longest) < lengths[:, None]).float()
    return torch.cat([padded, extra], dim=1), None if mask.all() else mask
