"""Sections, repeats and highlights of embeddings that are made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omar_rq.annotations.events import Span
from omar_rq.reading.segments import (
    find_boundaries,
    find_highlight,
    find_segments,
    likeness_matrix,
    novelty,
    repeat_letters,
)
from omar_rq.reading.structure import read_structure
from pentatonic.errors import InputError, UsageError

from .conftest import label_answers


def steps_of(form: str, length: int = 40, noise: float = 0.5, moving: bool = False) -> np.ndarray:
    """Steps of sections: each letter is a place, or with ``moving`` a path of four places that its bars go through."""
    generator = np.random.default_rng(0)
    places = {letter: generator.normal(size=(4, 32)) for letter in sorted(set(form))}
    rows = [places[letter][(i // 2 % 4) if moving else 0] for letter in form for i in range(length)]
    return np.array(rows) + noise * generator.normal(size=(len(rows), 32))


def letters(spans: tuple[Span, ...]) -> str:
    return "".join(span.label for span in spans)


@pytest.mark.parametrize("form", ["ABAB", "AABA", "ABACA", "ABCD"])
def test_sections_and_repeats(form: str) -> None:
    spans = find_segments(steps_of(form), 0.5, len(form) * 20.0)
    shown = form.replace("AA", "A")  # nothing marks the place where a section begins again at once
    assert letters(spans) == shown
    starts = [span.start for span in spans]
    wanted = [20.0 * i for i, letter in enumerate(form) if i == 0 or form[i - 1] != letter]
    assert np.allclose(starts, wanted, atol=1.0) and spans[-1].end == len(form) * 20.0
    for span in spans:
        assert (span.confidence is None) == (shown.count(span.label) == 1)


def test_sections_that_move_repeat_step_by_step() -> None:
    steps = steps_of("ABA", moving=True, noise=0.2)
    found, sure = repeat_letters(likeness_matrix(steps), np.array([0, 40, 80]))
    assert found == ["A", "B", "A"] and sure[0] == sure[2] > 0.5 and sure[1] == 0


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_as_many_sections_as_asked_for(count: int) -> None:
    spans = find_segments(steps_of("ABAB"), 0.5, 80.0, count=count)
    assert len(spans) == count and spans[0].start == 0 and spans[-1].end == 80
    assert all(span.end > span.start for span in spans)


def test_more_sections_than_steps_are_refused() -> None:
    for count in (0, 5):
        with pytest.raises(InputError, match="allowed for this recording: 1 to 4"):
            find_boundaries(likeness_matrix(np.eye(4)), 0.5, count)
    assert len(find_boundaries(likeness_matrix(np.eye(4)), 0.5, 4)) == 4


@pytest.mark.parametrize("n_steps", [1, 2, 30])
def test_music_without_change_is_one_section(n_steps: int) -> None:
    steps = np.ones((n_steps, 8), np.float32)
    assert find_segments(steps, 0.5, n_steps * 0.5) == (Span(0.0, n_steps * 0.5, "A", None),)
    best = find_highlight(steps, 0.5, n_steps * 0.5, seconds=30)
    assert (best.start, best.end) == (0.0, n_steps * 0.5)


def test_times_begin_where_reading_began() -> None:
    spans = find_segments(steps_of("AB"), 0.5, 140.0, start=100.0)
    assert spans[0].start == 100 and spans[1].start == pytest.approx(120, abs=1)


def test_novelty_is_highest_at_the_change() -> None:
    curve = novelty(likeness_matrix(steps_of("AB")), 20)
    assert abs(int(curve.argmax()) - 40) <= 1 and curve[0] == 0 and curve.min() >= 0


def test_likeness_ignores_values_that_do_not_change() -> None:
    steps = steps_of("AB")
    louder = np.concatenate((steps, np.full((len(steps), 1), 1e6)), axis=1)
    assert np.allclose(likeness_matrix(louder), likeness_matrix(steps), atol=1e-6)


def test_the_highlight_is_what_comes_most() -> None:
    best = find_highlight(steps_of("BACADA"), 0.5, 120.0, seconds=15)
    assert (best.start + 7.5) // 20 % 2 == 1 and best.end - best.start == 15
    assert best.likeness == pytest.approx(
        likeness_matrix(steps_of("BACADA"))[int(best.start * 2) :][:30].mean(), abs=1e-9
    )
    for seconds in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="highlight"):
            find_highlight(np.eye(3), 0.5, 1.5, seconds=seconds)


def test_more_than_26_sections_have_letters() -> None:
    steps = np.repeat(np.eye(30), 3, axis=0)
    found, _ = repeat_letters(likeness_matrix(steps), np.arange(0, 90, 3))
    assert found[25:28] == ["Z", "AA", "AB"]


def structure(names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    which = [0] * 200 + [1] * 200 + [0] * 200
    values = label_answers("structure", ("verse", "chorus"), which, 10.0, 0.7).values
    boundary = np.full((600, 1), 0.05, np.float32)
    boundary[[200, 400]] = 0.8
    return np.concatenate((boundary, values[:, : len(names)]), axis=1), ("boundary", *names)


def test_names_come_from_a_probe_that_knows_them() -> None:
    values, labels = structure(("verse", "chorus"))
    answers = replace(label_answers("structure", ("a", "b"), [0] * 600, 10.0), labels=labels, values=values)
    spans, names = read_structure(answers, 60.5)
    assert names == ("verse", "chorus")
    assert [(span.start, span.label) for span in spans] == [(0, "verse"), (20, "chorus"), (40, "verse")]
    assert spans[-1].end == 60.5
    two, _ = read_structure(answers, 60.5, count=2)
    assert len(two) == 2 and two[1].start in (20, 40)


def test_a_probe_without_names_gives_boundaries() -> None:
    values, labels = structure(())
    answers = replace(label_answers("structure", ("a", "b"), [0] * 600, 10.0), labels=labels, values=values)
    spans, names = read_structure(answers, 60.0)
    assert names == () and [(span.start, span.label) for span in spans] == [(0, ""), (20, ""), (40, "")]
    assert len(read_structure(answers, 60.0, count=7)[0]) == 7
    with pytest.raises(InputError, match="1 to 600"):
        read_structure(answers, 60.0, count=601)
    with pytest.raises(InputError, match="task=structure"):
        read_structure(label_answers("genre", ("a", "b"), [0], 1.0), 1.0)
