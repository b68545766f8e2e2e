"""Shallow probes on frozen embeddings: what a simple model can read from them, with intervals and trivial baselines.

:func:`evaluate_probes` trains one probe per setting of a grid, selects one by validation, and tests that one once.
"""

from __future__ import annotations

from pentatonic.probes.evaluation import evaluate_probes
from pentatonic.probes.grid import ProbeSettings, full_grid, quick_grid
from pentatonic.probes.metrics import (
    KEY_NAMES,
    average_precision,
    key_scores,
    r_squared,
    roc_auc,
    top_k_accuracy,
)
from pentatonic.probes.results import ProbeResult, ProbeRun
from pentatonic.probes.splits import ProbeSplit, chunk_starts
from pentatonic.probes.tasks import Classification, KeyDetection, Regression, Tagging, Task
from pentatonic.statistics import Estimate

__all__ = [
    "KEY_NAMES",
    "Classification",
    "Estimate",
    "KeyDetection",
    "ProbeResult",
    "ProbeRun",
    "ProbeSettings",
    "ProbeSplit",
    "Regression",
    "Tagging",
    "Task",
    "average_precision",
    "chunk_starts",
    "evaluate_probes",
    "full_grid",
    "key_scores",
    "quick_grid",
    "r_squared",
    "roc_auc",
    "top_k_accuracy",
]
