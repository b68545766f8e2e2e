"""OMAR-RQ: audio to embeddings. Plain single-device PyTorch; ``weights.py`` reads and writes the files.

audio (B, n) -> front end (B, F, T) -> patches (B, N, P) -> embed (B, N, C) -> trunk -> layers (L, B, N, C)

Shape legend: B batch, n samples, F values per frame, T frames, N tokens, P = F_p * T_p values per patch,
C width, L layers. Source: arXiv 2507.03482.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from omar_rq.config import ConformerConfig, ModelConfig
from omar_rq.conformer import Conformer
from omar_rq.frontends import Frontend, build_frontend, patchify
from omar_rq.signals import Signal, layer_indices, prepare_audio
from omar_rq.transformer import Transformer
from pentatonic.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from omar_rq.tokens import Tokenizer


class OmarRQ(nn.Module):
    """The encoder: front end, patch embedding and trunk.

    Args:
        config: Configuration of the model. Weights are initialised at random; :func:`omar_rq.from_pretrained` loads
            trained ones.

    Attributes:
        config: As given.
        frontend: Audio to frames, float32 in every dtype of the model.
        embed: Linear layer on patches, P -> C.
        trunk: :class:`Conformer` or :class:`Transformer`.
        tokenizer: Quantised targets of pre-training; None unless ``omar_rq.weights`` was asked to attach it.

    Raises:
        ConfigError: The trunk brings its own patches or a class token, or the front end cannot be built.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend: Frontend = build_frontend(config.input)
        self.embed = nn.Linear(config.patch_dim, config.net.embed_dim)
        self.trunk: Conformer | Transformer
        if isinstance(config.net, ConformerConfig):
            self.trunk = Conformer(config.net)
        elif config.net.do_vit_tokenization or config.net.do_classification:
            raise ConfigError(
                "net.do_vit_tokenization and net.do_classification must be false here: the model embeds the "
                "patches itself and has one output per token"
            )
        else:
            self.trunk = Transformer(config.net)
        self.tokenizer: Tokenizer | None = None

    # Input and output rates. `eps`, `sr`, `net`, `embedding_layer` and `input_rep` are the original's names.

    @property
    def embedding_rate_hz(self) -> float:
        """Embeddings per second, one for each token."""
        return self.config.embedding_rate_hz

    @property
    def eps(self) -> float:
        """Same as :attr:`embedding_rate_hz` (embeddings per second)."""
        return self.embedding_rate_hz

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio the model reads."""
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples from one frame of the front end to the next."""
        return self.config.input.hop_length

    @property
    def patch_size(self) -> tuple[int, int]:
        """Rows and frames of a patch, (F_p, T_p)."""
        return self.config.input.patch_size

    @property
    def rep_dims(self) -> int:
        """Values per frame of the front end, F."""
        return self.config.input.rep_dims

    @property
    def sr(self) -> int:
        """Same as :attr:`sample_rate`."""
        return self.sample_rate

    @property
    def net(self) -> Conformer | Transformer:
        """Same as ``trunk``."""
        return self.trunk

    @property
    def embedding_layer(self) -> nn.Linear:
        """Same as ``embed``."""
        return self.embed

    @property
    def input_rep(self) -> Frontend:
        """Same as ``frontend``."""
        return self.frontend

    def n_tokens(self, n_samples: int) -> int:
        """Return the number of tokens, N, of ``n_samples`` samples at :attr:`sample_rate`."""
        return self.frontend.frames(n_samples) // self.patch_size[1]

    def timestamps(self, n_tokens: int) -> Tensor:
        """Return where each token starts, in seconds: ``(n_tokens,)`` float64.

        For a mel or CQT model, that is the middle of the window of its first frame.
        """
        return torch.arange(n_tokens, dtype=torch.float64) / self.embedding_rate_hz

    def centres(self, n_tokens: int) -> Tensor:
        """Return the centre of the audio that each token is made of, in seconds: ``(n_tokens,)`` float64.

        A token is a patch of ``T_p`` consecutive frames; its centre is the mean of theirs. Frame ``t`` of a mel or CQT
        front end is a window around the time ``t / frame_rate``, one of a waveform the sample at that time, and one
        of EnCodec the audio from that time to the next frame. What the trunk adds from other tokens (all that
        precede it, some that follow) is not counted.
        """
        first = (self.patch_size[1] - 1) / 2 + self.frontend.frame_centre
        return self.timestamps(n_tokens) + first / self.config.input.frame_rate

    def encode(
        self, audio: Tensor, layers: int | Iterable[int] | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Encode a batch, with gradients.

        Args:
            audio: ``(B, n)`` floating, mono, at :attr:`sample_rate`, on the model's device.
            layers: Indices of trunk blocks, negative ones from the end; ``None``: the last.
            lengths: ``(B,)`` samples per row where rows are padded on the right. Each row then has the same
                result as alone; outputs after its last token are to be ignored.

        Returns:
            ``(L, B, N, C)`` in the trunk's dtype, layers ascending.

        Raises:
            LayerIndexError: A layer is out of range.
            AudioTooShort: A row is shorter than one patch.
        """
        blocks = sorted(set(layer_indices(layers, len(self.trunk.blocks))))
        return torch.stack(self._encode(audio, blocks, lengths))

    def _encode(self, audio: Tensor, blocks: Sequence[int], lengths: Tensor | None) -> list[Tensor]:
        tokens = None
        if lengths is None:
            patches = patchify(self.frontend(audio), self.patch_size)
        else:  # row by row: a front end pads by mirroring the end of the signal, not the end of the batch
            rows = [row[None, :n] for row, n in zip(audio, lengths.tolist(), strict=True)]
            streams = [patchify(self.frontend(row), self.patch_size)[0] for row in rows]
            tokens = torch.tensor([len(stream) for stream in streams], device=audio.device)
            patches = pad_sequence(streams, batch_first=True)
        x = self.embed(patches.to(self.embed.weight.dtype))
        return self.trunk(x, layers=blocks, lengths=tokens)[1]

    @overload
    def extract_embeddings(
        self,
        audio: Signal,
        layers: int | Iterable[int] | None = None,
        *,
        sample_rate: float | None = None,
        order: Literal["ascending", "as_given"] = "ascending",
        requires_grad: bool = False,
    ) -> Tensor: ...

    @overload
    def extract_embeddings(
        self,
        audio: Sequence[Signal],
        layers: int | Iterable[int] | None = None,
        *,
        sample_rate: float | None = None,
        order: Literal["ascending", "as_given"] = "ascending",
        requires_grad: bool = False,
    ) -> list[Tensor]: ...

    def extract_embeddings(
        self,
        audio: Signal | Sequence[Signal],
        layers: int | Iterable[int] | None = None,
        *,
        sample_rate: float | None = None,
        order: Literal["ascending", "as_given"] = "ascending",
        requires_grad: bool = False,
    ) -> Tensor | list[Tensor]:
        """Embed audio of any length in one pass; the input is checked, and resampled where needed.

        Args:
            audio: Mono samples in [-1, 1], floating: ``(n,)``, ``(B, n)``, or a list of ``(n_i,)`` of any
                lengths, as tensors or numpy arrays.
            layers: Indices of trunk blocks, negative ones from the end; ``None``: the last. Blocks after the
                highest one are not computed.
            sample_rate: Sample rate of ``audio`` in Hz; other rates are resampled. ``None``: the model's, with a
                warning.
            order: ``"ascending"`` sorts the layers and drops repetitions, as the original does;
                ``"as_given"`` keeps them as asked.
            requires_grad: Keep the graph for fine-tuning.

        Returns:
            ``(L, B, N, C)`` float32 on the model's device, token ``t`` starting at
            ``t / embedding_rate_hz`` seconds; for a list of signals a list of ``(L, N_i, C)``, each equal to the
            result for that signal alone.

        Raises:
            EmptyAudio: There are no samples.
            NonFiniteAudio: There are NaN or infinite samples.
            AudioTooShort: A signal is shorter than one patch.
            AudioError: A signal has the wrong number of axes or is not floating.
            LayerIndexError: A layer is out of range.
            UsageError: No layer, an unknown order, or a sample rate that is not positive.
        """
        if order not in ("ascending", "as_given"):
            raise UsageError(f"order is {order!r}; allowed: 'ascending', 'as_given'")
        asked = layer_indices(layers, len(self.trunk.blocks))
        blocks = sorted(set(asked))
        listed = isinstance(audio, (list, tuple))
        rows = prepare_audio(
            audio,
            sample_rate=sample_rate,
            model_rate=self.sample_rate,
            min_samples=self.frontend.min_samples,
            device=self.embed.weight.device,
        )
        counts = [len(row) for row in rows]
        lengths = torch.tensor(counts) if len(set(counts)) > 1 else None
        with nullcontext() if requires_grad else torch.inference_mode():
            outputs = self._encode(pad_sequence(rows, batch_first=True), blocks, lengths)
        # Stacked outside inference mode: the result can be trained on.
        picked = blocks if order == "ascending" else asked
        with torch.set_grad_enabled(requires_grad and torch.is_grad_enabled()):
            embeddings = torch.stack([outputs[blocks.index(i)].float() for i in picked])
        if not listed:
            return embeddings
        return [embeddings[:, i, : self.n_tokens(n)] for i, n in enumerate(counts)]
