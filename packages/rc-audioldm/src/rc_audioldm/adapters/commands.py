"""``rc-audioldm train-adapter``. No torch until the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from pentatonic.cli import EXIT_INTERRUPTED, Overrides, experiments, training_extra

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
            from rc_audioldm.adapters import sweep

            searched = sweep.optuna_overrides(trials, space, seed) if trials else []
            result = sweep.main([*searched, *(overrides or [])])
        else:
            from rc_audioldm.adapters.train import main

            result = main(overrides or [])
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
