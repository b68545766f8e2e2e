"""Judging audio models: retrieval measures against plain loops, intervals, and the command on made recordings."""

import json
import math
import sys
import types
from itertools import count, pairwise

import audio_encoders
import judge_audio_model
import numpy as np
import pytest
import retrieval_protocol
import torch
from audio_encoders import Encoder, encoders, log_mel
from musicnn_network import mel_frames
from retrieval_protocol import (
    DRAWS,
    MEASURES,
    Crops,
    Track,
    difference,
    draw_tracks,
    interval,
    judge,
    mean,
    means_of_draws,
    read_crops,
    standardised,
)

from pentatonic.audio import resample, save
from pentatonic.errors import FormatError, InputError, UsageError

# Versions of a piece ("x"), tracks with one crop, soundtracks of one track, composers known and not.
TRACKS = (
    Track("a", "one", (0.0, 1.0, 2.0), "Ann", "x"),
    Track("b", "one", (0.0, 1.0), "Bob", "x"),
    Track("c", "one", (0.0,), "Ann"),
    Track("d", "two", (0.0, 1.0, 2.0), "Ann"),
    Track("e", "two", (0.0, 1.0), None),
    Track("f", "three", (0.0, 1.0), "Bob"),
)
SOME = Crops(TRACKS, 1.0, {})


def features(seed=0, width=4):
    return np.random.default_rng(seed).standard_normal((len(SOME.track_of), width)) * 3 + 5


def cosine(one, other):
    return float(one @ other / math.sqrt(float(one @ one) * float(other @ other)))


def scores_by_loops(values):
    """Every measure by its definition: for each query rank the candidates, for each right one count those above it."""
    values = (values - values.mean(0)) / values.std(0)
    places = [(number, TRACKS[number]) for number in SOME.track_of]
    scores = {name: [] for name in ("track_top1", "track_map", "soundtrack_top1", "soundtrack_map")}
    for query, (q_number, q_track) in enumerate(places):
        for kind in ("track", "soundtrack"):
            found = []
            for other, (number, track) in enumerate(places):
                version = (
                    number != q_number
                    and track.same_piece is not None
                    and track.same_piece == q_track.same_piece
                )
                if other == query or version or (kind == "soundtrack" and number == q_number):
                    continue
                right = number == q_number if kind == "track" else track.soundtrack == q_track.soundtrack
                found.append((cosine(values[query], values[other]), right))
            found.sort(reverse=True)
            ranks = [rank for rank, (_, right) in enumerate(found, 1) if right]
            if ranks:
                scores[f"{kind}_top1"].append((q_number, found[0][1]))
                precisions = [sum(each <= rank for each in ranks) / rank for rank in ranks]
                scores[f"{kind}_map"].append((q_number, sum(precisions) / len(precisions)))
    means = {number: values[SOME.track_of == number].mean(0) for number in range(len(TRACKS))}
    known = [number for number, track in enumerate(TRACKS) if track.composer]
    nearest = {n: max((o for o in known if o != n), key=lambda o: cosine(means[n], means[o])) for n in known}
    scores["composer_top1"] = [(n, TRACKS[n].composer == TRACKS[nearest[n]].composer) for n in known]
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_plain_loops(seed):
    values = features(seed)
    found, expected = judge(values, SOME), scores_by_loops(values)
    assert found.keys() == expected.keys()
    for name, queries in expected.items():
        for track in range(len(TRACKS)):
            scores = [score for number, score in queries if number == track]
            np.testing.assert_allclose(found[name][:, track], [sum(scores), len(scores)], atol=1e-12)
        assert mean(found[name]) == pytest.approx(np.mean([score for _, score in queries]))


def test_features_that_tell_all_tracks_apart_find_every_track():
    values = np.eye(len(TRACKS))[SOME.track_of]
    found = judge(values, SOME)
    assert mean(found["track_top1"]) == mean(found["track_map"]) == 1.0


def test_a_constant_value_counts_for_nothing():
    values = features()
    widened = np.concatenate([values, np.full((len(values), 3), (0.1, 1 / 3, 1e9 / 7))], axis=1)
    assert widened[:, 4:].std(axis=0).max() > 0  # rounding gives a constant a deviation
    np.testing.assert_allclose(standardised(widened)[:, 4:], 0.0, atol=1e-6)
    assert mean(judge(widened, SOME)["track_map"]) == mean(judge(values, SOME)["track_map"])


def test_scale_and_offset_of_a_value_do_not_matter():
    values = features()
    scaled = values * [1.0, 100.0, 0.01, 1.0] + [0.0, 5.0, 0.0, -3.0]
    assert mean(judge(scaled, SOME)["soundtrack_map"]) == pytest.approx(
        mean(judge(values, SOME)["soundtrack_map"])
    )


def test_unusable_features_are_refused():
    values = features()
    with pytest.raises(InputError, match=r"13 rows are needed"):
        judge(values[1:], SOME)
    values[3, 1] = np.nan
    with pytest.raises(InputError, match="1 crops have NaN or infinite values, first of crop 3"):
        judge(values, SOME)


def test_draws_hold_as_many_tracks_as_there_are():
    drawn = draw_tracks(6, draws=500)
    assert drawn.shape == (500, 6)
    assert (drawn.sum(axis=1) == 6).all()
    assert drawn.mean(axis=0) == pytest.approx(1.0, abs=0.15)
    assert np.array_equal(drawn, draw_tracks(6, draws=500))
    assert not np.array_equal(drawn, draw_tracks(6, draws=500, seed=1))


def test_the_mean_of_a_draw_is_that_of_the_crops_of_the_drawn_tracks(monkeypatch):
    by_track = np.array([[1.0, 2.0, 0.0], [2.0, 2.0, 4.0]])
    drawn = np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    monkeypatch.setattr(retrieval_protocol, "draw_tracks", lambda n_tracks: drawn)
    assert means_of_draws(by_track).tolist() == [3 / 8, 3 / 6, 2 / 10]
    assert mean(by_track) == 3 / 8


def test_tracks_without_a_score_are_not_drawn():
    by_track = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    means = means_of_draws(by_track)
    assert len(means) == DRAWS
    # Two of two tracks: both are the first, or one is, or none.
    assert set(means) == {0.0, 0.5, 1.0}
    assert means.mean() == pytest.approx(0.5, abs=0.05)
    nothing = np.zeros((2, 3))
    assert math.isnan(mean(nothing)) and np.isnan(interval(nothing)).all()


def test_the_interval_is_the_middle_of_the_draws(monkeypatch):
    by_track = np.stack([np.arange(101.0), np.ones(101)])
    monkeypatch.setattr(retrieval_protocol, "draw_tracks", np.eye)  # the mean of draw i is i
    assert interval(by_track) == pytest.approx((2.5, 97.5))


def test_differences_are_paired():
    # Both vary much between tracks and their difference does not: only paired draws see that.
    generator = np.random.default_rng(0)
    one = np.stack([generator.uniform(0, 1, 40), np.ones(40)])
    other = one - [[0.05], [0.0]]
    value, low, high = difference(one, other)
    assert (value, low, high) == pytest.approx((0.05, 0.05, 0.05))
    assert np.ptp(interval(one)) > 0.1


def test_the_crops_of_the_tool():
    crops = read_crops()
    assert (len(crops.tracks), len(crops.track_of), crops.seconds) == (75, 360, 20.0)
    assert len({track.soundtrack for track in crops.tracks}) == 5
    assert sum(track.composer is not None for track in crops.tracks) == 35
    chance = 1 / np.array([len(crops.tracks[number].starts) for number in crops.track_of])
    assert chance.min() == 0.2  # at most five crops of a track


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"tracks": [], "packages": {}, "seconds": 1}',
        '{"tracks": [{"file": "x"}]}',
        '{"tracks": 1, "packages": {}}',
    ],
)
def test_a_file_that_is_not_a_list_of_crops_is_refused(tmp_path, content):
    path = tmp_path / "crops.json"
    path.write_text(content)
    with pytest.raises(FormatError, match="is not a list of crops"):
        read_crops(path)
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        read_crops(tmp_path / "none.json")


# The command.

RATE = 22050


@pytest.fixture
def recordings(tmp_path):
    """Four tracks of a chord and noise each, of two soundtracks, and their list of crops."""
    generator, tracks = torch.Generator().manual_seed(0), []
    time = torch.arange(RATE * 4) / RATE
    for number, soundtrack in enumerate(("low", "low", "high", "high")):
        pitch = (150 if soundtrack == "low" else 1500) * (1 + 0.2 * (number % 2))
        tone = torch.sin(2 * torch.pi * pitch * time) * 0.3
        noise = 0.05 * torch.randn(2, len(time), generator=generator)
        folder = tmp_path / "recordings" / "some-music"
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / f"{number}.wav", tone + noise, RATE)
        composer = "Ann" if number % 2 else "Bob"
        place = {"package": "some-music", "file": f"{number}.wav"}
        tracks.append({**place, "soundtrack": soundtrack, "starts": [0.0, 1.5], "composer": composer})
    packages = {"some-music": {"version": "1", "sha256": "ab"}}
    content = {"seconds": 1.5, "packages": packages, "tracks": tracks}
    (tmp_path / "crops.json").write_text(json.dumps(content))
    return tmp_path


def run(monkeypatch, folder, *arguments):
    command = [
        "--recordings",
        folder / "recordings",
        "--crops",
        folder / "crops.json",
        "--no-teacher",
        *arguments,
    ]
    monkeypatch.setattr(sys, "argv", ["judge_audio_model.py", *map(str, command)])
    judge_audio_model.main()


@pytest.fixture
def functions(monkeypatch):
    """A module that a user could have: what its functions were given, and their results."""
    module, given, sizes = types.ModuleType("users_encoders"), [], count(1)

    def spectrum(audio):
        given.append(audio)
        magnitudes = torch.fft.rfft(audio).abs()
        bins = [
            round(edge * 12000 / 8000) for edge in (100, 165, 300, 1650, 2500)
        ]  # one pitch between two edges
        return torch.stack([magnitudes[low:high].amax() for low, high in pairwise(bins)])

    spectrum.sample_rate = 8000
    module.spectrum, module.given = spectrum, given
    module.constant = lambda audio: torch.ones(3)
    module.matrix = lambda audio: torch.ones(2, 3)
    module.growing = lambda audio: np.zeros(next(sizes))
    module.text = "not a function"
    monkeypatch.setitem(sys.modules, "users_encoders", module)
    return module


def test_an_encoder_is_judged_beside_log_mel(recordings, functions, monkeypatch, capsys):
    out = recordings / "new" / "page.md"
    options = ["--baseline", "users_encoders:constant", "--out", out]
    run(monkeypatch, recordings, "users_encoders:spectrum", *options)
    page = out.read_text()
    assert page in capsys.readouterr().out
    measures, _, differences = page.partition("users_encoders:spectrum, less")
    rows = [line for line in measures.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:5]] == [
        "| log-mel, mean and deviation",
        "| users_encoders:constant",
        "| users_encoders:spectrum",
    ]
    assert rows[4].split(" | ")[1:3] == ["1.000 [1.000, 1.000]"] * 2
    assert (
        "| log-mel, mean and deviation | +" in differences and "| users_encoders:constant | +" in differences
    )
    assert "8 crops of 1.5 s from 4 tracks" in page
    assert "The teacher was left out." in page and "chosen from: some-music." in page


def test_only_differences_whose_interval_is_above_zero_are_counted():
    generator = np.random.default_rng(0)
    score = np.stack([generator.uniform(0.2, 0.8, 40), np.ones(40)])
    given = {"judged": score, "equal": score, "lower": score - [[0.1], [0.0]]}
    scores = {name: dict.fromkeys(MEASURES, each) for name, each in given.items()}
    baselines = ("equal", "lower")
    page = judge_audio_model.table([Encoder("judged", 16000, torch.abs, baselines)], scores)
    assert "| equal | +.000 [+.000, +.000] | +.000 [+.000, +.000] |" in page
    assert "| lower | +.100 [+.100, +.100] | +.100 [+.100, +.100] |" in page
    assert page.endswith("2 of 4 differences have an interval above 0.\n")


def test_encoders_get_mono_crops_at_their_rate(recordings, functions, monkeypatch):
    run(monkeypatch, recordings, "users_encoders:spectrum")
    assert [crop.shape for crop in functions.given] == [(12000,)] * 8
    whole = judge_audio_model.load(recordings / "recordings/some-music/2.wav").samples[0]
    start = round(1.5 * RATE)
    expected = resample(whole[start : start + round(1.5 * RATE)], RATE, 8000)
    assert torch.equal(functions.given[5], expected)


def test_the_known_version_of_the_recordings_is_not_remarked(recordings, functions, monkeypatch, capsys):
    record = json.dumps({"package": "some-music", "sha256": "ab"})
    (recordings / "recordings" / "manifest.jsonl").write_text(record + "\n")
    run(monkeypatch, recordings)
    assert "chosen from" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("users_encoders:matrix", r"returned shape \(2, 3\)"),
        ("users_encoders:growing", r"returned shape \(2,\); \(D,\) is needed, D equal for all crops"),
        ("users_encoders:none", "neither a model of omar-rq, myna-rpe nor a function"),
        ("users_encoders:text", "is not a function"),
        ("no_such_module_here:f", "neither a model of omar-rq, myna-rpe nor a function"),
        ("omar-rq", "'omar-rq' is not an encoder; allowed: package:model"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_named(recordings, functions, monkeypatch, spec, message):
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, recordings, spec)


def test_missing_and_short_recordings_are_named(recordings, functions, monkeypatch):
    path = recordings / "recordings" / "some-music" / "3.wav"
    save(path, torch.zeros(RATE), RATE)
    with pytest.raises(SystemExit, match=r"some-music/3.wav ends before 1\.5 s"):
        run(monkeypatch, recordings)
    path.unlink()
    with pytest.raises(
        SystemExit, match=r"lacks 1 of 4 recordings, first some-music/3\.wav; .*real_recordings\.py"
    ):
        run(monkeypatch, recordings)


def test_a_model_is_judged_beside_its_untrained_networks(recordings, monkeypatch):
    made = []

    def package(name, layer, seed):
        made.append((name, layer, seed))
        return Encoder(
            f"{name} {layer} {seed}", 16000, lambda audio: audio[:10] * (1 if seed is None else seed)
        )

    monkeypatch.setitem(audio_encoders.PACKAGES, "some", package)
    *untrained, trained = encoders("some:folder/model@-2", ["log-mel"])
    assert made == [("folder/model", -2, 0), ("folder/model", -2, 1), ("folder/model", -2, None)]
    assert trained.baselines == ("log-mel", *(each.name for each in untrained))
    assert encoders("some:folder/m@x", [])[-1].name == "folder/m@x None None"


def test_omar_rq_gives_the_mean_over_its_tokens():
    from omar_rq import OmarRQ, from_pretrained

    first, second, trained = encoders("omar-rq:omar-rq-tiny", [])
    assert [each.name for each in (first, second, trained)] == [
        "untrained omar-rq:omar-rq-tiny, seed 0, last layer",
        "untrained omar-rq:omar-rq-tiny, seed 1, last layer",
        "omar-rq:omar-rq-tiny, last layer",
    ]
    model, audio = from_pretrained("omar-rq-tiny"), torch.rand(16000) - 0.5
    torch.manual_seed(1)
    fresh = OmarRQ(model.config).eval()
    with torch.inference_mode():
        for encoder, network in ((trained, model), (second, fresh)):
            expected = network.encode(audio[None])[0, 0].mean(dim=0)
            torch.testing.assert_close(encoder.embed(audio), expected)
        one_layer = encoders("omar-rq:omar-rq-tiny@0", [])[-1]
        torch.testing.assert_close(one_layer.embed(audio), model.encode(audio[None], 0)[0, 0].mean(dim=0))


def test_a_model_of_whole_tracks_gives_what_its_user_gets() -> None:
    from myna_rpe import embed_tracks, from_pretrained
    from myna_rpe.frontend import Frontend
    from myna_rpe.whole_tracks import TrackOptions

    first, second, trained = encoders("myna-rpe:myna-rpe-tiny", [])
    assert trained.sample_rate == 44100
    assert trained.baselines == (first.name, second.name)
    audio = torch.rand(44100, generator=torch.Generator().manual_seed(0)) - 0.5
    mel = Frontend("myna-rpe")([audio]).mel
    expected = embed_tracks(from_pretrained("myna-rpe-tiny"), [mel], TrackOptions())[0].vector
    torch.testing.assert_close(trained.embed(audio), expected)
    assert not torch.allclose(first.embed(audio), second.embed(audio))
    with pytest.raises(UsageError, match="one vector of a track"):
        encoders("myna-rpe:myna-rpe-tiny@1", [])


def test_log_mel_is_mean_and_deviation_over_time():
    audio = torch.rand(16000) - 0.5
    frames = mel_frames(audio)
    expected = torch.cat([frames.mean(dim=0), frames.std(dim=0)])
    torch.testing.assert_close(log_mel().embed(audio), expected)
