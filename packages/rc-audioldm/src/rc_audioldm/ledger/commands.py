"""``rc-audioldm ledger``: what shaped recordings, and what may be done with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pentatonic.cli import BatchReport, JsonFlag, check_inputs, show
from pentatonic.errors import PentatonicError, UsageError

if TYPE_CHECKING:
    from rc_audioldm.ledger.files import FoundLedger

_WAV_SUFFIXES = frozenset({".wav"})


def ledger_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="WAV files, sidecars (.ledger.json), or folders of WAV files."
        ),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Show which clips and weights shaped recordings, under which licences, and what may be done with them.

    The verdict is publishable, non-commercial or unknown, by the strictest licence of the mix; it is no legal advice.
    Lines of attribution are ready to paste. Exit status 3: some files have no ledger; each one is named.
    """
    check_inputs(files)
    from pentatonic.folder_run import find_files
    from rc_audioldm.ledger.files import find_ledger

    report, found = BatchReport(), []
    paths = find_files(files, _WAV_SUFFIXES)
    if not paths:
        raise UsageError(f"no WAV files in {', '.join(map(str, files))}")
    for path in paths:
        try:
            found.append((path, find_ledger(path)))
            report.done(path)
        except (PentatonicError, OSError) as error:
            report.failed(path, error)
    show(
        [_document(path, each) for path, each in found],
        as_json,
        lambda: [line for path, each in found for line in _lines(path, each)],
    )
    if report.count("failed"):
        report.print_summary()
    report.raise_for_failures()


def _document(path: Path, found: FoundLedger) -> dict[str, Any]:
    return {
        "file": str(path),
        "place": found.place,
        "samples_unchanged": found.fits,
        **found.ledger.as_dict(),
    }


def _lines(path: Path, found: FoundLedger) -> Iterator[str]:
    ledger = found.ledger
    judgement = ledger.judgement
    yield f"{path}: {judgement.verdict}"
    yield f"  because    {judgement.reason}"
    for note in judgement.notes:
        yield f"  note       {note}"
    if found.fits is False:
        yield "  note       the sound was changed after this was written"
    yield f"  prompt     {ledger.prompt}"
    if ledger.prompt_used != ledger.prompt:
        yield f"  as used    {ledger.prompt_used}"
    yield f"  model      {' '.join(filter(None, (ledger.model, ledger.revision)))} ({ledger.model_licence})"
    yield f"  mode       {ledger.mode}, strength {ledger.strength:g}, seed {ledger.seed}"
    rows = [("weight", "effect", "role", "licence", "clip")] if ledger.influences else []
    for each in ledger.influences:
        effect = "-" if each.effect is None else f"{each.effect:.3f}"
        rows.append((f"{each.weight:.3f}", effect, each.role, each.licence, each.clip))
    yield from (f"  {line}" for line in _table(rows))
    for line in judgement.attribution:
        yield f"  credit     {line}"
    yield ""


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
