"""What is added to clips and runs after they are made: ledgers, measures of the knob, a search for copies, the report.

The one place where generation calls these parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from pentatonic import audio as audio_files
from pentatonic.errors import MissingExtra, PentatonicError
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.denoising.sampling import Sampling
from rc_audioldm.denoising.windows import windows_of
from rc_audioldm.generation.result import Result
from rc_audioldm.knob.copies import Searchable, find_copies
from rc_audioldm.knob.dose_response import dose_response
from rc_audioldm.knob.joints import joint_times, measure_joints
from rc_audioldm.knob.likeness import Reference, Sound
from rc_audioldm.ledger.files import write_ledger
from rc_audioldm.ledger.ledger import Ledger
from rc_audioldm.model import AudioLDM
from rc_audioldm.run_report.page import write_run_report

_CLIPS_KEPT = 64  # in memory, for the next outputs


@dataclass(frozen=True)
class ModelNote:
    """What a ledger says of the model.

    Args:
        name: Of the model.
        revision: Of the model; may be empty.
        licence: Of its weights.
    """

    name: str
    revision: str
    licence: str


class Finisher:
    """Measures clips and writes their ledgers.

    Args:
        note: What ledgers say of the model.
        clap: Measures the similarities of the knob; None: they are left out.
    """

    def __init__(self, note: ModelNote, clap: ClapEncoder | None) -> None:
        self._note, self._clap = note, clap
        cached: Callable = lru_cache(_CLIPS_KEPT)
        self._sound, self._searchable = cached(_read_sound), cached(_read_searchable)

    def write_ledger(self, wav: Path, result: Result) -> None:
        """Write the ledger of a clip into its WAV and beside it."""
        write_ledger(
            wav,
            Ledger(
                prompt=result.request.prompt,
                prompt_used=result.prompt_used,
                mode=result.mode,
                strength=result.strength,
                seed=result.seed,
                model=self._note.name,
                revision=self._note.revision,
                model_licence=self._note.licence,
                influences=result.influences,
            ),
        )

    def knob(self, result: Result) -> dict[str, Any] | None:
        """Return what ``knob.json`` says of a clip; None without a knob, or where no clip of its style can be read."""
        if not result.knob or result.style is None:
            return None
        clips = []
        for path, influence in zip(result.style.files, result.style.influences, strict=True):
            try:
                samples, rate = self._sound(path)
                clips.append(Sound(samples, rate, influence.weight))
            except (PentatonicError, OSError):
                continue
        try:
            reference = Reference(clips, result.request.prompt, self._clap)
            outputs = {strength: _sound(audio, result) for strength, audio in result.knob.items()}
            return dose_response(result.id, outputs, reference).as_dict()
        except PentatonicError:
            return None

    def copies(self, result: Result) -> tuple[list[dict[str, Any]] | None, list[str]]:
        """Search a clip for pieces of the clips of its style.

        Returns:
            What ``copies.json`` says of it, or None where it has no style; and what is unusual: copies, and clips that
            could not be read.
        """
        if result.style is None:
            return None, []
        clips, flags = [], []
        for path, influence in zip(result.style.files, result.style.influences, strict=True):
            try:
                clips.append(self._searchable(path, influence.clip))
            except (PentatonicError, OSError) as error:
                flags.append(f"not compared with {influence.clip}, which cannot be read ({error})")
        output = Searchable(result.id, result.audio.numpy(), result.sample_rate)
        matches = find_copies(output, clips)
        flags += [f"has {each.seconds:.1f} s of {each.clip}" for each in matches if each.is_copy]
        return [each.as_dict() for each in matches], flags


def joints_of(model: AudioLDM, sampling: Sampling, audio: Tensor) -> dict[str, Any] | None:
    """Return how audible the joints of a long clip are; None for a clip of one window.

    Args:
        model: Its rates count.
        sampling: Length and windows.
        audio: ``(n,)`` at the rate of the model.
    """
    windows = windows_of(
        model,
        sampling.seconds,
        window_seconds=sampling.window_seconds,
        overlap_seconds=sampling.overlap_seconds,
    )
    if len(windows) == 1:
        return None
    times = joint_times(windows, model.latent_frame_seconds)
    try:
        return measure_joints(audio.numpy(), model.sample_rate, times).as_dict()
    except PentatonicError:
        return None


def finish_run(folder: Path) -> str:
    """Write ``report.html`` and ``visualizations/`` of a run that has clips.

    Returns:
        Why there is no report, or an empty text.
    """
    try:
        write_run_report(folder)
    except MissingExtra as error:
        return f"{folder / 'report.html'} was not written: {error}"
    return ""


def _sound(audio: Tensor, result: Result) -> Sound:
    return Sound(audio.numpy(), result.sample_rate)


def _read_sound(path: Path | None) -> tuple[Any, int]:
    if path is None:
        raise PentatonicError("the bank does not say where its clips are")
    found = audio_files.load(path)
    return found.samples[0].numpy(), found.sample_rate


def _read_searchable(path: Path | None, name: str) -> Searchable:
    return Searchable(name, *_read_sound(path))
