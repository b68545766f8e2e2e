"""The tasks of ``omar-rq probe`` and the data sets of each: what ``omar-rq probe --list`` shows. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSetInfo:
    """A data set.

    Attributes:
        home: Where it comes from.
        licence: Of labels and audio, as far as its authors state it.
        split: Which recordings are for training, validation and test.
        sources: ``folder`` (the layout of its authors), ``mirdata``.
        shared: It is one of :mod:`pentatonic.probes.datasets`.
    """

    home: str
    licence: str
    split: str
    sources: tuple[str, ...] = ("mirdata",)
    shared: bool = False


@dataclass(frozen=True)
class TaskInfo:
    """A task.

    Attributes:
        question: What is read from a recording.
        answer: One for a recording, or one for each token.
        metrics: On the test split; the first one chooses on the validation split.
        data: Names of data sets; ``labelled`` for your own.
    """

    question: str
    answer: str
    metrics: tuple[str, ...]
    data: tuple[str, ...]


_HASH = "by a hash of the name or album: 65 % train, 15 % valid, 20 % test"
_UNKNOWN = "not stated by its authors; the audio is not free"

DATA_SETS: Mapping[str, DataSetInfo] = {
    "labelled": DataSetInfo(
        "your own recordings, in the layout of omar_rq.probing.data.labelled_folder",
        "yours",
        "as its labels say, else by a hash of the group: 65 % train, 15 % valid, 20 % test",
        ("folder",),
    ),
    "magnatagatune": DataSetInfo(
        "mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
        "audio CC BY-NC-SA 1.0 (Magnatune), for research",
        "by the first letter of a clip's folder: 0 to b train, c valid, d to f test",
        ("folder",),
        shared=True,
    ),
    "jamendo-top50": DataSetInfo(
        "mtg.github.io/mtg-jamendo-dataset",
        "metadata CC BY-NC-SA 4.0; audio under Creative Commons licences of each track",
        "the official split 0",
        ("folder",),
        shared=True,
    ),
    "gtzan": DataSetInfo(
        "the archive genres.tar.gz of MARSYAS",
        _UNKNOWN,
        "the fault-filtered split of Kereliuk, Sturm and Larsen",
        ("folder", "mirdata"),
        shared=True,
    ),
    "giantsteps": DataSetInfo(
        "github.com/GiantSteps: giantsteps-mtg-key-dataset and giantsteps-key-dataset",
        "annotations CC BY-SA 4.0; previews of Beatport",
        "GiantSteps-MTG-key: four fifths of the artists train, one valid; GiantSteps key: test",
        ("folder", "mirdata"),
        shared=True,
    ),
    "emomusic": DataSetInfo(
        "cvml.unige.ch/databases/emoMusic",
        "audio under Creative Commons licences; for research, on request",
        "the evaluation set of MediaEval 2013 is the test; a fifth of the other artists valid",
        ("folder",),
        shared=True,
    ),
    "nsynth": DataSetInfo(
        "magenta.tensorflow.org/datasets/nsynth",
        "CC BY 4.0",
        "that of its authors",
        ("folder",),
    ),
    "harmonix": DataSetInfo(
        "github.com/urinieto/harmonixset", "labels MIT; the audio is not part of it", _HASH, ("folder",)
    ),
    "ballroom": DataSetInfo("mirdata (ballroom)", "labels CC BY-NC-SA 4.0", _HASH),
    "beatles": DataSetInfo("mirdata (beatles), the Isophonics annotations", _UNKNOWN, _HASH),
    "billboard": DataSetInfo(
        "mirdata (billboard), McGill Billboard", "labels CC0; the audio is not free", _HASH
    ),
    "candombe": DataSetInfo("mirdata (candombe)", "CC BY 4.0", _HASH),
    "gtzan_genre": DataSetInfo("mirdata (gtzan_genre), beats of U. Marchand", _UNKNOWN, _HASH),
    "hainsworth": DataSetInfo("mirdata (hainsworth)", "labels CC BY-NC-SA 4.0", _HASH),
    "queen": DataSetInfo("mirdata (queen), the Isophonics annotations", _UNKNOWN, _HASH),
    "rwc_popular": DataSetInfo("mirdata (rwc_popular)", "for research, after a pledge to its owners", _HASH),
    "salami": DataSetInfo("mirdata (salami)", "labels CC0; the audio is not free", _HASH),
}

TASKS: Mapping[str, TaskInfo] = {
    "tagging": TaskInfo(
        "which tags a recording has",
        "recording",
        ("average_precision", "roc_auc"),
        ("magnatagatune", "jamendo-top50", "labelled"),
    ),
    "genre": TaskInfo("its genre", "recording", ("accuracy",), ("gtzan", "labelled")),
    "key": TaskInfo(
        "its key, of 24", "recording", ("weighted_score", "accuracy"), ("giantsteps", "labelled")
    ),
    "pitch": TaskInfo(
        "the pitch of a single note, or the pitch classes that sound",
        "recording, or token",
        ("accuracy, or average_precision",),
        ("nsynth", "labelled"),
    ),
    "instrument": TaskInfo(
        "its instrument, or which of several play",
        "recording",
        ("accuracy, or average_precision and roc_auc",),
        ("nsynth", "labelled"),
    ),
    "chord": TaskInfo(
        "the chord at each time: 12 major, 12 minor, none",
        "token",
        ("frame_accuracy", "majmin"),
        ("beatles", "queen", "billboard", "rwc_popular", "labelled"),
    ),
    "beat": TaskInfo(
        "beats and downbeats",
        "token",
        ("beat_f", "downbeat_f", "tempo_acc1", "tempo_acc2"),
        (
            "gtzan_genre",
            "ballroom",
            "hainsworth",
            "candombe",
            "beatles",
            "rwc_popular",
            "harmonix",
            "labelled",
        ),
    ),
    "structure": TaskInfo(
        "where sections begin, and their function where the data name it",
        "token",
        ("boundary_f_3s", "boundary_f_0.5s", "pairwise_f", "function_accuracy"),
        ("salami", "harmonix", "beatles", "queen", "billboard", "rwc_popular", "labelled"),
    ),
    "difficulty": TaskInfo(
        "how hard a piece is to play",
        "recording",
        ("mean_squared_error", "kendall_tau_b", "within_one"),
        ("labelled",),
    ),
    "emotion": TaskInfo(
        "arousal and valence", "recording", ("r2", "r2_arousal", "r2_valence"), ("emomusic", "labelled")
    ),
}


def task_table() -> list[dict[str, object]]:
    """Return the tasks as JSON values, each with its data sets."""
    return [
        {
            "task": name,
            "question": task.question,
            "answer": task.answer,
            "metrics": list(task.metrics),
            "data": [
                {
                    "name": data,
                    "home": DATA_SETS[data].home,
                    "licence": DATA_SETS[data].licence,
                    "split": DATA_SETS[data].split,
                    "sources": list(DATA_SETS[data].sources),
                }
                for data in task.data
            ],
        }
        for name, task in TASKS.items()
    ]


def task_lines() -> list[str]:
    """Return the same as lines for a reader."""
    lines = []
    for name, task in TASKS.items():
        lines += [f"{name}: {task.question}; one answer for each {task.answer}; {', '.join(task.metrics)}"]
        for data in task.data:
            about = DATA_SETS[data]
            lines.append(f"    data.name={data}  ({' or '.join(about.sources)})  {about.home}")
            lines.append(f"        licence: {about.licence}; split: {about.split}")
    return lines
