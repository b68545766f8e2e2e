"""Runs over folders: names of outputs, whose folder it is, and what becomes of each file."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest
import torch

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import InputError, UsageError
from pentatonic.folder_run import (
    OutputError,
    claim_folder,
    find_files,
    fingerprint,
    made_from,
    mirrored,
    refuse_other_settings,
    run_files,
    search_files,
    without_suffixes,
    write_json,
)


def touch(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [root / name for name in names]


def test_only_wanted_suffixes_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.xml", "b/c.MXL", "b/.d.xml", "notes.txt", ".e/f.xml")
    assert find_files([tmp_path], (".xml", ".mxl")) == [tmp_path / "a.xml", tmp_path / "b/c.MXL"]
    assert find_files([tmp_path, tmp_path / "notes.txt"], ()) == [tmp_path / "notes.txt"]


def test_what_a_search_passes_over_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.xml", "b/c.TXT", "b/d.txt", "b/e", "b/.f.txt", ".g/h.txt", "z.pdf")
    found = search_files([tmp_path, tmp_path / "b"], (".xml",))
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert search_files([tmp_path], (".xml",)) == found
    assert found.files == [tmp_path / "a.xml"]
    assert list(found.passed_over.items()) == [(".txt", 2), ("", 1), (".pdf", 1)]
    named = search_files([tmp_path, tmp_path / "z.pdf"], (".xml",))
    assert named.files == [tmp_path / "a.xml", tmp_path / "z.pdf"]
    assert named.passed_over == {".txt": 2, "": 1}
    assert search_files([tmp_path], (".xml",), recursive=False).passed_over == {".pdf": 1}


def test_folders_are_mirrored_below_what_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = touch(tmp_path, "x/m/a.wav", "y/m/a.wav")
    places = {one: PurePosixPath("x/m/a.wav"), other: PurePosixPath("y/m/a.wav")}
    assert mirrored([tmp_path / "x", tmp_path / "y"], [one, other]) == places
    assert mirrored([one, other], [one, other]) == places
    assert mirrored([one], [one]) == {one: PurePosixPath("a.wav")}
    monkeypatch.chdir(tmp_path / "y")
    relative = [Path("../x/m/a.wav"), Path("m/a.wav")]
    assert list(mirrored([Path("../x"), Path()], relative).values()) == list(places.values())
    assert mirrored([], []) == {}


def test_names_without_suffixes_do_not_collide(tmp_path: Path) -> None:
    files = touch(
        tmp_path, "song.xml", "song.mxl", "SONG.musicxml", "song.mxl.xml", "other.xml", "deep/song.xml"
    )
    places = without_suffixes(mirrored([tmp_path], files))
    assert {path.relative_to(tmp_path).as_posix(): str(place) for path, place in places.items()} == {
        "song.xml": "song.xml",
        "song.mxl": "song.mxl",
        "SONG.musicxml": "SONG.musicxml",
        "song.mxl.xml": "song.mxl.xml",
        "other.xml": "other",
        "deep/song.xml": "deep/song",
    }


def test_a_folder_belongs_to_one_kind_of_run(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.json"
    settings = {"layers": (1, 2), "model": "a", "sampling": {"top_k": 9, "seed": None}}
    claim_folder(file, settings, advice="choose another folder")
    write_json(file, {"settings": settings})
    before = file.read_bytes()
    claim_folder(file, settings, advice="choose another folder")
    other = settings | {"model": "b", "layers": [3], "sampling": {"top_k": 3, "seed": 0}}
    with pytest.raises(UsageError) as caught:
        claim_folder(file, other, advice="choose another folder")
    said = "layers [1, 2], not [3]; another model; top_k 9, not 3; no seed, now 0"
    assert str(caught.value) == f"{tmp_path / 'new'} was made with {said}; choose another folder"
    claim_folder(file, other, advice="choose another folder", overwrite=True)
    assert file.read_bytes() == before
    for text in ("[]", "{", '{"settings": 1}'):
        file.write_text(text)
        with pytest.raises(UsageError, match=r"run\.json was not written by this command; try"):
            claim_folder(file, settings, advice="try")


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file/out is not a folder that can be written: Not a directory"):
        claim_folder(tmp_path / "file" / "out" / "run.json", {}, advice="try")


def test_settings_that_are_not_asked_for_may_differ(tmp_path: Path) -> None:
    refuse_other_settings(tmp_path, {"a": 1, "b": 2}, {"a": 1}, advice="")
    with pytest.raises(UsageError, match="was made with no c, now 1"):
        refuse_other_settings(tmp_path, {"a": 1}, {"c": 1}, advice="")


def test_an_output_is_made_from_its_settings_and_its_source(tmp_path: Path) -> None:
    (source,) = touch(tmp_path, "a.wav")
    first = made_from({"b": 1, "a": 2}, source)
    assert made_from({"a": 2, "b": 1}, source) == first != made_from({"a": 2}, source)
    source.write_text("longer")
    assert made_from({"a": 2, "b": 1}, source) != first
    assert json.loads(first)["settings"] == {"a": 2, "b": 1}
    with pytest.raises(FileNotFoundError):
        made_from({}, tmp_path / "none")


def test_fingerprints() -> None:
    weights = {"w": torch.zeros(2), "v": torch.ones(1)}
    first = fingerprint({"depth": 1}, weights)
    assert fingerprint({"depth": 1}, dict(reversed(weights.items()))) == first
    for config, tensors in (
        ({"depth": 2}, weights),
        ({"depth": 1}, {**weights, "w": torch.zeros(2, dtype=torch.bfloat16)}),
        ({"depth": 1}, {**weights, "w": torch.zeros(1, 2)}),
        ({"depth": 1}, {**weights, "w": torch.tensor([0, 1e-9])}),
        ({"depth": 1}, {"w": torch.zeros(2)}),
    ):
        assert fingerprint(config, tensors) != first


def test_a_field_of_a_later_version_changes_no_fingerprint() -> None:
    field = dataclasses.field(default_factory=list)
    part = dataclasses.make_dataclass("Part", [("depth", int), ("clamp", "float | None", None)])
    old = dataclasses.make_dataclass("Config", [("part", part), ("layers", list, field)])
    new = dataclasses.make_dataclass("Config", [("part", part), ("layers", list, field), ("more", int, 3)])
    other = dataclasses.make_dataclass("Other", [("part", part)])
    first = fingerprint(old(part(1), [part(2)]), {})
    assert fingerprint(new(part(1), [part(2)]), {}) == first
    assert fingerprint(old(part(1, None), [part(2, None)]), {}) == first
    for config in (
        new(part(1), [part(2)], 4),
        old(part(1, 2.0), [part(2)]),
        old(part(1), [part(2, 2.0)]),
        old(part(1), []),
        other(part(1)),
    ):
        assert fingerprint(config, {}) != first
    assert fingerprint(other(part(1)), {}) != fingerprint(old(part(1), []), {})


# The driver


def read(source: Path) -> str:
    return source.read_text()


def upper(items: Sequence[str]) -> list[str]:
    if "bad" in items:
        raise InputError("this is bad")
    if "odd" in items:
        warnings.warn("a.txt: odd", stacklevel=1)
    return [item.upper() for item in items]


def write(result: str, target: Path) -> dict[str, object]:
    target.write_text(result)
    return {"characters": len(result)}


@pytest.fixture
def targets(tmp_path: Path) -> dict[Path, Path]:
    files = touch(tmp_path, "in/a", "in/b", "in/c", "in/d")
    for file in files:
        file.write_text(f"text {file.name}")
    files[1].write_text("bad")
    return {file: tmp_path / "out" / file.name / "x" for file in [*files, tmp_path / "in" / "none"]}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_bad_file_does_not_affect_the_others(targets: dict[Path, Path], workers: int) -> None:
    report = run_files(targets, read, upper, write, description="testing", workers=workers)
    assert [entry["status"] for entry in report.entries] == ["done", "failed", "done", "done", "failed"]
    assert (
        report.entries[0]["output"] == targets[next(iter(targets))] and report.entries[0]["characters"] == 6
    )
    assert (report.entries[1]["error"], report.entries[1]["reason"]) == ("InputError", "this is bad")
    assert report.entries[4]["error"] == "FileNotFoundError"
    written = [target for target in targets.values() if target.is_file()]
    assert [target.read_text() for target in written] == ["TEXT A", "TEXT C", "TEXT D"]


def test_what_is_done_is_skipped_and_not_read(targets: dict[Path, Path]) -> None:
    seen: list[str] = []

    def spy(source: Path) -> str:
        seen.append(source.name)
        return read(source)

    def is_done(source: Path, target: Path) -> bool:
        if source.name == "none":
            raise FileNotFoundError("gone")
        return source.name in "ab"

    report = run_files(targets, spy, upper, write, description="testing", is_done=is_done)
    assert [entry["status"] for entry in report.entries] == ["skipped", "skipped", "done", "done", "failed"]
    assert seen == ["c", "d"]


def test_warnings_are_in_the_report(tmp_path: Path) -> None:
    (source,) = touch(tmp_path, "a.txt")
    source.write_text("odd")

    def compute(items: Sequence[str]) -> list[str]:
        warnings.warn(f"{source}: strange", stacklevel=1)
        return upper(items)

    report = run_files({source: tmp_path / "out"}, read, compute, write, description="testing")
    assert report.entries[0]["warnings"] == ["strange", "a.txt: odd"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_the_run(targets: dict[Path, Path], workers: int) -> None:
    release = threading.Event()

    def compute(items: Sequence[str]) -> list[str]:
        if items == ["text c"]:
            raise KeyboardInterrupt
        if items == ["text d"]:
            release.wait(20)
        return upper(items)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_files(targets, read, compute, write, description="testing", workers=workers)
    assert time.monotonic() - started < 15  # it did not wait for the file in work
    release.set()
    assert targets[next(iter(targets))].is_file()


def test_other_errors_are_not_hidden(targets: dict[Path, Path]) -> None:
    with pytest.raises(ZeroDivisionError):
        run_files(targets, read, lambda items: [1 / 0 for _ in items], write, description="testing")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_the_first_output_that_cannot_be_written_ends_the_run(
    targets: dict[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int, workers: int
) -> None:
    computed: list[str] = []

    def compute(items: Sequence[str]) -> list[str]:
        computed.extend(items)
        return upper(items)

    def write_atomically(result: str, target: Path) -> dict[str, object]:
        with atomic_file(target, "w") as file:
            file.write(result)
            if result == "TEXT C":
                raise OSError(number, os.strerror(number))
        return {}

    last = list(targets)[-1]
    many = targets | {last.with_name(f"more {i}"): last.with_name(f"out {i}") for i in range(100)}
    for source in list(many)[len(targets) :]:
        source.write_text("more")
    with pytest.raises(
        OutputError, match=f"cannot write .*/out/c/x: {os.strerror(number)}; .* continues"
    ) as caught:
        run_files(many, read, compute, write_atomically, description="testing", workers=workers)
    found = [(Path(entry["path"]).name, entry["status"]) for entry in caught.value.report.entries]
    assert found == [("a", "done"), ("b", "failed")]
    assert workers > 1 or len(computed) < 30
    assert next(iter(many.values())).read_text() == "TEXT A"


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ENOTDIR])
def test_an_output_with_an_impossible_name_is_one_failure(targets: dict[Path, Path], number: int) -> None:
    def write_or_not(result: str, target: Path) -> dict[str, object]:
        if result == "TEXT C":
            raise OSError(number, os.strerror(number))
        return write(result, target)

    report = run_files(targets, read, upper, write_or_not, description="testing")
    assert [entry["status"] for entry in report.entries] == ["done", "failed", "failed", "done", "failed"]


@pytest.mark.parametrize(("number", "ends"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_full_disk_ends_the_run_in_any_stage(targets: dict[Path, Path], number: int, ends: bool) -> None:
    def compute(items: Sequence[str]) -> list[str]:
        if items == ["text c"]:
            raise OSError(number, os.strerror(number))
        return upper(items)

    if ends:
        with pytest.raises(OutputError, match=os.strerror(number)):
            run_files(targets, read, compute, write, description="testing")
    else:
        report = run_files(targets, read, compute, write, description="testing")
        assert [entry["status"] for entry in report.entries] == ["done", "failed", "failed", "done", "failed"]
