"""The page in a real browser: what it draws, finds, filters and exports, and what hostile metadata cannot do."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cm3p.explore.layout import principal_components
from cm3p.explore.page import render, write
from cm3p.explore.rounding import to_int8
from cm3p.explore.table import read_table

ROWS, DIMENSION = 600, 24
DASH = "\u2013"
Row = dict[str, Any]

# Searches, and what they mean in Python; `text` is the lower-case text of a column, "" where missing.
QUERIES: dict[str, Callable[[Row], bool]] = {
    "": lambda row: True,
    "camellia": lambda row: "camellia" in everything(row),
    "CAMELLIA hard": lambda row: "camellia" in everything(row) and "hard" in everything(row),
    '"tech stream"': lambda row: "tech stream" in everything(row),
    "ÉMILE": lambda row: "émile" in everything(row),
    "creator=mapper": lambda row: bool(row["Creator"]),
    'Mapper = "mapper 1"': lambda row: "mapper 1" in (row["Creator"] or ""),
    'creator!="mapper 1"': lambda row: "mapper 1" not in (row["Creator"] or ""),
    "stars>5": lambda row: row["DifficultyRating"] is not None and row["DifficultyRating"] > 5,
    "stars >= 3.5 DifficultyRating<4": lambda row: 3.5 <= (row["DifficultyRating"] or 0) < 4,
    "stars!=4.2": lambda row: row["DifficultyRating"] is None or abs(row["DifficultyRating"] - 4.2) >= 0.01,
    "mode=osu year<=2012": lambda row: row["Mode"] == "osu" and (year(row) or 9999) <= 2012,
    "year=2015": lambda row: year(row) == 2015,
    "rankeddate>=2015": lambda row: (row["RankedDate"] or "") >= "2015",
    "rankeddate<2010": lambda row: bool(row["RankedDate"]) and row["RankedDate"] < "2010",
    "id=150": lambda row: row["Id"] == 150,
    "150": lambda row: row["Id"] == 150 or row["BeatmapSetId"] == 150 or "150" in everything(row),
    "status=loved -3": lambda row: False,
    "title=nothing": lambda row: False,
}


def year(row: Row) -> int | None:
    return int(row["RankedDate"][:4]) if row["RankedDate"] else None


def everything(row: Row) -> str:
    return "\n".join(each.lower() for each in row.values() if isinstance(each, str))


@pytest.fixture(scope="module")
def maps(make_maps: Any) -> tuple[dict[str, list[Any]], np.ndarray]:
    return make_maps(ROWS, DIMENSION)


@pytest.fixture(scope="module")
def rows(maps: Any) -> list[Row]:
    columns, _ = maps
    return [{name: values[i] for name, values in columns.items()} for i in range(ROWS)]


@pytest.fixture(scope="module")
def page_file(maps: Any, write_embeddings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(tmp_path_factory.mktemp("explore"), write_embeddings, *maps)


def make_page(
    folder: Path, write_embeddings: Any, columns: Any, vectors: np.ndarray, name: str = "maps.parquet"
) -> Path:
    table = read_table(write_embeddings(folder / "maps.parquet", columns, vectors), 100_000)
    write(folder / "page.html", render(table, name))
    return folder / "page.html"


@pytest.fixture
def open_page(browser: Any, until: Any) -> Iterator[Callable[..., Any]]:
    """``open_page(path, hash, **options of the context)``; no errors, and no other requests, may come up."""
    opened: list[tuple[Any, list[str], list[str]]] = []

    def load(path: Path, fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        page = context.new_page()
        problems: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url.partition("#")[0]))
        page.on("dialog", lambda dialog: problems.append(dialog.message) or dialog.dismiss())
        page.goto(path.as_uri() + fragment)
        until(page, "view.draws > 0")
        opened.append((context, problems, requests))
        settle(page)
        assert set(requests) == {path.as_uri(), "data:,"} or requests == [path.as_uri()]
        return page

    yield load
    for context, problems, requests in opened:
        assert problems == []
        assert all(url.partition(":")[0] in ("file", "data", "blob") for url in requests)
        context.close()


def settle(page: Any) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_page_opens_from_disk(page_file: Path, open_page: Any) -> None:
    page = open_page(page_file)
    assert page.locator("h1").text_content() == "maps.parquet"
    assert page.locator("#count").text_content() == "600 maps"
    assert page.evaluate("view.pointsDrawn") == ROWS
    assert "8 bits" in page.locator("#about").text_content()
    assert page.locator("#place").text_content().startswith("PCA")
    legend = page.locator("#legend li span").all_text_contents()
    assert len(legend) == 10 and sum(map(int, legend)) == ROWS
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy


def test_a_click_selects_the_map_at_that_place(
    page_file: Path, open_page: Any, maps: Any, rows: list[Row]
) -> None:
    _, vectors = maps
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    places = principal_components(unit).positions
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(ROWS)
    lonely = np.argsort(-distances.min(axis=1))[:3]  # nothing else is near them
    page = open_page(page_file)
    box = page.locator("#marks").bounding_box()
    scale = min(box["width"], box["height"]) / 2 * 0.92
    for row in map(int, lonely):
        x = box["width"] / 2 + float(places[row, 0]) * scale
        y = box["height"] / 2 - float(places[row, 1]) * scale
        pixel = page.evaluate(f"[...view.context.getImageData({round(x)}, {round(y)}, 1, 1).data]")
        assert pixel != page.evaluate("[...view.background]")
        np.testing.assert_allclose(page.evaluate(f"view.pixelOf({row})"), [x, y], atol=0.01)
        page.mouse.move(x + 3, y)
        title = f"{rows[row]['Artist']} {DASH} {rows[row]['Title']} [{rows[row]['Version']}]"
        assert page.locator("#tip bdi").first.text_content() == title
        page.mouse.click(x + 3, y)
        assert page.evaluate("state.selected") == row
        assert page.locator("#details h2").text_content() == title
        link = page.locator("#details a")
        assert link.get_attribute("href") == f"https://osu.ppy.sh/beatmaps/{100 + row}"
        assert "noopener" in link.get_attribute("rel")
    page.mouse.click(2, 2)
    assert page.locator("#details").is_hidden()


def test_dragging_and_zooming_move_the_map(page_file: Path, open_page: Any) -> None:
    page = open_page(page_file)
    before = page.evaluate("view.pixelOf(5)")
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(320, 310)
    page.mouse.move(340, 330)
    page.mouse.up()
    assert page.evaluate("state.selected") == -1
    np.testing.assert_allclose(page.evaluate("view.pixelOf(5)"), np.add(before, [40, 30]), atol=0.01)
    at = page.evaluate("view.pixelOf(5)")
    page.mouse.move(*at)
    page.mouse.wheel(0, -400)
    settle(page)
    assert page.evaluate("view.zoom") > 1.5
    np.testing.assert_allclose(page.evaluate("view.pixelOf(5)"), at, atol=1.5)
    page.locator("[data-zoom='0']").click()
    np.testing.assert_allclose(page.evaluate("view.pixelOf(5)"), before, atol=0.01)


def test_neighbours_are_those_of_numpy(page_file: Path, open_page: Any, maps: Any) -> None:
    _, vectors = maps
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rounded = to_int8(unit).astype(np.float64)
    rounded /= np.linalg.norm(rounded, axis=1, keepdims=True)
    page = open_page(page_file)
    exact_share = []
    for row in range(0, ROWS, 40):
        found = page.evaluate(f"neighbours.nearest({row}, 10, () => true)")
        cosines = rounded @ rounded[row]
        cosines[row] = -2
        expected = np.sort(cosines)[::-1][:10]
        np.testing.assert_allclose([each["cosine"] for each in found], expected, atol=1e-6)
        np.testing.assert_allclose(cosines[[each["row"] for each in found]], expected, atol=1e-6)
        others = page.evaluate(f"neighbours.nearest({row}, 9, (other) => other !== {found[0]['row']})")
        assert others == found[1:]
        exact = unit @ unit[row]
        exact[row] = -2
        exact_share.append(len({each["row"] for each in found} & set(np.argsort(-exact)[:10].tolist())) / 10)
    assert np.mean(exact_share) > 0.93


def test_the_list_of_neighbours_leads_on(page_file: Path, open_page: Any, until: Any) -> None:
    page = open_page(page_file, "#selected=17")
    entries = page.locator("#near button")
    assert entries.count() == 10
    cosines = [float(text) for text in page.locator("#near output").all_text_contents()]
    assert cosines == sorted(cosines, reverse=True)
    page.fill("#near-count", "3")
    page.locator("#near-count").blur()
    assert entries.count() == 3
    page.fill("#near-count", "999")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "near-count"
    assert entries.count() == 50
    page.check("#near-sets")
    sets = page.evaluate("view.near.map(row => table.number(row, 'BeatmapSetId'))")
    assert len(sets) == 50 and 17 // 4 + 1 not in sets
    row = int(entries.nth(2).get_attribute("data-row"))
    entries.nth(2).click()
    assert page.evaluate("state.selected") == row
    assert page.evaluate("document.activeElement.id") == "details"  # as the entry that had the focus is gone
    until(page, f"location.hash.includes('selected={row}')")


def test_ids_of_unsubmitted_maps_are_exact(
    make_maps: Any, write_embeddings: Any, open_page: Any, tmp_path: Path
) -> None:
    columns, vectors = make_maps(6, 4)
    large = -(2**60) + 1
    columns |= {
        "Id": [large, large + 1, large + 2, 75, None, 2**53 + 1],
        "BeatmapSetId": [large] * 3 + [75] * 3,
    }
    page = open_page(make_page(tmp_path, write_embeddings, columns, vectors))
    for query, expected in {
        f"id={large}": [0],
        str(large + 1): [1],
        f"id!={large}": [1, 2, 3, 4, 5],
        f"id<={large + 1}": [0, 1],
        "id>75": [5],
        f"id={2**53 + 1}": [5],
        f"set={large}": [0, 1, 2],
    }.items():
        page.fill("#query", query)
        assert page.evaluate("rowsIn(view.states, SHOWN)") == expected, query
        assert page.locator("#problem").is_hidden(), query
    page.fill("#query", "id=1.5")
    assert "whole number" in page.locator("#problem").text_content()
    page.fill("#query", "")
    with page.expect_download() as download:
        page.click("#export")
    exported = csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"), newline=""))
    assert [row["Id"] for row in exported] == ["" if each is None else str(each) for each in columns["Id"]]


def test_searches_agree_with_python(page_file: Path, open_page: Any, rows: list[Row]) -> None:
    page = open_page(page_file)
    for query, test in QUERIES.items():
        page.fill("#query", query)
        expected = [i for i, row in enumerate(rows) if test(row)]
        assert page.evaluate("rowsIn(view.states, SHOWN)") == expected, query
        assert page.locator("#problem").is_hidden(), query
        assert page.locator("#matches li").count() == (min(50, len(expected)) if query else 0)
    counts = [sum(map(test, rows)) for test in QUERIES.values()]
    assert sum(0 < count < ROWS for count in counts) > 10  # the table tells something


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("colour=red", "There is no column colour"),
        ("stars>many", "stars needs a number, not many"),
        ("stars>", "stars> needs a value"),
        ('title="open', "A quote is not closed"),
        ("__proto__=1", "There is no column __proto__"),
    ],
)
def test_a_wrong_search_says_why(page_file: Path, open_page: Any, query: str, problem: str) -> None:
    page = open_page(page_file)
    page.fill("#query", query)
    assert page.locator("#problem").text_content().startswith(problem)
    assert page.locator("#count").text_content() == "600 maps"


def test_filters_and_search_work_together(
    page_file: Path, open_page: Any, until: Any, rows: list[Row]
) -> None:
    page = open_page(page_file)

    def shown() -> list[int]:
        return page.evaluate("rowsIn(view.states, SHOWN)")

    def expected(*tests: Callable[[Row], bool]) -> list[int]:
        return [i for i, row in enumerate(rows) if all(test(row) for test in tests)]

    def in_mode(row: Row) -> bool:
        return row["Mode"] != "mania"

    def in_years(row: Row) -> bool:
        return 2010 <= (year(row) or 0) <= 2016

    def in_stars(row: Row) -> bool:
        return (row["DifficultyRating"] or 0) >= 3

    page.uncheck("#modes input[value=mania]")
    assert shown() == expected(in_mode)
    page.fill("#years input >> nth=0", "2010")
    page.fill("#years input >> nth=1", "2016")
    assert shown() == expected(in_mode, in_years)
    page.fill("#stars input >> nth=0", "3")
    rest = expected(in_mode, in_years, in_stars)
    assert shown() == rest
    page.fill("#query", "camellia")
    found = expected(in_mode, in_years, in_stars, QUERIES["camellia"])
    assert shown() == found and 0 < len(found) < len(rest)
    settle(page)
    assert page.evaluate("view.pointsDrawn") == len(rest)  # the others are dimmed
    page.select_option("#others", "hide")
    settle(page)
    assert page.evaluate("view.pointsDrawn") == len(found)
    assert page.locator("#count").text_content() == f"{len(found)} of 600 maps"
    until(page, "location.hash.includes('others=hide')")
    page.reload()
    assert page.locator("#years input").nth(1).input_value() == "2016"
    page.check("#modes input[value=mania]")  # which is not kept in the address
    assert shown() == expected(in_years, in_stars, QUERIES["camellia"])


def test_every_colour_has_a_legend(page_file: Path, open_page: Any, rows: list[Row]) -> None:
    page = open_page(page_file)
    limits = [0, 2.0, 2.7, 4.0, 5.3, 6.5, 8.0, np.inf]
    stars = [row["DifficultyRating"] for row in rows]
    for name in page.locator("#colour option").evaluate_all("all => all.map(each => each.value)"):
        page.select_option("#colour", name)
        labels = page.locator("#legend li bdi").all_text_contents()
        counts = [int(text) for text in page.locator("#legend li span").all_text_contents()]
        assert sum(counts) == ROWS and len(set(labels)) == len(labels), name
        swatches = page.locator("#legend i").evaluate_all(
            "all => all.map(each => getComputedStyle(each).backgroundColor)"
        )
        assert len(set(swatches)) == len(swatches), name
        if name == "difficulty":
            known = np.histogram([each for each in stars if each is not None], limits)[0]
            assert counts == [*(int(n) for n in known if n), stars.count(None)]
        if name == "creator":
            assert labels[-2:] == ["5 others", "unknown"]
    page.select_option("#colour", "cluster")
    page.select_option("#clusters", "4")
    assert page.locator("#legend li").count() == 4


def test_exported_rows_are_those_shown(page_file: Path, open_page: Any, rows: list[Row]) -> None:
    page = open_page(page_file, "#query=stars%3E5.5")
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename == "maps.parquet.csv"
    text = Path(download.value.path()).read_bytes().decode("utf-8-sig")
    exported = list(csv.DictReader(io.StringIO(text, newline="")))
    expected = [row for row in rows if (row["DifficultyRating"] or 0) > 5.5]
    assert [int(row["Id"]) for row in exported] == [row["Id"] for row in expected]
    for got, row in zip(exported, expected, strict=True):
        for name in ("Artist", "Title", "Creator", "RankedDate"):
            assert got[name] == (row[name] or "")
        assert float(got["DifficultyRating"]) == row["DifficultyRating"]


def test_the_keyboard_is_enough(page_file: Path, open_page: Any) -> None:
    page = open_page(page_file)
    page.keyboard.press("/")
    page.keyboard.type("song")
    page.keyboard.press("+")  # belongs to the search
    assert page.input_value("#query") == "song+" and page.evaluate("view.zoom") == 1
    page.keyboard.press("Backspace")
    page.locator("#matches button").nth(3).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("state.selected") == 3
    page.locator("#marks").focus()
    x = page.evaluate("view.x")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("view.zoom") == 1.25 and page.evaluate("view.x") > x
    page.keyboard.press("0")
    assert page.evaluate("view.zoom") == 1
    page.keyboard.press("Escape")
    assert page.evaluate("state.selected") == -1


def test_the_address_is_restored_and_not_trusted(page_file: Path, open_page: Any) -> None:
    page = open_page(page_file, "#selected=3&colour=year&clusters=5&count=7&query=stars%3E4&others=hide")
    assert page.input_value("#colour") == "year"
    assert page.input_value("#query") == "stars>4" and page.input_value("#others") == "hide"
    assert page.locator("#near li").count() == 7
    bad = "#selected=600&colour=__proto__&clusters=99&count=1e9&others=x&layout=-1&years=[1,[]]"
    page = open_page(page_file, f"{bad}&query=%3Cimg%20src%3Dx%3E")
    assert page.evaluate("[state.selected, state.colour, state.clusters, state.count, state.others]") == [
        -1, "cluster", 10, 10, "dim",
    ]  # fmt: skip
    assert page.locator("img").count() == 0


def test_dark_pages_have_dark_maps(page_file: Path, open_page: Any, until: Any) -> None:
    page = open_page(page_file)
    light = page.evaluate("[...view.background]")
    page.emulate_media(color_scheme="dark")
    until(page, f"view.background[0] !== {light[0]}")
    settle(page)
    corner = page.evaluate("[...view.context.getImageData(0, 0, 1, 1).data]")
    assert min(light[:3]) > 230 and max(corner[:3]) < 40


def test_narrow_windows_do_not_scroll_sideways(page_file: Path, open_page: Any) -> None:
    page = open_page(page_file, "#selected=3", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("view.points.clientHeight") > 400


def test_fifty_thousand_maps_are_pixels_and_not_elements(
    tmp_path: Path,
    write_embeddings: Any,
    make_maps: Any,
    open_page: Any,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cm3p.explore.clusters._MAX_ITERATIONS", 1)  # the groups do not matter here
    page = open_page(make_page(tmp_path, write_embeddings, *make_maps(50_000, 8)))
    assert page.evaluate("view.pointsDrawn") == 50_000
    settle(page)
    draws = page.evaluate("view.draws")
    page.evaluate("for (let i = 0; i < 25; i++) { view.pan(1, 1); view.zoomAt(1.001); }")
    settle(page)
    assert page.evaluate("view.draws") == draws + 1  # however much happens before a frame
    page.mouse.move(300, 300)
    page.mouse.move(310, 320)
    page.mouse.click(420, 400)
    page.select_option("#colour", "year")
    settle(page)
    assert page.evaluate("view.draws") <= draws + 2  # marks draw no points
    page.fill("#query", "stream")
    assert page.locator("#count").text_content() == "50,000 maps"
    assert page.evaluate("document.querySelectorAll('*').length") < 1000
    shared = "[view.positions.buffer === allPositions.buffer, colouring.codes.length]"
    assert page.evaluate(shared) == [True, 50_000]
    page.select_option("#colour", "cluster")
    assert page.evaluate("colouring.codes.buffer === allLabels.buffer")


def test_hostile_metadata_is_text(tmp_path: Path, write_embeddings: Any, open_page: Any) -> None:
    attack = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    texts = [
        attack,
        "<!--<script>",
        "\u202eevil\u2066\u2067",
        "y" * 1_000_000,
        "=1+1",
        "${alert(1)}$policy",
        ' @x\t,"\n',
    ]
    columns = {
        name: texts
        for name in (
            "Artist",
            "Title",
            "Version",
            "Creator",
            "Mode",
            "Status",
            "RankedDate",
            "Tags",
            "Source",
        )
    }
    columns["Id"] = [-1, 0, 3, 4, 5, 6, 7]
    page = open_page(
        make_page(tmp_path, write_embeddings, columns, np.eye(7), name=attack),
        "#selected=0",
        viewport={"width": 800, "height": 600},
    )
    assert page.title() == f"Map of maps: {attack}" and page.locator("h1").text_content() == attack
    for row in range(7):
        page.evaluate(f"select({row})")
        assert page.locator("#details a").count() == (row > 1)
    page.evaluate("select(0)")
    assert page.locator("#details dd").first.text_content() == "-1"
    assert page.locator("#details h2").text_content() == f"{attack} {DASH} {attack} [{attack}]"
    for colour in page.locator("#colour option").evaluate_all("all => all.map(each => each.value)"):
        page.select_option("#colour", colour)
    page.fill("#query", "x")
    page.mouse.move(300, 300)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, iframe, object, [onerror]").count() == 0
    assert page.locator("script").count() == 1  # the program; the data are freed
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    assert page.evaluate(
        "document.querySelector('aside').scrollWidth <= document.querySelector('aside').clientWidth"
    )
    assert page.locator("#details h2").bounding_box()["height"] < 150
    page.fill("#query", "")
    with page.expect_download() as download:
        page.click("#export")
    exported = list(
        csv.DictReader(io.StringIO(Path(download.value.path()).read_bytes().decode("utf-8-sig"), newline=""))
    )
    assert [row["Title"] for row in exported] == [
        attack, "<!--<script>", texts[2], "y" * 400 + "…", "'=1+1", "${alert(1)}$policy", "'@x ,\"",
    ]  # fmt: skip
    assert [row["Id"] for row in exported][:2] == ["-1", "0"]


def test_a_file_of_vectors_alone_is_a_map(tmp_path: Path, write_embeddings: Any, open_page: Any) -> None:
    page = open_page(make_page(tmp_path, write_embeddings, {}, np.ones((1, 4))), "#selected=0")
    assert page.locator("#details h2").text_content() == "Row 1"
    assert page.locator("#near li").count() == 0
    assert page.locator("#colour option").all_text_contents() == ["group", "none"]
    assert page.locator("#modes").is_hidden() and page.locator("#years").is_hidden()
