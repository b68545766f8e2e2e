"""``rc-audioldm train-adapter`` and ``adapter-pairs``. No torch until a command runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pentatonic.cli import (
    EXIT_INTERRUPTED,
    Device,
    JsonFlag,
    Overrides,
    check_inputs,
    experiments,
    make_output_place,
    pick_device,
    show,
    training_extra,
)

HELP = f"""Train a projector, or an adapter to the states of AudioLDM 2's language model, from cached vectors.

Takes Hydra overrides: rc-audioldm train-adapter data.pairs=data/pairs optim.lr=1e-4. A stopped run continues with the
same command.

{experiments("rc_audioldm.adapters")}
"""


def train_adapter_command(
    overrides: Overrides = None,
    multirun: Annotated[
        bool,
        typer.Option(
            "--multirun", "-m", help="A Hydra sweep, such as optim.lr=1e-3,1e-4; keeps the best run."
        ),
    ] = False,
    trials: Annotated[int, typer.Option(min=0, help="Search with Optuna: so many runs (extra: sweep).")] = 0,
    space: Annotated[
        str, typer.Option(help="Search space: 'lr:[1e-4,3e-3] log; batch:{16,32}', beside the standard one.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the search.")] = 42,
) -> None:
    """Train an adapter from cached vectors."""
    with training_extra("Training", "rc-audioldm[train]"):
        if multirun or trials:
            from rc_audioldm.adapters.training import sweep

            searched = sweep.optuna_overrides(trials, space, seed) if trials else []
            result = sweep.main([*searched, *(overrides or [])])
        else:
            from rc_audioldm.adapters.training.train import main

            result = main(overrides or [])
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def adapter_pairs_command(
    bank: Annotated[Path, typer.Argument(metavar="BANK", help="Folder of a bank.")],
    manifest: Annotated[
        Path, typer.Argument(help="Manifest in JSON lines with captions of the bank's clips.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    model: Annotated[str, typer.Option("--model", help="The CLAP model that made the bank.")],
    revision: Annotated[str | None, typer.Option(help="Commit hash, tag or branch on the hub.")] = None,
    windows: Annotated[str, typer.Option(help="Windows of the bank.")] = "overlapped",
    teacher: Annotated[
        str | None, typer.Option(help="AudioLDM 2 whose states are to be learned: a directory or a hub id.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="The model is random: do not test its text tower.")
    ] = False,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Compute once what adapters are trained from: vectors of clips and captions, and the states of a teacher."""
    from rc_audioldm.adapters.pair_vectors import write_pairs
    from rc_audioldm.adapters.pairs_from_bank import pairs_from_bank
    from rc_audioldm.bank.style_bank import StyleBank
    from rc_audioldm.clap import from_pretrained
    from rc_audioldm.data.manifest import read_manifest

    check_inputs([bank, manifest])
    make_output_place(out, kind="folder", inputs=[bank])
    place, rows = pick_device(device), read_manifest(manifest)
    encoder = from_pretrained(model, revision, device=place, windows=windows, random_weights=random_weights)
    audioldm = None
    if teacher is not None:
        from rc_audioldm.weights import from_pretrained as load_audioldm

        audioldm = load_audioldm(teacher, device=place)
    pairs = pairs_from_bank(StyleBank.open(bank, encoder.header), rows, encoder, audioldm)
    write_pairs(out, replace(pairs, teacher=teacher or ""))
    about = {"pairs": len(pairs), "groups": len(set(pairs.groups)), "captions": len(set(pairs.captions))}
    show({"out": out, **about}, as_json, lambda: [f"{name}: {value}" for name, value in about.items()])
