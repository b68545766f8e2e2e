"""``cm3p inspect``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cm3p.commands.options import MAX_WINDOWS, MaxWindows, Revision
from pentatonic.cli import JsonFlag, check_inputs, make_output_place, show
from pentatonic.errors import InputError, UsageError

if TYPE_CHECKING:
    from cm3p.beatmap import MapEntry
    from cm3p.inspection.describe import Window

_WARNINGS_SHOWN = 20
_PICTURES = (".png", ".svg")


def inspect_command(
    path: Annotated[Path, typer.Argument(metavar="MAP", help="A map (.osu), or an archive (.osz) of maps.")],
    difficulty: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Which map of an archive: a part of its name.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show the tokens of each event.")] = False,
    window: Annotated[int | None, typer.Option(min=0, help="Only this window, counted from 0.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the map, or the window, as .png or .svg (extra report)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Show what this model sees.", show_default="settings of v7"),
    ] = None,
    revision: Revision = None,
    max_windows: MaxWindows = MAX_WINDOWS,
    as_json: JsonFlag = False,
) -> None:
    """Show what the reader finds in a map, its windows and their tokens, and draw it."""
    check_inputs([path])
    if picture is not None:
        if picture.suffix.lower() not in _PICTURES:
            raise UsageError(f"--picture is {picture}; allowed: a name that ends in .png or .svg")
        make_output_place(picture, "--picture", inputs=[path])
    from cm3p.inspection.defaults import get_processor
    from cm3p.inspection.describe import describe_map, windows_of

    entry = _entry(path, difficulty)
    processor = get_processor(model, revision)
    windows = windows_of(entry, processor, max_windows)
    if window is not None:
        if window >= len(windows):
            raise UsageError(
                f"--window is {window}; allowed: 0 to {len(windows) - 1}, as the map has {len(windows)}"
            )
        windows = [windows[window]]
    about = describe_map(entry)
    if picture is not None:
        from cm3p.inspection.pictures import draw_map

        window_s = processor.default_kwargs["beatmap_kwargs"]["window_length_sec"]
        start_s = None if window is None else windows[0].start_s
        assert entry.beatmap is not None
        name = entry.member or entry.path.name
        draw_map(entry.beatmap, picture, name=name, start_s=start_s, length_s=window_s)
        print(picture, file=sys.stderr)
    result = about | {"windows": [_window_json(each, with_tokens=tokens) for each in windows]}
    show(result, as_json, lambda: [*_lines(about), *_window_lines(windows, with_tokens=tokens)])


def _entry(path: Path, difficulty: str | None) -> MapEntry:
    from cm3p.beatmap import find_maps

    entries = list(find_maps(path))
    if difficulty is not None:
        entries = [each for each in entries if difficulty.lower() in each.where.lower()]
    if len(entries) != 1:
        names = ", ".join(repr(each.member or each.path.name) for each in entries[:20])
        raise InputError(
            f"{path}: there are {len(entries)} maps, --difficulty chooses one: {names or 'none fits'}"
        )
    if entries[0].error is not None:
        raise entries[0].error
    return entries[0]


def _window_json(window: Window, *, with_tokens: bool) -> dict[str, Any]:
    about: dict[str, Any] = {
        "number": window.number,
        "start_s": window.start_s,
        "events": len(window.events),
        "tokens": window.length,
        "cut": window.cut,
    }
    return about | {"groups": window.events} if with_tokens else about


def _lines(about: dict[str, Any]) -> list[str]:
    def number(value: float | None) -> str:
        return "?" if value is None else f"{value:.10g}"

    objects = ", ".join(f"{count} {name}" for name, count in about["objects"].items()) or "none"
    lines = [
        f"{about['artist'] or '?'} - {about['title'] or '?'} [{about['version'] or '?'}] by {about['creator'] or '?'}",
        f"mode          {about['mode']}, format v{about['format']}, id {about['id']}, set {about['set_id']}",
        f"objects       {objects}; highest combo {about['max_combo'] if about['max_combo'] is not None else '?'}",
        f"timing        {about['timing_points']} points, first tempo {number(about['bpm'])} BPM, "
        f"{about['length_s']:.1f} s",
        f"difficulty    HP {number(about['hp'])}, CS {number(about['cs'])}, OD {number(about['od'])}, "
        f"AR {number(about['ar'])}",
        f"audio         {about['audio'] or 'none'}"
        + (f" ({about['audio_note']})" if about["audio_note"] else ""),
    ]
    warnings = about["warnings"]
    lines.append(f"warnings      {len(warnings)}")
    for each in warnings[:_WARNINGS_SHOWN]:
        where = f"line {each['line']}, column {each['column']}: " if each["line"] else ""
        lines.append(f"    {where}{each['message']}" + (f": {each['text']!r}" if each["text"] else ""))
    if len(warnings) > _WARNINGS_SHOWN:
        lines.append(f"    ... {len(warnings) - _WARNINGS_SHOWN} more (--json has all)")
    return lines


def _window_lines(windows: list[Window], *, with_tokens: bool) -> list[str]:
    lines = [f"windows       {len(windows)}"]
    for each in windows:
        cut = f", of which the last {each.cut} are cut off" if each.cut else ""
        lines.append(
            f"    {each.number:>4}  from {each.start_s:7.1f} s  {len(each.events):>5} events  "
            f"{each.length:>5} tokens{cut}"
        )
        if with_tokens:
            lines += [f"          {event.time_ms:>8} ms  {' '.join(event.tokens)}" for event in each.events]
    return lines
