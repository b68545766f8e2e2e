"""The command line ``myna-rpe``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

from myna_rpe.library.commands import app as library_app
from myna_rpe.playlists.commands import app as playlist_app
from pentatonic.cli import add_building_command, experiments, make_app, run

app = make_app("myna-rpe", "Myna-RPE: embeddings of whole tracks, a music library, and playlists.")

DEFAULT_MODEL = "myna-rpe-tiny"

add_building_command(
    app,
    "train",
    "myna_rpe.training.train:main",
    feature="Training",
    help=(
        "Pre-train a model; the same command continues a stopped run.\n\n"
        "Takes Hydra overrides: myna-rpe train experiment=base data.root=data/music optim.lr=1e-4\n\n"
        + experiments("myna_rpe")
    ),
)
add_building_command(
    app,
    "prepare",
    "myna_rpe.training.prepare:main",
    feature="Preparing data",
    help=(
        "Turn folders of audio into spectrograms for training.\n\n"
        "Takes Hydra overrides: myna-rpe prepare input=music output=data/music"
    ),
)
app.add_typer(library_app, name="library")
app.add_typer(playlist_app, name="playlist")


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
