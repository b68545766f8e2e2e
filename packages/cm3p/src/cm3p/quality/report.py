"""What was measured as tables in Markdown, a page, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cm3p.quality.evaluate import Quality
from pentatonic.cli import run_manifest
from pentatonic.statistics import Estimate

Row = Mapping[str, Any]


def tables(quality: Quality) -> dict[str, list[Row]]:
    """Return the tables of a report: caption -> rows of column and value. Tables without rows are left out."""
    found: dict[str, list[Row]] = {
        "Retrieval: maps that share a property are near (value [95 % interval], then that of a random order)": [
            {
                "system": space.system,
                "shared": each.field,
                "gallery": each.gallery,
                "queries": each.queries,
                "mean average precision": each.values["average_precision"],
                "by chance": each.chance["average_precision"],
                "nearest map shares it": each.values["precision_at_1"],
                "chance": each.chance["precision_at_1"],
                "mean reciprocal rank": each.values["reciprocal_rank"],
            }
            for space in quality.spaces
            for each in space.retrieval
            if each.queries
        ],
        "Tags, within each ruleset": [
            {
                "system": space.system,
                "maps": space.tags.maps,
                "tags": space.tags.tags,
                "mutual information with k-means": space.tags.mutual_information,
                "with shuffled tags": space.tags.mutual_information_shuffled,
                "silhouette": space.tags.silhouette,
                "shuffled": space.tags.silhouette_shuffled,
                "correlation of similarity and shared tags": space.tags.tag_correlation,
            }
            for space in quality.spaces
            if space.tags is not None
        ],
        "Labels: zero-shot by the way of asking, or trained on labelled maps": [
            {
                "system": each.system,
                "way": each.way,
                "field": label.field,
                "maps": label.maps,
                "values": label.candidates,
                "accuracy": label.accuracy,
                "balanced accuracy": label.balanced_accuracy,
                "average precision": label.average_precision,
                "chance": label.chance,
                "majority": label.majority,
                "majority in ruleset": label.majority_in_ruleset,
            }
            for each in quality.labels
            for label in each.labels
        ],
        "Difficulty": [
            {
                "system": each.system,
                "way": each.way,
                "maps": each.stars.maps,
                "rank correlation with stars": each.stars.rank_correlation,
                "within rulesets": each.stars.rank_correlation_in_rulesets,
                "mean error in stars": each.stars.mean_error,
                "of the median": each.stars.mean_error_of_median,
                "accuracy of the band": each.stars.band_accuracy,
                "majority": each.stars.band_majority,
            }
            for each in quality.labels
            if each.stars is not None
        ],
        "Fréchet distance to the other maps": [
            {
                "system": space.system,
                "maps": " / ".join(map(str, space.distance.maps)),
                "sets": " / ".join(map(str, space.distance.sets)),
                "distance": space.distance.distance,
                "of random divisions": space.distance.of_random_divisions,
                "p": space.distance.p_value,
                "beyond chance": space.distance.beyond_chance,
                "extrapolated": space.distance.extrapolated,
                "halves of the other maps": space.distance.halves_of_reference,
            }
            for space in quality.spaces
            if space.distance is not None
        ],
    }
    return {caption: rows for caption, rows in found.items() if rows}


def lines(quality: Quality) -> list[str]:
    """Return the tables as lines of Markdown."""
    maps = quality.maps
    result = [f"{maps['maps']} maps of {maps['sets']} sets"]
    for caption, rows in tables(quality).items():
        result += ["", f"{caption}:", "", *_markdown(rows)]
    return result


def _markdown(rows: Sequence[Row]) -> list[str]:
    cells = [[_shown(value) for value in row.values()] for row in rows]
    names = list(rows[0])
    widths = [max(len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(names)]

    def line(values: Sequence[str]) -> str:
        padded = (value.ljust(width) for value, width in zip(values, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    return [line(names), line(["-" * width for width in widths]), *map(line, cells)]


def _shown(value: Any) -> str:
    if isinstance(value, Estimate):
        return str(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def document(quality: Quality, config: Any, report: Any = None) -> dict[str, Any]:
    """Return everything as JSON values: options, command and versions, too, and what became of each map."""
    found = {"about": quality.about, "maps": quality.maps, "spaces": quality.spaces, "labels": quality.labels}
    return {**found, "config": config, "run": run_manifest(), **({} if report is None else report.document())}


def write_page(quality: Quality, path: Path) -> None:
    """Write the tables as a page of HTML.

    Raises:
        MissingExtra: jinja2 is not installed.
        CheckpointError: The page cannot be written.
    """
    from pentatonic.report import Report

    manifest = run_manifest()
    page = Report(
        "Quality of embeddings of maps", command=str(manifest["command"]), versions=manifest["versions"]
    )
    page.text(f"{quality.maps['maps']} maps of {quality.maps['sets']} sets.")
    for caption, rows in tables(quality).items():
        page.table([{name: _cell(value) for name, value in row.items()} for row in rows], caption)
    page.write(path)


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, Estimate) else value
