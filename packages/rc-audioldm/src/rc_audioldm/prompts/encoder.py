"""From texts to conditions, for both families: each prompt is encoded by itself.

A prompt's states in AudioLDM 2 depend on how far its tokens are padded. The original pads to the longest prompt of a
batch, so that its results depend on what else is in it; here a prompt never knows of another one.

Shapes: D dimensions of CLAP, T tokens of T5 of width W, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pentatonic.errors import InputError, UsageError
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.conditions import Condition
from rc_audioldm.prompts.language_states import language_states
from rc_audioldm.prompts.tokens import Tokens, token_count, token_limit, tokenize

_CACHE_SIZE = 4096
_UNIT_TOLERANCE = 1e-3
_FIRST_POSITION = 2  # from which RoBERTa counts
# Of the language model's sequence: the CLAP vector, and a start and an end around it and around the tokens of T5.
_SPECIAL_POSITIONS = 5


class PromptEncoder:
    """Encodes prompts with the text encoders of a model, each text once.

    Args:
        model: Of either family.
        cut_negative: Cut the tokens of a negative prompt to as many as the prompt has, as the original's pipeline of
            AudioLDM 2 does; otherwise it keeps its own length.
    """

    def __init__(self, model: AudioLDM, *, cut_negative: bool = False) -> None:
        self.model = model
        self.cut_negative = cut_negative
        positions = int(_text_config(model).max_position_embeddings) - _FIRST_POSITION
        self._clap_limit = token_limit(model.tokenizer, positions)
        if model.tokenizer_2 is not None:
            positions = int(model.language_model.config.n_positions) - _SPECIAL_POSITIONS - model.state_count
            self._text_limit = token_limit(model.tokenizer_2, positions)
        cache: Callable = lru_cache(_CACHE_SIZE)
        self._clap = cache(self._encode_clap)
        self._text = cache(self._encode_text)
        self._states = cache(self._encode_states)

    def clap(self, text: str) -> Tensor:
        """Return the unit CLAP vector of a text, ``(D,)`` float32 on the CPU."""
        return self._clap(text)

    def encode(self, text: str, clap: Tensor | None = None) -> Condition:
        """Encode a prompt.

        Args:
            text: The prompt.
            clap: Unit vector ``(D,)`` in the place of the text's own, such as a blend with a style.

        Raises:
            InputError: The prompt has too many characters.
            UsageError: The vector has another length, or is not of norm 1.
        """
        if clap is not None:
            self._check_vector(clap)
        if self.model.family == "audioldm":
            return Condition(vector=self.clap(text) if clap is None else clap.detach().float().cpu())
        return self._language_condition(text, None, clap)

    def encode_negative(self, text: str, prompt: str) -> Condition:
        """Encode a negative prompt, which may be empty, to go with a prompt.

        Args:
            text: The negative prompt.
            prompt: The prompt that it goes with. In AudioLDM 2 a shorter negative is padded to the prompt's length, as
                the pipeline does; its states depend on that.

        Raises:
            InputError: A prompt has too many characters.
        """
        if self.model.family == "audioldm":
            return Condition(vector=self.clap(text))
        return self._language_condition(text, self.text_length(prompt), None)

    def text_length(self, text: str) -> int:
        """Return how many tokens T5 reads, after cutting to its limit (AudioLDM 2)."""
        return len(self._text(text, None, None)[1])

    def fits(self, text: str) -> bool:
        """Whether every encoder reads a text to its end."""
        model = self.model
        if token_count(model.tokenizer, text) > self._clap_limit:
            return False
        return model.tokenizer_2 is None or token_count(model.tokenizer_2, text) <= self._text_limit

    def _language_condition(self, text: str, length: int | None, clap: Tensor | None) -> Condition:
        limit = length if self.cut_negative else None
        rows, mask = self._text(text, length, limit)
        if clap is None:
            states = self._states(text, length, limit)
        else:
            states = self._write_states(clap.detach().float().cpu(), rows, mask)
        return Condition(states=states, text=rows[mask.bool()])

    def _encode_states(self, text: str, length: int | None, limit: int | None) -> Tensor:
        return self._write_states(self.clap(text), *self._text(text, length, limit))

    def _encode_clap(self, text: str) -> Tensor:
        model = self.model
        tokens = tokenize(model.tokenizer, text, self._clap_limit)
        with model.placed("text_encoder"):
            return clap_vectors(model, tokens)[0]

    def _encode_text(self, text: str, length: int | None, limit: int | None) -> tuple[Tensor, Tensor]:
        """States of T5 ``(T, W)`` and their mask ``(T,)``."""
        model = self.model
        assert model.tokenizer_2 is not None
        tokens = tokenize(model.tokenizer_2, text, limit or self._text_limit, length=length)
        with model.placed("text_encoder_2"):
            return text_states(model, tokens)[0], tokens.mask[0]

    def _write_states(self, clap: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        model = self.model
        with model.placed("projection_model", "language_model"):
            sequence, sequence_mask = joined_sequence(model, clap[None], text[None], mask[None])
            states = language_states(model.language_model, sequence, sequence_mask, model.state_count)
        return states[0].float().cpu()

    def _check_vector(self, clap: Tensor) -> None:
        width = self.model.clap_width
        if clap.shape != (width,):
            raise UsageError(f"a CLAP vector of this model has the shape ({width},), not {tuple(clap.shape)}")
        if not abs(float(clap.norm()) - 1) <= _UNIT_TOLERANCE:
            raise UsageError(f"a CLAP vector has norm 1, not {float(clap.norm()):.4g}")


@torch.no_grad()
def clap_vectors(model: AudioLDM, tokens: Tokens) -> Tensor:
    """Return unit CLAP vectors ``(B, D)`` of tokens, float32 on the CPU; padding does not change them.

    Raises:
        InputError: They are not finite.
    """
    ids, mask = tokens.ids.to(model.device), tokens.mask.to(model.device)
    if model.family == "audioldm":
        vectors = model.text_encoder(input_ids=ids, attention_mask=mask).text_embeds
    else:
        vectors = model.text_encoder.get_text_features(input_ids=ids, attention_mask=mask)
        vectors = getattr(vectors, "pooler_output", vectors)
    vectors = normalize(vectors.float(), dim=-1).cpu()
    if not vectors.isfinite().all():
        raise InputError("the CLAP vector of a prompt is not finite; load the text encoder in float32")
    return vectors


@torch.no_grad()
def text_states(model: AudioLDM, tokens: Tokens) -> Tensor:
    """Return the last states of T5 ``(B, T, W)``, float32 on the CPU (AudioLDM 2)."""
    ids, mask = tokens.ids.to(model.device), tokens.mask.to(model.device)
    return model.text_encoder_2(input_ids=ids, attention_mask=mask).last_hidden_state.float().cpu()


@torch.no_grad()
def joined_sequence(model: AudioLDM, clap: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Project CLAP vectors and states of T5 to one sequence for the language model.

    Args:
        model: An AudioLDM 2.
        clap: ``(B, D)`` unit vectors.
        text: ``(B, T, W)``.
        mask: ``(B, T)`` int64.

    Returns:
        ``(B, T + 5, H)`` and its mask, on the device of the model.
    """
    device = model.device
    weight = model.projection_model.projection.weight
    joined = model.projection_model(
        hidden_states=clap[:, None].to(device, weight.dtype),
        hidden_states_1=text.to(device, weight.dtype),
        attention_mask=mask.new_ones(len(clap), 1).to(device),
        attention_mask_1=mask.to(device),
    )
    return joined.hidden_states, joined.attention_mask


def _text_config(model: AudioLDM) -> Any:
    return getattr(model.text_encoder.config, "text_config", model.text_encoder.config)
