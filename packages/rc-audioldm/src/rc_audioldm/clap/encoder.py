"""Vectors of audio and text by a CLAP model of transformers.

Shapes: n samples, W windows, B recordings or texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pentatonic.audio import resample
from pentatonic.errors import InputError, UsageError, WeightsError
from pentatonic.folder_run import fingerprint
from pentatonic.mel import MelFrontend
from pentatonic.precision import number_type_name
from rc_audioldm.clap.frontend import ClapFrontend
from rc_audioldm.clap.header import ClapHeader
from rc_audioldm.clap.windows import POOLING, WINDOWS, Windows, pool

_GPU_WINDOWS = 32
_MOST_TOKENS = 512
CAPTIONS = (
    "a solo piano playing a slow melody",
    "a distorted electric guitar riff",
    "a drum kit playing a fast rock beat",
    "a violin playing a long sustained note",
    "a trumpet fanfare",
    "a deep synthesizer bass line",
    "a flute playing a trill",
    "a church organ playing chords",
)
"""Captions of eight instruments, which no working text tower takes for nearly the same."""
MOST_ALIKE = 0.9
"""Largest mean cosine of the captions' pairs; the published tower has .18, collapsed and random ones .98 and more."""


class CollapsedTextTower(WeightsError):
    """The text tower gives nearly the same vector for every text."""


class ClapEncoder:
    """A CLAP model with its frontend, tokenizer and windows.

    A recording has the same vector every time, in any batch: windows are taken from fixed places, and on a CPU the
    audio tower sees them one by one.

    Args:
        model: ``ClapModel`` of transformers, in evaluation mode.
        tokenizer: Of transformers.
        frontend: What the audio tower takes.
        windows: How recordings are cut.
        name: Of the model, for the header.
        revision: Of the model, for the header.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        frontend: ClapFrontend,
        *,
        windows: Windows = WINDOWS["overlapped"],
        name: str = "",
        revision: str = "",
    ) -> None:
        self.model, self.tokenizer, self.frontend, self.windows = model, tokenizer, frontend, windows
        self._name, self._revision = name, revision
        self._mel = MelFrontend(frontend.mel)

    @property
    def dimension(self) -> int:
        """Width of a vector."""
        return int(self.model.config.projection_dim)

    @property
    def sample_rate(self) -> int:
        """Samples per second that the frontend takes."""
        return self.frontend.mel.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights."""
        return next(self.model.parameters()).dtype

    @cached_property
    def header(self) -> ClapHeader:
        """How the vectors are made."""
        return ClapHeader(
            model=self._name,
            revision=self._revision,
            weights=fingerprint(_architecture(self.model.config), self.model.state_dict()),
            filter_bank=self.frontend.describe(),
            windows=self.windows.describe(self.frontend.window_s),
            pooling=POOLING,
            dtype=number_type_name(self.dtype),
            dimension=self.dimension,
        )

    def embed_audio(self, samples: Tensor | Sequence[Tensor], sample_rate: int) -> Tensor:
        """Embed recordings of any length.

        Args:
            samples: One recording ``(n,)`` float32, or a list of them.
            sample_rate: Of the recordings, in Hz; other rates than the model's are resampled as a whole.

        Returns:
            ``(B, D)`` float32 of norm 1, on the CPU.

        Raises:
            UsageError: A recording is not one-dimensional.
            AudioError: A recording has no samples, or some that are not finite.
        """
        recordings = [samples] if isinstance(samples, Tensor) else list(samples)
        for recording in recordings:
            if recording.ndim != 1:
                raise UsageError(f"a recording has the shape {tuple(recording.shape)}; allowed: (samples,)")
        vectors = [
            self.embed_windows(
                self.spectrograms([resample(recording.float(), sample_rate, self.sample_rate)])
            )
            for recording in recordings
        ]
        return torch.stack(vectors) if vectors else torch.zeros(0, self.dimension)

    def spectrograms(self, blocks: Iterable[Tensor]) -> Iterable[Tensor]:
        """Yield what the audio tower takes for each window of a recording, ``(1 or 4, frames, bands)``.

        Args:
            blocks: Consecutive pieces ``(n,)`` of the recording, at :attr:`sample_rate`.
        """
        for window in self.windows.stream(blocks, self.frontend.window_samples):
            yield self.frontend.compute(window[None], self._mel)[0]

    def embed_windows(self, spectrograms: Iterable[Tensor]) -> Tensor:
        """Embed a recording by its windows.

        Args:
            spectrograms: From :meth:`spectrograms`.

        Returns:
            ``(D,)`` float32 of norm 1, on the CPU.

        Raises:
            InputError: The vectors cancel each other, or are not finite.
        """
        outputs = [self._audio_tower(torch.stack(batch)) for batch in self._batched(spectrograms)]
        return pool(torch.cat(outputs)).float()

    def embed_batch(self, recordings: Sequence[Sequence[Tensor]]) -> Tensor:
        """Embed recordings by their windows, on a GPU those of several at a time.

        Args:
            recordings: B recordings, each as in :meth:`embed_windows`.

        Returns:
            ``(B, D)`` float32 of norm 1, on the CPU.

        Raises:
            InputError: As :meth:`embed_windows`.
        """
        if not recordings:
            return torch.zeros(0, self.dimension)
        batches = self._batched(chain.from_iterable(recordings))
        outputs = torch.cat([self._audio_tower(torch.stack(batch)) for batch in batches])
        return torch.stack([pool(each) for each in outputs.split(list(map(len, recordings)))]).float()

    def _batched(self, spectrograms: Iterable[Tensor]) -> Iterator[list[Tensor]]:
        """Windows as the audio tower takes them: one by one on a CPU, so that no other can change the last digits."""
        size = 1 if self.device.type == "cpu" else _GPU_WINDOWS
        rest = iter(spectrograms)
        while batch := list(islice(rest, size)):
            yield batch

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, each by itself, so that no other text of the list can change it.

        Args:
            texts: B texts; what is beyond the limit of the tokenizer is cut off.

        Returns:
            ``(B, D)`` float32 of norm 1, on the CPU.
        """
        vectors = [self._text_tower(text) for text in texts]
        return torch.cat(vectors) if vectors else torch.zeros(0, self.dimension)

    @torch.inference_mode()
    def _audio_tower(self, spectrograms: Tensor) -> Tensor:
        longer = torch.zeros(len(spectrograms), 1, dtype=torch.bool, device=self.device)
        features = self.model.get_audio_features(
            input_features=spectrograms.to(self.device, self.dtype), is_longer=longer
        )
        return _unit(features).cpu()

    @torch.inference_mode()
    def _text_tower(self, text: str) -> Tensor:
        limit = min(self.tokenizer.model_max_length, _MOST_TOKENS)
        tokens = self.tokenizer(text, truncation=True, max_length=limit, return_tensors="pt").to(self.device)
        features = self.model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        return _unit(features).cpu().float()


def check_text_tower(encoder: ClapEncoder, where: str) -> float:
    """Refuse a model whose text tower takes unlike captions for nearly the same.

    Args:
        encoder: The model.
        where: Its name, for the message.

    Returns:
        The mean cosine of the pairs of :data:`CAPTIONS`.

    Raises:
        CollapsedTextTower: It is above :data:`MOST_ALIKE`, or not a number.
    """
    vectors = encoder.embed_text(CAPTIONS).double()
    count = len(vectors)
    alike = float(((vectors @ vectors.T).sum() - vectors.square().sum()) / (count * (count - 1)))
    if not alike <= MOST_ALIKE:
        raise CollapsedTextTower(
            f"{where}: its text tower has collapsed: captions of {count} unlike instruments have a mean cosine of "
            f"{alike:.4f}, and {MOST_ALIKE} is allowed, so texts cannot be compared with audio; use another model "
            "(such as laion/clap-htsat-unfused, which has .18), or say that its weights are random"
        )
    return alike


def _unit(features: Any) -> Tensor:
    """Vectors of norm 1 in float64, from what the version of transformers returns."""
    vectors = features if isinstance(features, Tensor) else getattr(features, "pooler_output", None)
    if not isinstance(vectors, Tensor) or vectors.ndim != 2:
        raise InputError(
            f"the CLAP model gives {type(features).__name__}; needed: a tensor or a pooler_output"
        )
    return normalize(vectors.double(), dim=-1)


def _architecture(config: Any) -> dict[str, Any]:
    """The settings that decide what the weights compute."""
    parts = {"text": config.text_config, "audio": config.audio_config}
    names = ("hidden_act", "layer_norm_eps", "num_attention_heads", "window_size", "depths", "enable_fusion")
    chosen = {part: {name: getattr(values, name, None) for name in names} for part, values in parts.items()}
    return {**chosen, "projection": [config.projection_dim, config.projection_hidden_act]}
