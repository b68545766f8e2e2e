"""The reading side of a library: finding, neighbours, ways, near-duplicates, hubs, and the commands."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from typer.testing import CliRunner

from myna_rpe.frontend import Frontend
from myna_rpe.library.choosing import Limits, choose
from myna_rpe.library.commands import app
from myna_rpe.library.duplicates import calibrated, find_groups
from myna_rpe.library.fingerprint import fingerprint, match
from myna_rpe.library.hubs import hub_measures, mean_distances, unit_vectors
from myna_rpe.library.library import Library, LibraryTrack
from pentatonic.errors import InputError, UsageError
from pentatonic.search import top_k


def track(
    number: int, *, artist: str | None = None, album: str | None = None, group: str | None = None
) -> LibraryTrack:
    path = Path(f"/music/{number}.flac")
    return LibraryTrack(f"id{number}", path, f"t{number}", artist, album, None, None, 100.0, (), group)


def names(library: Library, ids: list[str], **options: Any) -> list[str]:
    return [each.track.title for each in library.similar(ids, **options)]


def test_tracks_are_found_by_id_path_and_words(scanned: SimpleNamespace) -> None:
    library = scanned.library
    seven = library.find("piece 7")
    assert library.find(seven.id) is seven
    assert library.find(scanned.music / "07.ogg") is seven
    assert library.find("ARTIST 3 - Piece 7") is seven
    assert library.get(seven.id) is seven
    assert library.get("nothing") is None
    with pytest.raises(InputError, match=r"'Artist 2': 4 tracks fit.*Piece 10"):
        library.find("Artist 2")
    with pytest.raises(InputError, match="no track of the library"):
        library.find("Beethoven")
    assert [each.title for each in library.search("ÁLBUM 5 artist 3")] == ["Piece 11"]
    assert len(library.search("", 100)) == 16
    assert library.search("", 3, 2) == library.search("", 5)[2:]


def test_neighbours_leave_out_seeds_duplicates_and_what_cannot_be_compared(scanned: SimpleNamespace) -> None:
    library = scanned.library
    zero, late = library.find("Piece 0"), library.find("Piece 0 (late)")
    assert zero.group == late.group == min(zero.id, late.id)
    found = library.similar([zero.id], 100)
    assert {each.track.title for each in found} == {f"Piece {n}" for n in range(1, 12)}
    values = [each.similarity for each in found]
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)
    others = names(library, [library.find("Piece 3").id], count=100)
    assert sum(name.startswith("Piece 0") for name in others) == 1
    assert len(others) == 11
    with pytest.raises(InputError, match=r"silent\.wav: cannot be compared, for it is quiet"):
        library.similar([library.find("silent").id])
    with pytest.raises(InputError, match="is not the id of a track"):
        library.similar(["x"])
    with pytest.raises(InputError, match="at least one track"):
        library.similar([])


def test_unlike_caps_and_variance(scanned: SimpleNamespace) -> None:
    library = scanned.library
    one, two = library.find("Piece 1").id, library.find("Piece 2").id
    pushed = names(library, [one], count=100, unlike=[two])
    assert "Piece 2" not in pushed
    plain = [name for name in names(library, [one], count=100) if name != "Piece 2"]
    nearest = next(name for name in names(library, [two], count=100) if name in plain and name in pushed)
    assert pushed.index(nearest) >= plain.index(nearest)
    capped = library.similar([one], 100, max_per_artist=1)
    artists = [each.track.artist for each in capped if each.track.artist]
    assert sorted(artists) == sorted(set(artists))
    lists = [tuple(names(library, [one], count=4, variance=seed)) for seed in range(6)]
    assert lists[0] == tuple(names(library, [one], count=4, variance=0))
    assert len(set(lists)) > 1
    with pytest.raises(UsageError, match="count is -1"):
        library.similar([one], -1)
    with pytest.raises(UsageError, match="max_per_artist is 0"):
        library.similar([one], max_per_artist=0)


def test_choosing_is_exact() -> None:
    tracks = [
        track(0, artist="a", album="x", group="g"),
        track(1, artist="a", album="x"),
        track(2, artist="A", album="y", group="g"),
        track(3, artist="b"),
        track(4),
        track(5),
    ]
    worth = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.5])
    assert choose(worth, tracks, 10) == [0, 1, 3, 4, 5]
    assert choose(worth, tracks, 10, excluded=[tracks[2]]) == [1, 3, 4, 5]
    assert choose(worth, tracks, 2, limits=Limits(per_artist=1)) == [0, 3]
    assert choose(worth, tracks, 10, limits=Limits(per_album=1)) == [0, 3, 4, 5]
    assert choose(worth, tracks, 0) == []


def test_there_is_always_a_way(scanned: SimpleNamespace) -> None:
    library = scanned.library
    start, end = library.find("Piece 4"), library.find("Piece 9")
    way = library.path_between(start.id, end.id, 6)
    assert len(way) == 6
    assert (way[0].track, way[-1].track) == (start, end)
    assert (way[0].similarity, way[0].length) == (1.0, 0.0)
    rows = [library.row(step.track) for step in way]
    lengths = np.linalg.norm(np.diff(library.vectors[rows], axis=0), axis=1)
    np.testing.assert_allclose([step.length for step in way[1:]], lengths, rtol=1e-5)
    assert len({step.track.group or step.track.id for step in way}) == 6
    assert len(library.path_between(start.id, end.id, 2)) == 2
    assert len(library.path_between(start.id, end.id, 50)) == 12, "one of each group"
    assert len(library.path_between(start.id, start.id, 5)) == 1
    with pytest.raises(UsageError, match="count is 1"):
        library.path_between(start.id, end.id, 1)


def prints_of(sound: np.ndarray, rate: int, front: Frontend, name: Any) -> np.ndarray:
    samples = scipy.signal.resample_poly(sound, 441, 441 * rate // front.sample_rate)
    found = front([torch.from_numpy(samples.copy()).float()])
    return fingerprint(found.mel, name, front.frames_per_second)


@pytest.mark.parametrize("name", ["myna-rpe", "myna"])
def test_versions_match_and_pieces_do_not(name: Any, sounds: SimpleNamespace) -> None:
    front = Frontend(name)
    rate = 22050
    if name == "myna":
        front.sample_rate = 22050  # reads the sound as somewhat slower, all alike
    original = sounds.piece(0, 30)
    low: Any
    high: Any
    low, high = (scipy.signal.butter(1, hz / (rate / 2), kind) for hz, kind in ((400, "low"), (2500, "high")))
    versions = {
        "louder": 1.9 * original,
        "late": np.concatenate([np.zeros(int(4.3 * rate)), original]),
        "fast": scipy.signal.resample(original, int(len(original) / 1.03)),
        "slow": scipy.signal.resample(original, int(len(original) / 0.97)),
        "bass": 0.5 * original + scipy.signal.lfilter(low[0], low[1], original),
        "treble": 0.4 * original + scipy.signal.lfilter(high[0], high[1], original),
        "cut": original[5 * rate :],
    }
    own = prints_of(original, rate, front, name)
    found = {key: match(own, prints_of(sound, rate, front, name)) for key, sound in versions.items()}
    assert min(found.values()) > 0.8, found
    others = [match(own, prints_of(sounds.piece(seed, 30), rate, front, name)) for seed in range(1, 9)]
    assert max(others) < 0.5
    assert match(own, own) == pytest.approx(1.0)
    assert match(own, own[:3]) == 0.0
    assert fingerprint(torch.zeros(128, 3), "myna-rpe", 100.0).shape == (0, 16)


def test_groups_and_their_threshold(sounds: SimpleNamespace) -> None:
    random = np.random.default_rng(0)
    prints = [random.integers(-60, 60, (200, 16)).astype(np.int8) for _ in range(12)]
    noisy = [np.clip(p + random.integers(-20, 20, p.shape), -127, 127).astype(np.int8) for p in prints[:2]]
    everything = np.tile(np.arange(14), (14, 1))
    found = find_groups(everything, [*prints, *noisy])
    assert found.groups == [[0, 12], [1, 13]]
    assert found.calibration.pairs == 91
    assert 0.65 <= found.threshold <= 0.8
    assert find_groups(everything[:, :0], [*prints, *noisy]).groups == []
    assert calibrated([0.1] * 10)[0] == 0.8, "too few pairs to know"
    assert calibrated([0.5 + 0.001 * n for n in range(100)])[0] == pytest.approx(
        0.5495 + 6 * 1.4826 * 0.0255, abs=0.02
    )


def test_hubs_are_measured_and_corrected() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(400, 60)) + random.normal(size=(400, 1)) * 0.2 + 0.6
    unit = unit_vectors(vectors)
    near = mean_distances(top_k(unit, unit, 11, metric="cosine"))
    measures = hub_measures(vectors, near)
    counts = np.bincount(top_k(unit, unit, 11, metric="cosine").rows[:, 1:].ravel(), minlength=400)
    assert measures["largest_before"] == counts.max()
    skew = ((counts - counts.mean()) ** 3).mean() / counts.std() ** 3
    assert measures["skew_before"] == pytest.approx(skew)
    assert measures["skew_before"] > 1.5
    assert measures["skew_after"] < 0.5 * measures["skew_before"]


def run(index: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "--index", str(index)])


def test_commands_that_read(scanned: SimpleNamespace) -> None:
    about = json.loads(run(scanned.index, "info", "--hubs", "--json").stdout)
    assert (about["tracks"], about["comparable"], about["files"]) == (16, 13, 17)
    assert about["duplicates"]["groups"] == 1
    assert set(about["artists"]) == {"Artist 0", "Artist 1", "Artist 2", "Artist 3", "unknown"}
    text = run(scanned.index, "info", "--hubs").stdout
    assert "skew of the 6-occurrence" in text
    assert "broken.ogg" in text
    similar = json.loads(run(scanned.index, "similar", "Piece 3", "--count", "3", "--json").stdout)
    assert [set(each) >= {"similarity", "id", "title", "path"} for each in similar] == [True] * 3
    groups = json.loads(run(scanned.index, "duplicates", "--json").stdout)["groups"]
    assert [sorted(each["title"] for each in group) for group in groups] == [["Piece 0", "Piece 0 (late)"]]
    assert "threshold 0." in run(scanned.index, "duplicates").stdout


def test_a_dry_run_prints_paths_and_writes_nothing(scanned: SimpleNamespace, tmp_path: Path) -> None:
    fresh = run(tmp_path / "new", "scan", str(scanned.music), "--dry-run")
    assert f"read    {scanned.music / '05.ogg'}" in fresh.stdout
    assert not (tmp_path / "new").exists()
    known = run(scanned.index, "update", "--dry-run")
    assert known.stdout == "0 to read, 0 gone, 17 unchanged\n"
    failed = run(scanned.index, "scan", str(scanned.music), "--dry-run", "--retry", "--json")
    assert json.loads(failed.stdout)["read"] == [str(scanned.music / "broken.ogg")]
    assert isinstance(run(tmp_path / "new", "update").exception, UsageError)
    assert isinstance(run(tmp_path / "new", "info").exception, InputError)
