"""``rc-audioldm demo``. No torch until the command runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from pentatonic.cli import Device, check_inputs, make_output_place, pick_device
from pentatonic.errors import UsageError

PROMPTS = ("a slow low cello phrase", "a high flute note", "a fast drum beat")
"""Prompts of the demo, written before any of their sounds was heard."""


def demo_command(
    clips: Annotated[
        Path, typer.Argument(help="Folder of clips, with their licences in a table or in tags.")
    ],
    page: Annotated[
        Path,
        typer.Option(
            "--page", metavar="FILE", help="The HTML page; a page of other programs gets a section more."
        ),
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="What to make; can be repeated.", show_default=", ".join(PROMPTS)),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Bundled name or directory.")] = "rc-audioldm-tiny",
    neighbours: Annotated[int, typer.Option(min=1, help="Clips that are retrieved.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 42,
    device: Device = "auto",
) -> None:
    """Write a page with sounds of prompts, the clips retrieved for each, and what they do to the sound."""
    check_inputs([clips])
    make_output_place(page, "--page", inputs=[clips])
    from pentatonic.report import check_page
    from rc_audioldm.bank.build import build_bank
    from rc_audioldm.bank.sources import find_clips
    from rc_audioldm.bank.style_bank import StyleBank
    from rc_audioldm.clap.weights import from_pretrained as load_clap
    from rc_audioldm.demo.page import write_demo
    from rc_audioldm.denoising.sampling import sampling_for
    from rc_audioldm.generation.finish import ModelNote
    from rc_audioldm.generation.settings import Retrieval
    from rc_audioldm.generation.styles import StyleFinder
    from rc_audioldm.weights import from_pretrained, licence_of_weights

    check_page(page)
    if any(not prompt.strip() for prompt in prompts or ()):
        raise UsageError("a prompt is empty; allowed: words for a sound")
    place = pick_device(device)
    note = ModelNote(model, "", licence_of_weights(model))
    loaded, clap = from_pretrained(model, device=place), load_clap(model, device=place)
    with tempfile.TemporaryDirectory(prefix="rc-audioldm-") as folder:
        report = build_bank(clap, find_clips(clips), Path(folder, "bank"))
        finder = StyleFinder(
            clap, StyleBank.open(Path(folder, "bank")), retrieval=Retrieval(neighbours=neighbours)
        )
        write_demo(loaded, note, clap, finder, prompts or PROMPTS, page, sampling_for(loaded, seed=seed))
    print(page)
    report.print_summary()
    report.raise_for_failures()
