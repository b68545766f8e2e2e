"""Plain folders of clips: licences from a table, from tags, or from nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pentatonic.errors import FormatError, InputError
from rc_audioldm.data.folders import licence_of_tags, manifest_of_folder


def write(path: Path, **tags: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for name, text in tags.items():
            setattr(file, name, text)
        file.write(np.zeros(100))


def test_a_table_counts_before_tags_and_these_before_the_default(tmp_path: Path) -> None:
    write(
        tmp_path / "clips" / "a.flac",
        license="http://creativecommons.org/licenses/by/4.0/",
        artist="Ann",
        genre="jazz",
    )
    write(tmp_path / "clips" / "b.wav", comment="released under CC0", title="A\u0007 b")
    write(tmp_path / "clips" / "sub" / "c.wav")
    (tmp_path / "clips" / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "clips" / "d.m4a").write_bytes(b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42\0\0\0\0")
    (tmp_path / "licences.csv").write_text(
        'File,License,Tags\nclips/b.wav,CC-BY-NC 3.0,"piano; slow"\nC.WAV,,strings\n'
    )
    rows, report = manifest_of_folder(
        tmp_path / "clips", tmp_path, table=tmp_path / "licences.csv", licence="MIT", source="a friend"
    )
    found = {row.path: (row.licence, row.source, row.labels) for row in rows}
    assert found == {
        "clips/a.flac": ("CC BY 4.0", "Ann", ("jazz",)),
        "clips/b.wav": ("CC BY-NC 3.0", "a friend", ("piano", "slow")),
        "clips/sub/c.wav": ("MIT", "a friend", ("strings",)),
        "clips/d.m4a": ("MIT", "a friend", ()),
    }
    assert [entry["path"] for entry in report.entries if entry["status"] == "failed"] == ["clips/broken.wav"]
    assert next(row.caption for row in rows if row.path == "clips/b.wav").isprintable()
    plain, _ = manifest_of_folder(tmp_path / "clips" / "sub", tmp_path / "clips" / "sub")
    assert [(row.id, row.licence, row.source) for row in plain] == [("c.wav", "unknown", "")]


@pytest.mark.parametrize(
    ("license", "copyright", "comment", "expected"),
    [
        ("", "(c) 2020 Ann", "", ""),
        ("", "(c) Ann, CC BY-SA 4.0", "", "CC BY-SA 4.0"),
        ("All rights reserved", "", "", "All rights reserved"),
        ("see comment", "", "https://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0"),
        ("unknown", "", "", ""),
    ],
)
def test_licences_in_tags(license: str, copyright: str, comment: str, expected: str) -> None:
    assert licence_of_tags(license, copyright, comment) == expected


def test_folders_and_tables_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio files"):
        manifest_of_folder(tmp_path, tmp_path)
    write(tmp_path / "a.wav")
    table = tmp_path / "t.csv"
    for text, named in (
        ("licence\nCC0\n", "no column for files"),
        ("path,licence\nb.wav,CC0\n", "names no file"),
        ("", "empty"),
    ):
        table.write_text(text)
        with pytest.raises(FormatError, match=named):
            manifest_of_folder(tmp_path, tmp_path, table=table)
