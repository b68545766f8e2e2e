"""The command line ``cm3p``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

from cm3p.commands.classify import classify_command
from cm3p.commands.demo import demo_command
from cm3p.commands.embed import embed_command
from cm3p.commands.faults import faults_command
from cm3p.commands.inspect import inspect_command
from cm3p.commands.models import convert_command, info_command, push_command
from cm3p.commands.options import SeveralValues
from cm3p.commands.search import search_command
from cm3p.commands.validate import validate_command
from cm3p.explore.commands import explore_command
from pentatonic.cli import add_building_command, experiments, make_app, run

app = make_app("cm3p", "CM3P: osu! beatmaps, their metadata and their audio in one space.")

app.command("embed", cls=SeveralValues)(embed_command)
app.command("search", cls=SeveralValues)(search_command)
app.command("classify")(classify_command)
app.command("faults")(faults_command)
app.command("explore")(explore_command)
app.command("demo")(demo_command)
app.command("inspect")(inspect_command)
app.command("validate")(validate_command)
app.command("info")(info_command)
app.command("convert")(convert_command)
app.command("push")(push_command)

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
add_building_command(
    app,
    "evaluate",
    "cm3p.commands.evaluate:main",
    feature="Evaluating",
    help=(
        "Measure how good embeddings of maps are: retrieval, tags, zero-shot labels, difficulty, Fréchet distance.\n\n"
        "Every value has a 95 % interval over mapsets, what chance gives, and bags of event tokens beside it. Exit "
        "status 3: some maps could not be used; the table names each one.\n\n"
        "Takes Hydra overrides: cm3p evaluate maps=[data/maps] split=test untrained=true baseline_train=train "
        "out=quality.json\n\n"
        "A path with spaces at its ends, commas, brackets or quotes is quoted, within the quotes of the shell: "
        "'maps=[\"Songs/one, two\"]'"
    ),
)


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
