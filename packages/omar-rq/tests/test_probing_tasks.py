"""Tasks of probes: targets, metrics and trivial answers, against mir_eval, scikit-learn, SciPy and numbers by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from omar_rq.probing.data.recording import DataSet, Labels, Recording
from omar_rq.probing.tasks.beats import BeatTask, beat_times
from omar_rq.probing.tasks.building import build_task
from omar_rq.probing.tasks.chords import CHORD_LABELS, ChordTask, chord_class, chord_spans, majmin_score
from omar_rq.probing.tasks.decoding import bumps, peak_times
from omar_rq.probing.tasks.pitches import PitchClassTask
from omar_rq.probing.tasks.structure import StructureTask, alike_parts, function_of
from omar_rq.probing.tasks.task import pooled_average_precision, weighted_means
from omar_rq.probing.tasks.whole import KeyTask, RegressionTask, TagTask, key_name, main_key
from pentatonic.errors import InputError, UsageError

RATE = 15.625
ALL = np.arange


def data_set(*labels: Labels, split: str = "train") -> DataSet:
    from pathlib import Path

    recordings = tuple(Recording(Path(f"{n}.wav"), split, str(n), each) for n, each in enumerate(labels))
    return DataSet("labelled", recordings, "here", "all")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        *(("N", "N"), ("C:maj", "C:maj"), ("C", "C:maj"), ("A:min7", "A:min"), ("G:7", "G:maj")),
        *(("C#:maj6(9)", "Db:maj"), ("F#:min/b3", "Gb:min"), ("C:dim", None), ("D:sus4", None), ("X", None)),
    ],
)
def test_chords_become_classes(label, expected) -> None:
    assert chord_class(label) == (-1 if expected is None else CHORD_LABELS.index(expected))
    assert len(set(CHORD_LABELS)) == 25


def test_a_chord_in_another_syntax_is_refused() -> None:
    with pytest.raises(InputError, match="'H7' is not in the syntax"):
        chord_class("H7")


def test_chords_are_scored_as_mir_eval_does() -> None:
    mir_eval = pytest.importorskip("mir_eval")
    rng = np.random.default_rng(0)
    names = [*CHORD_LABELS, "C:dim", "G:7", "A:min7"]
    for _ in range(5):
        edges = np.sort(rng.uniform(0, 20, 8))
        truth = [(a, b, names[rng.integers(28)]) for a, b in pairwise(edges)]
        found = chord_spans(rng.integers(0, 25, 300), RATE)
        expected = mir_eval.chord.evaluate(
            np.array([span[:2] for span in truth]),
            [span[2] for span in truth],
            np.array([span[:2] for span in found]),
            [span[2] for span in found],
        )["majmin"]
        assert abs(majmin_score(truth, found)[0] - expected) < 1e-9
    assert np.isnan(majmin_score([], found)[0])


def test_right_chords_score_1_and_others_do_not_count() -> None:
    labels = Labels(chords=((0.0, 2.0, "C:maj"), (2.0, 4.0, "G:dim"), (4.0, 6.0, "A:min")))
    task = ChordTask()
    target = task.target(labels, 100, RATE)
    assert (target == -1).sum() == 100 - 31 - 32 and target[0] == 1 and target[70] == 22
    logits = np.eye(25)[np.maximum(target, 0)]
    accuracy, majmin = task.measure([logits], [labels], RATE)(ALL(1))
    assert accuracy == 1.0 and majmin > 0.98
    wrong = task.measure([np.roll(logits, 3, axis=1)], [labels], RATE)(ALL(1))
    assert wrong[0] == 0.0 and wrong[1] < 0.02
    trivial = task.trivial([target], [labels], 7, RATE)
    assert trivial.shape == (7, 25) and trivial[0].argmax() == 22  # 32 tokens of A minor, 31 of C major


@pytest.mark.parametrize("rate", [15.625, 18.75, 25.0])
@pytest.mark.parametrize("offset", [0.0, 0.013, 0.031, 0.05])
def test_times_survive_their_targets(rate, offset) -> None:
    times = offset + 0.2 + np.arange(20) * 0.37
    found = peak_times(bumps(times, round(8 * rate), rate, reach=1.5), rate, least_s=0.2)
    assert len(found) == len(times) and np.abs(found - times).max() < 0.013


def test_peaks_that_are_near_or_low_are_left_out() -> None:
    values = np.zeros(100)
    values[[10, 12, 40, 70]] = (0.9, 0.8, 0.05, 0.5)
    assert np.allclose(peak_times(values, 10.0, least_s=0.5), [1.0, 7.0])
    assert len(peak_times(np.zeros(0), 10.0, least_s=0.5)) == 0
    assert len(peak_times(np.zeros(9), 10.0, least_s=0.5)) == 0


def beats_at(times, bar: int) -> tuple:
    return tuple((float(time), number % bar + 1) for number, time in enumerate(times))


def test_beats_and_tempo() -> None:
    labels = Labels(beats=beats_at(np.arange(0.5, 20, 0.5), 4))
    task = BeatTask()
    logits = 10 * task.target(labels, 312, RATE) - 5
    assert task.measure([logits], [labels], RATE)(ALL(1)) == [1.0, 1.0, 1.0, 1.0]
    half = Labels(beats=beats_at(np.arange(0.5, 20, 1.0), 2))
    slow = 10 * task.target(half, 312, RATE) - 5
    f, _, acc1, acc2 = task.measure([slow], [labels], RATE)(ALL(1))
    assert abs(f - 2 / 3) < 0.02 and (acc1, acc2) == (0.0, 1.0)
    nothing = task.measure([np.full((312, 2), -9.0)], [labels], RATE)(ALL(1))
    assert nothing == [0.0, 0.0, 0.0, 0.0]
    trivial = task.trivial([], [labels], 312, RATE)
    assert trivial.shape == (312, 2) and task.measure([trivial], [labels], RATE)(ALL(1))[2] == 1.0


def test_downbeats_that_nobody_knows_do_not_count() -> None:
    labels = Labels(beats=tuple((time, 0) for time in np.arange(0.0, 5.0, 0.5)))
    task = BeatTask()
    assert beat_times(labels)[1] is None
    assert np.isnan(task.target(labels, 50, RATE)[:, 1]).all()
    scores = task.measure([np.zeros((78, 2))], [labels], RATE)(ALL(1))
    assert np.isnan(scores[1]) and not np.isnan(scores[0])
    assert not task.knows(Labels(beats=((0.0, 1),))) and not task.knows(Labels())


def test_functions_and_boundaries() -> None:
    labels = Labels(
        sections=((0.0, 8.0, "Verse 1"), (8.0, 16.0, "chorus"), (16.0, 24.0, "verse 2"), (24.0, 30.0, "Z"))
    )
    assert [function_of(name) for name in ("Verse 12", "A", "b'", "3", "", "guitar solo")] == [
        *("verse", None, None, None, None, "guitar solo"),
    ]
    task = StructureTask(["chorus", "verse"])
    assert task.labels == ("boundary", "chorus", "verse")
    target = task.target(labels, 469, RATE)
    assert target[125, 0] == 1.0 and (target[:, 1] == -1).sum() == 469 - 375
    logits = np.concatenate((10 * target[:, :1] - 5, np.eye(2)[np.maximum(target[:, 1], 0).astype(int)]), 1)
    three, half, pairs, functions = task.measure([logits], [labels], RATE)(ALL(1))
    assert three == half == functions == 1.0 and pairs == pytest.approx(0.88, abs=0.01)
    none = np.concatenate((np.full((469, 1), -9.0), np.zeros((469, 2))), 1)
    assert task.measure([none], [labels], RATE)(ALL(1))[0] < 0.7
    assert task.trivial([target], [labels], 469, RATE).shape == (469, 3)


def test_letters_are_no_functions_and_alike_sections_are_found_by_features() -> None:
    labels = Labels(sections=((0.0, 8.0, "A"), (8.0, 16.0, "B"), (16.0, 24.0, "A")))
    task = build_task("structure", data_set(labels, labels))
    assert task.labels == ("boundary",) and task.wants_features
    target = task.target(labels, 375, RATE)
    features = np.zeros((375, 2))
    features[:, 0], features[125:250] = 1.0, (0.0, 1.0)
    output = np.concatenate((10 * target - 5, features), 1)
    assert task.measure([output], [labels], RATE)(ALL(1)) == pytest.approx([1.0, 1.0, 1.0], abs=0.02)
    parts = alike_parts(np.array([[1.0, 0], [0, 1.0], [1.1, 0], [0, 0.9]]))
    assert parts[0] == parts[2] != parts[1] == parts[3]


def test_pitch_classes_that_sound_for_half_of_a_token() -> None:
    notes = ((0.0, 1.0, 60, 0), (0.52, 0.58, 64, 0), (0.2, 0.4, 67, 128), (1.0, 1.04, 62, 0))
    target = PitchClassTask().target(Labels(notes=notes), 20, 10.0)
    assert target[:10, 0].all() and not target[10:, 0].any()
    assert target[5, 4] == 1 and target[:, 4].sum() == 1
    assert not target[:, 7].any() and not target[:, 2].any()


def test_average_precision_of_drawn_recordings_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    targets = [rng.integers(0, 2, (n, 3)).astype(np.float32) for n in (30, 50, 10)]
    scores = [np.round(each + rng.normal(size=each.shape), 1) for each in targets]
    targets[1][4] = np.nan
    measure = pooled_average_precision(scores, targets)
    for chosen in ([0, 1, 2], [0, 0, 2], [1, 1, 1]):
        truth = np.concatenate([targets[each] for each in chosen])
        known = ~np.isnan(truth).any(1)
        guesses = np.concatenate([scores[each] for each in chosen])
        expected = metrics.average_precision_score(truth[known], guesses[known], average="macro")
        assert abs(measure(np.array(chosen))[0] - expected) < 1e-9
    constant = pooled_average_precision([np.zeros((4, 1))], [np.array([[1.0], [0], [0], [0]])])
    assert constant(ALL(1)) == [0.25]


def test_means_leave_out_what_is_undefined() -> None:
    values = np.array([[1.0, np.nan], [0.0, np.nan]])
    means = weighted_means(values, np.array([[3.0, 1.0], [1.0, 1.0]]))
    assert means(ALL(2))[0] == 0.75 and np.isnan(means(ALL(2))[1])
    assert means(np.array([0, 1, 1, 1]))[0] == 0.5


def test_keys() -> None:
    assert [key_name(text) for text in ("F# minor", "Gb:minor", "C", "A:min", "no key")] == [
        *("Gb minor", "Gb minor", "C major", None, None),
    ]
    assert main_key(Labels(keys=((0.0, 3.0, "C major"), (3.0, 10.0, "A minor")))) == "A minor"
    task = KeyTask()
    truth = [Labels(key="C major"), Labels(key="C major")]
    logits = [np.eye(24)[task.labels.index(name)] for name in ("C major", "G major")]
    assert task.measure(logits, truth, 0.0)(ALL(2)) == [0.75, 0.5]


def test_grades() -> None:
    stats = pytest.importorskip("scipy.stats")
    task = build_task("difficulty", data_set(Labels(difficulty=1.0)))
    assert isinstance(task, RegressionTask) and task.smaller_is_better
    truth, guesses = [1.0, 2, 3, 5, 5], [1.4, 1.2, 4.6, 5.4, 3.4]
    error, tau, near = task.measure(
        [np.array([each]) for each in guesses], [Labels(difficulty=each) for each in truth], 0.0
    )(ALL(5))
    assert error == pytest.approx(np.mean((np.array(guesses) - truth) ** 2))
    assert tau == pytest.approx(stats.kendalltau(guesses, truth)[0]) and near == pytest.approx(3 / 5)
    flat = task.measure([np.array([3.0])] * 5, [Labels(difficulty=each) for each in truth], 0.0)
    assert np.isnan(flat(ALL(5))[1])


def test_tags_that_all_or_none_have_do_not_count() -> None:
    task = TagTask("tagging", ["a", "b"], lambda each: each.tags)
    labels = [Labels(tags=("a", "b")), Labels(tags=("a",)), Labels(tags=("a", "b"))]
    outputs = [np.array([0.0, 1.0]), np.array([0.0, 0.5]), np.array([0.0, 2.0])]
    assert task.measure(outputs, labels, 0.0)(ALL(3)) == [1.0, 1.0]
    assert np.isnan(task.measure(outputs, labels, 0.0)(np.array([0, 2]))).all()


def test_the_kind_of_a_task_comes_from_the_labels() -> None:
    one = [Labels(instruments=("flute",)), Labels(instruments=("reed",))]
    assert build_task("instrument", data_set(*one)).outputs == "classes"
    many = build_task("instrument", data_set(*one, Labels(instruments=("flute", "reed"))))
    assert many.outputs == "multilabel" and many.labels == ("flute", "reed")
    assert build_task("pitch", data_set(Labels(pitch=60))).labels[60] == "60"
    assert build_task("pitch", data_set(Labels(notes=()))).labels[0] == "C"
    genre = build_task("genre", data_set(Labels(genre="a"), Labels(genre="b")))
    assert int(genre.target(Labels(genre="c"), 1, 0.0)) == -1
    for name, labels in (("genre", [Labels(genre="a")] * 2), ("beat", [Labels()]), ("chord", [Labels()])):
        with pytest.raises(InputError, match="training"):
            build_task(name, data_set(*labels))
    with pytest.raises(UsageError, match="no task 'mood'"):
        build_task("mood", data_set(Labels()))
