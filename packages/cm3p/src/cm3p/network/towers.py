"""The towers: tokens of beatmaps with their audio, or of metadata, to one vector each.

Shapes: B windows of beatmaps, M entries of metadata, V variations, L tokens, T frames, h width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cm3p.configuration import CM3PBeatmapConfig, CM3PMetadataConfig
from cm3p.network.audio import AudioTower
from cm3p.network.encoder import Encoded, Encoder
from cm3p.network.layout import Layout
from pentatonic.errors import UsageError


@dataclass(frozen=True)
class Pooled:
    """What a tower gives.

    Attributes:
        vectors: ``(B, h)`` or, for metadata, one for each different sequence.
        encoded: Output of the encoder.
        audio_embeds: ``(n, h)`` audio tokens; beatmap tower with features.
        audio: Output of the audio encoder; likewise.
        rows: Of metadata: ``(M · V,)`` which of the encoded sequences each one is.
    """

    vectors: Tensor
    encoded: Encoded
    audio_embeds: Tensor | None = None
    audio: Encoded | None = None
    rows: Tensor | None = None


class BeatmapTower(nn.Module):
    """Encoder of beatmap tokens, in which audio tokens take the place of placeholders."""

    def __init__(self, config: CM3PBeatmapConfig) -> None:
        super().__init__()
        self.cls_embed, self.audio_token_id = config.cls_embed, config.audio_token_id
        self.audio_encoder = AudioTower(config.audio_config)
        self.encoder = Encoder(config)

    def forward(
        self,
        input_ids: Tensor | None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> Pooled:
        """Encode and pool.

        Args:
            input_ids: ``(B, L)``; ``None`` with ``inputs_embeds``.
            input_features: ``(B, n_mels, T)`` log-mel spectrograms.
            attention_mask: ``(B, L)`` 1 at valid tokens; ``None``: all are.
            inputs_embeds: ``(B, L, h)`` in place of the token table.
            hidden_states: Also return the input of each layer.
            attentions: Also return the attention weights.

        Raises:
            UsageError: There are neither or both of ids and embeddings, features come without ids, or the number of
                placeholders is not that of the audio tokens.
        """
        embeds, layout, heard = self._embedded(
            input_ids, input_features, attention_mask, inputs_embeds, hidden_states, attentions
        )
        encoded = self.encoder(embeds, layout, hidden_states=hidden_states, attentions=attentions)
        return Pooled(_pooled(encoded.tokens, layout, self.cls_embed), encoded, *heard)

    def vectors(
        self,
        input_ids: Tensor | None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Encode as :meth:`forward`, and return the pooled vectors alone, ``(B, h)``; less work in evaluation mode."""
        embeds, layout, _ = self._embedded(input_ids, input_features, attention_mask, inputs_embeds)
        return _vectors(self.encoder, embeds, layout, self.cls_embed)

    def _embedded(
        self,
        input_ids: Tensor | None,
        input_features: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> tuple[Tensor, Layout, tuple[Tensor | None, Encoded | None]]:
        """What goes into the encoder, its layout, and audio tokens with the output of the audio encoder."""
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise UsageError("give either input_ids or inputs_embeds")
        layout = self.encoder.layout(given, attention_mask, with_weights=attentions)
        tokens = layout.take(given)
        embeds = tokens if input_ids is None else self.encoder.embeddings.tok_embeddings(tokens)
        if input_features is None:
            return embeds, layout, (None, None)
        if input_ids is None:
            raise UsageError("input_features needs input_ids, which say where the audio tokens belong")
        heard = self.audio_encoder(input_features, hidden_states=hidden_states, attentions=attentions)
        return self._with_audio(embeds, tokens, heard[0]), layout, heard

    def _with_audio(self, embeds: Tensor, tokens: Tensor, audio_embeds: Tensor) -> Tensor:
        """Put audio tokens in the place of placeholders, in their order."""
        places = tokens == self.audio_token_id
        if int(places.sum()) != len(audio_embeds):
            raise UsageError(
                f"there are {int(places.sum())} placeholders for {len(audio_embeds)} audio tokens; allowed: as many, "
                "so truncation must not cut into the audio"
            )
        return embeds.masked_scatter(places[..., None], audio_embeds.to(embeds.dtype))


class MetadataTower(nn.Module):
    """Encoder of metadata tokens. Equal sequences of a batch, of which variations have many, are encoded once."""

    def __init__(self, config: CM3PMetadataConfig) -> None:
        super().__init__()
        self.cls_embed = config.cls_embed
        self.encoder = Encoder(config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        hidden_states: bool = False,
        attentions: bool = False,
    ) -> Pooled:
        """Encode and pool the different sequences of a batch.

        Args:
            input_ids: ``(M, L)`` or ``(M, V, L)``.
            attention_mask: The same shape, 1 at valid tokens; ``None``: all are.
            hidden_states: Also return the input of each layer.
            attentions: Also return the attention weights.
        """
        embeds, layout, rows = self._embedded(input_ids, attention_mask, attentions)
        encoded = self.encoder(embeds, layout, hidden_states=hidden_states, attentions=attentions)
        return Pooled(_pooled(encoded.tokens, layout, self.cls_embed), encoded, rows=rows)

    def vectors(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Encode as :meth:`forward`; return the pooled vector of each sequence, ``(M · V, h)``."""
        embeds, layout, rows = self._embedded(input_ids, attention_mask)
        return _vectors(self.encoder, embeds, layout, self.cls_embed)[rows]

    def _embedded(
        self, input_ids: Tensor, attention_mask: Tensor | None, attentions: bool = False
    ) -> tuple[Tensor, Layout, Tensor]:
        """What goes into the encoder, its layout, and which of the encoded sequences each one is."""
        ids = input_ids.flatten(0, -2)
        mask = None if attention_mask is None else attention_mask.flatten(0, -2).to(ids.device).bool()
        ids, mask, rows = _different(ids, mask)
        layout = self.encoder.layout(ids, mask, with_weights=attentions)
        return self.encoder.embeddings.tok_embeddings(layout.take(ids)), layout, rows


def _different(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """The different sequences among ``(n, L)``, with their masks, and ``(n,)`` which of them each one is.

    What stands at padded positions makes no difference, unless a sequence has no valid token at all.
    """
    keys = ids if mask is None else torch.where(mask | ~mask.any(1, keepdim=True), ids, -1)
    _, rows = keys.unique(dim=0, return_inverse=True)
    chosen = rows.new_empty(int(rows.max()) + 1 if len(rows) else 0)
    chosen[rows] = torch.arange(len(rows), device=rows.device)
    return ids[chosen], None if mask is None else mask[chosen], rows


def _pooled(tokens: Tensor, layout: Layout, cls_embed: bool) -> Tensor:
    return layout.first(tokens) if cls_embed else layout.mean(tokens)


def _vectors(encoder: Encoder, embeds: Tensor, layout: Layout, cls_embed: bool) -> Tensor:
    """Pooled vectors, without what only other outputs need."""
    if cls_embed and not encoder.training:
        return encoder.first(embeds, layout)
    return _pooled(encoder(embeds, layout).tokens, layout, cls_embed)
