"""Writing the page: one HTML file with its own style, script and data."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from cm3p.explore.clusters import MAX_CLUSTERS, all_clusters, cluster_counts
from cm3p.explore.layout import Layout, principal_components, umap
from cm3p.explore.rounding import neighbour_agreement, to_int8
from cm3p.explore.table import MapTable
from pentatonic.report.page import source_hash

_SCRIPTS = ("data", "query", "neighbours", "colours", "view", "csv", "filters", "details", "main")


def render(table: MapTable, name: str, *, with_umap: bool = False, clusters: int = 10) -> str:
    """Return the page as HTML.

    Args:
        table: The maps.
        name: Name of the file that they come from.
        with_umap: Whether to lay the maps out by UMAP beside the principal components.
        clusters: Number of groups that the page shows first, 2 to 20.

    Raises:
        MissingExtra: ``with_umap`` needs umap-learn.
        UsageError: ``with_umap`` needs at least 3 maps.
    """
    layouts = [principal_components(table.vectors)]
    if with_umap:
        layouts.append(umap(table.vectors, layouts[0]))
    rounded = to_int8(table.vectors)
    counts = cluster_counts(len(table.vectors))
    about = {
        "name": name,
        "rows": len(table.vectors),
        "total": table.total,
        "unusable": table.unusable,
        "dimension": table.vectors.shape[1],
        "layouts": [{"name": layout.name, "note": layout.note} for layout in layouts],
        "clusterCounts": list(counts),
        "clusters": min(clusters, counts[-1], MAX_CLUSTERS),
        "agreement": neighbour_agreement(table.vectors, rounded),
        "columns": [column.to_json() for column in table.columns],
    }
    return _fill(about, layouts, all_clusters(table.vectors), rounded)


def write(path: Path, page: str) -> None:
    """Write a page; an error leaves no partial file.

    Raises:
        CheckpointError: The file cannot be written.
    """
    from pentatonic.checkpoint import atomic_file

    with atomic_file(path) as file:
        file.write(page.encode())


def policy() -> str:
    """Return the content security policy: nothing but the page's own style sheet and script, by their SHA-256."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {source_hash(_asset('style.css'))}; script-src {source_hash(_script())}"
    )


def _fill(
    about: dict[str, object],
    layouts: Sequence[Layout],
    labels: NDArray[np.uint8],
    rounded: NDArray[np.int8],
) -> str:
    return Template(_asset("page.html")).substitute(
        policy=html.escape(policy()),
        title=html.escape(f"Map of maps: {about['name']}"),
        style=_asset("style.css"),
        script=_script(),
        # In ASCII, and only "<" can end a script element.
        about=json.dumps(about, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        positions=_base64(np.stack([layout.positions for layout in layouts])),
        labels=_base64(labels),
        vectors=_base64(rounded),
    )


def _script() -> str:
    return "".join(_asset(f"{name}.js") for name in _SCRIPTS)


def _asset(name: str) -> str:
    return (resources.files("cm3p.explore") / "assets" / name).read_text(encoding="utf-8")


def _base64(array: np.ndarray) -> str:
    little_endian = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(little_endian.data).decode("ascii")
