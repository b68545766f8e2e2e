"""A hook of MkDocs: adds the pictures beside the benchmark results, which are outside the docs folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def on_files(files: Any, config: Any) -> Any:
    """Add ``benchmarks/results/<device>/<subject>.svg`` as ``benchmarks/<device>/<subject>.svg``.

    Args:
        files: The files of the site.
        config: The configuration of the site.

    Returns:
        The files, with the pictures.
    """
    for picture in sorted(RESULTS.glob("*/*.svg")):
        name = f"benchmarks/{picture.parent.name}/{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files
