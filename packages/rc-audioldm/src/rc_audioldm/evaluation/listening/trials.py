"""The trials of a listening test: which recordings are compared on which side, and the key that says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.folder_run import write_json
from pentatonic.untrusted.files import read_json, shortened
from rc_audioldm.evaluation.systems import Pairing

CRITERIA = ("overall_quality", "naturalness", "prompt_adherence")
"""The original's criteria."""
SIDES = ("A", "B")
_MAX_KEY_BYTES = 64 << 20
_CRITERION = re.compile("[a-z0-9_]{1,60}")
_TRUTH = re.compile(r"A=(.{1,200}), B=(.{1,200})")


@dataclass(frozen=True)
class Trial:
    """One question: which of two recordings is better, by one criterion.

    Args:
        pair_id: Unique; says nothing of the systems.
        prompt: Text that both were made from; empty if unknown.
        criterion: What is asked for.
        audio_a: File of side A.
        audio_b: File of side B.
        system_a: System of side A; empty where only the key says it.
        system_b: System of side B.
        item: What both recordings are paired by.
    """

    pair_id: str
    prompt: str
    criterion: str
    audio_a: str
    audio_b: str
    system_a: str = ""
    system_b: str = ""
    item: str = ""

    def blinded(self) -> Trial:
        """The trial as a listener sees it."""
        return Trial(self.pair_id, self.prompt, self.criterion, self.audio_a, self.audio_b)


def plan_trials(pairing: Pairing, *, criteria: Sequence[str] = CRITERIA, seed: int = 0) -> list[Trial]:
    """Plan a test of every two systems by every item that they share.

    Each of two systems is on side A for half of its pairs. The pairs are in random order, and so are the criteria of
    each; all criteria of a pair have the same recordings on the same sides.

    Args:
        pairing: The recordings.
        criteria: Lower-case letters, digits and ``_``.
        seed: Of the sides and orders.

    Raises:
        UsageError: A criterion has other characters, or is there twice.
        InputError: There are fewer than two systems, or they share no items.
    """
    if not criteria or len(set(criteria)) < len(criteria) or not all(map(_CRITERION.fullmatch, criteria)):
        raise UsageError(f"criteria: {', '.join(criteria)}; allowed: different names of a-z, 0-9 and _")
    if len(pairing.items) < 2 or not pairing.keys:
        raise InputError(
            "a listening test needs two systems or more that share items; " + "; ".join(pairing.notes)
        )
    rng = np.random.default_rng(seed)
    planned = []
    for first, second in combinations(pairing.items, 2):
        swapped = rng.permutation(np.arange(len(pairing.keys)) % 2)
        planned += [
            (key, (second, first) if swap else (first, second))
            for key, swap in zip(pairing.keys, swapped, strict=True)
        ]
    trials = []
    for number, place in enumerate(rng.permutation(len(planned))):
        key, (one, other) = planned[place]
        items = pairing.items[one][key], pairing.items[other][key]
        prompt = next((item.prompt for item in items if item.prompt), "")
        for at in map(int, rng.permutation(len(criteria))):
            trials.append(
                Trial(
                    pair_id=f"{number:03d}_{criteria[at]}",
                    prompt=prompt,
                    criterion=criteria[at],
                    audio_a=f"audio/pair_{number:03d}_A.wav",
                    audio_b=f"audio/pair_{number:03d}_B.wav",
                    system_a=one,
                    system_b=other,
                    item=key,
                )
            )
    return trials


def write_key(path: Path, trials: Sequence[Trial], about: Mapping[str, Any]) -> None:
    """Write the answers to a file that listeners must not see.

    Args:
        path: The file.
        trials: With systems.
        about: What else belongs to the test, such as its seed and gains.

    Raises:
        CheckpointError: It cannot be written.
    """
    write_json(path, {**about, "trials": [asdict(trial) for trial in trials]})


def read_key(path: Path) -> dict[str, Trial]:
    """Read a key of :func:`write_key`, or the original's ``test_pairs_with_answers.json``.

    Returns:
        ``pair_id`` -> trial.

    Raises:
        FormatError: It is not a key.
    """
    values = read_json(path, max_bytes=_MAX_KEY_BYTES, error=FormatError)
    rows = values.get("trials") if isinstance(values, dict) else values
    if not isinstance(rows, list) or not rows:
        raise FormatError("is not a key; allowed: the key of a test, with its trials", path=path)
    trials: dict[str, Trial] = {}
    for number, row in enumerate(rows, 1):
        trial = _trial(row)
        if trial is None:
            raise FormatError(
                f"trial {number} is {shortened(row)}; needed: pair_id, criterion and systems", path=path
            )
        if trial.pair_id in trials:
            raise FormatError(f"trial {number} has the pair_id {shortened(trial.pair_id)} again", path=path)
        trials[trial.pair_id] = trial
    return trials


def _trial(row: object) -> Trial | None:
    if not isinstance(row, dict):
        return None
    names = ("pair_id", "prompt", "criterion", "audio_a", "audio_b", "system_a", "system_b", "item")
    if "ground_truth" in row:
        truth = _TRUTH.fullmatch(str(row["ground_truth"]))
        if truth is None:
            return None
        identity = str(row.get("pair_id"))
        row = {
            **row,
            "audio_a": row.get("audio_A"),
            "audio_b": row.get("audio_B"),
            "system_a": truth[1],
            "system_b": truth[2],
            "item": identity.partition("_")[0],
        }
    values = {name: value for name in names if isinstance(value := row.get(name, ""), str)}
    if len(values) < len(names):
        return None
    if not all(values[name] for name in ("pair_id", "criterion", "system_a", "system_b")):
        return None
    return Trial(**values)
