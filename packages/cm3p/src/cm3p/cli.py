"""The command line ``cm3p``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

from cm3p.commands.embed import embed_command
from cm3p.commands.options import SeveralValues
from pentatonic.cli import make_app, run

app = make_app("cm3p", "CM3P: osu! beatmaps, their metadata and their audio in one space.")

app.command("embed", cls=SeveralValues)(embed_command)


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
