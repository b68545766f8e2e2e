"""``rc-audioldm evaluate``: measure and compare folders of recordings, and listening tests. No torch until one runs."""

from __future__ import annotations

from importlib import import_module

import typer

from pentatonic.cli import Overrides, training_extra

_QUOTES = (
    "A path with spaces at its ends, commas, brackets or quotes is quoted, within the quotes of the shell: "
    "'systems=[\"runs/one, two\"]'"
)

app = typer.Typer(
    no_args_is_help=True,
    help="Evaluate recordings: metrics, distances, comparisons, listening tests. Takes Hydra overrides.",
    rich_markup_mode=None,
)


def _add_command(name: str, main: str, help: str) -> None:
    """Add a command that passes Hydra overrides to ``"module:function"``, which is imported when it runs."""

    def command(overrides: Overrides = None) -> None:
        module, _, function = main.partition(":")
        with training_extra("Evaluating", "rc-audioldm[train]"):
            getattr(import_module(module), function)(overrides or [])

    app.command(name, help=f"{help}\n\n{_QUOTES}")(command)


_add_command(
    "runs",
    "rc_audioldm.evaluation.main:evaluate_runs",
    "Measure one or more systems, and compare them by recordings of the same items.\n\n"
    "Writes evaluation.json, metrics.jsonl, evaluation.md and report.html. Exit status 3: some recordings could not be "
    "used; the table names each one.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate runs systems=[run-a,run-b] names=[A,B] reference=music "
    "model=laion/clap-htsat-unfused out=results\n\n"
    "Without model= mel statistics are compared, and no texts. reference= is a folder of recordings, or a file of "
    "evaluate reference.",
)
_add_command(
    "reference",
    "rc_audioldm.evaluation.main:embed_reference",
    "Embed recordings once, as the reference of later evaluations.\n\n"
    "Exit status 3: some recordings could not be used; the table names each one.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate reference recordings=music out=music.safetensors "
    "model=laion/clap-htsat-unfused",
)
_add_command(
    "listening-test",
    "rc_audioldm.evaluation.listening.main:make_test",
    "Make a blinded listening test of two or more systems.\n\n"
    "Give away the folder listeners, and keep key.json. Exit status 3: some pairs could not be used; the table names "
    "each one.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate listening-test systems=[run-a,run-b] names=[A,B] out=test "
    "criteria=[naturalness]",
)
_add_command(
    "answers",
    "rc_audioldm.evaluation.listening.main:analyse_sheets",
    "Analyse the answers of a listening test.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate answers key=test/key.json sheets=[Ann.xlsx,Bob.csv]\n\n"
    "key= is key.json of a test, or test_pairs_with_answers.json of the original; sheets= are filled sheets, .xlsx or "
    ".csv, or folders of them.",
)
