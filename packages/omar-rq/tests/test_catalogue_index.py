"""An index of a data set: what is near what, segments with their times, another model, a changed data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omar_rq.catalogue.index import INDEX_FILE, build_index, segment_means
from omar_rq.catalogue.run import embed_catalogue
from omar_rq.catalogue.search import similar
from omar_rq.cli import app
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.errors import FormatError, IncompatibleVectors, InputError, UsageError

pytest.importorskip("pyarrow")

RATE = 16000


def tone(hz: float, seconds: float) -> torch.Tensor:
    t = torch.arange(round(seconds * RATE)) / RATE
    return 0.2 * sum(torch.sin(2 * torch.pi * hz * k * t) / k for k in (1, 2, 3)) * (1 + torch.sin(8 * t))


def noise(seconds: float, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


class InThisProcess:
    """A decoder without a process."""

    stream = staticmethod(audio.stream)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def start(self):
        pass


@pytest.fixture(autouse=True)
def decode_here(monkeypatch) -> None:
    monkeypatch.setattr(audio, "DecodingProcess", InThisProcess)


@pytest.fixture(scope="module")
def model():
    return from_pretrained("omar-rq-tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Ten recordings of 4 s; ``mix`` is a tone and then noise, ``tone2`` nearly ``tone1``, one is silent."""
    folder = tmp_path_factory.mktemp("music")
    recordings = {f"noise{i}": noise(4, i) for i in range(3)}
    recordings |= {f"low{i}": tone(110 * 2 ** (i / 12), 4) for i in range(3)}
    recordings |= {"tone1": tone(880, 4), "tone2": tone(881, 4), "quiet": torch.zeros(4 * RATE)}
    recordings["mix"] = torch.cat([tone(880, 2), noise(2, 9)])
    for name, samples in recordings.items():
        audio.save(folder / f"{name}.wav", samples.clamp(-1, 1), RATE)
    return folder


@pytest.fixture(scope="module")
def made(model, corpus, tmp_path_factory):
    """(data set, index) of the corpus."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "DecodingProcess", InThisProcess)
        embed_catalogue(model, [corpus], folder / "set", layers=[1, 3], model_name="omar-rq-tiny")
    info, now = build_index(folder / "set", folder / "index", segment_s=2.0)
    assert now
    assert (info.recordings, info.segments, info.layer, info.flagged) == (10, 20, 3, 1)
    return folder / "set", folder / "index"


def test_the_nearest_recording_is_the_one_that_sounds_alike(made):
    _, index = made
    found = similar("tone1.wav", index, count=3)
    assert found.recordings[0].path == "tone2.wav"
    assert "tone1.wav" not in {hit.path for hit in found.recordings}
    scores = [hit.score for hit in found.recordings]
    assert scores == sorted(scores, reverse=True)
    by_number = similar(str(found.recordings[0].row), index, count=3)
    assert by_number.query == "tone2.wav"
    assert by_number.recordings[0].path == "tone1.wav"


def test_segments_are_found_with_their_times(made):
    _, index = made
    found = similar("mix.wav", index, count=20)
    first = [hit for hit in found.segments if hit.query_start_s == 0.0]
    second = [hit for hit in found.segments if hit.query_start_s == 2.0]
    assert first[0].path in ("tone1.wav", "tone2.wav")
    assert second[0].path.startswith("noise")
    assert {(hit.start_s, hit.end_s) for hit in found.segments} <= {(0.0, 2.0), (2.0, 4.0)}
    assert all(hit.path != "mix.wav" for hit in found.segments)


def test_a_file_gives_the_hits_of_the_same_recording_in_the_index(made, model, corpus):
    _, index = made
    asked = similar(str(corpus / "mix.wav"), index, model=model, count=5)
    assert asked.recordings[0].path == "mix.wav"
    assert asked.recordings[0].score == pytest.approx(1.0, abs=1e-5)
    stored = similar("mix.wav", index, count=4)
    assert [hit.path for hit in asked.recordings[1:]] == [hit.path for hit in stored.recordings]
    assert (asked.segments[0].path, asked.segments[0].start_s) == ("mix.wav", asked.segments[0].query_start_s)


def test_a_quiet_recording_is_flagged_wherever_it_appears(made, model, corpus):
    _, index = made
    found = similar("quiet.wav", index, count=20)
    assert "quiet" in found.query_flags
    flagged = [hit for hit in similar("low1.wav", index, count=20).recordings if hit.flags]
    assert [hit.path for hit in flagged] == ["quiet.wav"]
    assert "quiet" in similar(str(corpus / "quiet.wav"), index, model=model).query_flags


def test_faiss_finds_the_same(made):
    pytest.importorskip("faiss")
    _, index = made
    exact, faiss = (similar("mix.wav", index, count=4, engine=engine) for engine in ("exact", "faiss"))
    assert [hit.path for hit in faiss.recordings] == [hit.path for hit in exact.recordings]
    assert [hit.score for hit in faiss.segments] == pytest.approx(
        [hit.score for hit in exact.segments], abs=1e-5
    )


def test_another_model_is_refused(made, corpus):
    _, index = made
    other = from_pretrained("omar-rq-tiny")
    with torch.no_grad():
        other.embed.weight += 1e-3
    with pytest.raises(IncompatibleVectors, match="another model"):
        similar(str(corpus / "mix.wav"), index, model=other)


def test_a_changed_data_set_is_noticed_and_an_unchanged_one_costs_nothing(made, model, corpus, tmp_path):
    data_set, index = made
    assert build_index(data_set, index, segment_s=2.0)[1] is False
    copied, own = tmp_path / "set", tmp_path / "index"
    shutil.copytree(data_set, copied)
    build_index(copied, own, segment_s=2.0)
    assert not similar("0", own).changed
    audio.save(tmp_path / "new.wav", noise(3, 77), RATE)
    embed_catalogue(model, [tmp_path / "new.wav"], copied, layers=[1, 3])
    assert similar("0", own).changed
    info, now = build_index(copied, own, segment_s=2.0)
    assert (info.recordings, now) == (11, True)
    assert not similar("0", own).changed


def test_a_data_set_of_means_has_recordings_and_no_segments(model, corpus, tmp_path):
    embed_catalogue(model, [corpus], tmp_path / "set", pool="mean")
    info, _ = build_index(tmp_path / "set", tmp_path / "index")
    assert (info.recordings, info.segments) == (10, 0)
    found = similar("tone1.wav", tmp_path / "index")
    assert found.recordings[0].path == "tone2.wav"
    assert found.segments == []


def test_what_is_no_index_or_not_in_it_is_named(made, tmp_path):
    data_set, index = made
    with pytest.raises(InputError, match="no index"):
        similar("0", tmp_path)
    with pytest.raises(InputError, match="0 to 9"):
        similar("10", index)
    with pytest.raises(InputError, match="no data set"):
        build_index(tmp_path, tmp_path / "i")
    with pytest.raises(UsageError, match="the data set has 1, 3"):
        build_index(data_set, tmp_path / "i", layer=2)
    shutil.copytree(index, tmp_path / "broken")
    (tmp_path / "broken" / INDEX_FILE).write_text('{"version": 1}')
    with pytest.raises(FormatError, match="damaged"):
        similar("0", tmp_path / "broken")


def test_segments_are_means_of_the_tokens_in_them():
    times, rows = np.arange(10) * 0.5, np.arange(10.0)[:, None]
    starts, means = segment_means(times, rows, 2.0)
    assert starts.tolist() == [0.0, 2.0, 4.0]
    assert means[:, 0].tolist() == [1.5, 5.5, 8.5]
    assert segment_means(times[:9], rows[:9], 2.0)[0].tolist() == [0.0, 2.0]  # a token at the end is left out


def test_the_commands_print_lines_and_json(made, corpus):
    data_set, index = made
    runner = CliRunner()
    done = runner.invoke(app, ["index", str(data_set), "--out", str(index), "--segment", "2", "--json"])
    assert json.loads(done.stdout)["recordings"] == 10
    shown = runner.invoke(app, ["similar", "mix.wav", "--index", str(index), "--count", "2"])
    assert "segments: there, and in the query" in shown.stdout
    assert "0:02.0-0:04.0" in shown.stdout
    words = ["similar", str(corpus / "mix.wav"), "--index", str(index), "--json", "--device", "cpu"]
    found = json.loads(runner.invoke(app, words).stdout)
    assert found["recordings"][0]["path"] == "mix.wav"
    assert set(found) == {"query", "query_flags", "recordings", "segments", "changed"}
