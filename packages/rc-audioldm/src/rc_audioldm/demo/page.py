"""The page of ``rc-audioldm demo``.

For each prompt: the clips of the bank that are nearest to it, the sound of the prompt alone, and of the same noise with
half and all of their style; what that does to timbre, melody and similarity, and what may be done with the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pentatonic import audio as audio_files
from pentatonic.cli import progress, run_manifest
from pentatonic.errors import PentatonicError
from pentatonic.report import Report
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.denoising.sampling import Sampling
from rc_audioldm.generation.finish import Finisher, ModelNote
from rc_audioldm.generation.generate import generate
from rc_audioldm.generation.result import Result
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.ledger.ledger import Ledger
from rc_audioldm.level import gain_texts
from rc_audioldm.model import AudioLDM
from rc_audioldm.run_report.plots import spectrogram

SECTION = "rc-audioldm"
"""Name of the section in a page of several programs."""

_SOUNDS = {
    0.0: "The prompt alone",
    0.5: "The same noise, half way to the clips",
    1.0: "The same noise, with the style of the clips alone",
}


def write_demo(
    model: AudioLDM,
    note: ModelNote,
    clap: ClapEncoder,
    finder: StyleFinder,
    prompts: Sequence[str],
    page: Path,
    sampling: Sampling,
) -> list[Result]:
    """Make the clips of prompts with the styles of a bank, and write a section of a page about them.

    Args:
        model: The model.
        note: What is said of it.
        clap: Measures similarities; the one of the bank.
        finder: Finds styles in the bank.
        prompts: What to make.
        page: The HTML file; a page of other programs gets a section more.
        sampling: How clips are made.

    Returns:
        The clips, at half the strength.

    Raises:
        PentatonicError: A clip cannot be made, or the page cannot be written.
    """
    manifest = run_manifest()
    report = Report(
        "Sound from prompts and retrieved clips",
        command=manifest["command"],
        versions=manifest["versions"],
        section=SECTION,
    )
    of_bank = len(finder.bank.clips) if finder.bank else 0
    report.text(
        f"Model {note.name}, licence of its weights: {note.licence}. For each prompt the nearest clips of a bank of "
        f"{of_bank} clips were retrieved, and the prompt was heard alone, half way to their style, and with their "
        "style in its place, always from the same noise."
    )
    finisher, settings = Finisher(note, clap), Settings(sampling=sampling, knob=True)
    found: list[Result] = []
    with progress(len(prompts), "making clips") as bar:
        for result in generate(model, list(prompts), settings, finder=finder, clap=clap):
            found.append(result)
            _add_result(report, result, finisher, note)
            bar.advance(1, note=result.request.prompt)
    report.add_to(page)
    return found


def _add_result(report: Report, result: Result, finisher: Finisher, note: ModelNote) -> None:
    report.heading(f"“{result.request.prompt}”")
    for strength, audio in sorted(result.knob.items()):
        label = _SOUNDS.get(strength, f"Strength {strength:g}")
        report.audio(audio.numpy(), label, sample_rate=result.sample_rate)
        report.figure(spectrogram(audio.numpy(), result.sample_rate), f"Spectrogram: {label.lower()}")
    for each in gain_texts(1.0, result.knob_gains):
        report.text(f"The sound {each}.")
    record = finisher.knob(result)
    if record is not None:
        report.table([_dose_row(dose) for dose in record["doses"]], "What the strength does")
    report.table(
        [
            {
                "clip": each.clip,
                "weight": each.weight,
                "similarity to the prompt": each.similarity,
                "licence": each.licence,
                "source": each.source,
            }
            for each in result.influences
        ],
        "The clips that shaped it",
    )
    for path, influence in zip(result.style.files if result.style else (), result.influences, strict=False):
        _add_clip(report, path, influence.clip)
    ledger = Ledger(
        prompt=result.request.prompt,
        prompt_used=result.prompt_used,
        mode=result.mode,
        strength=result.strength,
        seed=result.seed,
        model=note.name,
        revision=note.revision,
        model_licence=note.licence,
        influences=result.influences,
    )
    copies, _ = finisher.copies(result)
    said = f"Verdict by the licences of clips and weights (no legal advice): {ledger.judgement.verdict}. "
    copied = [each["clip"] for each in copies or () if each["is_copy"]]
    said += (
        f"It has pieces of {', '.join(copied)}."
        if copied
        else "The copy detector found no piece of the clips in it."
    )
    report.text(said)


def _dose_row(dose: dict[str, Any]) -> dict[str, Any]:
    return {
        "strength": dose["strength"],
        "timbre like the clips'": dose["timbre"],
        "melody like the clips', in any key": dose["melody_any_key"],
        "CLAP similarity to the clips": dose["clap_reference"],
        "CLAP similarity to the prompt": dose["clap_prompt"],
    }


def _add_clip(report: Report, path: Path | None, name: str) -> None:
    if path is None:
        return
    try:
        clip = audio_files.load(path)
        report.audio(clip.samples[0].numpy(), f"Retrieved: {name}", sample_rate=clip.sample_rate)
    except PentatonicError:  # the table names it; a page without its player is better than none
        return
