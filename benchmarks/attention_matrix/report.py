"""Rows on the terminal and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from machine import markdown_table

from attention_matrix.cases import OURS, Case
from attention_matrix.opponents import OPPONENTS
from attention_matrix.rows import BACKWARD, FORWARD, Row

# Columns of the terminal; the files hold all of them.
SHOWN = (
    *("direction", "opponent", "path", "time_ms", "p90_ms", "times_ours", "tflops", "gb_s", "live"),
    *("memory_mb", "error", "reason"),
)


def print_rows(rows: Sequence[dict[str, Any]], title: str, columns: Sequence[str] = SHOWN) -> None:
    """One table; columns without a value are left out. Without rich, which a borrowed GPU machine may lack, plain."""
    shown = [name for name in columns if any(row[name] is not None for row in rows)]
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        print(f"\n{title}\n\n{markdown_table([{name: row[name] for name in shown} for row in rows])}")
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in shown:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in shown))
    Console(width=180, highlight=False, markup=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def draw(rows: Sequence[Row], cases: Sequence[Case], path: Path, device: str) -> bool:
    """Rate against length for the two-dimensional bias, forward and backward, as SVG.

    Points of cases with a tolerance are labelled with the live fraction: their rate counts skipped scores. What failed
    is listed below.

    Returns:
        Whether there was anything to draw, and matplotlib to draw it with.
    """
    tokens = {case.name: case.tokens for case in cases if case.bias == "alibi2d" and not case.learned}
    drawn = [row for row in rows if row["case"] in tokens and row["tflops"] is not None]
    if not drawn or find_spec("matplotlib") is None:
        return False
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams |= {"svg.hashsalt": "attention", "svg.fonttype": "none"}
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5.5), sharex=True, sharey=True)
    names = list(dict.fromkeys(row["opponent"] for row in drawn))
    lengths = sorted({tokens[row["case"]] for row in drawn})
    for axis, direction in zip(axes, (FORWARD, BACKWARD), strict=True):
        for number, name in enumerate(names):
            style: dict[str, Any] = {"color": f"C{number % 10}", "marker": "osv^D*Px"[number % 8]}
            here = [row for row in drawn if (row["opponent"], row["direction"]) == (name, direction)]
            dense = sorted((tokens[row["case"]], row["tflops"]) for row in here if "skip" not in row["case"])
            if dense:
                line = "--" if OPPONENTS[name].omits else "-"
                axis.plot(
                    *zip(*dense, strict=True), line, label=name, linewidth=1 + 1.5 * (name == OURS), **style
                )
            for row in here:
                if "skip" in row["case"] and row["live"] is not None:
                    at = (tokens[row["case"]], row["tflops"])
                    axis.plot(*at, fillstyle="none", **style)
                    note = f"live {row['live']:.2f}"
                    axis.annotate(note, at, textcoords="offset points", xytext=(6, 0), size=7)
        axis.set(xscale="log", yscale="log", title=direction, xlabel="tokens")
        axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.2)
    failed = [row for row in rows if row["case"] in tokens and row["reason"]]
    names = dict.fromkeys(f"{row['opponent']} at {tokens[row['case']]:,}" for row in failed)
    note = f"{device}. Dashed: something easier, without bias. Hollow: with tolerance, rates count skipped scores."
    note += f"\nNo time, for the reason in the table: {', '.join(names)}" if names else ""
    axes[0].set_ylabel("TFLOP/s")
    axes[0].legend(fontsize=8)
    figure.text(0.01, 0.005, note, size=7, wrap=True)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True
