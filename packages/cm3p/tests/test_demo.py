"""``cm3p demo``: the page, the maps that come with it, and files that cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cm3p.beatmap import read_beatmap
from cm3p.demo.guesses import known_values
from cm3p.metadata import CM3PMetadata, get_metadata
from cm3p.processor import CM3PProcessor

MODEL = Path(__file__).parent / "goldens" / "saved_full"
MAPS = Path(__file__).parents[1] / "demo"
Command = Callable[..., tuple[int, str, str]]


def tables(page: Path) -> list[dict[str, Any]]:
    """What the section holds as JSON."""
    found = re.search(
        r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    return json.loads(found[1])["tables"]


def test_the_page_shows_guesses_and_neighbours(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    for number in range(3):
        save_map(tmp_path / "maps" / f"{number}.osu", map_id=11 + number, set_id=number, x=60 * number)
    save_map(tmp_path / "maps" / "other.osu", map_id=20, set_id=2, x=300)
    (tmp_path / "maps" / "page.osu").write_text("<html>not a map</html>")
    page = tmp_path / "out" / "page.html"
    status, out, err = cm3p_command(
        "demo", tmp_path / "maps", "--page", page, "--model", MODEL, "--no-audio", "--windows", 2
    )
    assert status == 3 and str(page) in out and "page.osu" in err
    shown = tables(page)
    guesses = [each for each in shown if each["caption"].startswith("What the model reads")]
    neighbours = [each for each in shown if each["caption"].startswith("The most similar")]
    assert len(guesses) == len(neighbours) == 2
    for table in guesses:
        fields = {row["field"]: row for row in table["rows"]}
        assert fields["mode"]["known of the map"] == "osu"
        assert all(0 < row["probability"] <= 1 and row["by chance"] < 1 for row in fields.values())
    for table in neighbours:
        cosines = [row["cosine"] for row in table["rows"]]
        assert cosines == sorted(cosines, reverse=True) and cosines[0] <= 1.001
    # Of the song itself, no other difficulty: two maps of set 2 are never each other's neighbours.
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == 4
    names = [row["window"].partition(" from")[0] for row in neighbours[0]["rows"]]
    assert sorted(names) == ["Somebody - Song [1]", "Somebody - Song [2]", "Somebody - Song [other]"]


def test_a_page_of_another_program_gets_a_section(
    tmp_path: Path, save_map: Any, cm3p_command: Command
) -> None:
    from pentatonic.report import Report

    page = tmp_path / "page.html"
    Report("Another program", command="other", versions={}, section="other").add_to(page)
    map_file = save_map(tmp_path / "one.osu")
    for _ in range(2):  # the second one replaces the first
        status, _, err = cm3p_command("demo", map_file, "--page", page, "--model", MODEL, "--no-audio")
        assert status == 0, err
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- section: ") == 2 and "Another program" in text


def test_without_usable_maps_there_is_no_page(tmp_path: Path, cm3p_command: Command) -> None:
    (tmp_path / "bad.osu").write_text("nothing")
    status, _, err = cm3p_command(
        "demo", tmp_path, "--page", tmp_path / "page.html", "--model", MODEL, "--no-audio"
    )
    assert status == 1 and "none of the maps can be used" in err and "bad.osu" in err
    assert not (tmp_path / "page.html").exists()


def test_what_is_known_of_a_map_is_named() -> None:
    tokenizer = CM3PProcessor.from_pretrained(MODEL).metadata_tokenizer
    mapper, name = next(iter(tokenizer.mappers.items()))
    known = known_values(tokenizer, CM3PMetadata(mode=1, difficulty=4.26, year=2015, status=1, mapper=mapper))
    assert known == {
        "mode": "taiko", "difficulty": "4.3", "year": "2015", "status": "ranked", "mapper": name
    }  # fmt: skip
    assert known_values(tokenizer, CM3PMetadata(mode=None, mapper=-5)) == {}


def test_the_maps_of_the_demo_are_whole() -> None:
    files = sorted((MAPS / "data").glob("*/*.osu"))
    assert len(files) == 18
    modes = set()
    for file in files:
        beatmap = read_beatmap(file)
        assert not beatmap.warnings and beatmap.hit_objects, file
        assert (file.parent / (beatmap.audio_filename or "")).is_file()
        assert beatmap == read_beatmap(file, strict=True)
        modes.add(get_metadata(beatmap=beatmap)["mode"])
    assert modes == {0, 1, 2, 3}


def test_wrong_options(tmp_path: Path, cm3p_command: Command) -> None:
    status, _, err = cm3p_command("demo", tmp_path / "nowhere", "--page", tmp_path / "page.html")
    assert status == 2 and "nowhere" in err
    status, _, err = cm3p_command("demo", tmp_path, "--page", tmp_path)
    assert status == 2 and "--page" in err
