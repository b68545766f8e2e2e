"""Manifests: what comes back, what is refused, and where files may lie."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path

import pytest

from pentatonic.errors import FormatError, InputError
from rc_audioldm.data.manifest import (
    ManifestRow,
    place_under,
    read_manifest,
    root_for,
    write_manifest,
)
from rc_audioldm.json_lines import MOST_LINE_BYTES
from rc_audioldm.licences import known_licence, licence_name


def test_rows_come_back_in_their_order_with_what_else_they_hold(tmp_path: Path) -> None:
    rows = (
        ManifestRow(
            "b", "x/ü \u2028.wav", "here", "CC0 1.0", "a\nb", ("one", "two"), {"i": 3, "deep": {"a": [1.5]}}
        ),
        ManifestRow("a", "no\udcff.wav"),
    )
    write_manifest(tmp_path / "m.jsonl", rows)
    assert read_manifest(tmp_path / "m.jsonl").rows == rows
    assert (tmp_path / "m.jsonl").read_bytes().isascii()
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 2


def test_rows_of_the_original_and_of_an_editor_are_read(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    first = json.dumps({"id": 0, "path": str(tmp_path / "dev" / "100.wav")})
    file.write_bytes(
        b"\xef\xbb\xbf" + f"{first}\r\n\r\n".encode() + b'{"id": "1", "path": "a.wav", "licence": ""}'
    )
    rows = read_manifest(file).rows
    assert [(row.id, row.path, row.licence) for row in rows] == [
        ("0", "dev/100.wav", "unknown"),
        ("1", "a.wav", "unknown"),
    ]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("[1]", r"m\.jsonl:2: .*allowed: a JSON object"),
        ("{", "not JSON"),
        ('{"id": "a"}', "path is None"),
        ('{"id": "", "path": "x"}', "id is ''"),
        ('{"id": true, "path": "x"}', "id is True"),
        ('{"id": "a", "path": "/etc/passwd"}', "another root"),
        ('{"id": "a", "path": "../x.wav"}', r"without '\.\.'"),
        ('{"id": "a", "path": "x\\u0000.wav"}', "without"),
        ('{"id": "a", "path": "x", "labels": "piano"}', "labels is 'piano'; allowed: a list"),
        ('{"id": "a", "path": "x", "labels": [1]}', "labels is"),
        ('{"id": "a", "path": "x", "caption": 5}', "caption is 5"),
        ('{"id": "a", "path": "x", "gain": NaN}', "finite"),
        ('{"id": "first", "path": "x"}', "on line 1 too"),
        ('{"id": "a", "path": "x", "more": ' + "[" * 5000 + "]" * 5000 + "}", "not JSON|finite"),
        ('{"id": "' + "x" * MOST_LINE_BYTES + '"}', "the longest line allowed"),
        (b'{"id": "a", "path": "\xff"}', "not UTF-8"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str | bytes, named: str) -> None:
    file = tmp_path / "m.jsonl"
    content = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(b'{"id": "first", "path": "a.wav"}\n' + content + b"\n")
    with pytest.raises(FormatError, match=named) as caught:
        read_manifest(file)
    assert "m.jsonl:2" in str(caught.value)


def test_a_manifest_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_manifest(path)


def test_links_may_not_lead_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.wav").touch()
    (tmp_path / "root" / "link.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "root" / "loop.wav").symlink_to("loop.wav")
    write_manifest(
        tmp_path / "root" / "m.jsonl", [ManifestRow(x, f"{x}.wav") for x in ("link", "loop", "fine")]
    )
    manifest = read_manifest(tmp_path / "root" / "m.jsonl")
    assert manifest.file(manifest.rows[2]) == tmp_path / "root" / "fine.wav"
    for row in manifest.rows[:2]:
        with pytest.raises(InputError, match=f"row '{row.id}'"):
            manifest.file(row)


def test_nothing_is_written_if_an_id_comes_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two rows have the id 'a'"):
        write_manifest(tmp_path / "m.jsonl", [ManifestRow("a", "1"), ManifestRow("a", "2")])
    assert list(tmp_path.iterdir()) == []


def test_roots_of_new_manifests(tmp_path: Path) -> None:
    data, other = tmp_path / "data" / "a", tmp_path / "other"
    assert root_for(tmp_path / "m.jsonl", [data, other]) == tmp_path
    assert root_for(other / "m.jsonl", [data]) == data
    assert place_under(tmp_path, data / "x.wav") == "data/a/x.wav"
    with pytest.raises(InputError, match="not in"):
        place_under(other, data / "x.wav")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://creativecommons.org/licenses/by/3.0/", "CC BY 3.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode", "CC BY-NC-SA 4.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0"),
        ("http://creativecommons.org/licenses/sampling+/1.0/", "CC Sampling+ 1.0"),
        ("https://creativecommons.org/licenses/nc-sampling+/1.0/", "CC NC-Sampling+ 1.0"),
        ("cc by-nc 4.0", "CC BY-NC 4.0"),
        ("CC-BY-SA-3.0", "CC BY-SA 3.0"),
        ("cc0", "CC0 1.0"),
        ("MIT", "MIT"),
        ("", "unknown"),
        (" N/A ", "unknown"),
        (None, "unknown"),
    ],
)
def test_names_of_licences(text: str | None, name: str) -> None:
    assert licence_name(text) == name
    assert licence_name(name) == name


def test_words_that_only_begin_like_a_licence() -> None:
    assert known_licence("accompanied by strings") is None
    assert known_licence("creativecommons.org/licenses/byte/1.0") is None


def test_mutated_manifests_are_read_or_refused_with_a_typed_error(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    write_manifest(
        file, [ManifestRow(str(i), f"{i}.wav", "s", "CC0", "c", ("l",), {"n": i}) for i in range(3)]
    )
    good = file.read_bytes()
    rng = random.Random(0)
    outcomes = set()
    for _ in range(500):
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(content))
            content[place : place + rng.randint(0, 3)] = rng.choice(
                [b"\xff", b'"', b"[", b"}", b"\n", b"9", b"\\ud800", b""]
            )
        file.write_bytes(bytes(content))
        try:
            manifest = read_manifest(file)
        except FormatError:
            outcomes.add("refused")
        else:
            outcomes.add("read")
            for row in manifest:
                with suppress(InputError):
                    assert manifest.file(row).is_relative_to(tmp_path)
    assert outcomes == {"read", "refused"}
