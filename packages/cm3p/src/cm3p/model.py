"""The models, as ``PreTrainedModel`` of transformers: full model, masked language model, classifier, single towers.

Attention is that of :mod:`pentatonic.attention`, which chooses its own back end; ``attn_implementation`` is accepted
and without effect. Nothing is computed for padded positions; :meth:`CM3PPreTrainedModel.use_packing` switches that off.

Shapes: B windows of beatmaps, M entries of metadata, V variations, L tokens, T frames of a spectrogram, h width, D
width of the shared space, C classes or vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, initialization
from transformers.utils.generic import can_return_tuple

from cm3p.configuration import CM3PBeatmapConfig, CM3PConfig, CM3PMetadataConfig
from cm3p.losses import (
    IGNORED,
    LossOptions,
    classification_loss,
    contrastive_loss,
    gathered_contrastive_loss,
    masked_lm_loss,
)
from cm3p.network.encoder import Encoder
from cm3p.network.heads import PredictionHead, decoder
from cm3p.network.initialization import drawn, initialize
from cm3p.network.outputs import (
    BeatmapClassifierOutput,
    CM3PBeatmapModelOutput,
    CM3PMaskedLMOutput,
    CM3PMetadataModelOutput,
    CM3POutput,
    beatmap_output,
    metadata_output,
    padded_states,
)
from cm3p.network.towers import BeatmapTower, MetadataTower, Pooled
from pentatonic.errors import UsageError

# What a full model holds besides its beatmap tower; models on that tower alone leave it out without a word.
_OTHER_PARTS = (r"^metadata_model\.", r"^metadata_projection\.", r"^beatmap_projection\.", r"^logit_scale$")
_HEAD = (r"^head\.", r"^decoder\.")


class CM3PPreTrainedModel(PreTrainedModel):
    """Base of all models: first values of weights, and switches."""

    config_class: Any = CM3PConfig
    base_model_prefix = "cm3p"
    supports_gradient_checkpointing = True
    _no_split_modules = ("EncoderLayer",)  # type: ignore[assignment]
    # The Trainer then passes num_items_in_batch, and leaves the loss undivided.
    accepts_loss_kwargs = False

    def __init__(self, config: Any) -> None:
        config.check()  # values may have been set since it was built
        super().__init__(config)

    def _check_and_adjust_attn_implementation(
        self, attn_implementation: str | None, *_: Any, **__: Any
    ) -> str:
        """Accept every name, so that no kernel is looked for."""
        return attn_implementation or "sdpa"

    def _init_weights(self, module: nn.Module) -> None:
        """Draw the weights of one module."""
        initialize(module)

    def use_packing(self, enabled: bool = True) -> None:
        """Say whether batches with padding are computed without it; results at valid tokens are the same."""
        for module in self.modules():
            if isinstance(module, Encoder):
                module.packing = enabled

    def _embeddings(self) -> Any:
        """Embeddings of the tower that ``input_ids`` go to."""
        tower = self.metadata_model if isinstance(self, _MetadataModel) else self.beatmap_model
        return tower.encoder.embeddings  # type: ignore[union-attr]

    def get_input_embeddings(self) -> nn.Module:
        """Token table of the beatmap tower; of the metadata tower where there is no other."""
        return self._embeddings().tok_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token table."""
        self._embeddings().tok_embeddings = value


class _MetadataModel(CM3PPreTrainedModel):
    """A metadata tower on its own."""

    config_class: Any = CM3PMetadataConfig
    config: CM3PMetadataConfig

    def __init__(self, config: CM3PMetadataConfig) -> None:
        super().__init__(config)
        self.metadata_model = MetadataTower(config)


class CM3PMetadataModel(_MetadataModel):
    """Metadata tower without projection."""

    def __init__(self, config: CM3PMetadataConfig) -> None:
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> CM3PMetadataModelOutput:
        """Encode metadata ``(M, L)`` or ``(M, V, L)``; equal sequences are encoded once."""
        pooled = self.metadata_model(
            input_ids, attention_mask, hidden_states=output_hidden_states, attentions=output_attentions
        )
        return metadata_output(pooled, input_ids.shape[:-1])


class CM3PMetadataModelWithProjection(_MetadataModel):
    """Metadata tower with projection; embeddings are not normalised."""

    def __init__(self, config: CM3PMetadataConfig) -> None:
        super().__init__(config)
        self.metadata_projection = _projection(config, config.projection_dim, config.initializer_factor)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> CM3PMetadataModelOutput:
        """Encode metadata ``(M, L)`` or ``(M, V, L)``; equal sequences are encoded once."""
        pooled = self.metadata_model(
            input_ids, attention_mask, hidden_states=output_hidden_states, attentions=output_attentions
        )
        embeds = self.metadata_projection(pooled.vectors)[pooled.rows].unflatten(0, input_ids.shape[:-1])
        return metadata_output(pooled, input_ids.shape[:-1], embeds)


class _BeatmapModel(CM3PPreTrainedModel):
    """A beatmap tower, and what may stand on it. Full checkpoints fit: of them the tower is taken."""

    config_class: Any = CM3PBeatmapConfig
    config: CM3PBeatmapConfig

    def __init__(self, config: CM3PBeatmapConfig) -> None:
        super().__init__(config)
        self.beatmap_model = BeatmapTower(config)


class CM3PBeatmapModel(_BeatmapModel):
    """Beatmap tower without projection."""

    _keys_to_ignore_on_load_unexpected = (*_OTHER_PARTS, *_HEAD)  # type: ignore[assignment]

    def __init__(self, config: CM3PBeatmapConfig) -> None:
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> CM3PBeatmapModelOutput:
        """Encode windows ``(B, L)``; arguments as :class:`cm3p.network.towers.BeatmapTower`."""
        pooled = self.beatmap_model(
            input_ids,
            input_features,
            attention_mask,
            inputs_embeds,
            hidden_states=output_hidden_states,
            attentions=output_attentions,
        )
        return beatmap_output(pooled)


class CM3PBeatmapModelWithProjection(_BeatmapModel):
    """Beatmap tower with projection; embeddings are not normalised."""

    _keys_to_ignore_on_load_unexpected = (  # type: ignore[assignment]
        *(part for part in _OTHER_PARTS if "beatmap_projection" not in part),
        *_HEAD,
    )

    def __init__(self, config: CM3PBeatmapConfig) -> None:
        super().__init__(config)
        self.beatmap_projection = _projection(config, config.projection_dim, config.initializer_factor)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> CM3PBeatmapModelOutput:
        """Encode windows ``(B, L)``; arguments as :class:`cm3p.network.towers.BeatmapTower`."""
        pooled = self.beatmap_model(
            input_ids,
            input_features,
            attention_mask,
            inputs_embeds,
            hidden_states=output_hidden_states,
            attentions=output_attentions,
        )
        return beatmap_output(pooled, self.beatmap_projection(pooled.vectors))


class CM3PForBeatmapClassification(_BeatmapModel):
    """Classifier of windows of beatmaps, on the pooled vector of the tower."""

    _keys_to_ignore_on_load_unexpected = (*_OTHER_PARTS, *_HEAD)  # type: ignore[assignment]

    def __init__(self, config: CM3PBeatmapConfig) -> None:
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)
        matrix = nn.Linear(config.hidden_size, self.num_labels)
        self.classifier = drawn(matrix, config.hidden_size**-0.5 * config.initializer_factor)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> BeatmapClassifierOutput:
        """Classify windows.

        Args:
            input_ids: ``(B, L)``.
            input_features: ``(B, n_mels, T)``.
            attention_mask: ``(B, L)``.
            inputs_embeds: ``(B, L, h)`` in place of ``input_ids``.
            labels: As :func:`cm3p.losses.classification_loss`, by the configuration's ``problem_type``.
            output_attentions: Also return the attention weights.
            output_hidden_states: Also return the input of each layer.
        """
        pooled = self.beatmap_model(
            input_ids,
            input_features,
            attention_mask,
            inputs_embeds,
            hidden_states=output_hidden_states,
            attentions=output_attentions,
        )
        logits = self.classifier(pooled.vectors)
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        return BeatmapClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=padded_states(pooled.encoded),
            attentions=pooled.encoded.attentions,
        )


class CM3PForMaskedLM(_BeatmapModel):
    """Masked language model of beatmap tokens, whose decoder is the token table.

    A checkpoint that holds a decoder of its own, as those of full models do, keeps it: the decoder is not tied then,
    and the configuration says so by ``tie_word_embeddings: false``.
    """

    _keys_to_ignore_on_load_unexpected = _OTHER_PARTS  # type: ignore[assignment]
    _tied_weights_keys = {"decoder.weight": "beatmap_model.encoder.embeddings.tok_embeddings.weight"}  # noqa: RUF012
    accepts_loss_kwargs = True

    def __init__(self, config: CM3PBeatmapConfig) -> None:
        super().__init__(config)
        self.head = PredictionHead(config)
        self.decoder = decoder(config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as every model of transformers, and note in the configuration whether the decoder is tied."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.decoder.weight is not model.get_input_embeddings().weight:
            model.config.tie_word_embeddings = False
        return loaded

    def get_output_embeddings(self) -> nn.Module:
        """The decoder."""
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the decoder."""
        self.decoder = cast(nn.Linear, new_embeddings)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> CM3PMaskedLMOutput:
        """Predict masked tokens.

        Args:
            input_ids: ``(B, L)``.
            input_features: ``(B, n_mels, T)``.
            attention_mask: ``(B, L)``.
            inputs_embeds: ``(B, L, h)`` in place of ``input_ids``.
            labels: ``(B, L)`` token ids, -100 where a position does not count.
            num_items_in_batch: As :func:`cm3p.losses.masked_lm_loss`.
            output_attentions: Also return the attention weights.
            output_hidden_states: Also return the input of each layer.
        """
        encoded = self.beatmap_model(
            input_ids,
            input_features,
            attention_mask,
            inputs_embeds,
            hidden_states=output_hidden_states,
            attentions=output_attentions,
        ).encoded
        tokens, loss = encoded.tokens, None
        ignored = self.config.sparse_pred_ignore_index
        if labels is None:
            logits = encoded.layout.padded(self.decoder(self.head(tokens)))
        else:
            wanted = encoded.layout.take(labels)
            sparse = self.config.sparse_prediction
            if sparse:
                labelled = wanted != ignored
                tokens, wanted = tokens[labelled], wanted[labelled]
            logits = self.decoder(self.head(tokens))
            loss = masked_lm_loss(logits, wanted, num_items_in_batch, ignored=ignored)
            logits = logits if sparse else encoded.layout.padded(logits)
        return CM3PMaskedLMOutput(
            loss=loss, logits=logits, hidden_states=padded_states(encoded), attentions=encoded.attentions
        )


class CM3PModel(CM3PPreTrainedModel):
    """Beatmaps and metadata in one space, with an optional masked-token head; its decoder is not tied.

    Attributes:
        loss_options: Weights of the losses, and which negatives count.
    """

    config_class: Any = CM3PConfig
    config: CM3PConfig
    accepts_loss_kwargs = True

    def __init__(self, config: CM3PConfig) -> None:
        super().__init__(config)
        self.loss_options = LossOptions()
        self.metadata_model = MetadataTower(config.metadata_config)
        self.beatmap_model = BeatmapTower(config.beatmap_config)
        factor = config.initializer_factor
        self.beatmap_projection = _projection(config.beatmap_config, config.projection_dim, factor)
        self.metadata_projection = _projection(config.metadata_config, config.projection_dim, factor)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        if config.has_decoder_head:
            self.head = PredictionHead(config.beatmap_config)
            self.decoder = decoder(config.beatmap_config)
            drawn(self.head.dense, config.initializer_range)
            drawn(self.decoder, config.initializer_range)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Draw the weights of one module."""
        super()._init_weights(module)
        if module is self:
            initialization.constant_(self.logit_scale, self.config.logit_scale_init_value)

    def get_metadata_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Project metadata ``(M, L)`` or ``(M, V, L)`` to ``(M, D)`` or ``(M, V, D)``, not normalised.

        Without a mask all positions count as valid, as the original has it.
        """
        vectors = self.metadata_model.vectors(input_ids, attention_mask)
        return self.metadata_projection(vectors).unflatten(0, input_ids.shape[:-1])

    def get_beatmap_features(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Project windows ``(B, L)`` to ``(B, D)``, not normalised."""
        vectors = self.beatmap_model.vectors(input_ids, input_features, attention_mask, inputs_embeds)
        return self.beatmap_projection(vectors)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        metadata_ids: Tensor | None = None,
        metadata_attention_mask: Tensor | None = None,
        metadata_variation_classes: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_loss: bool = True,
        output_logits: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> CM3POutput:
        """Embed beatmaps, metadata, or both.

        Args:
            input_ids: ``(B, L)`` tokens of windows; the beatmap tower runs only where they are given.
            input_features: ``(B, n_mels, T)`` log-mel spectrograms.
            attention_mask: ``(B, L)`` 1 at valid tokens.
            metadata_ids: ``(M, L)``, or ``(M, V, L)`` with variations.
            metadata_attention_mask: The same shape.
            metadata_variation_classes: ``(M, V)``, 0 for the true variation; needed for a loss with variations.
            inputs_embeds: Accepted as the original does; without effect on its own.
            labels: ``(B, L)`` ids of masked tokens, -100 where a position does not count.
            num_items_in_batch: As :func:`cm3p.losses.masked_lm_loss`.
            return_loss: Whether there is a loss; zero-shot labels, of which there may be any number, need ``False``.
            output_logits: Whether logits of tokens are computed; ``None``: if there is a head.
            output_attentions: Also return the attention weights.
            output_hidden_states: Also return the input of each layer.

        Raises:
            UsageError: Logits are asked for without a head, shapes do not fit, or a loss is asked for between other
                numbers of entries and beatmaps.
        """
        if output_logits and not self.config.has_decoder_head:
            raise UsageError(
                "output_logits needs a model with a decoder head (has_decoder_head in its configuration)"
            )
        with_logits = self.config.has_decoder_head and output_logits is not False
        options = {"hidden_states": output_hidden_states, "attentions": output_attentions}
        output = CM3POutput()
        metadata = beatmaps = None
        if metadata_ids is not None:
            pooled = self.metadata_model(metadata_ids, metadata_attention_mask, **options)
            vectors = _unit(self.metadata_projection(pooled.vectors))
            metadata = vectors[pooled.rows].unflatten(0, metadata_ids.shape[:-1])
            output.metadata_embeds = metadata
            output.metadata_model_output = metadata_output(pooled, metadata_ids.shape[:-1])
        mlm = None
        if input_ids is not None:
            pooled = self.beatmap_model(input_ids, input_features, attention_mask, inputs_embeds, **options)
            beatmaps = _unit(self.beatmap_projection(pooled.vectors))
            output.beatmap_embeds = beatmaps
            output.beatmap_model_output = beatmap_output(pooled)
            if with_logits:
                output.logits, mlm = self._masked_tokens(
                    pooled, labels if return_loss else None, num_items_in_batch
                )
        contrastive = None
        if metadata is not None and beatmaps is not None:
            scale = self.logit_scale.exp()
            similarity = metadata @ beatmaps.T.to(metadata.dtype) * scale
            output.logits_per_metadata = similarity
            output.logits_per_beatmap = similarity.movedim(-1, 0)
            if return_loss:
                contrastive = self._contrastive(
                    similarity, metadata, beatmaps, scale, metadata_variation_classes
                )
        if return_loss:
            output.loss = self._total(contrastive, mlm)
        return CM3POutput(**output)  # in the order of its fields

    def _masked_tokens(
        self, pooled: Pooled, labels: Tensor | None, num_items: Tensor | int | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """``(B, L, C)`` logits of tokens, and the masked-token loss where there are labels."""
        layout, tokens = pooled.encoded.layout, pooled.encoded.tokens
        if labels is not None and self.loss_options.labelled_logits_only:
            wanted = layout.take(labels)
            labelled = wanted != IGNORED
            logits = self.decoder(self.head(tokens[labelled]))
            return None, masked_lm_loss(logits, wanted[labelled], num_items)
        logits = self.decoder(self.head(tokens))
        loss = None if labels is None else masked_lm_loss(logits, layout.take(labels), num_items)
        return layout.padded(logits), loss

    def _contrastive(
        self, similarity: Tensor, metadata: Tensor, beatmaps: Tensor, scale: Tensor, classes: Tensor | None
    ) -> Tensor:
        """The contrastive loss, of this process or of all."""
        mask_padding = self.loss_options.mask_padding
        if self.loss_options.gather and torch.distributed.is_initialized():
            return gathered_contrastive_loss(metadata, beatmaps, scale, classes, mask_padding=mask_padding)
        return contrastive_loss(similarity, classes, mask_padding=mask_padding)

    def _total(self, contrastive: Tensor | None, mlm: Tensor | None) -> Tensor | int:
        """Weighted sum of the losses that there are."""
        weighted = (
            (contrastive, self.loss_options.contrastive_weight),
            (mlm, self.loss_options.mlm_weight),
        )
        return sum(loss * weight for loss, weight in weighted if loss is not None)


def _projection(config: Any, width: int, factor: float) -> nn.Linear:
    """Matrix from a tower to the shared space."""
    return drawn(nn.Linear(config.hidden_size, width, bias=False), config.hidden_size**-0.5 * factor)


def _unit(vectors: Tensor) -> Tensor:
    """Divide vectors by their length."""
    return vectors / vectors.norm(dim=-1, keepdim=True)
