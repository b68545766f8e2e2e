"""What the models return. The order of the fields counts: outputs are also taken as tuples.

Shapes: B windows, M entries of metadata, V variations, L tokens, h width, D width of the shared space, C classes.
Hidden states and attentions come where they are asked for; ``hidden_states[n]`` is the input of layer n, and the last
one comes before the final norm. At padded positions the values have no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput

from cm3p.network.encoder import Encoded
from cm3p.network.towers import Pooled


@dataclass
class CM3PAudioModelOutput(ModelOutput):
    """Of the audio tower: ``(n, h)`` audio tokens of all windows, and what its encoder gave."""

    audio_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CM3PBeatmapModelOutput(ModelOutput):
    """Of the beatmap tower.

    Attributes:
        last_hidden_state: ``(B, L, h)``.
        pooler_output: ``(B, h)``.
        hidden_states: Inputs of the layers, ``(B, L, h)`` each.
        attentions: ``(B, H, L, L)`` each.
        beatmap_embeds: ``(B, D)``, not normalised; with projection only.
        audio_model_output: Of the audio tower, where there were features.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    beatmap_embeds: Tensor | None = None
    audio_model_output: CM3PAudioModelOutput | None = None


@dataclass
class CM3PMetadataModelOutput(ModelOutput):
    """Of the metadata tower.

    Attributes:
        last_hidden_state: ``(M, L, h)`` or ``(M, V, L, h)``.
        pooler_output: ``(M, h)`` or ``(M, V, h)``.
        hidden_states: Inputs of the layers, as ``last_hidden_state``.
        attentions: ``(M, H, L, L)`` or ``(M, V, H, L, L)`` each.
        metadata_embeds: ``(M, D)`` or ``(M, V, D)``, not normalised; with projection only.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    metadata_embeds: Tensor | None = None


@dataclass
class CM3POutput(ModelOutput):
    """Of the full model.

    Attributes:
        loss: A scalar; the number 0 where there is nothing to compare, ``None`` if none was asked for.
        logits_per_beatmap: ``(B, M)`` or ``(B, M, V)``, cosines times the scale.
        logits_per_metadata: ``(M, B)`` or ``(M, V, B)``.
        metadata_embeds: ``(M, D)`` or ``(M, V, D)`` unit vectors.
        beatmap_embeds: ``(B, D)`` unit vectors.
        logits: ``(B, L, C)`` of masked tokens; 0 at padded positions.
        metadata_model_output: Of the metadata tower.
        beatmap_model_output: Of the beatmap tower.
    """

    loss: Tensor | int | None = None
    logits_per_beatmap: Tensor | None = None
    logits_per_metadata: Tensor | None = None
    metadata_embeds: Tensor | None = None
    beatmap_embeds: Tensor | None = None
    logits: Tensor | None = None
    metadata_model_output: CM3PMetadataModelOutput | None = None
    beatmap_model_output: CM3PBeatmapModelOutput | None = None


@dataclass
class BeatmapClassifierOutput(ModelOutput):
    """Of the classifier: loss where there are labels, logits ``(B, C)``, and what the encoder gave."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CM3PMaskedLMOutput(ModelOutput):
    """Of the masked language model.

    Logits are ``(B, L, C)``, 0 at padded positions; or ``(n, C)`` of labelled positions by sparse prediction.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def beatmap_output(pooled: Pooled, embeds: Tensor | None = None) -> CM3PBeatmapModelOutput:
    """Lay out what a beatmap tower gave as padded tensors."""
    audio = None
    if pooled.audio is not None:
        audio = CM3PAudioModelOutput(
            audio_embeds=pooled.audio_embeds,
            last_hidden_state=pooled.audio.tokens,
            hidden_states=pooled.audio.hidden_states,
            attentions=pooled.audio.attentions,
        )
    return CM3PBeatmapModelOutput(
        last_hidden_state=pooled.encoded.layout.padded(pooled.encoded.tokens),
        pooler_output=pooled.vectors,
        hidden_states=padded_states(pooled.encoded),
        attentions=pooled.encoded.attentions,
        beatmap_embeds=embeds,
        audio_model_output=audio,
    )


def metadata_output(
    pooled: Pooled, shape: tuple[int, ...], embeds: Tensor | None = None
) -> CM3PMetadataModelOutput:
    """Lay out what a metadata tower gave: all sequences again, in the shape ``(M,)`` or ``(M, V)``."""
    encoded, rows = pooled.encoded, pooled.rows
    assert rows is not None

    def every(x: Tensor) -> Tensor:
        return x[rows].unflatten(0, shape)

    states = padded_states(encoded)
    return CM3PMetadataModelOutput(
        last_hidden_state=every(encoded.layout.padded(encoded.tokens)),
        pooler_output=every(pooled.vectors),
        hidden_states=None if states is None else tuple(map(every, states)),
        attentions=None if encoded.attentions is None else tuple(map(every, encoded.attentions)),
        metadata_embeds=embeds,
    )


def padded_states(encoded: Encoded) -> tuple[Tensor, ...] | None:
    """Hidden states as padded tensors."""
    states = encoded.hidden_states
    return None if states is None else tuple(map(encoded.layout.padded, states))
