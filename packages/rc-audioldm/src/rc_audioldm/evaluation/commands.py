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


@app.command(
    help="Measure one or more systems, and compare them by recordings of the same items.\n\n"
    "Writes evaluation.json, metrics.jsonl, evaluation.md and report.html. Exit status 3: some recordings could not be "
    "used; the table names each one.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate runs systems=[run-a,run-b] names=[A,B] reference=music "
    "model=laion/clap-htsat-unfused out=results\n\n"
    "Without model= mel statistics are compared, and no texts. reference= is a folder of recordings, or a file of "
    f"evaluate reference.\n\n{_QUOTES}"
)
def runs(overrides: Overrides = None) -> None:
    """Measure systems."""
    _run("rc_audioldm.evaluation.main:evaluate_runs", overrides)


@app.command(
    help="Embed recordings once, as the reference of later evaluations.\n\n"
    "Exit status 3: some recordings could not be used; the table names each one.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate reference recordings=music out=music.safetensors "
    f"model=laion/clap-htsat-unfused\n\n{_QUOTES}"
)
def reference(overrides: Overrides = None) -> None:
    """Embed a reference."""
    _run("rc_audioldm.evaluation.main:embed_reference", overrides)


@app.command(
    "listening-test",
    help="Make a blinded listening test of two or more systems.\n\n"
    "Give away the folder listeners, and keep key.json. Exit status 3: some pairs could not be used; the table names "
    "each one.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate listening-test systems=[run-a,run-b] names=[A,B] out=test "
    f"criteria=[naturalness]\n\n{_QUOTES}",
)
def listening_test(overrides: Overrides = None) -> None:
    """Make a listening test."""
    _run("rc_audioldm.evaluation.listening.main:make_test", overrides)


@app.command(
    help="Analyse the answers of a listening test.\n\n"
    "Takes Hydra overrides: rc-audioldm evaluate answers key=test/key.json sheets=[Ann.xlsx,Bob.csv]\n\n"
    "key= is key.json of a test, or test_pairs_with_answers.json of the original; sheets= are filled sheets, .xlsx or "
    f".csv, or folders of them.\n\n{_QUOTES}"
)
def answers(overrides: Overrides = None) -> None:
    """Analyse answers."""
    _run("rc_audioldm.evaluation.listening.main:analyse_sheets", overrides)


def _run(main: str, overrides: list[str] | None) -> None:
    module, _, function = main.partition(":")
    with training_extra("Evaluating", "rc-audioldm[train]"):
        getattr(import_module(module), function)(overrides or [])
