"""Scanning folders of music into an index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from myna_rpe.embed import compute_embeddings
from myna_rpe.library import scan as scan_module
from myna_rpe.library.commands import app
from myna_rpe.library.index import Generation, IndexSettings
from myna_rpe.library.library import Library
from myna_rpe.library.scan import ScanResult, header_of, scan
from myna_rpe.whole_tracks import TrackOptions
from pentatonic.cli import Interrupted, PartialFailure
from pentatonic.errors import IncompatibleVectors, InputError, RunFolderInUse, UsageError
from pentatonic.processes.run_lock import LOCK_FILE


@pytest.fixture
def music(tmp_path: Path, sounds: SimpleNamespace) -> Path:
    folder = tmp_path / "music"
    for seed, name in enumerate(("a/one.flac", "a/two.flac", "b/three.flac", "b/four.flac")):
        sounds.write(folder / name, sounds.piece(seed, 10.5), title=Path(name).stem)
    return folder


@pytest.fixture
def rescan(music: Path, tmp_path: Path, sounds: SimpleNamespace) -> Any:
    """``rescan(seed=0, **options)`` scans with the small model of that seed."""

    def run(seed: int = 0, **options: Any) -> ScanResult:
        return scan(sounds.small_model(seed), tmp_path / "index", [music], **options)

    return run


def test_a_first_scan_has_every_file_or_says_why(scanned: SimpleNamespace) -> None:
    result = scanned.result
    assert (result.new, result.complete) == (16, True)
    assert result.report.counts == {"done": 16, "skipped": 0, "failed": 1}
    library = scanned.library
    assert len(library.tracks) == 16
    assert len(library.vectors) == 13
    flags = {track.path.name: track.flags for track in library.tracks if track.flags}
    assert {name: text[0].split()[0] for name, text in flags.items()} == {
        "silent.wav": "quiet",
        "quiet.wav": "quiet",
        "short.wav": "short",
    }
    (failure,) = library.failures.items()
    assert failure[0] == str(scanned.music / "broken.ogg")
    assert "Ogg" in failure[1].reason
    piece = library.find("Piece 5")
    assert (piece.artist, piece.album, piece.title) == ("Artist 1", "Album 5", "Piece 5")
    assert piece.duration_s == pytest.approx(12.0, abs=0.1)


def test_unchanged_files_are_not_read(rescan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rescan().new == 4
    monkeypatch.setattr(scan_module, "_content_hash", lambda path: pytest.fail(f"{path} was read"))
    again = rescan()
    assert again.report.counts == {"done": 0, "skipped": 4, "failed": 0}


def test_files_move_change_and_go(rescan: Any, music: Path, tmp_path: Path, sounds: SimpleNamespace) -> None:
    rescan()
    before = {track.title: track.id for track in Library.open(tmp_path / "index").tracks}
    (music / "c").mkdir()
    (music / "a/one.flac").rename(music / "c/renamed.flac")
    (music / "a/two.flac").unlink()
    sounds.write(music / "b/three.flac", sounds.piece(9, 10.5), title="other")
    result = rescan()
    assert (result.new, result.moved) == (1, 1)
    assert [Path(path).name for path in result.dropped] == ["one.flac", "two.flac"]
    library = Library.open(tmp_path / "index")
    after = {track.title: track.id for track in library.tracks}
    assert sorted(after) == ["four", "one", "other"]
    assert after["one"] == before["one"]
    assert library.find("one").path == music / "c/renamed.flac"


def test_a_copy_is_one_track_with_two_files(rescan: Any, music: Path, tmp_path: Path) -> None:
    (music / "copy.flac").write_bytes((music / "a/one.flac").read_bytes())
    rescan()
    library = Library.open(tmp_path / "index")
    assert len(library.tracks) == 4
    assert library.find("one").copies == (music / "copy.flac",)
    assert library.at_path(music / "copy.flac") is library.find("one")


def test_only_one_folder_is_looked_at(rescan: Any, music: Path, tmp_path: Path) -> None:
    assert rescan(only=Path("b")).new == 2
    (music / "b/four.flac").unlink()
    assert rescan(only=music / "a").new == 2
    assert len(Library.open(tmp_path / "index").tracks) == 4
    assert rescan(only=Path("b")).dropped == [str(music / "b/four.flac")]
    with pytest.raises(UsageError, match="is no folder below"):
        rescan(only=tmp_path)


def test_a_stopped_scan_goes_on(rescan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    def counted(tracks: Any, **options: Any) -> Any:
        if interrupting and len(done) == 2:
            raise KeyboardInterrupt
        done.extend(tracks)
        return compute_embeddings(tracks, **options)

    monkeypatch.setattr(scan_module, "compute_embeddings", counted)
    interrupting = False
    stopped = rescan(max_minutes=0)
    assert (stopped.stopped, stopped.complete) == (True, False)
    assert len(Library.open(tmp_path / "index").tracks) == stopped.new == 1
    interrupting = True
    for _ in range(2):  # Ctrl-C is no death of the program at a file
        with pytest.raises(Interrupted):
            rescan()
    assert Library.open(tmp_path / "index").unfinished
    interrupting = False
    assert rescan().complete
    assert len(Library.open(tmp_path / "index").tracks) == 4
    assert sorted(track.source.stem for track in done) == ["four", "one", "three", "two"]


def die_in(work: Callable[[], object]) -> None:
    """Run work in a process of its own, and see that it is killed there."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def die(index: Path, mark: bytes, count: int, patience_s: float = 120.0) -> None:
    """Kill this process without a word, once the journal of a scan has so many lines of a kind."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        journal = next(index.glob("vectors-*/journal.jsonl"), None)
        if journal is not None and journal.read_bytes().count(mark) >= count:
            break
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_scan_goes_on(rescan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    done: list[Any] = []

    def killing(tracks: Any, **options: Any) -> Any:
        if len(done) >= 2:
            die(index, b'"tags"', len(done))
        done.extend(tracks)
        return compute_embeddings(tracks, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scan_module, "compute_embeddings", killing)
        die_in(rescan)
    journal = next(index.glob("vectors-*/journal.jsonl"))
    kept = journal.read_bytes().count(b'"tags"')
    with journal.open("ab") as file:
        file.write(b'{"path": "cut o')
    with pytest.raises(InputError, match="scan a folder of music first"):
        Library.open(index)
    result = rescan()
    assert kept >= 2
    assert result.new == 4 - kept
    assert len(Library.open(index).tracks) == 4


def test_a_file_that_kills_the_program_twice_has_failed(
    rescan: Any, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, deadly = tmp_path / "index", music / "b/four.flac"

    def killing(tracks: Any, **options: Any) -> Any:
        if any(track.source == deadly for track in tracks):
            die(index, b'"begun"', *after)
        return compute_embeddings(tracks, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scan_module, "compute_embeddings", killing)
        after = (4, 120.0)  # three.flac is read ahead
        die_in(rescan)
        after = (6, 0.5)  # but not beside a file that is suspected
        die_in(rescan)
        result = rescan()
    failed = [entry for entry in result.report.entries if entry["status"] == "failed"]
    assert [(entry["path"], entry["reason"]) for entry in failed] == [
        (str(deadly), "the program died, or was killed, twice at this file")
    ]
    library = Library.open(index)
    assert sorted(track.title for track in library.tracks) == ["one", "three", "two"]
    assert list(library.failures) == [str(deadly)]
    again = rescan()
    assert (again.new, again.report.exit_code) == (0, 0)
    assert rescan(retry=True).new == 1


def test_a_failure_is_tried_again_only_when_asked(rescan: Any, music: Path, tmp_path: Path) -> None:
    (music / "bad.mp3").write_bytes(b"ID3 is not enough" * 50)
    first = rescan()
    assert first.report.exit_code == 3
    again = rescan()
    assert again.report.exit_code == 0
    reasons = {Path(e["path"]).name: e["reason"] for e in again.report.entries}
    assert reasons["bad.mp3"].startswith("failed before: ")
    assert rescan(retry=True).report.count("failed") == 1
    (music / "bad.mp3").rename(music / "still bad.mp3")
    assert rescan().report.count("failed") == 1, "a new name is tried once"
    (music / "still bad.mp3").unlink()
    rescan()
    assert not Library.open(tmp_path / "index").failures


def test_a_crash_of_the_decoder_costs_one_file(
    rescan: Any, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pentatonic.audio import DecodingProcess

    stream = DecodingProcess.stream

    def crashing(self: DecodingProcess, path: Path, **options: Any) -> Any:
        self._child._stop()
        self._child.function = "os:abort" if path.name == "two.flac" else "pentatonic.audio.decoder:decode"
        return stream(self, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(DecodingProcess, "stream", crashing)
        result = rescan()
    assert result.new == 3
    library = Library.open(tmp_path / "index")
    assert list(library.failures) == [str(music / "a/two.flac")]
    assert "the decoder ended" in library.failures[str(music / "a/two.flac")].reason
    assert rescan().new == 0
    assert rescan(retry=True).new == 1


def test_a_vector_that_means_nothing_is_a_failure(
    rescan: Any, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(tracks: Any, **options: Any) -> Any:
        found = compute_embeddings(tracks, **options)
        names = [track.source.name for track in tracks]
        for name, each in zip(names, found, strict=True):
            each.vector.mul_({"one.flac": float("nan"), "two.flac": 0.0}.get(name, 1.0))
        return found

    monkeypatch.setattr(scan_module, "compute_embeddings", spoiled)
    assert rescan().report.count("failed") == 2
    library = Library.open(tmp_path / "index")
    assert len(library.vectors) == 2
    assert {Path(path).name for path in library.failures} == {"one.flac", "two.flac"}


def test_vectors_of_two_models_never_mix(
    rescan: Any, tmp_path: Path, sounds: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    rescan()
    index = tmp_path / "index"
    old = Library.open(index)
    other = sounds.small_model(1)
    with pytest.raises(IncompatibleVectors, match="model_hash"):
        Library.open(index, header_of(other, TrackOptions().resolved(other.config)))
    capsys.readouterr()
    partly = rescan(1, max_minutes=0)
    assert not partly.complete
    assert "cannot be mixed" in capsys.readouterr().err
    assert Library.open(index).header == old.header
    assert rescan(1).complete
    new = Library.open(index)
    assert new.header.model_hash != old.header.model_hash
    assert {track.id for track in new.tracks} == {track.id for track in old.tracks}
    assert len(list(index.glob("vectors-*"))) == 1
    generation = index / IndexSettings.load(index).current
    with pytest.raises(IncompatibleVectors):
        Generation.load(generation, old.header)


def test_a_missing_drive_loses_nothing(rescan: Any, music: Path, tmp_path: Path) -> None:
    rescan()
    music.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a drive or a share is missing"):
        rescan()
    music.mkdir()
    with pytest.raises(UsageError, match="a drive or a share is missing"):
        rescan()
    assert len(Library.open(tmp_path / "index").tracks) == 4


def test_an_update_goes_on_without_a_missing_folder(
    music: Path, tmp_path: Path, sounds: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, drive, away = tmp_path / "index", music / "b", tmp_path / "away"
    folders = [music / "a", drive]
    scan(sounds.small_model(), index, folders)
    monkeypatch.setattr("myna_rpe.weights.from_pretrained", lambda name, **options: sounds.small_model())
    drive.rename(away)
    (music / "a/two.flac").unlink()

    def update(*options: str) -> Any:
        result = CliRunner().invoke(app, ["update", "--index", str(index), "--json", *options])
        assert isinstance(result.exception, PartialFailure), (result.output, result.exception)
        return json.loads(result.stdout)

    planned = update("--dry-run")
    assert planned["forget"] == [str(music / "a/two.flac")]
    assert list(planned["missing"]) == [str(drive)]
    done = update()
    assert done["gone"] == [str(music / "a/two.flac")]
    (failed,) = (entry for entry in done["inputs"] if entry["status"] == "failed")
    assert failed["path"] == str(drive)
    assert failed["reason"].startswith("is no folder; where a drive or a share is missing")
    assert sorted(track.title for track in Library.open(index).tracks) == ["four", "one", "three"]

    drive.mkdir()  # where the drive is mounted, also below another folder of the library
    around = scan(sounds.small_model(), index, [music, *folders])
    assert (around.dropped, around.report.exit_code) == ([], 3)
    header = Library.open(index).header
    assert not scan(sounds.small_model(1), index, [music / "a"]).complete
    assert Library.open(index).header == header
    drive.rmdir()
    away.rename(drive)
    assert scan(sounds.small_model(1), index, folders).complete
    assert len(Library.open(index).tracks) == 3


def test_one_scan_at_a_time(rescan: Any, tmp_path: Path, sounds: SimpleNamespace) -> None:
    hold = "import fcntl, sys\nfile = open(sys.argv[1], 'a+')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
    hold += "print(flush=True)\nsys.stdin.read()"
    (tmp_path / "index").mkdir()
    command = [sys.executable, "-P", "-c", hold, tmp_path / "index" / LOCK_FILE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RunFolderInUse, match="wait until that scan has ended"):
            rescan()
        process.communicate(b"")
    assert rescan().complete


def test_names_that_are_not_utf8(rescan: Any, music: Path, tmp_path: Path, sounds: SimpleNamespace) -> None:
    name = os.fsdecode(b"caf\xe9 \x1b[31m\n.flac")
    (music / "a/one.flac").rename(music / name)
    rescan()
    library = Library.open(tmp_path / "index")
    track = library.find("one")
    assert track.path == music / name
    assert library.find(music / name) is track
    assert rescan().new == 0


def test_a_damaged_index_is_named(rescan: Any, tmp_path: Path) -> None:
    rescan()
    index = tmp_path / "index"
    current = index / IndexSettings.load(index).current
    files = json.loads((current / "files.json").read_text())
    files["files"] = [1]
    (current / "files.json").write_text(json.dumps(files))
    with pytest.raises(InputError, match=r"files\.json: is not the list of files"):
        Library.open(index)
    (index / "index.json").write_text('{"version": 1, "folders": [], "model": "", "current": "../x"}')
    with pytest.raises(InputError, match="no folder of vectors"):
        Library.open(index)


def test_pairs_are_compared_once(
    rescan: Any, music: Path, sounds: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[object] = []

    def spy(a: Any, b: Any) -> float:
        compared.append((a, b))
        return 0.5

    monkeypatch.setattr("myna_rpe.library.duplicates.match", spy)
    first = rescan().new
    assert len(compared) == first * (first - 1) // 2  # so few that all are neighbours
    compared.clear()
    sounds.write(music / "a" / "new.flac", sounds.piece(77))
    assert rescan().new == 1 and len(compared) == first
