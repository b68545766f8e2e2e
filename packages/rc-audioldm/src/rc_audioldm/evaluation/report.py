"""An evaluation as JSON, as tables in Markdown, and as an offline page with players side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, run_manifest
from pentatonic.errors import PentatonicError
from pentatonic.folder_run import write_json
from pentatonic.report import Report, is_embeddable
from pentatonic.statistics import Estimate
from rc_audioldm.evaluation.evaluate import Evaluation
from rc_audioldm.evaluation.listening.analysis import ListeningResult
from rc_audioldm.evaluation.set_distances import SetDistance
from rc_audioldm.evaluation.sounds import read_sound
from rc_audioldm.evaluation.systems import System, pair_items

Row = Mapping[str, Any]
_TITLE = "Evaluation of recordings"
_BETWEEN = "Distances between systems: they say how different two systems are, not which one is better"


def tables(found: Evaluation) -> dict[str, list[Row]]:
    """Return the tables of an evaluation: caption -> rows of column and value. Tables without rows are left out."""
    systems = list(found.means)
    metrics = dict.fromkeys(metric for means in found.means.values() for metric in means)
    result: dict[str, list[Row]] = {
        "Recordings: mean of a system [95 % interval over prompts]": [
            {"metric": metric, **{system: found.means[system].get(metric) for system in systems}}
            for metric in metrics
        ],
        "Diversity: one minus the cosine of all pairs of recordings": [
            {"system": name, **dataclasses.asdict(each)} for name, each in found.diversity.items()
        ],
        "Distances to the reference": [
            {"system": name, **_distance_row(each)} for name, each in found.to_reference.items()
        ],
        _BETWEEN: [
            {"systems": f"{one}, {other}", **_distance_row(each)}
            for (one, other), each in found.between.items()
        ],
        f"Differences of paired recordings (paired by {found.pairing})": [
            {
                "metric": each.metric,
                "systems": f"{each.first} - {each.second}",
                "items": each.items,
                "prompts": each.groups,
                "difference": each.difference,
                "Wilcoxon p": each.p_value,
                "p by Holm": each.p_holm,
            }
            for each in found.differences
        ],
        "How the vectors were made": [{"what": key, "value": value} for key, value in found.header.items()],
    }
    return {caption: rows for caption, rows in result.items() if rows}


def markdown(found: Evaluation) -> str:
    """Return the tables and notes as Markdown."""
    lines = [f"# {_TITLE}", ""]
    lines += [f"- {_cell(note)}" for note in found.notes] + ([""] if found.notes else [])
    for caption, rows in tables(found).items():
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines += [f"## {_cell(caption)}", "", _line(names), _line(["---"] * len(names))]
        lines += [_line([_shown(row.get(name)) for name in names]) for row in rows] + [""]
    return "\n".join(lines)


def document(found: Evaluation, config: Any, report: BatchReport) -> dict[str, Any]:
    """Return everything as JSON values: options, command and versions, too, and what became of each recording."""
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    between = [{"systems": list(pair), **dataclasses.asdict(each)} for pair, each in found.between.items()]
    about = {"config": config, "report": report.document(), "run": run_manifest()}
    return {**values, "between": between, **about}


def write_evaluation(
    found: Evaluation, config: Any, systems: Sequence[System], report: BatchReport, out: Path, *, players: int
) -> None:
    """Write ``evaluation.json``, ``metrics.jsonl``, ``evaluation.md`` and ``report.html``.

    Args:
        found: What was measured.
        config: How, as a dataclass.
        systems: The systems, for the players.
        report: What became of each recording.
        out: An existing folder.
        players: Items that are shown side by side with a player for each system.

    Raises:
        MissingExtra: jinja2 is not installed.
        CheckpointError: A file cannot be written.
    """
    page = _page(found, systems, players)
    about = document(found, config, report)
    write_json(out / "evaluation.json", {key: value for key, value in about.items() if key != "items"})
    with atomic_file(out / "metrics.jsonl", "w") as file:
        for row in found.items:
            file.write(f"{json.dumps(row)}\n")
    with atomic_file(out / "evaluation.md", "w") as file:
        file.write(markdown(found))
    page.write(out / "report.html")


def answer_lines(result: ListeningResult) -> list[str]:
    """Return what a listening test says as lines of Markdown."""
    names = ["criterion", "preferred", "to", "answers", "share", "over items", "p by Holm", "alpha"]
    lines = [_line(names), _line(["---"] * len(names))]
    for each in result.preferences:
        wins = f"{each.wins.count} of {each.wins.total}"
        cells = [each.criterion, each.first, each.second, wins, str(each.wins.share), str(each.over_items)]
        lines.append(_line([*cells, _shown(each.p_holm), _shown(each.alpha)]))
    position = result.position
    lines += [
        "",
        f"Side A was preferred in {position.share} of {position.total} answers (p {position.p_value:.3g}).",
    ]
    return [*lines, *result.notes]


def _page(found: Evaluation, systems: Sequence[System], players: int) -> Report:
    manifest = run_manifest()
    page = Report(_TITLE, command=str(manifest["command"]), versions=manifest["versions"])
    for note in found.notes:
        page.text(note)
    for caption, rows in tables(found).items():
        page.table([{name: _html_cell(value) for name, value in row.items()} for row in rows], caption)
    pairing = pair_items(systems)
    rows = {(row["system"], row["id"]): row for row in found.items}
    for key in pairing.keys[:players]:
        items = {name: each[key] for name, each in pairing.items.items()}
        prompt = next((item.prompt for item in items.values() if item.prompt), None)
        page.heading(key if prompt is None else f"{key}: {prompt}")
        for name, item in items.items():
            if (name, item.id) in rows:
                _add_player(page, item.path, name)
    return page


def _add_player(page: Report, path: Path, label: str) -> None:
    try:
        if is_embeddable(path):
            page.audio(path, label)
        else:
            sound = read_sound(path)
            page.audio(sound.samples, label, sample_rate=sound.sample_rate)
    except (PentatonicError, OSError) as error:  # too large for a page
        page.text(f"{label}: no player: {error}")


def _distance_row(each: SetDistance) -> dict[str, Any]:
    return {
        "recordings": " / ".join(map(str, each.files)),
        "vectors": " / ".join(map(str, each.vectors)),
        "dimensions": each.dimension,
        "Fréchet": each.frechet,
        "extrapolated": each.extrapolated,
        "kernel": each.kernel,
        "hashes": " / ".join(digest[:12] for digest in each.hashes),
    }


def _html_cell(value: Any) -> Any:
    return str(value) if isinstance(value, Estimate) else value


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Text of one line that Markdown shows as it is."""
    plain = " ".join(text.split())
    for mark in "\\|<>`*_[]":
        plain = plain.replace(mark, f"\\{mark}")
    return plain
