"""Reading a map, turning it into events and these into tokens, compared with the original's way.

    python benchmarks/cm3p_parse.py --map song.osu

- ours: `read_beatmap`, `CM3PBeatmapParser` and `CM3PBeatmapTokenizer` with the options of experiment v7
- original: the same re-created from its behaviour (`cm3p_original/reading.py`): timing points are found by linear
  scans, tokens are looked up as texts; both give equal ids, which is checked. The aim is at least 4x in all
- native parsers: `osu-native-py` is the game's own decoder, `rosu-pp-py` a port of it. Both only read, and fewer
  things. They are measured where they are installed. The aim is to read no slower than the game

The map is one of 1,378 objects that is made here, or the given one. Times are processor time on one thread, the least
of the rounds: other programs can only add to them. Ratios are of the least times. Files are read from the page cache.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cm3p_original.maps import generated_map
from cm3p_original.reading import Map, TextTokenizer, events_of
from machine import markdown_table, write_results

from cm3p.beatmap import read_beatmap
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer

ROUNDS = 40


def least_ms(work: Callable[[], object], rounds: int) -> float:
    """Least processor time of one call, in ms."""
    times = []
    for _ in range(rounds):
        start_s = time.process_time()
        work()
        times.append(time.process_time() - start_s)
    return 1000 * min(times)


def stages(path: Path, rounds: int) -> list[dict[str, Any]]:
    """Times of each stage, ours and the original's."""
    parser = CM3PBeatmapParser(add_snapping=False, add_distances=False)
    tokenizer = CM3PBeatmapTokenizer(max_time=16_000, add_cls_token=True, separate_new_combo_token=False)
    beatmap, original = read_beatmap(path), Map(path.read_text("utf-8-sig"))
    groups, events = parser.parse_beatmap(beatmap), events_of(original)
    ids, texts = tokenizer.encode(groups), TextTokenizer(tokenizer)
    if texts.ids_of(events) != ids:
        raise SystemExit("the tokens differ from those of the original's way")
    work = {
        f"read {len(beatmap.hit_objects)} objects": (
            lambda: read_beatmap(path),
            lambda: Map(path.read_text("utf-8-sig")),
        ),
        # A fresh map each time: the original keeps the ends of curves.
        f"to {len(groups)} events": (
            lambda: parser.parse_beatmap(beatmap),
            lambda: events_of(_fresh(original)),
        ),
        f"to {len(ids)} tokens": (lambda: tokenizer.encode(groups), lambda: texts.ids_of(events)),
    }
    rows = []
    for name, (ours, theirs) in work.items():
        rows.append(_row(name, least_ms(ours, rounds), least_ms(theirs, rounds)))
    rows.append(
        _row("all", *(sum(row[column] for row in rows) for column in ("ours, ms", "original's way, ms")))
    )
    return rows


def _fresh(beatmap: Map) -> Map:
    for item in beatmap.hit_objects:
        vars(item).pop("curve_end", None)
    return beatmap


def _row(name: str, ours_ms: float, theirs_ms: float) -> dict[str, Any]:
    return {
        "stage": name,
        "ours, ms": ours_ms,
        "original's way, ms": theirs_ms,
        "original / ours": theirs_ms / ours_ms,
    }


def native_parsers(path: Path, rounds: int) -> list[dict[str, Any]]:
    """Times of parsers in other languages, as far as they can be imported."""
    readers: dict[str, tuple[str, Callable[[Any], object]]] = {
        "osu-native-py, from a file": (
            "osu_native_py.wrapper.objects",
            lambda module: module.Beatmap.from_file(str(path)),
        ),
        "rosu-pp-py, from a file": ("rosu_pp_py", lambda module: module.Beatmap(path=str(path))),
    }
    ours_ms = least_ms(lambda: read_beatmap(path), rounds)
    rows: list[dict[str, Any]] = [{"reader": "ours", "ms": ours_ms, "ours / this": 1.0}]
    for name, (module_name, read) in readers.items():
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            print(f"{name}: not measured, {error}")
            continue
        native_ms = least_ms(partial(read, module), rounds)
        rows.append({"reader": name, "ms": native_ms, "ours / this": ours_ms / native_ms})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--map", type=Path, help="a map of the osu! ruleset")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.map
        if path is None:
            path = Path(folder) / "generated.osu"
            path.write_text(generated_map(0), encoding="utf-8")
        rows, native = stages(path, arguments.rounds), native_parsers(path, arguments.rounds)
        size = path.stat().st_size
    print(f"{size} bytes", markdown_table(rows), markdown_table(native), sep="\n\n")
    given = " --map MAP" if arguments.map else ""
    command = f"python benchmarks/cm3p_parse.py{given} --rounds {arguments.rounds}"
    tables = {f"readers of {size} bytes": native}
    subject = "cm3p_parse_real" if arguments.map else "cm3p_parse"
    print(f"\nwritten: {write_results(subject, rows, command=command, tables=tables)}")


if __name__ == "__main__":
    main()
