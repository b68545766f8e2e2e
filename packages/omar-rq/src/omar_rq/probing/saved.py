"""Saved probes: a folder with ``config.json`` and ``model.safetensors`` that turns recordings into labels.

    probe = SavedProbe.load("runs/omar-rq/probe/chord/probe")
    prediction = probe.predict_file(omar_rq.from_pretrained("omar-rq-tiny"), "song.flac")

A probe reads the embeddings of the encoder that it was fitted to, and refuses every other one.

Shape legend: n samples, L layers, N tokens (1 for a whole recording), C width, D width of features, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self, get_args
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from omar_rq.embed import fingerprint
from omar_rq.model import OmarRQ
from omar_rq.probing.features import FeatureConfig, pooled_features, token_features
from omar_rq.probing.heads import Granularity, HeadConfig, Outputs, ProbeHead, answers
from omar_rq.signals import Signal, prepare_audio
from pentatonic import audio as audio_files
from pentatonic.audio_folder.items import named_errors
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions, Stream, open_audio
from pentatonic.checkpoint import atomic_directory, load_tensors, save_tensors
from pentatonic.cli import json_text
from pentatonic.errors import CheckpointError, ConfigError, InputError
from pentatonic.hub import load_state
from pentatonic.untrusted.config import Length, Range, check_fields, read_fields
from pentatonic.untrusted.files import read_json

_SECTIONS = ("probe", "encoder", "features", "head", "about")
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

# Tokens that the head sees at once, so that memory stays bounded.
_BLOCK_TOKENS = 4096
_MAX_CONFIG_BYTES = 16 << 20
MAX_LABELS = 10_000


class WrongEncoder(InputError):
    """A probe was fitted to embeddings of another encoder than the one that it is used with."""


@dataclass(frozen=True)
class Prediction:
    """What a probe says of one recording.

    Attributes:
        task: Such as ``chord``.
        labels: K names.
        times: (N,) float64 seconds, where each token starts; a single 0.0 for a whole recording.
        values: (N, K) float32: probabilities, or the values of a regression. Probabilities of labels that exclude each
            other add up to 1.
        rate: Tokens per second; 0.0 for a whole recording.
        pooling: How the recording became one answer, in words, such as ``mean over 143 tokens``; for an answer for
            each token it says so.
    """

    task: str
    labels: tuple[str, ...]
    times: np.ndarray
    values: np.ndarray
    rate: float
    pooling: str


@dataclass(frozen=True)
class EncoderRecord:
    """The encoder that a probe belongs to.

    Args:
        model: The name that it was loaded by.
        sha256: :func:`omar_rq.embed.fingerprint` of its configuration and weights.
        sample_rate: Of its audio, in Hz.
        embedding_rate_hz: Tokens per second.
        embed_dim: C.
    """

    model: Annotated[str, Length(0, 4096)]
    sha256: Annotated[str, Length(64, 64)]
    sample_rate: Annotated[int, Range(1, 1_000_000)]
    embedding_rate_hz: Annotated[float, Range(0, 1e6, above=True)]
    embed_dim: Annotated[int, Range(1, 65536)]

    def __post_init__(self) -> None:
        check_fields(self, "encoder")

    @classmethod
    def of(cls, model: OmarRQ, name: str) -> Self:
        """Describe an encoder.

        Args:
            model: The encoder.
            name: The name that it was loaded by.
        """
        return cls(
            name, fingerprint(model), model.sample_rate, model.embedding_rate_hz, model.config.net.embed_dim
        )


@dataclass(frozen=True)
class _Labelled:
    """The section ``probe`` of ``config.json``."""

    task: Annotated[str, Length(1, 100)]
    outputs: Outputs
    labels: Annotated[tuple[Annotated[str, Length(1, 1000)], ...], Length(1, MAX_LABELS)]


@dataclass(eq=False)
class SavedProbe:
    """A fitted head with everything that is needed to use it.

    Args:
        task: Such as ``chord``.
        labels: K names of its outputs.
        outputs: What its outputs are.
        encoder: The encoder that it was fitted to.
        features: Which features of the encoder it reads.
        head: The head, in evaluation mode.
        about: What else is known: data set, licence, command, scores. JSON values.
    """

    task: str
    labels: tuple[str, ...]
    outputs: Outputs
    encoder: EncoderRecord
    features: FeatureConfig
    head: ProbeHead
    about: Mapping[str, Any] = field(default_factory=dict)
    _accepted: WeakSet[OmarRQ] = field(default_factory=WeakSet, init=False, repr=False)

    def __post_init__(self) -> None:
        config = self.head.config
        if self.outputs not in get_args(Outputs):
            raise ConfigError(f"outputs is {self.outputs!r}; allowed: {', '.join(get_args(Outputs))}")
        if len(self.labels) != config.outputs:
            raise ConfigError(
                f"{len(self.labels)} labels for {config.outputs} outputs; allowed: equal numbers"
            )
        if config.layers != self.features.layers or config.width != self.features.width(
            self.encoder.embed_dim
        ):
            raise ConfigError(
                f"the head reads layers {list(config.layers)} with {config.width} values, and the features are "
                f"layers {list(self.features.layers)} with {self.features.width(self.encoder.embed_dim)}"
            )
        before = self.features.pooling
        if before != (config.pooling if config.pooling in ("mean", "mean+std") else "none"):
            raise ConfigError(
                f"head.pooling is {config.pooling!r} and features.pooling {before!r}: they do not fit"
            )

    @property
    def granularity(self) -> Granularity:
        """One answer for a recording, or one for each token."""
        return self.head.config.granularity

    @property
    def layer_weights(self) -> dict[int, float]:
        """Block of the encoder -> its learned weight; they add up to 1."""
        weights = self.head.layer_weights.tolist()
        return dict(zip(self.features.layers, weights, strict=True))

    @classmethod
    def load(cls, folder: str | Path, *, encoder: OmarRQ | None = None) -> Self:
        """Read a probe.

        Args:
            folder: Its folder.
            encoder: Refuse the probe now if it was not fitted to this encoder; else :meth:`predict` does.

        Raises:
            ConfigError: ``config.json`` is missing or wrong.
            CheckpointError: The weights are missing, damaged or do not fit.
            WrongEncoder: It was fitted to another encoder.
        """
        config_path, weights_path = Path(folder) / CONFIG_FILE, Path(folder) / WEIGHTS_FILE
        values = read_json(config_path, max_bytes=_MAX_CONFIG_BYTES)
        try:
            if not isinstance(values, dict) or not all(
                isinstance(values.get(name), dict) for name in _SECTIONS
            ):
                raise ConfigError(f"not a saved probe; needed: the sections {', '.join(_SECTIONS)}")
            named = read_fields(_Labelled, values["probe"], "probe")
            with torch.device("meta"):  # a configuration of a stranger allocates nothing
                head = ProbeHead(read_fields(HeadConfig, values["head"], "head"))
            probe = cls(
                named.task,
                named.labels,
                named.outputs,
                read_fields(EncoderRecord, values["encoder"], "encoder"),
                read_fields(FeatureConfig, values["features"], "features"),
                head,
                values["about"],
            )
        except ConfigError as error:
            raise ConfigError(f"{config_path}: {error}") from error
        load_state(head, load_tensors(weights_path), what=str(weights_path))
        if not all(bool(torch.isfinite(value).all()) for value in head.state_dict().values()):
            raise CheckpointError(f"{weights_path}: a weight is not finite")
        head.eval()
        if encoder is not None:
            probe.check_encoder(encoder)
        return probe

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; on an error neither is written.

        Args:
            folder: Replaced as a whole.

        Raises:
            CheckpointError: The folder cannot be written.
        """
        document = {
            "probe": {"task": self.task, "outputs": self.outputs, "labels": list(self.labels)},
            "encoder": asdict(self.encoder),
            "features": asdict(self.features),
            "head": asdict(self.head.config),
            "about": dict(self.about),
        }
        with atomic_directory(Path(folder)) as partial:
            (partial / CONFIG_FILE).write_text(f"{json_text(document)}\n", encoding="utf-8")
            save_tensors(partial / WEIGHTS_FILE, self.head.state_dict())

    def check_encoder(self, model: OmarRQ) -> None:
        """Refuse an encoder whose configuration or weights differ from those of the one that the probe belongs to.

        Raises:
            WrongEncoder: They do. A model in another number type than float32 counts as another one.
        """
        if model in self._accepted:
            return
        if (found := fingerprint(model)) != self.encoder.sha256:
            raise WrongEncoder(
                f"the probe for {self.task} belongs to the encoder {self.encoder.model!r} in float32 (SHA-256 "
                f"{self.encoder.sha256[:12]}…), and this one is another (SHA-256 {found[:12]}…)"
            )
        self._accepted.add(model)

    def predict(self, model: OmarRQ, audio: Signal, sample_rate: float) -> Prediction:
        """Say what a signal is.

        Args:
            model: The encoder that the probe was fitted to.
            audio: Mono samples in [-1, 1], floating: ``(n,)``, as tensor or numpy array.
            sample_rate: Its rate in Hz; it is resampled where needed.

        Raises:
            WrongEncoder: The probe was fitted to another encoder.
            AudioError: The signal is empty, not finite, too short for one token, or not one signal.
            UsageError: ``sample_rate`` is not a positive whole number.
        """
        self.check_encoder(model)
        rows = prepare_audio(
            [audio],
            sample_rate=sample_rate,
            model_rate=model.sample_rate,
            min_samples=model.frontend.min_samples,
        )
        return self.predict_blocks(model, rows)

    def predict_file(
        self,
        model: OmarRQ,
        path: str | Path,
        *,
        reading: ReadOptions = DEFAULT_READING,
        stream: Stream = audio_files.stream,
    ) -> Prediction:
        """Say what a recording of any length is, in bounded memory.

        Args:
            model: The encoder that the probe was fitted to.
            path: The file; any rate and number of channels.
            reading: Which part is read, and up to which limits; times are places in the file.
            stream: Reads the audio; that of a :class:`pentatonic.audio.DecodingProcess` survives crashes of decoders.

        Raises:
            WrongEncoder: The probe was fitted to another encoder.
            AudioError: The file cannot be read, or is too short for one token.
        """
        self.check_encoder(model)
        blocks = open_audio(path, stream=stream, sample_rate=model.sample_rate, reading=reading)
        with named_errors(Path(path)):
            prediction = self.predict_blocks(model, blocks)
        return (
            replace(prediction, times=prediction.times + reading.start_s) if prediction.rate else prediction
        )

    @torch.inference_mode()
    def predict_blocks(self, model: OmarRQ, blocks: Iterable[Tensor]) -> Prediction:
        """Say what a signal is that arrives in blocks; nothing is checked, see :meth:`check_encoder`.

        Args:
            model: The encoder.
            blocks: Consecutive ``(n,)`` pieces at the rate of the model.

        Raises:
            AudioError: As :func:`omar_rq.streaming.stream_embeddings`.
        """
        head = self.head.to(model.embed.weight.device)
        device = head.mean.device
        if self.features.pooling != "none":
            chunks, n_tokens = pooled_features(model, blocks, self.features)
            logits = head(chunks.to(device)[:, :, None]).mean(0, keepdim=True)
            return self._prediction(logits, _pooling_words(self.features, len(chunks), n_tokens))
        mixed = torch.cat(
            [head.mix(piece[None].to(device)) for piece in token_features(model, blocks, self.features)], 1
        )
        if self.granularity == "frame":
            logits = classify_tokens(head, mixed[0])
            return self._prediction(logits, f"none: one answer for each of {len(logits)} tokens")
        return self._prediction(head.classify(mixed), f"learned attention over {mixed.shape[1]} tokens")

    def _prediction(self, logits: Tensor, pooling: str) -> Prediction:
        frames = self.granularity == "frame"
        rate = self.encoder.embedding_rate_hz
        times = np.arange(len(logits)) / rate if frames else np.zeros(1)
        values = answers(logits.float().cpu(), self.outputs).numpy()
        return Prediction(self.task, self.labels, times, values, rate if frames else 0.0, pooling)


def classify_tokens(head: ProbeHead, mixed: Tensor) -> Tensor:
    """Logits (N, K) of the mixed features (N, D) of a recording, block by block."""
    reach = head.config.context
    parts = []
    for start in range(0, len(mixed), _BLOCK_TOKENS):
        first = max(0, start - reach)
        logits = head.classify(mixed[None, first : start + _BLOCK_TOKENS + reach])[0]
        parts.append(logits[start - first :][:_BLOCK_TOKENS])
    return torch.cat(parts)


def _pooling_words(features: FeatureConfig, chunks: int, n_tokens: int) -> str:
    what = f"{'mean and deviation' if features.pooling == 'mean+std' else 'mean'} over {n_tokens} tokens"
    if features.chunk_s is None:
        return what
    return f"{what} in {chunks} chunks of {features.chunk_s:g} s, and the mean over their logits"
