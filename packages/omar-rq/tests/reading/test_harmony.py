"""Chords and keys from answers that are made up."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from omar_rq.annotations.events import Beat, Beats, Meter, Span
from omar_rq.annotations.pitch_names import pitch_class, split_chord, split_key
from omar_rq.reading.chords import mean_between, read_chords
from omar_rq.reading.key import key_of_chords, read_key, read_key_changes
from omar_rq.reading.smoothing import likeliest_labels
from omar_rq.reading.tags import read_tags
from pentatonic.errors import InputError, UsageError

from .conftest import CHORDS, KEYS, label_answers


def beats_at(times: np.ndarray, bar: int = 4) -> Beats:
    rows = tuple(Beat(float(time), i % bar + 1, 120.0, 0.9) for i, time in enumerate(times))
    return Beats(rows, Meter(bar, 4), 120.0, 0.9, 0.9, 0.0, 0.0)


def labels_of(spans: tuple[Span, ...]) -> list[str]:
    return [span.label for span in spans]


def test_short_slips_are_smoothed_over() -> None:
    which = [1] * 50 + [2] * 50
    which[20] = 3
    chords = read_chords(label_answers("chord", CHORDS, which, 25.0, sure=0.8), 4.0)
    assert labels_of(chords) == ["C:maj", "A:min"]
    assert [(chord.start, chord.end) for chord in chords] == [(0.0, 2.0), (2.0, 4.0)]
    assert chords[1].confidence == pytest.approx(0.8) and chords[0].confidence == pytest.approx(0.785)


def test_chords_cover_the_recording() -> None:
    answers = label_answers("chord", CHORDS, [0] * 10 + [4] * 65, 25.0)
    chords = read_chords(answers, 3.02)
    assert chords[0].start == 0 and chords[-1].end == 3.02
    assert all(a.end == b.start for a, b in pairwise(chords))


def test_chords_change_on_beats() -> None:
    beats = beats_at(np.arange(0.1, 8, 0.5))
    which = [1] * 55 + [3] * 145  # a change at 2.2 s, a little after the downbeat at 2.1
    chords = read_chords(label_answers("chord", CHORDS, which, 25.0), 8.0, beats=beats)
    assert labels_of(chords) == ["C:maj", "F:maj"] and chords[1].start == pytest.approx(2.1)


def test_a_downbeat_attracts_changes() -> None:
    beats = beats_at(np.arange(0.0, 8, 0.5))
    which = np.repeat(
        [1, 3], [16 * 4, 16 * 4]
    )  # eight tokens each half second: the change is at 4.0, a downbeat
    values = label_answers("chord", CHORDS, which, 16.0).values
    values[56:64] = [0.02, 0.48, 0.01, 0.48, 0.01]  # the beat before it is undecided
    answers = replace(label_answers("chord", CHORDS, which, 16.0), values=values)
    assert read_chords(answers, 8.0, beats=beats)[1].start == 4.0


@pytest.mark.parametrize("count", [0, 1])
def test_without_two_beats_chords_change_at_tokens(count: int) -> None:
    beats = replace(beats_at(np.arange(0.1, 8, 0.5)), beats=beats_at(np.array([0.1])).beats[:count])
    answers = label_answers("chord", CHORDS, [1] * 55 + [3] * 145, 25.0)
    assert read_chords(answers, 8.0, beats=beats)[1].start == pytest.approx(2.2)


def test_beats_closer_than_tokens_take_the_nearest_token() -> None:
    answers = label_answers("chord", CHORDS, [1, 2], 2.0)
    means = mean_between(answers, np.array([0.0, 0.05, 0.1, 0.9, 0.95]))
    assert means.argmax(1).tolist() == [1, 1, 1, 2] and np.allclose(means.sum(1), 1)


def test_one_token_and_none() -> None:
    assert labels_of(read_chords(label_answers("chord", CHORDS, [2], 25.0), 0.2)) == ["A:min"]
    nothing = label_answers("chord", CHORDS, [], 25.0)
    assert read_chords(nothing, 0.0) == ()


def test_chords_of_other_probes_are_refused() -> None:
    answers = label_answers("chord", CHORDS, [1], 25.0)
    with pytest.raises(InputError, match="task=chord"):
        read_chords(replace(answers, rate=0.0), 1.0)
    with pytest.raises(UsageError, match="chord-seconds"):
        read_chords(answers, 1.0, chord_s=0)


def test_the_likeliest_sequence_is_that_of_all_sequences() -> None:
    generator = np.random.default_rng(0)
    chances = generator.dirichlet(np.ones(3), 6)
    prices = generator.uniform(0, 1, 6)
    found = likeliest_labels(chances, 0.7, prices)

    def score(labels: tuple[int, ...]) -> float:
        gains = sum(np.log(chances[i, label]) for i, label in enumerate(labels))
        return gains - sum(0.7 + prices[i] for i in range(1, 6) if labels[i] != labels[i - 1])

    best = max(np.ndindex(*[3] * 6), key=score)
    assert tuple(found) == best and len(set(best)) > 1


def test_keys_in_order() -> None:
    answers = label_answers("key", KEYS, [1], 1.0, 0.7)
    (first, second) = read_key(replace(answers, rate=0.0))
    assert (first.label, second.label) == ("A minor", "C major") and first.value == pytest.approx(0.7)
    with pytest.raises(InputError, match="task=key"):
        read_key(label_answers("chord", CHORDS, [1], 1.0))


def test_key_changes() -> None:
    which = [0] * 12 + [1] * 12
    which[5] = 1
    keys = read_key_changes(label_answers("key", KEYS, which, 0.1, 0.9), 245.0)
    assert labels_of(keys) == ["C major", "A minor"]
    assert (keys[0].end, keys[-1].end) == (120.0, 245.0)
    tokens = read_key_changes(label_answers("key", KEYS, [0] * 1500 + [1] * 1500, 25.0, 0.9), 120.0)
    assert labels_of(tokens) == ["C major", "A minor"] and tokens[0].end == pytest.approx(60.0)
    with pytest.raises(InputError, match="whole recordings"):
        read_key_changes(replace(label_answers("key", KEYS, [0], 1.0), rate=0.0), 1.0)


@pytest.mark.parametrize(
    ("chords", "key"),
    [
        ("C:maj F:maj G:maj C:maj", "C major"),
        ("A:min D:min E:maj A:min", "A minor"),
        ("Eb:maj Ab:maj Bb:maj C:min", "D# major"),
        ("N F#:min B:min C#:maj F#:min", "F# minor"),
    ],
)
def test_key_of_chords(chords: str, key: str) -> None:
    spans = [Span(i, i + 1, label) for i, label in enumerate(chords.split())]
    found = key_of_chords(spans)
    assert found[0].label == key and found[0].value > found[1].value
    assert sum(score.value for score in found) == pytest.approx(1)


def test_no_chords_have_no_key() -> None:
    assert key_of_chords([]) == () and key_of_chords([Span(0, 9, "N")]) == ()


def test_names_of_pitches() -> None:
    assert [pitch_class(name) for name in ("C", "Cb", "F##", "Bb", "E#")] == [0, 11, 7, 10, 5]
    assert [pitch_class(name) for name in ("", "H", "C-", "c")] == [None] * 4
    assert split_key("Bb minor") == (10, "minor") and split_key("A") is None and split_key("X major") is None
    assert split_chord("A:min") == (9, "min") and split_chord("A") == (9, "maj") and split_chord("N") is None


def test_tags_are_sorted_and_say_how_they_were_pooled() -> None:
    whole = replace(
        label_answers("tagging", ("a", "b", "c"), [1], 1.0), rate=0.0, pooling="mean over 9 tokens"
    )
    tags, rule = read_tags(whole)
    assert [tag.label for tag in tags] == ["b", "a", "c"] and rule == "mean over 9 tokens"
    tags, rule = read_tags(label_answers("tagging", ("a", "b"), [1, 1, 0, 1], 2.0, 0.8))
    assert (
        tags[0].label == "b"
        and tags[0].value == pytest.approx(0.65)
        and rule == "mean over the answers for 4 tokens"
    )
