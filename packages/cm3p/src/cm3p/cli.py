"""The command line ``cm3p``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

from cm3p.explore.commands import explore_command
from pentatonic.cli import add_building_command, experiments, make_app, run

app = make_app("cm3p", "CM3P: osu! beatmaps, their metadata and their audio in one space.")
app.command("explore")(explore_command)

add_building_command(
    app,
    "train",
    "cm3p.training.train:main",
    feature="Training",
    help=(
        "Train a model; the same command continues a stopped run.\n\n"
        "Takes Hydra overrides: cm3p train experiment=v7 dataset.train_dataset_paths=[data/ranked]\n\n"
        + experiments("cm3p")
    ),
)


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
