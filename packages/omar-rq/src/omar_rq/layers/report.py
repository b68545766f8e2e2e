"""``omar-rq layers``: the factor matrix and the layers of saved probes, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omar_rq.layers.factors import CLIP_S, FACTORS, Design
from omar_rq.layers.matrix import LayerFactors, chance, factor_matrix
from omar_rq.layers.tasks import read_probes
from omar_rq.weights import from_pretrained
from pentatonic.cli import run_manifest
from pentatonic.errors import MissingExtra
from pentatonic.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def describe_layers(
    model_name: str,
    out: Path,
    *,
    probes: Sequence[Path] = (),
    design: Design | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure what decides each layer of a model, and write a page about it.

    Args:
        model_name: Bundled name, directory, run folder or hub id.
        out: The HTML file.
        probes: Run folders of ``omar-rq probe`` whose layer weights are shown, too.
        design: The rendered clips.
        device: Where the model runs.

    Returns:
        What the page shows: ``model``, ``factors`` (levels and chance of each), ``layers`` (as
        :meth:`LayerFactors.document`) and ``tasks`` (as :func:`read_probes`).

    Raises:
        MissingExtra: ``omar-rq[report]`` is not installed.
        InputError, FormatError: A probe cannot be read.
        HubError, ConfigError, WeightsError: There is no usable model.
    """
    manifest = run_manifest()
    report = Report(
        "OMAR-RQ: what decides each layer", command=manifest["command"], versions=manifest["versions"]
    )
    _figure_class()  # fail fast
    tasks = read_probes(probes)
    design = Design() if design is None else design
    matrix = factor_matrix(from_pretrained(model_name, device=device), design)
    _matrix_section(report, model_name, matrix, design)
    if tasks:
        _task_section(report, tasks)
    report.write(out)
    return {
        "model": model_name,
        "factors": {
            name: {"levels": levels, "chance": chance(design)[name]}
            for name, levels in zip(FACTORS, design.shape, strict=True)
        },
        "layers": [layer.document() for layer in matrix],
        "tasks": tasks,
    }


def table_text(document: Mapping[str, Any]) -> str:
    """Return what :func:`describe_layers` found as lines of text."""
    lines = [f"{'layer':>6}  " + "".join(f"{name:>24}" for name in FACTORS) + "  ruled by"]
    for layer in document["layers"]:
        cells = (f"{layer['variance'][n]:.2f} / {layer['retrieval'][n]['value']:.2f}" for n in FACTORS)
        lines.append(
            f"{layer['layer']:>6}  " + "".join(f"{cell:>24}" for cell in cells) + f"  {layer['ruled_by']}"
        )
    guess = "".join(f"{document['factors'][name]['chance']:>24.2f}" for name in FACTORS)
    lines.append(f"{'chance':>6}  {guess}")
    lines.append("Share of the variance / retrieval accuracy among clips that differ in both other factors.")
    for task in document["tasks"]:
        weights = ", ".join(f"{layer}: {weight:.2f}" for layer, weight in task["layers"].items())
        lines.append(f"{task['task']}: layer {task['layer']} most (weights {weights})")
    return "\n".join(lines)


def _matrix_section(report: Report, model: str, matrix: Sequence[LayerFactors], design: Design) -> None:
    count = len(design.levels())
    levels = " x ".join(f"{n} {name}s" for name, n in zip(FACTORS, design.shape, strict=True))
    report.text(
        f"{count} clips of {CLIP_S:g} s were synthesised: {levels}, each melody in each timbre and key. The model "
        f"{model} embedded them; each clip is the mean over its tokens, and every value is standardised over the clips."
        "\n\n"
        "Variance: the share of the main effect of a factor; 'together' is what only combinations of factors explain. "
        "Retrieval: how often the most similar clip, among those that differ in both other factors, has the same level "
        "of this one, with 95 % intervals (motifs are drawn). The melodies are synthetic and monophonic: the matrix "
        "compares layers, and says nothing of real recordings."
    )
    report.figure(_heat_map(matrix), "Share of the variance and retrieval accuracy of each factor, by layer")
    report.table(
        [layer.row() for layer in matrix], "Factors of each layer; 'input' is the input of the trunk"
    )
    report.table(
        [{"factor": name, "chance of retrieval": value} for name, value in chance(design).items()],
        "Retrieval by guessing",
    )


def _task_section(report: Report, tasks: Sequence[Mapping[str, Any]]) -> None:
    report.heading("Which layer serves which task")
    report.text(
        "The weights with which probes mix the layers. They were learned together with the probe; a large weight says "
        "that the probe uses a layer, not that no other would do."
    )
    indices = sorted({layer for task in tasks for layer in task["layers"]})
    report.table(
        [
            {
                "task": task["task"],
                "most weight": task["layer"],
                **{f"layer {index}": task["layers"].get(index) for index in indices},
                "results": task["path"],
            }
            for task in tasks
        ],
        "Learned layer weights",
    )


def _heat_map(matrix: Sequence[LayerFactors]) -> Figure:
    figure = _figure_class()(figsize=(7.5, 1.2 + 0.3 * len(matrix)), layout="constrained")
    values = (
        ("share of variance", [[layer.shares[name] for name in FACTORS] for layer in matrix]),
        ("retrieval accuracy", [[layer.accuracy[name].value for name in FACTORS] for layer in matrix]),
    )
    for axes, (title, cells) in zip(figure.subplots(1, 2, sharey=True), values, strict=True):
        axes.imshow(cells, vmin=0, vmax=1, aspect="auto", cmap="viridis")
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(FACTORS)), FACTORS)
        axes.set_yticks(range(len(matrix)), [layer.layer for layer in matrix])
        for row, line in enumerate(cells):
            for column, value in enumerate(line):
                colour = "black" if value > 0.6 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    figure.axes[0].set_ylabel("layer")
    return figure


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("The picture of the factor matrix", "omar-rq[report]") from error
    return Figure
