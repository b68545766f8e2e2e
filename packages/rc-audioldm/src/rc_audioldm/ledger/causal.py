"""Which clips really shaped an output: each is left out in turn, with the same noise, and the change is measured.

Shapes: K clips, N rows of a bank, D dimensions, n samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import InputError, UsageError
from rc_audioldm.knob.log_mel import log_mel, log_mel_distance

Samples = NDArray[np.floating]
Vectors = NDArray[np.floating]

Make = Callable[[Sequence[int], Sequence[float]], Samples]
"""Makes the sound ``(n,)`` of a prompt with these rows of the bank and their weights, which add up to 1; always with
the same noise. Without rows it makes the sound of the prompt alone."""

Embed = Callable[[Samples], Vectors]
"""Gives a sound its vector of CLAP, ``(D,)``."""

_NOTHING = 1e-9  # of a cosine, or of decibels: what rounding leaves


@dataclass(frozen=True)
class Effect:
    """What a clip did to an output.

    Args:
        row: Of the bank.
        weight: That it had.
        clap: One minus the cosine of the outputs with and without it, 0 to 2.
        mel_db: Root mean square difference of their log-mel spectrograms.
        towards: How much nearer (above 0) the output is to the clip for having it: the difference of two cosines.
        share: Its part of the effects (``clap``) of all clips, 0 to 1; 0 for all where none has one.
        rank: Place by ``clap``, from 1. Clips of the same effect all have the worst place among them, so that nothing
            wins by doing nothing.
        mel_rank: Place by ``mel_db``.
    """

    row: int
    weight: float
    clap: float
    mel_db: float
    towards: float
    share: float
    rank: int
    mel_rank: int


@dataclass(frozen=True)
class CausalEffects:
    """What each clip did to an output.

    Args:
        effects: In the order of the rows.
        chance: That a clip has the first place by chance: one in K.
        repeat_clap: The effect of making the same output again with nothing left out; not 0 where a device does not
            repeat itself. Smaller effects mean nothing.
        repeat_mel_db: The same in dB.
    """

    effects: tuple[Effect, ...]
    chance: float
    repeat_clap: float
    repeat_mel_db: float

    @property
    def shares(self) -> list[float]:
        """Of each clip, for :meth:`rc_audioldm.ledger.ledger.Ledger.with_effects`."""
        return [each.share for each in self.effects]

    @property
    def ranks(self) -> list[int]:
        """Of each clip, for :meth:`rc_audioldm.ledger.ledger.Ledger.with_effects`."""
        return [each.rank for each in self.effects]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def leave_one_out(
    make: Make,
    rows: Sequence[int],
    weights: Sequence[float],
    clips: Vectors,
    embed: Embed,
    sample_rate: int,
) -> CausalEffects:
    """Measure the effect of each clip on an output. It takes K + 2 outputs.

    The weights of the other clips are scaled up to 1, as a retrieval without the clip would have them.

    Args:
        make: Makes outputs.
        rows: The K rows that the output was made with.
        weights: Their weights.
        clips: ``(K, D)`` their vectors of CLAP, of any norm but 0.
        embed: Gives outputs theirs.
        sample_rate: Of the outputs, in Hz.

    Raises:
        UsageError: There are no clips, one is there twice, or the numbers of rows, weights and vectors differ.
        InputError: A weight is negative or not finite, all are 0, or a vector is 0 or not finite.
    """
    weight = _checked_weights(rows, weights, clips)
    units = _units(np.asarray(clips, np.float64))
    whole, again = (_Output(make(list(rows), weight.tolist()), embed, sample_rate) for _ in range(2))
    outputs = []
    for place in range(len(rows)):
        others = [each for each in range(len(rows)) if each != place and weight[each] > 0]
        rest = weight[others] / weight[others].sum() if others else weight[others]
        sound = make([rows[each] for each in others], rest.tolist())
        outputs.append(_Output(sound, embed, sample_rate))
    clap = [whole.apart(each) for each in outputs]
    mel = [log_mel_distance(whole.mel, each.mel) for each in outputs]
    total = sum(clap)
    effects = tuple(
        Effect(
            row=int(rows[place]),
            weight=float(weight[place]),
            clap=clap[place],
            mel_db=mel[place],
            towards=float((whole.vector - outputs[place].vector) @ units[place]),
            share=clap[place] / total if total > _NOTHING else 0.0,
            rank=_rank(clap, place),
            mel_rank=_rank(mel, place),
        )
        for place in range(len(rows))
    )
    return CausalEffects(effects, 1 / len(rows), whole.apart(again), log_mel_distance(whole.mel, again.mel))


class _Output:
    def __init__(self, samples: Samples, embed: Embed, sample_rate: int) -> None:
        self.vector = _units(np.asarray(embed(samples), np.float64)[None])[0]
        self.mel = log_mel(samples, sample_rate)

    def apart(self, other: _Output) -> float:
        """One minus the cosine, exact for equal vectors, where the product of two is not."""
        return float(np.sum((self.vector - other.vector) ** 2) / 2)


def _rank(values: Sequence[float], place: int) -> int:
    return sum(each >= values[place] - _NOTHING for each in values)


def _checked_weights(rows: Sequence[int], weights: Sequence[float], clips: Vectors) -> NDArray[np.float64]:
    if not rows or len(set(rows)) != len(rows):
        raise UsageError(f"rows are {list(rows)}; allowed: at least one, and each once")
    if not len(rows) == len(weights) == len(clips):
        raise UsageError(f"{len(rows)} rows, {len(weights)} weights, {len(clips)} vectors; needed: one each")
    found = np.asarray(weights, np.float64)
    if not np.isfinite(found).all() or (found < 0).any() or found.sum() <= 0:
        raise InputError(f"weights are {list(weights)}; allowed: from 0, and not all 0")
    return found / found.sum()


def _units(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise InputError("a vector of a clip or an output is 0 or not finite")
    return vectors / norms
