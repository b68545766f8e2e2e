"""How alike an output is to its reference, timbre and melody apart, and to its prompt.

Shapes: n samples, K references, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pentatonic.errors import InputError, SilentAudio, UsageError
from rc_audioldm.knob.log_mel import Samples
from rc_audioldm.knob.melody import Chroma, chroma, melody_likeness
from rc_audioldm.knob.timbre import spectral_envelope, timbre_likeness


class Clap(Protocol):
    """Vectors of sounds and texts in one space, such as :class:`rc_audioldm.clap.ClapEncoder` has them."""

    def embed_audio(self, samples: Tensor, sample_rate: int, /) -> Tensor:
        """Return ``(1, D)`` of norm 1 for a sound ``(n,)``."""
        ...

    def embed_text(self, texts: Sequence[str], /) -> Tensor:
        """Return ``(B, D)`` of norm 1."""
        ...


@dataclass(frozen=True)
class Sound:
    """A sound, or a part of a reference.

    Args:
        samples: ``(n,)`` or ``(C, n)``.
        sample_rate: In Hz.
        weight: Its part in a reference of several clips; above 0.
    """

    samples: Samples
    sample_rate: int
    weight: float = 1.0


@dataclass(frozen=True)
class Likeness:
    """How alike an output is to a reference and to a prompt; None is what could not be measured.

    Args:
        timbre: Of spectral envelopes, 0 to 1.
        melody: Of chroma sequences in the same key, -1 to 1.
        melody_any_key: The same in the best of twelve keys.
        clap_reference: Cosine of CLAP to the reference.
        clap_prompt: Cosine of CLAP to the prompt.
    """

    timbre: float | None
    melody: float | None
    melody_any_key: float | None
    clap_reference: float | None
    clap_prompt: float | None


class Reference:
    """What outputs are compared with: one clip, or several with weights, whose likenesses are averaged.

    Args:
        clips: At least one that is not silent; silent ones have no timbre and are left out.
        prompt: The text; None leaves the prompt out.
        clap: Model of the similarities to reference and prompt; None leaves them out.

    Raises:
        UsageError: There are no clips, or a weight is not above 0.
        SilentAudio: All clips are silent.
        AudioError: A clip has no samples, or some that are not finite.
    """

    def __init__(self, clips: Sequence[Sound], prompt: str | None = None, clap: Clap | None = None) -> None:
        if not clips or not all(0 < each.weight < float("inf") for each in clips):
            raise UsageError("a reference needs clips with weights above 0")
        self._clap = clap
        self._parts: list[tuple[float, NDArray[np.float64], Chroma]] = []
        vectors = []
        for each in clips:
            try:
                envelope = spectral_envelope(each.samples, each.sample_rate)
            except SilentAudio:
                continue
            self._parts.append((each.weight, envelope, chroma(each.samples, each.sample_rate)))
            if clap is not None:
                vectors.append(each.weight * _vector(clap, each))
        if not self._parts:
            raise SilentAudio("the reference", "is silent")
        self._style = _unit(sum(vectors[1:], vectors[0])) if vectors else None
        self._text = None if clap is None or prompt is None else clap.embed_text([prompt])[0].double().numpy()

    def compare(self, output: Sound) -> Likeness:
        """Return how alike an output is; a silent one is like nothing, and has no values.

        Raises:
            AudioError: It has no samples, or some that are not finite.
        """
        try:
            envelope = spectral_envelope(output.samples, output.sample_rate)
        except SilentAudio:
            return Likeness(None, None, None, None, None)
        notes = chroma(output.samples, output.sample_rate)
        weights = np.array([weight for weight, _, _ in self._parts])
        melodies = [melody_likeness(part, notes) for _, _, part in self._parts]
        vector = None if self._clap is None else _vector(self._clap, output)
        return Likeness(
            timbre=_mean([timbre_likeness(part, envelope) for _, part, _ in self._parts], weights),
            melody=_mean([each.same_key for each in melodies], weights),
            melody_any_key=_mean([each.any_key for each in melodies], weights),
            clap_reference=None if vector is None or self._style is None else float(vector @ self._style),
            clap_prompt=None if vector is None or self._text is None else float(vector @ self._text),
        )


def _vector(clap: Clap, sound: Sound) -> NDArray[np.float64]:
    mono = np.atleast_2d(sound.samples).mean(axis=0, dtype=np.float64).astype(np.float32)
    return clap.embed_audio(torch.from_numpy(mono), sound.sample_rate)[0].double().numpy()


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = float(np.linalg.norm(vector))
    if not 1e-6 < norm < float("inf"):
        raise InputError("the vectors of the clips of a reference cancel each other, or are not finite")
    return vector / norm


def _mean(values: Sequence[float], weights: NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weights))
