"""The factor matrix of made-up features with known answers, the clips behind it, and the page of the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from omar_rq import cli
from omar_rq.layers.factors import CLIP_S, TIMBRES, Design, render
from omar_rq.layers.matrix import chance, retrieval_hits, standardised, variance_shares
from omar_rq.layers.tasks import read_probes
from pentatonic.errors import FormatError, InputError, UsageError

SMALL = Design(motifs=3, timbres=TIMBRES[:2], keys=(0, 5, 7, 9))


def test_features_of_one_factor_are_ruled_by_it():
    levels, rng = SMALL.levels(), np.random.default_rng(0)
    for factor in range(3):
        codes = rng.normal(size=(SMALL.shape[factor], 16))
        features = standardised(codes[levels[:, factor]])
        shares = variance_shares(features, SMALL)
        assert shares[factor] == pytest.approx(1) and sum(shares) == pytest.approx(1)
        assert retrieval_hits(features, levels, factor).mean() == 1


def test_shares_add_up_with_the_interactions():
    levels, rng = SMALL.levels(), np.random.default_rng(1)
    motif, timbre = rng.normal(size=(3, 8)), rng.normal(size=(2, 8))
    features = standardised(np.hstack([motif[levels[:, 0]], timbre[levels[:, 1]], np.ones((len(levels), 1))]))
    assert (features[:, -1] == 0).all()  # what does not vary counts for nothing
    np.testing.assert_allclose(variance_shares(features, SMALL), (0.5, 0.5, 0), atol=1e-12)
    pairs = standardised(rng.normal(size=(3, 2, 8))[levels[:, 0], levels[:, 1]])
    assert 0.1 < 1 - sum(variance_shares(pairs, SMALL)) < 0.9
    assert variance_shares(np.zeros((len(levels), 4)), SMALL) == [0, 0, 0]


def test_retrieval_is_helped_by_no_other_factor():
    """Features of the timbre alone find neither motif nor key better than chance."""
    design = Design(motifs=8, timbres=TIMBRES, keys=(0, 5, 7, 9))
    levels, rng = design.levels(), np.random.default_rng(2)
    timbre = 10 * rng.normal(size=(5, 32))[levels[:, 1]]
    features = standardised(timbre + rng.normal(size=(len(levels), 32)))
    hits = [retrieval_hits(features, levels, factor).mean() for factor in range(3)]
    assert hits[1] == 1 and hits[0] < 0.3 and hits[2] < 0.45
    assert chance(design) == {"motif": 1 / 8, "timbre": 1 / 5, "key": 1 / 4}


def test_clips_are_equally_loud_and_long_and_differ_as_they_should():
    rate = 16_000
    clips = np.stack(list(SMALL.clips(rate)))
    assert clips.shape == (24, round(CLIP_S * rate)) and clips.dtype == np.float32
    np.testing.assert_allclose(np.sqrt(np.square(clips).mean(1)), 0.1, rtol=1e-5)
    assert np.abs(clips).max() <= 1
    assert len({clip.tobytes() for clip in clips}) == 24
    again = np.stack(list(Design(3, TIMBRES[:2], (0, 5, 7, 9)).clips(rate)))
    assert np.array_equal(again, clips)
    assert Design(3, seed=1).melodies != SMALL.melodies == again_melodies()


def again_melodies():
    return Design(motifs=3).melodies


def test_a_key_transposes_and_high_partials_are_left_out():
    rate, held = 8_000, ((0, CLIP_S),)
    for key in (0, 12):
        spectrum = np.abs(np.fft.rfft(render(held, TIMBRES[1], key, rate)))
        assert spectrum.argmax() / CLIP_S == pytest.approx(261.63 * 2 ** (key / 12), abs=1)
    # The partials of a sound that was sampled too slowly would be mirrored below half the rate.
    high = np.abs(np.fft.rfft(render(held, TIMBRES[2], 12, 2_000)))
    assert high[: round(500 * CLIP_S)].max() < 0.02 * high.max()


@pytest.mark.parametrize(
    "changes", [{"motifs": 1}, {"timbres": TIMBRES[:1]}, {"keys": (0, 0)}, {"keys": (0, 13)}]
)
def test_wrong_designs(changes):
    with pytest.raises(UsageError):
        Design(**changes)


def probe(folder, task, layers):
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"task": task, "layers": layers, "metrics": []}))
    return folder


def test_layer_weights_of_probes(tmp_path):
    probe(tmp_path / "runs" / "b", "key", {"0": 0.25, "10": 0.5, "2": 0.25})
    probe(tmp_path / "runs" / "a", "beat", {"1": 1})
    beat, key = read_probes([tmp_path / "runs"])
    assert (beat["task"], beat["layer"], key["task"], key["layer"]) == ("beat", 1, "key", 10)
    assert list(key["layers"]) == [0, 2, 10] and key["mean_layer"] == pytest.approx(5.5)
    assert read_probes([tmp_path / "runs" / "a" / "results.json"]) == [beat]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty.*results\.json"):
        read_probes([tmp_path / "empty"])
    for number, wrong in enumerate(({"1": 0.5}, {"x": 1}, {"1": -1, "2": 2}, {}, {"1": None}, [1])):
        with pytest.raises(FormatError, match=f"wrong{number}"):
            read_probes([probe(tmp_path / f"wrong{number}", "key", wrong)])


def test_the_command_writes_the_page(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run = probe(tmp_path / "run", "key", {"0": 0.25, "1": 0.75})
    page = tmp_path / "layers.html"
    words = ["layers", "--motifs", "2", "--device", "cpu", "--json", "--out", str(page), "--probe", str(run)]
    cli.app(words, standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert [layer["layer"] for layer in document["layers"]] == ["input", "0", "1", "2", "3", "4"]
    for layer in document["layers"]:
        assert sum(layer["variance"].values()) == pytest.approx(1)
        assert all(0 <= found["value"] <= 1 for found in layer["retrieval"].values())
    assert document["tasks"][0]["layer"] == 1
    html = page.read_text()
    assert "Which layer serves which task" in html and "data:image/png" in html and "ruled by" in html
