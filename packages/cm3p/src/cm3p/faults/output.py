"""Doubtful objects as rows, CSV, Markdown and HTML. In the last two, timestamps are links that open the editor."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cm3p.faults.objects import DoubtfulObject
from cm3p.faults.planted import DetectorResult
from cm3p.faults.run import MapFaults
from cm3p.faults.timestamps import editor_link
from pentatonic.cli import json_text
from pentatonic.errors import MissingExtra
from pentatonic.statistics import Estimate

_WORTH_A_WORD = 2.0  # deviations of a further aspect


def rows(maps: Sequence[MapFaults]) -> list[dict[str, Any]]:
    """Return a flat row for each doubtful object, map by map."""
    return [
        {
            "file": each.where,
            "timestamp": item.timestamp,
            "object": item.index,
            "kind": item.kind,
            "score": round(item.score, 3),
            "aspect": item.aspects[0].aspect,
            "excess": round(item.aspects[0].excess, 3),
            "bits": round(item.aspects[0].bits, 3),
            "found": item.aspects[0].found,
            "expected": item.aspects[0].expected,
            "probability": round(item.aspects[0].probability, 4),
            "total_bits": round(item.total_bits, 2),
            "off_grid_ms": round(item.off_grid_ms, 2),
        }
        for each in maps
        for item in each.found
    ]


def text_lines(maps: Sequence[MapFaults]) -> list[str]:
    """Return lines for a terminal, a block for each map."""
    lines = []
    for each in maps:
        lines.append(f"{each.where}  ({len(each.excess)} objects)")
        lines += [f"    {item.timestamp:<24}{item.score:6.1f}  {reason(item)}" for item in each.found]
    return lines


def reason(item: DoubtfulObject) -> str:
    """Say what is surprising about an object, such as ``time (7.9 bits): 20 ms later expected (81 %)``."""
    first = item.aspects[0]
    text = (
        f"{first.aspect} ({first.bits:.1f} bits): {first.found}; {first.expected} expected "
        f"({first.probability:.0%})"
    )
    others = [each.aspect for each in item.aspects[1:] if each.deviation > _WORTH_A_WORD]
    return text + (f"; also {', '.join(others)}" if others else "")


def planted_lines(results: Sequence[DetectorResult]) -> list[str]:
    """Return precision and recall on planted faults as a table in Markdown."""
    lines = [
        "| faults | finder | n | average precision | chance | flagged | precision | recall | with as many flags as the "
        "rule: precision | recall |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in results:
        cells = [
            *(
                each.kind,
                each.detector,
                each.faults,
                each.average_precision,
                f"{each.chance:.4f}",
                each.flagged,
            ),
            *(each.precision, each.recall, each.precision_as_rule, each.recall_as_rule),
        ]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return lines


def _cell(value: Any) -> str:
    unknown = isinstance(value, Estimate) and math.isnan(value.value)
    return "\N{EN DASH}" if unknown else str(value)


def csv_text(maps: Sequence[MapFaults]) -> str:
    """Return the rows as CSV."""
    found = rows(maps)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(found[0]) if found else ["file", "timestamp"])
    writer.writeheader()
    writer.writerows({name: _not_a_formula(value) for name, value in row.items()} for row in found)
    return text.getvalue()


def markdown_text(maps: Sequence[MapFaults], results: Sequence[DetectorResult] = ()) -> str:
    """Return a page in Markdown, with links that open the editor."""
    lines = ["# Doubtful objects", ""]
    for each in maps:
        lines += [f"## {_escaped(each.where)}", ""]
        lines += [
            f"- [{item.timestamp.removesuffix(' - ')}]({_in_link(item)}) - {_escaped(reason(item))}"
            for item in each.found
        ]
        lines.append("")
    if results:
        lines += ["## Planted faults", "", *planted_lines(results), ""]
    return "\n".join(lines)


def html_text(maps: Sequence[MapFaults], results: Sequence[DetectorResult] = ()) -> str:
    """Return a page of HTML without scripts, with links that open the editor.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("An HTML page of doubtful objects", "cm3p[report]") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files(__package__ or "").joinpath("page.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        maps=maps, results=results, reason=reason, cell=_cell, link=lambda item: editor_link(item.timestamp)
    )
    return page.encode(errors="replace").decode()


def document(maps: Sequence[MapFaults], results: Sequence[DetectorResult] = ()) -> dict[str, Any]:
    """Return all of it as JSON values."""
    return {
        "maps": [
            {"file": each.where, "objects": len(each.excess), "seen": each.seen, "doubtful": each.found}
            for each in maps
        ],
        "planted": list(results),
    }


WRITERS: Mapping[str, Callable[[Sequence[MapFaults], Sequence[DetectorResult]], str]] = {
    ".json": lambda maps, results: json_text(document(maps, results)) + "\n",
    ".csv": lambda maps, results: csv_text(maps),
    ".md": markdown_text,
    ".html": html_text,
}
"""Suffix of a file -> what makes its text."""


def write(path: Path, maps: Sequence[MapFaults], results: Sequence[DetectorResult] = ()) -> None:
    """Write a file whose suffix is one of :data:`WRITERS`; it appears whole or not at all.

    Raises:
        CheckpointError: It cannot be written.
        MissingExtra: It is HTML, and jinja2 is not installed.
    """
    from pentatonic.checkpoint import atomic_file

    text = WRITERS[path.suffix.lower()](maps, results)
    with atomic_file(path) as file:
        file.write(text.encode(errors="replace"))


def _in_link(item: DoubtfulObject) -> str:
    return editor_link(item.timestamp).replace("(", "%28").replace(")", "%29")  # brackets would end the link


def _escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|" else sign for sign in text.replace("\n", " "))


def _not_a_formula(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, with a sign in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
