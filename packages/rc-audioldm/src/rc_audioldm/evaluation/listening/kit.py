"""A listening test in a folder: ``listeners/`` to give away (page, sheet and copies), and ``key.json`` to keep."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, run_manifest
from pentatonic.errors import InputError, MissingExtra, PentatonicError
from rc_audioldm.evaluation.listening.copies import write_pair
from rc_audioldm.evaluation.listening.sheet import write_sheet
from rc_audioldm.evaluation.listening.trials import Trial, write_key
from rc_audioldm.evaluation.systems import Pairing

LISTENERS, KEY, PAGE, FORM = "listeners", "key.json", "listening_test.html", "audio_evaluation_form.xlsx"


def write_test(
    out: Path, trials: Sequence[Trial], pairing: Pairing, report: BatchReport, *, seed: int
) -> int:
    """Write a listening test; a pair with a recording that cannot be used is left out and reported.

    Args:
        out: An existing folder.
        trials: What is asked.
        pairing: The recordings.
        report: Gets an entry for each pair.
        seed: With which the trials were planned, for the key.

    Returns:
        Trials that were written.

    Raises:
        InputError: No pair can be used.
        MissingExtra: jinja2, openpyxl or pyloudnorm is not installed.
        CheckpointError: A file cannot be written.
    """
    folder = out / LISTENERS
    template = _template()
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    written: list[Trial] = []
    copies: dict[str, Any] = {}
    for _, group in groupby(trials, key=lambda trial: trial.audio_a):
        asked = list(group)
        trial = asked[0]
        sources = tuple(pairing.items[name][trial.item].path for name in (trial.system_a, trial.system_b))
        try:
            about = write_pair((sources[0], sources[1]), (folder / trial.audio_a, folder / trial.audio_b))
        except MissingExtra:
            raise
        except (PentatonicError, OSError) as error:
            report.failed(f"{sources[0]}, {sources[1]}", error)
            continue
        report.done(trial.audio_a)
        copies[trial.audio_a] = {"sources": [str(source) for source in sources], **about}
        written += asked
    if not written:
        report.print_summary()
        raise InputError("no pair of recordings can be used in the listening test")
    blinded = [trial.blinded() for trial in written]
    write_key(out / KEY, written, {"seed": seed, "copies": copies, "run": run_manifest()})
    write_sheet(folder / FORM, blinded)
    with atomic_file(folder / PAGE) as file:
        file.write(_page(template, blinded).encode())
    return len(written)


def _page(template: Any, trials: Sequence[Trial]) -> str:
    from pentatonic.report.page import source_hash

    style, script = _text("page.css"), _text("page.js")
    policy = (
        "default-src 'none'; media-src 'self' file:; base-uri 'none'; form-action 'none'; "
        f"style-src {source_hash(style)}; script-src {source_hash(script)}"
    )
    pairs = []
    for _, group in groupby(trials, key=lambda trial: trial.audio_a):
        asked = list(group)
        first = asked[0]
        pairs.append(
            {"prompt": first.prompt, "audio_a": first.audio_a, "audio_b": first.audio_b, "trials": asked}
        )
    return template.render(policy=policy, style=style, script=script, pairs=pairs)


def _template() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("The page of a listening test", "rc-audioldm[report]") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("page.html.j2"))


def _text(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
