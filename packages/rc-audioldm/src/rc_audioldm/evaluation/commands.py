"""``rc-audioldm evaluate``: measure and compare folders of recordings, and listening tests. No torch until one runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pentatonic.cli import (
    Device,
    JsonFlag,
    check_inputs,
    make_output_folder,
    make_output_place,
    pick_device,
    show,
)
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from rc_audioldm.evaluation.embedders import Embedder

app = typer.Typer(
    no_args_is_help=True,
    help="Evaluate recordings: metrics, distances, comparisons, listening tests.",
    rich_markup_mode=None,
)

Systems = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]FOLDER...", help="Folders of recordings, such as runs; one for each system."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="CLAP model: a directory, or a hub id; without one, mel statistics are compared, and no texts.",
        show_default="none",
    ),
]
Revision = Annotated[str | None, typer.Option(help="Commit hash, tag or branch on the hub.")]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="The model is random: do not test its text tower.")
]
Rate = Annotated[
    int | None,
    typer.Option("--rate", min=1000, help="Rate of all recordings in Hz.", show_default="the lowest of all"),
]
Loudness = Annotated[
    float, typer.Option(help="Loudness in LUFS to which each recording is scaled; 1 leaves them as they are.")
]
Length = Annotated[
    float | None, typer.Option(help="Seconds from the start that are used.", show_default="all")
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help="File with a prompt on each line, in the order of the recordings.", show_default="none"
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
_LEAVE = 1.0


@app.command()
def runs(
    systems: Systems,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")],
    model: Model = None,
    revision: Revision = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of recordings, or file of evaluate reference.", show_default="none"),
    ] = None,
    prompts: Prompts = None,
    styles: Annotated[
        Path | None,
        typer.Option(help="Style vectors (.npy) in the order of the recordings.", show_default="of the run"),
    ] = None,
    rate: Rate = None,
    loudness: Loudness = -23.0,
    length: Length = None,
    few: Annotated[
        Literal["refuse", "shrink"],
        typer.Option(
            help="Fréchet distances of fewer vectors than dimensions: none, or of shrunk covariances."
        ),
    ] = "refuse",
    players: Annotated[int, typer.Option(min=0, help="Items with players in the page.")] = 6,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples for the intervals.")] = 1000,
    seed: Seed = 0,
    random_weights: RandomWeights = False,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Measure one or more systems, and compare them by recordings of the same items.

    Writes evaluation.json, metrics.jsonl, evaluation.md and report.html. Exit status 3: some recordings could not be
    used; the table names each one.
    """
    named = _named(systems)
    check_inputs([*named.values(), *(path for path in (reference, prompts, styles) if path)])
    make_output_folder(out)
    from pentatonic.cli import BatchReport
    from rc_audioldm.evaluation.embedded_set import load_set
    from rc_audioldm.evaluation.evaluate import evaluate_systems
    from rc_audioldm.evaluation.report import document, markdown, write_evaluation
    from rc_audioldm.evaluation.systems import read_system
    from rc_audioldm.prompts.files import read_prompts

    texts = None if prompts is None else read_prompts(prompts)
    found = [read_system(name, folder, prompts=texts, styles=styles) for name, folder in named.items()]
    embedder = _embedder(model, revision, device, random_weights=random_weights)
    report = BatchReport()
    stored = None
    if reference is not None and reference.is_file():
        stored = load_set(reference)
        preparation = _preparation(
            found, [], embedder, _stored_rate(stored) if rate is None else rate, loudness, length
        )
    else:
        others = (
            [] if reference is None else [item.path for item in read_system("reference", reference).items]
        )
        preparation = _preparation(found, others, embedder, rate, loudness, length)
        if reference is not None:
            stored = _embed_folder(reference, embedder, preparation, report)
            stored.save(out / "reference.safetensors")
    evaluation = evaluate_systems(
        *(found, embedder, preparation, report),
        reference=stored,
        few=few,
        sets=out / "sets",
        resamples=resamples,
        seed=seed,
    )
    write_evaluation(evaluation, found, report, out, players=players)
    report.print_summary()
    show(document(evaluation, report), as_json, lambda: markdown(evaluation).splitlines())
    report.raise_for_failures()


@app.command()
def reference(
    folder: Annotated[Path, typer.Argument(help="Folder of recordings.")],
    out: Annotated[Path, typer.Option("--out", help="File to write (.safetensors).")],
    model: Model = None,
    revision: Revision = None,
    rate: Rate = None,
    loudness: Loudness = -23.0,
    length: Length = None,
    random_weights: RandomWeights = False,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Embed recordings once, as the reference of later evaluations.

    Exit status 3: some recordings could not be used; the table names each one.
    """
    check_inputs([folder])
    make_output_place(out, inputs=[folder])
    from pentatonic.cli import BatchReport
    from rc_audioldm.evaluation.systems import read_system

    embedder = _embedder(model, revision, device, random_weights=random_weights)
    report = BatchReport()
    preparation = _preparation([read_system("", folder)], [], embedder, rate, loudness, length)
    found = _embed_folder(folder, embedder, preparation, report)
    found.save(out)
    report.print_summary()
    about = {
        "recordings": len(found.names),
        "vectors": len(found.vectors),
        "hash": found.hash,
        **found.header.embedder,
        **found.header.preparation,
    }
    show(about, as_json, lambda: [f"{key:<14}{value}" for key, value in about.items()])
    report.raise_for_failures()


@app.command("listening-test")
def listening_test(
    systems: Systems,
    out: Annotated[Path, typer.Option("--out", help="Folder of the test.")],
    prompts: Prompts = None,
    criterion: Annotated[
        list[str] | None,
        typer.Option(
            help="What is asked; again for several.",
            show_default="overall_quality, naturalness, prompt_adherence",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Make a blinded listening test of two or more systems.

    Give away the folder listeners, and keep key.json. Exit status 3: some pairs could not be used; the table names
    each one.
    """
    named = _named(systems)
    check_inputs([*named.values(), *([] if prompts is None else [prompts])])
    make_output_folder(out)
    from pentatonic.cli import BatchReport
    from rc_audioldm.evaluation.listening.kit import write_test
    from rc_audioldm.evaluation.listening.trials import CRITERIA, plan_trials
    from rc_audioldm.evaluation.systems import pair_items, read_system
    from rc_audioldm.prompts.files import read_prompts

    texts = None if prompts is None else read_prompts(prompts)
    pairing = pair_items([read_system(name, folder, prompts=texts) for name, folder in named.items()])
    trials = plan_trials(pairing, criteria=criterion or CRITERIA, seed=seed)
    report = BatchReport()
    count = write_test(out, trials, pairing, report, seed=seed)
    report.print_summary()
    about = {"trials": count, "for listeners": str(out / "listeners"), "key": str(out / "key.json")}
    lines = [*pairing.notes, *(f"{key:<14}{value}" for key, value in about.items())]
    show({**about, "notes": pairing.notes}, as_json, lambda: lines)
    report.raise_for_failures()


@app.command()
def answers(
    key: Annotated[Path, typer.Argument(help="key.json of a test, or test_pairs_with_answers.json.")],
    files: Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="Filled sheets, .xlsx or .csv.")],
    resamples: Annotated[int, typer.Option(min=1, help="Resamples for the intervals.")] = 1000,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Analyse the answers of a listening test."""
    check_inputs([key, *files])
    from rc_audioldm.evaluation.listening.analysis import analyse_answers
    from rc_audioldm.evaluation.listening.answers import read_answers
    from rc_audioldm.evaluation.listening.trials import read_key
    from rc_audioldm.evaluation.report import answer_lines

    given, notes = read_answers(files)
    result = analyse_answers(read_key(key), given, resamples=resamples, seed=seed)
    show({"result": result, "notes": notes}, as_json, lambda: [*answer_lines(result), *notes])


def _named(systems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in systems:
        name, separator, folder = text.partition("=")
        path = Path(folder) if separator and not Path(text).exists() else Path(text)
        name = name if path != Path(text) else path.resolve().name
        if not name or name in found:
            raise UsageError(
                f"{text}: the name {name!r} is empty or taken; give NAME=FOLDER with another one"
            )
        found[name] = path
    return found


def _embedder(model: str | None, revision: str | None, device: str, *, random_weights: bool) -> Embedder:
    from rc_audioldm.evaluation.embedders import ClapEmbedder, MelEmbedder

    if model is None:
        return MelEmbedder()
    from rc_audioldm.clap import from_pretrained

    place = pick_device(device)
    return ClapEmbedder(from_pretrained(model, revision, device=place, random_weights=random_weights))


def _preparation(
    systems: list[Any],
    others: list[Path],
    embedder: Embedder,
    rate: int | None,
    loudness: float,
    length: float | None,
) -> Any:
    from rc_audioldm.evaluation.evaluate import common_rate
    from rc_audioldm.evaluation.sounds import Preparation

    chosen = common_rate(systems, others, embedder) if rate is None else min(rate, embedder.sample_rate)
    return Preparation(chosen, None if loudness == _LEAVE else loudness, length)


def _stored_rate(stored: Any) -> int:
    from pentatonic.errors import FormatError

    number, _, unit = str(stored.header.preparation.get("rate")).partition(" ")
    if unit != "Hz" or not number.isdecimal():
        raise FormatError("the reference does not say its rate")
    return int(number)


def _embed_folder(folder: Path, embedder: Embedder, preparation: Any, report: Any) -> Any:
    from rc_audioldm.evaluation.embedded_set import embed_files
    from rc_audioldm.evaluation.systems import read_system

    files = {item.id: item.path for item in read_system("reference", folder).items}
    return embed_files(files, embedder, preparation, report)
