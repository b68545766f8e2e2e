"""Make one clip with its ledger, from what a page asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pentatonic import audio
from pentatonic.errors import PentatonicError, UsageError
from pentatonic.processes.leftovers import owner
from pentatonic.server import finite
from rc_audioldm.app.reference import ReferenceClip
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.denoising.guidance import Guidance
from rc_audioldm.denoising.loop import Denoising
from rc_audioldm.denoising.sampling import OnStep, sampling_for
from rc_audioldm.generation.checks import agreement, disagreement
from rc_audioldm.generation.finish import Finisher, ModelNote
from rc_audioldm.generation.generate import generate
from rc_audioldm.generation.modes import MODES
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.result import Result
from rc_audioldm.generation.settings import Retrieval, Settings
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.knob.dose_response import DoseResponse
from rc_audioldm.ledger.files import read_ledger
from rc_audioldm.ledger.ledger import Influence, Ledger
from rc_audioldm.level import gain_texts, turn_down
from rc_audioldm.licences import licence_name
from rc_audioldm.model import AudioLDM

MAX_SECONDS, MAX_STEPS, MAX_GUIDANCE, MAX_NEIGHBOURS = 60.0, 200, 20.0, 16
PLAYED_S = 15.0
"""What is played of a clip that shaped another one."""

_PLAYED_RATE = 32_000
AUTOMATIC = "automatic"
_MODE_WORDS = {
    AUTOMATIC: "Follow the style, where there is one",
    "prompt": "The prompt alone",
    "clap-in": "Move what the prompt means towards the style",
    "lm-mix": "Mix how the model would describe prompt and style",
    "lm-concat": "Describe prompt and style side by side",
    "adapter": "Let a trained adapter describe the style",
    "augment": "Add the labels of the nearest clips to the prompt",
    "audio-init": "Start from the nearest clip, or the reference",
}


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a page asks for; fields as of :class:`rc_audioldm.generation.requests.Request` and its settings."""

    prompt: str
    negative: str
    mode: str | None
    strength: float
    seconds: float
    steps: int
    guidance: float
    seed: int
    neighbours: int
    licence: str
    reference: ReferenceClip | None

    @classmethod
    def of(cls, values: Mapping[str, Any], reference: ReferenceClip | None) -> Wanted:
        """Read the values of the page, which a script may have sent.

        Raises:
            UsageError: The prompt is empty, or a number is none.
        """
        prompt, negative, mode = (str(values[name] or "") for name in ("prompt", "negative", "mode"))
        if not prompt.strip():
            raise UsageError("Write what you want to hear first.")
        return cls(
            prompt=prompt.strip(),
            negative=negative.strip(),
            mode=None if mode == AUTOMATIC else mode,
            strength=finite("the strength", values["strength"], 0, 1),
            seconds=finite("the length", values["seconds"], 0, MAX_SECONDS),
            steps=int(finite("the number of steps", values["steps"], 1, MAX_STEPS)),
            guidance=finite("the guidance", values["guidance"], 0, MAX_GUIDANCE),
            seed=int(finite("the seed", values["seed"], 0, 2**32 - 1)),
            neighbours=int(finite("the number of clips", values["neighbours"], 1, MAX_NEIGHBOURS)),
            licence=licence_name(values["licence"]),
            reference=reference,
        )


@dataclass(frozen=True, eq=False)
class Source:
    """A clip that shaped another one.

    Args:
        influence: How.
        sound: Its start as an MP3 file; None where it cannot be read.
    """

    influence: Influence
    sound: bytes | None


@dataclass(frozen=True, eq=False)
class Made:
    """A clip, and all that the page shows of it.

    Args:
        result: As generation gave it.
        wav: Its file, with the ledger inside.
        sidecar: The ledger as JSON.
        ledger: The ledger.
        sources: The clips that shaped it, in the order of the ledger.
        copies: What it holds of them, in sentences.
        levels: What was turned down, in sentences.
        strengths: Strength -> the same noise at this strength, as a WAV file; empty without a comparison.
        likeness: What was measured at these strengths; None without a comparison or a style that can be read.
    """

    result: Result
    wav: bytes
    sidecar: bytes
    ledger: Ledger
    sources: tuple[Source, ...]
    copies: tuple[str, ...]
    levels: tuple[str, ...]
    strengths: Mapping[float, bytes]
    likeness: DoseResponse | None


@dataclass(frozen=True, eq=False)
class Studio:
    """The models and the bank behind a page.

    Args:
        model: Of either family.
        note: What ledgers say of it.
        clap: Hears references, and compares clips; None: there are only prompts.
        bank: Whose clips are styles; None: only references are.
        retrieval: How a style is found.
        adapter: For the mode ``adapter``.
    """

    model: AudioLDM
    note: ModelNote
    clap: ClapEncoder | None = None
    bank: StyleBank | None = None
    retrieval: Retrieval = Retrieval()  # noqa: RUF009 - it is frozen
    adapter: torch.nn.Module | None = None

    @property
    def modes(self) -> list[tuple[str, str]]:
        """Words and name of each mode that is possible here."""
        found = [(_MODE_WORDS[AUTOMATIC], AUTOMATIC)] if self.clap is not None else []
        for name, mode in MODES.items():
            possible = mode.needs == "nothing" or self.clap is not None
            possible &= self.bank is not None or mode.needs not in ("labels", "bank")
            possible &= self.adapter is not None or name != "adapter"
            if possible and self.model.family in mode.families:
                found.append((_MODE_WORDS[name], name))
        return found

    def check(self) -> list[str]:
        """Check that the bank can be used, before anybody waits for a clip; return what is doubtful.

        Raises:
            IncompatibleVectors, FormatError, UsageError: The bank cannot be used.
        """
        if self.clap is None:
            return []
        StyleFinder(self.clap, self.bank, retrieval=self.retrieval)
        doubt = disagreement(agreement(self.model, self.clap), self.note.name)
        return [doubt] if doubt else []

    def make(self, wanted: Wanted, on_step: OnStep, *, compare: bool = False) -> Made:
        """Make a clip.

        Args:
            wanted: What is asked for.
            on_step: Told of each step; what it raises ends the work.
            compare: Make it at the strengths 0, 1/2 and 1 too, and measure what the strength does.

        Raises:
            PentatonicError: It cannot be made.
        """
        if compare and wanted.reference is None and self.bank is None:
            raise UsageError("There is no style to compare strengths of: add a reference clip.")
        with tempfile.TemporaryDirectory(prefix=f"rc-audioldm-{owner()}-") as name:
            folder = Path(name)
            reference = None if wanted.reference is None else wanted.reference.write(folder)
            request = Request(
                *(wanted.prompt, 0, wanted.negative, wanted.strength, reference, wanted.licence),
            )
            how = Denoising(steps=wanted.steps, guidance=Guidance(wanted.guidance))
            settings = Settings(
                mode=wanted.mode,
                sampling=sampling_for(self.model, wanted.seconds, seed=wanted.seed, denoising=how),
                retrieval=replace(self.retrieval, neighbours=wanted.neighbours),
                knob=compare,
            )
            finder = None
            if self.clap is not None:
                finder = StyleFinder(self.clap, self.bank, retrieval=settings.retrieval)
            (result,) = generate(
                self.model,
                [request],
                settings,
                finder=finder,
                clap=self.clap,
                adapter=self.adapter,
                on_step=on_step,
            )
            return self._finish(result, wanted.reference, folder)

    def _finish(self, result: Result, reference: ReferenceClip | None, folder: Path) -> Made:
        finisher = Finisher(self.note, self.clap)
        credited = _credited(result, reference)
        wav = folder / "clip.wav"
        audio.save(wav, result.audio, result.sample_rate)
        finisher.write_ledger(wav, credited)
        copies, flags = finisher.copies(result)
        measured = finisher.knob(result)
        return Made(
            result=credited,
            wav=wav.read_bytes(),
            sidecar=wav.with_suffix(".ledger.json").read_bytes(),
            ledger=read_ledger(wav),
            sources=tuple(_sources(credited, result, folder)),
            copies=tuple(flags if copies is not None else ()),
            levels=tuple(gain_texts(result.gain, result.knob_gains)),
            strengths={
                strength: _wav_bytes(sound, result.sample_rate, folder)
                for strength, sound in result.knob.items()
            },
            likeness=None if measured is None else DoseResponse.from_dict(measured),
        )


def _credited(result: Result, reference: ReferenceClip | None) -> Result:
    """The result with the name and the hash of the file that was sent, instead of those of its copy here."""
    if reference is None:
        return result
    influences = (
        replace(each, clip=reference.name, sha256=reference.sha256) if each.row is None else each
        for each in result.influences
    )
    return replace(result, influences=tuple(influences))


def _sources(credited: Result, result: Result, folder: Path) -> list[Source]:
    if result.style is None:
        return []
    style = result.style
    files = {each.clip: file for each, file in zip(style.influences, style.files, strict=True)}
    found = []
    with audio.DecodingProcess() as decoder:
        for shown, own in zip(credited.influences, result.influences, strict=True):
            found.append(Source(shown, _excerpt(files.get(own.clip), decoder.stream, folder)))
    return found


def _excerpt(path: Path | None, stream: Callable[..., Any], folder: Path) -> bytes | None:
    """The start of a clip as MP3; None where it cannot be read."""
    if path is None:
        return None
    try:
        blocks = list(stream(path, sample_rate=_PLAYED_RATE, duration_s=PLAYED_S, strict=False))
        sound = folder / "excerpt.mp3"
        audio.save(sound, turn_down(torch.cat(blocks))[0], _PLAYED_RATE, subtype="MPEG_LAYER_III")
        return sound.read_bytes()
    except (PentatonicError, OSError, RuntimeError):  # the last: there are no blocks to join
        return None


def _wav_bytes(samples: torch.Tensor, sample_rate: int, folder: Path) -> bytes:
    path = folder / "strength.wav"
    audio.save(path, samples, sample_rate)
    return path.read_bytes()
