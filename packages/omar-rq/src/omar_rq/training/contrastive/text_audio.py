"""Text-audio training: an audio encoder and a frozen text encoder meet in a shared space.

Shapes: B items, n samples, T text tokens, D width of the shared space.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from omar_rq.frontends import patchify
from omar_rq.model import OmarRQ
from omar_rq.training.contrastive.losses import LearnedTemperature, of_all_processes, symmetric_info_nce
from omar_rq.training.contrastive.options import TextAudioConfig
from omar_rq.training.contrastive.pooling import AttentionPool, LayerMix
from omar_rq.training.contrastive.text_data import Batch
from pentatonic.errors import HubError, MissingExtra
from pentatonic.training import StepContext


class TextAudio(nn.Module):
    """Audio encoder, mixture of its layers, attention pool and projection; frozen text encoder and projection.

    The text encoder is not part of the state: checkpoints hold what is trained, and the audio encoder.

    Args:
        encoder: The audio encoder.
        text_encoder: Of transformers, see :func:`load_text_encoder`.
        options: The objective.

    Attributes:
        encoder: As given.
        temperature: :class:`LearnedTemperature`.

    Raises:
        ConfigError: The heads of the pool do not divide the width.
    """

    def __init__(self, encoder: OmarRQ, text_encoder: nn.Module, options: TextAudioConfig) -> None:
        super().__init__()
        width = encoder.config.net.embed_dim
        self.frozen_audio = options.freeze_audio
        self.encoder = encoder.requires_grad_(not options.freeze_audio)
        self.mix = LayerMix(len(encoder.trunk.blocks))
        self.pool = AttentionPool(width, options.pool_heads)
        self.audio_projection = nn.Linear(width, options.projection)
        config: Any = text_encoder.config
        self.text_projection = nn.Linear(config.hidden_size, options.projection)
        self.temperature = LearnedTemperature(options.temperature)
        self._text = [text_encoder.eval().requires_grad_(False)]

    def train(self, mode: bool = True) -> TextAudio:
        """Set the mode; a frozen audio encoder stays in evaluation mode, as the text encoder does."""
        super().train(mode)
        if self.frozen_audio:
            self.encoder.eval()
        return self

    def embed_audio(self, audio: Tensor) -> Tensor:
        """``(B, n)`` float32 at the model's sample rate to ``(B, D)``, not normalised."""
        encoder = self.encoder
        with torch.no_grad():
            patches = patchify(encoder.frontend(audio), encoder.patch_size)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_audio):
            layers = encoder.trunk(encoder.embed(patches), layers=range(len(encoder.trunk.blocks)))[1]
        return self.audio_projection(self.pool(self.mix(layers)))

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``(B, T)`` int64 each to ``(B, D)``, not normalised: the mean over the tokens of a text, projected."""
        text = self._text[0].to(input_ids.device)
        with torch.no_grad():
            hidden = text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[..., None].to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp_min(1)
        return self.text_projection(pooled.to(self.text_projection.weight.dtype))

    def forward(self, batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
        """Compare the recordings with the texts, of all processes.

        Args:
            batch: From :class:`omar_rq.training.contrastive.text_data.TextCollate`.
            context: Position in training; nothing is drawn.

        Returns:
            As :func:`symmetric_info_nce`, and ``temperature``.
        """
        audio = of_all_processes(self.embed_audio(batch["audio"]))
        text = of_all_processes(self.embed_text(batch["input_ids"], batch["attention_mask"]))
        temperature = self.temperature()
        return symmetric_info_nce(audio, text, temperature) | {"temperature": temperature.detach()}


def load_text_encoder(name: str) -> tuple[nn.Module, Any]:
    """Load a text encoder and its tokenizer; no code of a repository is executed.

    Args:
        name: Directory or hub id.

    Raises:
        MissingExtra: ``omar-rq[text]`` is not installed.
        HubError: There is no such model with weights in safetensors.
    """
    try:
        from transformers import CONFIG_MAPPING, AutoModel, AutoTokenizer, PretrainedConfig
    except ImportError as error:
        raise MissingExtra("Text-audio training", "omar-rq[text]") from error
    try:
        kind = PretrainedConfig.get_config_dict(name)[0].get("model_type")
        if kind not in CONFIG_MAPPING:  # transformers would ask whether to run the code of the repository
            raise ValueError(f"model_type is {kind!r}, which transformers does not know")
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModel.from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubError(f"objective.text_audio.text_model={name} cannot be loaded: {reason}") from error
    return model, tokenizer
