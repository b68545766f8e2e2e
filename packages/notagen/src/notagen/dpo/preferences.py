"""Preference data of CLaMP-DPO (NotaGen, arXiv 2502.18008): which generated pieces are chosen, and which rejected.

A piece is scored by :func:`notagen.clamp2.scores.clamp2_scores`. The best pieces that no
rule excludes are chosen, and the worst are rejected.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from notagen.clamp2.scores import clamp2_scores, cosines
from notagen.dpo.rules import RuleSettings, TextFindings, examine
from notagen.evaluation.novelty import KnownMusic
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.untrusted.files import read_json

Features = NDArray[np.floating[Any]]

#: Most bytes of a preference file that is read.
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Sample:
    """One generated piece.

    Args:
        name: Its name, unlike that of any other.
        path: File of the text that the model wrote, with countdown tags and without silent voices.
        text: The same interleaved, with all rests; the rules read it.
        prompt: What it was generated for; pieces are compared with those of the same prompt if that is asked for.
        length: Length of what the model wrote, in characters or patches, for pairs of similar length.
    """

    name: str
    path: str
    text: str
    prompt: str = ""
    length: int = 0


@dataclass(frozen=True)
class PieceReport:
    """Why a piece was chosen or not.

    Args:
        name: Its name.
        prompt: Its prompt.
        score: Its score by the references.
        max_similarity: Greatest cosine similarity to a single reference.
        nearest_reference: Name of that reference.
        findings: What its text says.
        excluded_by: Rules that keep it from being chosen: ``alignment``, ``similarity``, ``grouping``, ``copy`` and
            ``same bars``.
        decision: ``chosen``, ``rejected``, ``both``, ``excluded`` (one of the best, but a rule is against it) or
            ``unused``.
    """

    name: str
    prompt: str
    score: float
    max_similarity: float
    nearest_reference: str
    findings: TextFindings
    excluded_by: tuple[str, ...]
    decision: str = "unused"

    def to_row(self) -> dict[str, Any]:
        """Return the report as one row of a table."""
        alignment = self.findings.alignment
        problem = str(alignment.problems[0]) if alignment.problems else ""
        return {
            "name": self.name,
            "prompt": self.prompt,
            "score": self.score,
            "max_similarity": self.max_similarity,
            "nearest_reference": self.nearest_reference,
            "barlines_equal": alignment.barlines_equal,
            "bar_counts_equal": alignment.bar_counts_equal,
            "durations_equal": alignment.durations_equal,
            "alignment_problem": problem,
            "split_instrument": self.findings.split_instrument or "",
            "known_notes": self.findings.known_notes,
            "bars": self.findings.bars,
            "different_bars": self.findings.different_bars,
            "excluded_by": "; ".join(self.excluded_by),
            "decision": self.decision,
        }


@dataclass(frozen=True)
class Preferences:
    """Chosen and rejected pieces.

    Args:
        chosen: Files of the chosen pieces, in the order of selection.
        rejected: Files of the rejected pieces, from the best of them to the worst.
        pairs: Indices of pairs (chosen, rejected) to learn from; None: every chosen with every rejected piece.
        metadata: What a file says besides: settings, counts, notes.
    """

    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def pair_count(self) -> int:
        """Number of pairs to learn from."""
        return len(self.chosen) * len(self.rejected) if self.pairs is None else len(self.pairs)

    def pair(self, number: int) -> tuple[int, int]:
        """Return the indices of a pair; without ``pairs`` in the original's order: those of a chosen piece together.

        Raises:
            UsageError: There is no pair of this number.
        """
        if not 0 <= number < self.pair_count:
            raise UsageError(f"there is no pair {number}; allowed: 0 to {self.pair_count - 1}")
        return divmod(number, len(self.rejected)) if self.pairs is None else self.pairs[number]

    def save(self, path: Path) -> None:
        """Write the file: the two lists as in the original, and whatever else there is under further keys."""
        content: dict[str, Any] = {"chosen": list(self.chosen), "rejected": list(self.rejected)}
        if self.pairs is not None:
            content["pairs"] = [list(pair) for pair in self.pairs]
        with atomic_file(path, "w") as file:
            file.write(json.dumps(content | self.metadata, indent=4) + "\n")

    @classmethod
    def load(cls, path: Path) -> Preferences:
        """Read a file of :meth:`save` or of the original, which has the two lists alone.

        Raises:
            InputError: The file cannot be read, or has another form.
        """
        content = read_json(path, max_bytes=MAX_BYTES, error=InputError)
        if not isinstance(content, dict):
            raise FormatError("preferences must be an object with the lists chosen and rejected", path=path)
        lists = []
        for key in ("chosen", "rejected"):
            value = content.pop(key, None)
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise FormatError(f"{key} must be a list of file names", path=path)
            lists.append(tuple(value))
        chosen, rejected = lists
        pairs = content.pop("pairs", None)
        if pairs is not None:
            pairs = _read_pairs(pairs, (len(chosen), len(rejected)), path)
        return cls(chosen, rejected, pairs, content)


def _read_pairs(value: Any, sizes: tuple[int, int], path: Path) -> tuple[tuple[int, int], ...]:
    pairs = []
    for pair in value if isinstance(value, list) else [None]:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(type(i) is int and 0 <= i < size for i, size in zip(pair, sizes, strict=True))
        ):
            raise FormatError("pairs must be a list of [place in chosen, place in rejected]", path=path)
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


@dataclass(frozen=True)
class Selection:
    """Result of :func:`select`.

    Args:
        preferences: Chosen and rejected pieces.
        reports: One for each piece, from the best score to the worst.
        notes: What a user should know, such as that too few pieces passed.
    """

    preferences: Preferences
    reports: tuple[PieceReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def average_score(self) -> float:
        """Mean score of all pieces."""
        return float(np.mean([report.score for report in self.reports]))

    def save_report(self, path: Path) -> None:
        """Write the reports as CSV."""
        rows = [report.to_row() for report in self.reports]
        with atomic_file(path, "w") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _not_a_formula(value) for name, value in row.items()} for row in rows)


def threshold(count: int, portion: float) -> int:
    """Return how many of ``count`` pieces are chosen, and how many rejected: the product in float64, rounded down."""
    return int(count * portion)


def select(
    samples: Sequence[Sample],
    features: Features,
    references: Features,
    *,
    portion: float = 0.1,
    nearest: int | None = None,
    rules: RuleSettings | None = None,
    known: KnownMusic | None = None,
    reference_names: Sequence[str] = (),
    reference_prompts: Sequence[str] | None = None,
    by_prompt: bool = False,
    length_ratio: float | None = None,
    compat: bool = False,
) -> Selection:
    """Choose and reject pieces.

    Args:
        samples: The pieces, in any order; equal scores are ordered by name.
        features: ``(n, d)``, of the pieces.
        references: ``(m, d)``, of the references.
        portion: Share of the pieces that is chosen, and share that is rejected, above 0 and at most 1.
        nearest: Score by so many references that are nearest to a piece; None: by the mean of all. See
            :func:`notagen.clamp2.scores.clamp2_scores`.
        rules: Limits of the rules.
        known: Music of which no chosen piece may copy a passage, in whatever key.
        reference_names: Names of the references, for the reports; their numbers where there are none.
        reference_prompts: Prompt that each reference is an example of. With ``by_prompt`` a piece is scored by the
            references of its prompt, and without any by all.
        by_prompt: Whether score, order and portion are those among the pieces of the same prompt; only these form
            pairs.
        length_ratio: Greatest ratio of the lengths of a pair, at least 1; None: any. Where the chosen pieces of other
            training came out longer than the rejected ones, models learned to write on and on.
        compat: As the original: a piece may be chosen and rejected; where the portion comes to less than one piece,
            all are rejected; copies of known music and pieces with the same bars over and over are not excluded.

    Returns:
        The selection.

    Raises:
        UsageError: A setting is out of range, or there are too few pieces for the portion.
        InputError: Names occur twice, numbers of pieces and features differ, or a feature is not finite or zero.
    """
    rules = rules or RuleSettings()
    features, references = np.asarray(features, np.float64), np.asarray(references, np.float64)
    names = list(reference_names) or [str(number) for number in range(1, len(references) + 1)]
    _check(samples, features, references, names, reference_prompts)
    if not 0 < portion <= 1:
        raise UsageError(f"portion must be above 0 and at most 1, got {portion}")
    if length_ratio is not None and length_ratio < 1:
        raise UsageError(f"length_ratio must be at least 1, got {length_ratio}")
    similarities = cosines(features, references)
    closest = similarities.argmax(1)
    chosen: list[Sample] = []
    rejected: list[Sample] = []
    reports: list[PieceReport] = []
    notes: list[str] = []
    for prompt, members in _groups(samples, by_prompt).items():
        own = [i for i, each in enumerate(reference_prompts or ()) if by_prompt and each == prompt]
        scores = clamp2_scores(features[members], references[own] if own else references, nearest=nearest)
        found = [
            _report(samples[i], score, (similarities[i, closest[i]], names[closest[i]]), rules, known, compat)
            for i, score in zip(members, scores.tolist(), strict=True)
        ]
        order = sorted(range(len(members)), key=lambda k: (-found[k].score, found[k].name))
        where = f"prompt {prompt!r}: " if by_prompt else ""
        best, worst = _divided([found[k] for k in order], portion, compat, where, notes)
        chosen += [samples[members[order[k]]] for k in best]
        rejected += [samples[members[order[k]]] for k in worst]
        reports += [
            replace(found[order[k]], decision=_decision(k, best, worst, found[order[k]]))
            for k in range(len(order))
        ]
    pairs = _pairs(chosen, rejected, by_prompt, length_ratio, notes)
    reports.sort(key=lambda report: (-report.score, report.name))
    metadata = {"portion": portion, "excluded": _counts(reports), "notes": list(notes)}
    preferences = Preferences(
        tuple(each.path for each in chosen), tuple(each.path for each in rejected), pairs, metadata
    )
    return Selection(preferences, tuple(reports), tuple(notes))


def _check(
    samples: Sequence[Sample],
    features: Features,
    references: Features,
    names: Sequence[str],
    prompts: Sequence[str] | None,
) -> None:
    for what, array, count in (("pieces", features, len(samples)), ("references", references, len(names))):
        if array.ndim != 2 or len(array) != count or not count:
            raise InputError(
                f"features of {what} must be ({count}, d) with one row for each; got {array.shape}"
            )
        bad = np.flatnonzero(~np.isfinite(array).all(1) | (array == 0).all(1))
        if bad.size:
            name = samples[bad[0]].name if what == "pieces" else names[bad[0]]
            raise InputError(f"the feature of {name} is zero or not finite")
    if features.shape[1] != references.shape[1]:
        widths = f"{features.shape[1]} and {references.shape[1]}"
        raise InputError(
            f"features of pieces and of references have {widths} values; they must be of one model"
        )
    if prompts is not None and len(prompts) != len(references):
        raise InputError(f"{len(prompts)} prompts for {len(references)} references; each needs one")
    if len({sample.name for sample in samples}) < len(samples):
        raise InputError("two pieces have the same name; each needs its own")


def _groups(samples: Sequence[Sample], by_prompt: bool) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.prompt if by_prompt else "", []).append(i)
    return dict(sorted(groups.items()))


def _report(
    sample: Sample,
    score: float,
    nearest: tuple[float, str],
    rules: RuleSettings,
    known: KnownMusic | None,
    compat: bool,
) -> PieceReport:
    findings = examine(sample.text, rules, known)
    similarity, reference = float(nearest[0]), nearest[1]
    same = (
        findings.bars < rules.sounding_bars or findings.different_bars < rules.different_bars * findings.bars
    )
    failed = {
        "alignment": not findings.alignment.passes,
        "similarity": similarity > rules.similarity,
        "grouping": findings.split_instrument is not None,
        "copy": findings.copied and not compat,
        "same bars": same and not compat,
    }
    excluded = tuple(rule for rule, fails in failed.items() if fails)
    return PieceReport(sample.name, sample.prompt, score, similarity, reference, findings, excluded)


def _divided(
    ranked: Sequence[PieceReport], portion: float, compat: bool, where: str, notes: list[str]
) -> tuple[list[int], list[int]]:
    """Return the places of the chosen and of the rejected pieces in a list from the best to the worst."""
    count, wanted = len(ranked), threshold(len(ranked), portion)
    if not wanted and not compat:
        needed = math.ceil(1 / portion)
        raise UsageError(
            f"{where}{count} pieces are too few for portion {portion}; at least {needed} are needed"
        )
    # As in the original, no piece at all from the end of the list means the whole list.
    worst = list(range(count - wanted if wanted else 0, count))
    last = count if compat else worst[0]
    passing = [place for place in range(last) if not ranked[place].excluded_by]
    if (found := min(wanted, len(passing))) < wanted:
        notes.append(f"{where}only {found} of {wanted} pieces could be chosen: the rules exclude the others")
    return passing[:wanted], worst


def _decision(place: int, best: Sequence[int], worst: Sequence[int], report: PieceReport) -> str:
    if place in best:
        return "both" if place in worst else "chosen"
    if place in worst:
        return "rejected"
    # Pieces below the last chosen one were not looked at.
    return "excluded" if report.excluded_by and (not best or place < best[-1]) else "unused"


def _pairs(
    chosen: Sequence[Sample],
    rejected: Sequence[Sample],
    by_prompt: bool,
    length_ratio: float | None,
    notes: list[str],
) -> tuple[tuple[int, int], ...] | None:
    if not by_prompt and length_ratio is None:
        return None
    pairs = [
        (i, j)
        for i, one in enumerate(chosen)
        for j, other in enumerate(rejected)
        if (not by_prompt or one.prompt == other.prompt)
        and (
            length_ratio is None
            or max(one.length, other.length) <= length_ratio * min(one.length, other.length)
        )
    ]
    for what, samples, paired in (
        ("chosen", chosen, {i for i, _ in pairs}),
        ("rejected", rejected, {j for _, j in pairs}),
    ):
        if lonely := len(samples) - len(paired):
            notes.append(f"{lonely} of {len(samples)} {what} pieces have no partner of similar length")
    return tuple(pairs)


def _counts(reports: Sequence[PieceReport]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for report in reports:
        for rule in report.excluded_by:
            counts[rule] = counts.get(rule, 0) + 1
    return counts


def _not_a_formula(value: Any) -> Any:
    """Keep spreadsheets from reading a text as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
