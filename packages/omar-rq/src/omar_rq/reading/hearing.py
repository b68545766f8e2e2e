"""One recording as probes hear it: read once for each probe, in blocks, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omar_rq.annotations.picture import Envelope
from omar_rq.demo.recording import MeanRows
from omar_rq.model import OmarRQ
from omar_rq.probing.chunks import signal_chunks
from omar_rq.probing.saved import Prediction, SavedProbe
from omar_rq.reading.key import WINDOW_S
from omar_rq.reading.segments import MOST_STEPS, STEP_S
from omar_rq.streaming import stream_embeddings
from pentatonic.audio_folder.items import named_errors
from pentatonic.audio_folder.reading import MeasuredBlocks, ReadOptions, Stream, open_audio


@dataclass
class Recording:
    """What was heard of a recording.

    Attributes:
        path: The file.
        start: Second of the file at which reading began.
        duration: Seconds that were read.
        flags: What is unusual about the signal, see :class:`pentatonic.audio_folder.reading.MeasuredBlocks`.
        predictions: Task -> what its probe says; ``key changes``: of the key in windows.
        envelope: The waveform.
    """

    path: Path
    start: float
    duration: float = 0.0
    flags: list[str] = field(default_factory=list)
    predictions: dict[str, Prediction] = field(default_factory=dict)
    envelope: Envelope | None = None

    @property
    def end(self) -> float:
        """Second of the file at which reading ended."""
        return self.start + self.duration


@dataclass(frozen=True)
class Listener:
    """Hears recordings with an encoder and probes.

    Args:
        model: The encoder, in evaluation mode.
        probes: Task -> probe that was fitted to it.
        stream: Reads files.
        reading: Which part is read, and up to which limits.

    Raises:
        WrongEncoder: A probe was fitted to another encoder.
    """

    model: OmarRQ
    probes: Mapping[str, SavedProbe]
    stream: Stream
    reading: ReadOptions

    def __post_init__(self) -> None:
        for probe in self.probes.values():
            probe.check_encoder(self.model)

    def hear(self, path: Path, *, key_changes: bool = False) -> Recording:
        """Ask all probes about a recording; all times are places in the file.

        Args:
            path: The file.
            key_changes: Ask the probe for keys about windows of 20 s too.

        Raises:
            AudioError: The file cannot be read, or is too short for one token.
        """
        heard = Recording(path, self.reading.start_s)
        for task, probe in self.probes.items():
            with named_errors(path):
                blocks = self._blocks(heard)
                heard.predictions[task] = self._placed(probe.predict_blocks(self.model, blocks))
        if key_changes and "key" in self.probes:
            if self.probes["key"].granularity == "frame":
                heard.predictions["key changes"] = heard.predictions["key"]
            else:
                with named_errors(path):
                    heard.predictions["key changes"] = self._placed(self._in_windows(heard))
        return heard

    def steps(self, path: Path, layer: int) -> tuple[Recording, np.ndarray, float]:
        """Average the embeddings of one layer over short steps.

        Args:
            path: The file.
            layer: Block of the encoder, negative from the end.

        Returns:
            The recording, its steps (R, C), and the seconds of a step.

        Raises:
            AudioError: The file cannot be read, or is too short for one token.
            LayerIndexError: There is no such layer.
        """
        heard = Recording(path, self.reading.start_s)
        rows = MeanRows(max(1, round(STEP_S * self.model.embedding_rate_hz)), MOST_STEPS)
        with named_errors(path), torch.inference_mode():
            for (piece,) in stream_embeddings(self.model, self._blocks(heard), layer):
                rows.add(piece.cpu())
        return heard, rows.rows().numpy(), rows.length / self.model.embedding_rate_hz

    def _blocks(self, heard: Recording) -> Iterable[Tensor]:
        """The samples of the recording; the first time they also give its envelope, its length and its flags."""
        blocks = open_audio(
            heard.path, stream=self.stream, sample_rate=self.model.sample_rate, reading=self.reading
        )
        if heard.envelope is not None:
            return blocks
        heard.envelope = Envelope(self.model.sample_rate)
        return self._measured(heard, heard.envelope, blocks)

    @staticmethod
    def _measured(heard: Recording, envelope: Envelope, blocks: MeasuredBlocks) -> Iterable[Tensor]:
        yield from envelope.passing(blocks)
        heard.duration, heard.flags = blocks.duration_s, blocks.flags

    def _placed(self, prediction: Prediction) -> Prediction:
        """With times as places in the file."""
        if not prediction.rate:
            return prediction
        return replace(prediction, times=prediction.times + self.reading.start_s)

    def _in_windows(self, heard: Recording) -> Prediction:
        """What the probe for keys says of windows that overlap by half; ``times`` say where each answer begins."""
        probe, rate = self.probes["key"], self.model.sample_rate
        n_samples = round(heard.duration * rate)
        offsets, answers = [], []
        for offset, samples in signal_chunks(self._blocks(heard), size=round(WINDOW_S * rate)):
            offsets.append(offset / rate)
            # The last one without the zeros that fill it.
            answers.append(probe.predict_blocks(self.model, [samples[: n_samples - offset]]))
        times = np.where(np.array(offsets) > 0, np.array(offsets) + WINDOW_S / 4, 0.0)
        values = np.concatenate([answer.values for answer in answers])
        return replace(answers[0], times=times, values=values, rate=2 / WINDOW_S)
