"""The page for ratings: which pairs it asks for, and a listener in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from notagen.dpo.ratings import Rating, rated_preferences, read_ratings
from pentatonic import page_server
from pentatonic.errors import FormatError, UsageError

from .made_music import walk

pytest.importorskip("gradio")

from notagen.app.rating_page import RatingRun, build_rating_app

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.*")


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "pieces"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.abc").write_text("%Folk\n" + walk(number, bars=2))
    return sorted(folder.iterdir())


def test_pairs_and_answers(files, tmp_path):
    out = tmp_path / "ratings.jsonl"
    run = RatingRun(files, out, count=100, seed=3)
    assert len(run.pairs) == len({frozenset(pair) for pair in run.pairs}) == 6
    assert all(name.startswith("pieces/") for pair in run.pairs for name in pair)
    assert run.pairs == RatingRun(files, out, count=100, seed=3).pairs
    assert run.pairs != RatingRun(files, out, count=100, seed=4).pairs
    run.answer(0, "second")
    run.answer(0, "first")  # from a second window that still shows it
    run.answer(2, "neither")
    assert read_ratings(out) == [Rating(*run.pairs[0], "second"), Rating(*run.pairs[2], "neither")]
    again = RatingRun(files, out, count=100, seed=3)
    assert again.todo == [1, 3, 4, 5] and again.current == 1
    preferences, texts = rated_preferences(out)
    assert preferences.chosen == (run.pairs[0][1],) and texts[run.pairs[0][0]].startswith("%Folk")
    for number in again.todo.copy():
        again.answer(number, "first")
    assert again.current is None
    again.answer(None, "first")
    assert len(read_ratings(out)) == 6


def test_a_few_of_many_pairs(files, tmp_path):
    assert len(RatingRun(files, tmp_path / "ratings.jsonl", count=2).pairs) == 2
    with pytest.raises(UsageError, match="at least 2 pieces"):
        RatingRun(files[:1], tmp_path / "ratings.jsonl")
    (tmp_path / "ratings.jsonl").write_text("{}\n")
    with pytest.raises(FormatError, match="not a rating"):
        RatingRun(files, tmp_path / "ratings.jsonl")


def test_a_listener_with_mouse_and_keys(files: Any, tmp_path: Any, browser: Any) -> None:
    files[3].write_bytes(b"\xff")
    out = tmp_path / "ratings.jsonl"
    run = RatingRun(files, out, count=4, seed=3)
    app = build_rating_app(run)
    address = page_server.launch(app, max_upload_bytes=1)
    foreign: list[str] = []
    try:
        page = browser.new_page()
        page.on("pageerror", lambda error: foreign.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((address, "data:")) else foreign.append(asked.url),
        )
        page.set_default_timeout(60_000)
        page.goto(address)
        for done, answer in enumerate(("click", "1", "2", "0")):
            page.get_by_text(f"{done} of 4 pairs rated. Which piece is better?").wait_for()
            broken = sum("3.abc" in name for name in run.pairs[done])
            assert page.locator("audio").count() == 2 - broken
            assert page.get_by_text("Cannot be played").count() == broken
            if answer == "click":
                page.get_by_role("button", name="Second is better (2)").click()
            else:
                page.keyboard.press(answer)
        page.get_by_text("4 of 4 pairs rated. That is all; the ratings are in ratings.jsonl.").wait_for()
        assert page.get_by_role("button", name="Neither (0)").is_disabled()
        page.close()
    finally:
        app.close(verbose=False)
    assert [rating.better for rating in read_ratings(out)] == ["second", "first", "second", "neither"]
    assert foreign == []
