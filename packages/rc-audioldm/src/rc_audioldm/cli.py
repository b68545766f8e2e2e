"""The command line ``rc-audioldm``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

from pentatonic.cli import make_app, run
from rc_audioldm.adapters.commands import HELP as TRAIN_ADAPTER_HELP
from rc_audioldm.adapters.commands import adapter_pairs_command, train_adapter_command
from rc_audioldm.app.commands import app_command
from rc_audioldm.bank.commands import app as bank_app
from rc_audioldm.commands import convert_command, info_command
from rc_audioldm.data.commands import app as prepare_app
from rc_audioldm.demo.commands import demo_command
from rc_audioldm.evaluation.commands import app as evaluation_app
from rc_audioldm.generation.commands import generate_command
from rc_audioldm.ledger.commands import ledger_command
from rc_audioldm.training.commands import HELP as TRAIN_HELP
from rc_audioldm.training.commands import train_command

app = make_app(
    "rc-audioldm", "Retrieval-conditioned AudioLDM: audio from prompts and from clips of a style bank."
)
app.command("info")(info_command)
app.command("convert")(convert_command)
app.command("generate")(generate_command)
app.add_typer(bank_app, name="bank")
app.add_typer(prepare_app, name="prepare")
app.add_typer(evaluation_app, name="evaluate")
app.command("train", help=TRAIN_HELP)(train_command)
app.command("train-adapter", help=TRAIN_ADAPTER_HELP)(train_adapter_command)
app.command("adapter-pairs")(adapter_pairs_command)
app.command("ledger")(ledger_command)
app.command("demo")(demo_command)
app.command("app")(app_command)


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
