"""The encoders of M3 and CLaMP 2 and 3 (arXiv 2410.13267, 2502.10362), and the decoder that M3 is pre-trained with.

M3 turns a window of patches into one vector per patch: BERT whose words are patches of 64 characters. CLaMP 2 averages
these vectors and projects them, and does the same with the vectors of a text encoder; CLaMP 3 has an encoder of audio
features besides.

Shape legend: B windows, N patches or tokens of a window, S = 64 characters of a patch, C width, H heads, P width of a
feature, M patches to guess, V = 128 characters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notagen.clamp2.config import (
    END_TOKEN,
    PADDING_TOKEN,
    START_TOKEN,
    ClampConfig,
    EncoderConfig,
    M3Config,
    PatchDecoderConfig,
    TextConfig,
)
from notagen.clamp2.patches import PAD, PATCH_SIZE, VOCABULARY_SIZE
from notagen.model import Trunk
from pentatonic.attention import KeyLengths, attention
from pentatonic.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from transformers import XLMRobertaModel

MUSIC_ONLY = "this model embeds music only: it has no text encoder, as clamp2 has (--model clamp2)"
"""Why a model that has no text encoder refuses a text."""
_EPSILON = 1e-12
_KINDS = 2  # rows of the released table of segments, of which only the first is ever added


class EncoderLayer(nn.Module):
    """Attention and MLP, normalised after each is added to its input, as in BERT."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads, self.dropout_p = config.heads, config.dropout
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm_attention = nn.LayerNorm(config.width, eps=_EPSILON)
        self.up = nn.Linear(config.width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, config.width)
        self.norm_mlp = nn.LayerNorm(config.width, eps=_EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: KeyLengths | None) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        heads = attention(q, k, v, mask=mask, dropout_p=self.dropout_p if self.training else 0.0)
        x = self.norm_attention(x + self.dropout(self.out(heads.transpose(1, 2).flatten(2))))
        return self.norm_mlp(x + self.dropout(self.down(F.gelu(self.up(x)))))


class VectorEncoder(nn.Module):
    """BERT over vectors.

    Args:
        config: Sizes.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.length, config.width)
        self.kinds = nn.Embedding(_KINDS, config.width)
        self.norm = nn.LayerNorm(config.width, eps=_EPSILON)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run the encoder.

        Args:
            x: ``(B, N, C)`` vectors, padded on the right.
            lengths: ``(B,)`` int64, how many of each window are real, at least 1; None: all.

        Returns:
            ``(B, N, C)``; rows of padding hold no meaning.

        Raises:
            UsageError: There are more vectors than positions.
        """
        n = x.shape[1]
        if n > self.positions.num_embeddings:
            raise UsageError(
                f"{n} vectors are more than the {self.positions.num_embeddings} positions of the model"
            )
        x = self.dropout(self.norm(x + self.kinds.weight[0] + self.positions.weight[:n]))
        mask = None if lengths is None else KeyLengths(lengths)
        for layer in self.layers:
            x = layer(x, mask)
        return x


class M3Encoder(nn.Module):
    """Patches to one vector per patch.

    Args:
        config: Sizes.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        # A patch is embedded as the sum of one row for each of its (place, character) pairs.
        self.embed = nn.EmbeddingBag(PATCH_SIZE * VOCABULARY_SIZE, config.width, mode="sum")
        self.embed_bias = nn.Parameter(torch.zeros(config.width))
        self.trunk = VectorEncoder(config)

    def forward(self, patches: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run the encoder.

        Args:
            patches: ``(B, N, S)`` int64 in [0, V), padded on the right.
            lengths: ``(B,)`` int64, real patches of each window, at least 1; None: all.

        Returns:
            ``(B, N, C)``; rows of padding hold no meaning.

        Raises:
            UsageError: The shape is another one, or there are more patches than positions.
        """
        return self.trunk(self.embedded(patches), lengths)

    def embedded(self, patches: Tensor) -> Tensor:
        """``(B, N, S) -> (B, N, C)``: the vectors that the encoder reads, without positions."""
        if patches.dim() != 3 or patches.shape[2] != PATCH_SIZE:
            raise UsageError(f"patches must be (B, N, {PATCH_SIZE}), got {tuple(patches.shape)}")
        places = torch.arange(PATCH_SIZE, device=patches.device) * VOCABULARY_SIZE
        rows = self.embed((patches + places).flatten(0, 1)).unflatten(0, patches.shape[:2])
        return rows + self.embed_bias


class PatchDecoder(nn.Module):
    """The vector of a patch to its characters: GPT-2 over 64 characters.

    Args:
        config: Sizes.
    """

    def __init__(self, config: PatchDecoderConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY_SIZE, config.width)
        self.trunk = Trunk(config, config.layers, PATCH_SIZE)

    def forward(self, vectors: Tensor, characters: Tensor) -> Tensor:
        """Predict each character from the vector and the characters before it.

        Args:
            vectors: ``(M, C)``.
            characters: ``(M, n)`` int64, those from the second on (the first one, the start, is the vector), n below S.

        Returns:
            Logits ``(M, n + 1, V)``; row k predicts character k + 1.
        """
        hidden = self.trunk(torch.cat((vectors[:, None], self.embed(characters)), dim=1))
        return F.linear(hidden, self.embed.weight)


class M3(nn.Module):
    """The music encoder with the decoder of its pre-training.

    Args:
        config: Sizes.
    """

    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = M3Encoder(config.encoder)
        self.decoder = PatchDecoder(config.decoder)
        initialise(self)

    def loss(self, inputs: Tensor, lengths: Tensor, targets: Tensor, selected: Tensor) -> Tensor:
        """Mean cross-entropy of the characters of the selected patches.

        Args:
            inputs: ``(B, N, S)`` int64, what the encoder reads, some of it masked.
            lengths: ``(B,)`` int64, real patches.
            targets: ``(B, N, S)`` int64, what was there.
            selected: ``(B, N)`` bool, which patches count.

        Returns:
            Scalar float32, nats. NaN where no patch is selected.
        """
        vectors, wanted = self.encoder(inputs, lengths)[selected], targets[selected]
        total, count = vectors.new_zeros((), dtype=torch.float32), 0
        sizes = (wanted != PAD).sum(1)
        for size in sizes.unique().tolist():  # patches of one length together: no padding is computed
            rows = (sizes == size).nonzero()[:, 0]
            read = wanted[rows, 1:size]
            if read.shape[1]:
                logits = self.decoder(vectors[rows], read[:, :-1]).float()
                total = total + F.cross_entropy(logits.flatten(0, 1), read.flatten(), reduction="sum")
                count += read.numel()
        return total / count if count else total + math.nan


class Clamp(nn.Module):
    """CLaMP 2 or 3: music, text, and (CLaMP 3) audio features in one space.

    Features are not normalised; compare them by their cosine.

    Args:
        config: Sizes; what it leaves out does not exist.

    Raises:
        MissingExtra: There is a text encoder, and transformers is not installed.
    """

    def __init__(self, config: ClampConfig) -> None:
        super().__init__()
        self.config = config
        self.music = M3Encoder(config.music)
        self.music_projection = nn.Linear(config.music.width, config.projection)
        self.text = None if config.text is None else _text_encoder(config.text)
        self.text_projection = (
            None if config.text is None else nn.Linear(config.text.width, config.projection)
        )
        self.audio = None if config.audio is None else VectorEncoder(config.audio)
        self.audio_projection = (
            None if config.audio is None else nn.Linear(config.audio.width, config.projection)
        )
        initialise(self)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.music.embed_bias.device

    def music_features(self, patches: Tensor, lengths: Tensor) -> Tensor:
        """Features of windows of music.

        Args:
            patches: ``(B, N, S)`` int64, padded on the right.
            lengths: ``(B,)`` int64, real patches, at least 1.

        Returns:
            ``(B, P)``.
        """
        return self.music_projection(masked_mean(self.music(patches, lengths), lengths))

    def text_states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """``(B, N)`` int64 tokens with those around them, ``(B,)`` real ones ``-> (B, N, C)``.

        Raises:
            UsageError: The model has no text encoder.
        """
        if self.text is None:
            raise UsageError(MUSIC_ONLY)
        mask = (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]).long()
        return self.text(input_ids=tokens, attention_mask=mask).last_hidden_state

    def text_features(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features ``(B, P)`` of windows of tokens; see :meth:`text_states`."""
        states = self.text_states(tokens, lengths)
        assert self.text_projection is not None
        return self.text_projection(masked_mean(states, lengths))

    def audio_features(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Features ``(B, P)`` of windows ``(B, N, C)`` of audio vectors, ``(B,)`` of them real.

        Raises:
            UsageError: The model has no audio encoder.
        """
        if self.audio is None or self.audio_projection is None:
            raise UsageError("this model has no audio encoder")
        return self.audio_projection(masked_mean(self.audio(vectors, lengths), lengths))


def masked_mean(states: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the real rows: ``(B, N, C)``, ``(B,)`` -> ``(B, C)``."""
    mask = (torch.arange(states.shape[1], device=states.device) < lengths[:, None]).to(states.dtype)
    return (states * mask[..., None]).sum(1) / lengths[:, None].to(states.dtype)


def contrastive_loss(left: Tensor, right: Tensor) -> Tensor:
    """Mean of the cross-entropies of rows and columns of ``left @ right.T`` against the diagonal.

    The features are neither normalised nor scaled, as in CLaMP 2.

    Args:
        left: ``(B, P)``.
        right: ``(B, P)``, row by row what belongs to ``left``.

    Returns:
        Scalar float32, nats.
    """
    logits = (left @ right.T).float()
    wanted = torch.arange(len(left), device=left.device)
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2


def initialise(module: nn.Module) -> None:
    """Draw fresh weights as the originals do: normal of deviation 0.02, and torch's own biases of the projections."""
    if any(parameter.is_meta for parameter in module.parameters()):
        return  # there is nothing to initialise
    projections = {"music_projection", "text_projection", "audio_projection"}
    for name, part in module.named_modules():
        if name.startswith("text."):  # transformers has drawn them
            continue
        if isinstance(part, (nn.Linear, nn.Embedding, nn.EmbeddingBag)):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and name not in projections:
            nn.init.zeros_(part.bias)
        if isinstance(part, M3Encoder):
            bound = 1 / math.sqrt(PATCH_SIZE * VOCABULARY_SIZE)
            nn.init.uniform_(part.embed_bias, -bound, bound)
        if isinstance(part, Trunk):
            for weight_name, weight in part.named_parameters():
                if weight_name.endswith(("attention.out.weight", "mlp.down.weight")):
                    nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(part.blocks)))


def _text_encoder(config: TextConfig) -> XLMRobertaModel:
    try:
        from transformers import XLMRobertaConfig, XLMRobertaModel
    except ImportError as error:
        raise MissingExtra("Embedding texts", "notagen[text]") from error
    sizes: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.positions,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "bos_token_id": START_TOKEN,
        "pad_token_id": PADDING_TOKEN,
        "eos_token_id": END_TOKEN,
    }
    return XLMRobertaModel(XLMRobertaConfig(**sizes), add_pooling_layer=False)
