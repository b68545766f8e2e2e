"""What ``notagen score`` says about pieces and references: the scores, in lines, in JSON and on a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from notagen.clamp2.feature_sets import FeatureSet
from notagen.clamp2.scores import clamp2_scores, cosines, group_score
from notagen.files.commands import counted
from pentatonic.cli import run_manifest
from pentatonic.report import Report

SECTION = "notagen-scores"


@dataclass(frozen=True)
class PieceScores:
    """How close pieces are to references.

    Args:
        names: Of the n pieces.
        scores: ``(n,)`` CLaMP 2 scores: cosines with the mean of the references.
        closest: For each piece the name of the nearest reference, and its cosine.
        group: Cosine of the mean of the pieces and that of the references.
        references: Number of references.
        nearest: How many references count for ``near``.
        near: ``(n,)`` mean cosines with that many nearest references; None where they were not asked for.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    closest: tuple[tuple[str, float], ...]
    group: float
    references: int
    nearest: int | None = None
    near: NDArray[np.float64] | None = None

    def document(self) -> dict[str, Any]:
        """Return the values as plain JSON types."""
        found: dict[str, Any] = {"average_score": float(self.scores.mean()), "group_score": self.group}
        if self.near is not None:
            found |= {"nearest_score": float(self.near.mean()), "nearest": self.nearest}
        return found | {
            "pieces": len(self.names),
            "references": self.references,
            "scores": self._rows(),
        }

    def lines(self, *, each: bool) -> list[str]:
        """Return the values in lines; ``each``: those of each piece too."""
        counts = f"{counted(len(self.names), 'piece')}, {counted(self.references, 'reference')}"
        lines = [f"{row['score']:.4f}  {row['name']}" for row in self._rows()] if each else []
        lines += [
            f"average score {self.scores.mean():.4f}  (mean of the pieces' cosines with the mean reference; {counts})",
            f"group score   {self.group:.4f}  (cosine of the two means)",
        ]
        if self.near is not None:
            what = f"mean of the pieces' cosines with their nearest references, {self.nearest} for each"
            lines.append(f"nearest score {self.near.mean():.4f}  ({what})")
        return lines

    def write_page(self, path: Path, model: str, references: str) -> None:
        """Write a section of a page; the sections of other programs in the file stay as they are.

        Args:
            path: The HTML file; created if it does not exist.
            model: Name of the encoder.
            references: What the pieces were compared with.

        Raises:
            MissingExtra: ``notagen[report]`` is not installed.
            FormatError: The file exists and is not a report.
        """
        manifest = run_manifest()
        report = Report(
            "How close the pieces are to references",
            command=manifest["command"],
            versions=manifest["versions"],
            section=SECTION,
        )
        report.text(
            f"By the encoder {model}, compared with {references}. Scores are cosines: they say how alike features are, "
            "and not how good a piece is.\n\n" + "\n\n".join(self.lines(each=False))
        )
        report.table(self._rows(), "Pieces")
        report.add_to(path)

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {"name": name, "score": float(score)} for name, score in zip(self.names, self.scores, strict=True)
        ]
        for i, (row, (name, cosine)) in enumerate(zip(rows, self.closest, strict=True)):
            if self.near is not None:
                row["nearest_score"] = float(self.near[i])
            row |= {"nearest_reference": name, "its_cosine": cosine}
        return rows


def score_pieces(pieces: FeatureSet, references: FeatureSet, *, nearest: int | None = None) -> PieceScores:
    """Compare pieces with references of the same encoder.

    Args:
        pieces: Features of the pieces.
        references: Features of the references.
        nearest: Also score by so many references that are nearest to a piece.

    Raises:
        InputError: As for :func:`notagen.clamp2.scores.cosines`.
    """
    similarities = cosines(pieces.vectors, references.vectors)
    places = similarities.argmax(1)
    return PieceScores(
        tuple(pieces.names),
        clamp2_scores(pieces.vectors, references.vectors),
        tuple((references.names[j], float(similarities[i, j])) for i, j in enumerate(places)),
        group_score(pieces.vectors, references.vectors),
        len(references.names),
        nearest,
        None if nearest is None else clamp2_scores(pieces.vectors, references.vectors, nearest=nearest),
    )
