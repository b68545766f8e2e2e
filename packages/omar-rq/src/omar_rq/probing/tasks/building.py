"""From a data set to the task that it can be used for: which labels there are, and of which kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from omar_rq.probing.data.recording import DataSet, Labels
from omar_rq.probing.task_list import TASKS
from omar_rq.probing.tasks.beats import BeatTask
from omar_rq.probing.tasks.chords import ChordTask
from omar_rq.probing.tasks.pitches import PitchClassTask
from omar_rq.probing.tasks.structure import StructureTask, function_of
from omar_rq.probing.tasks.task import ProbeTask
from omar_rq.probing.tasks.whole import ClassTask, KeyTask, RegressionTask, TagTask
from pentatonic.errors import InputError, UsageError


def build_task(name: str, data: DataSet) -> ProbeTask:
    """Adapt a task to the labels of a data set; what it learns to tell apart is what the training split has.

    Args:
        name: In :data:`omar_rq.probing.task_list.TASKS`.
        data: The data set.

    Raises:
        UsageError: There is no such task.
        InputError: The training split has no labels for it, or nothing to tell apart.
    """
    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}; allowed: {', '.join(TASKS)}")
    train = [recording.labels for recording in data.of("train")]
    task = _build(name, train, data.vocabulary.get(name))
    if not any(map(task.knows, train)):
        raise InputError(f"{data.name}: no recording of the training split has labels for the task {name}")
    if task.outputs == "classes" and len(task.labels) < 2:
        raise InputError(
            f"{data.name}: all training recordings have the same label; there is nothing to tell apart"
        )
    return task


def _build(name: str, train: Sequence[Labels], vocabulary: tuple[str, ...] | None) -> ProbeTask:
    match name:
        case "tagging":
            return TagTask(
                "tagging", vocabulary or _names(each.tags for each in train), lambda each: each.tags
            )
        case "genre":
            return ClassTask(
                "genre", vocabulary or _names(_one(each.genre) for each in train), lambda each: each.genre
            )
        case "key":
            return KeyTask()
        case "pitch" if any(each.pitch is not None for each in train):
            return ClassTask("pitch", [str(pitch) for pitch in range(128)], _pitch)
        case "pitch":
            return PitchClassTask()
        case "instrument":
            names = _names(each.instruments for each in train)
            if all(len(each.instruments) == 1 for each in train if each.instruments is not None):
                return ClassTask("instrument", names, _only_instrument)
            return TagTask("instrument", names, lambda each: each.instruments)
        case "chord":
            return ChordTask()
        case "beat":
            return BeatTask()
        case "structure":
            return StructureTask(_functions(train))
        case "difficulty":
            return RegressionTask("difficulty", ("difficulty",), _difficulty, "grades")
    return RegressionTask("emotion", ("arousal", "valence"), _emotion, "r2")


def _names(found: Iterable[tuple[str, ...] | None]) -> tuple[str, ...]:
    return tuple(sorted({name for names in found for name in names or ()})) or ("none",)


def _one(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _pitch(labels: Labels) -> str | None:
    return None if labels.pitch is None else str(labels.pitch)


def _only_instrument(labels: Labels) -> str | None:
    return labels.instruments[0] if labels.instruments and len(labels.instruments) == 1 else None


def _difficulty(labels: Labels) -> tuple[float, ...] | None:
    return None if labels.difficulty is None else (labels.difficulty,)


def _emotion(labels: Labels) -> tuple[float, ...] | None:
    return None if labels.emotion is None else (labels.emotion["arousal"], labels.emotion["valence"])


_LEAST_RECORDINGS = 2


def _functions(train: Sequence[Labels]) -> tuple[str, ...]:
    """Functions that at least two recordings have, since one could be a title."""
    counts = Counter(
        name
        for each in train
        for name in {function_of(label) for _, _, label in each.sections or ()}
        if name is not None
    )
    return tuple(sorted(name for name, count in counts.items() if count >= _LEAST_RECORDINGS))
