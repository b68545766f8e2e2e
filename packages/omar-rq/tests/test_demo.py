"""The bundled checkpoint and the demo page made with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omar_rq.demo import Recording, centred, nearest_pairs, write_demo
from omar_rq.frontends import patchify
from omar_rq.model import OmarRQ
from omar_rq.training.masking import mask_patches, mask_window_tokens
from omar_rq.weights import BUNDLED, from_pretrained
from pentatonic import audio
from pentatonic.errors import InputError, UsageError

DEMO = Path(__file__).parents[1] / "demo"
MODEL = "omar-rq-tiny"


def test_the_bundled_checkpoint_is_small_half_precision_and_loads():
    folder = BUNDLED[MODEL]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8 * 2**20
    stored = load_file(folder / "model.safetensors")
    assert {t.dtype for t in stored.values() if t.is_floating_point()} == {torch.float16}
    model = from_pretrained(MODEL)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.to_dict()["targets"][1]["name"] == "cqt"


def masked_patch_r2(model: OmarRQ, sound: torch.Tensor) -> float:
    """How much of the variance of hidden patches a ridge regression on the outputs at their place explains."""
    generator = torch.Generator().manual_seed(0)
    window = mask_window_tokens(model.config.masking, model.config.input)
    with torch.no_grad():
        patches = patchify(model.frontend(sound), model.patch_size)
        inputs, targets = [], []
        for _ in range(12):
            masked, mask = mask_patches(patches, model.config.masking, window=window, generator=generator)
            hidden = model.trunk(model.embed(masked))[0]
            inputs.append(torch.where(mask[..., None], hidden, torch.nan)[0])
            targets.append(patches[0])
    x, y = torch.stack(inputs), torch.stack(targets)
    half = x.shape[1] // 2
    sides = [
        (x[:, part].flatten(0, 1), y[:, part].flatten(0, 1)) for part in (slice(half), slice(half, None))
    ]
    (x_fit, y_fit), (x_test, y_test) = [(a[~a[:, 0].isnan()], b[~a[:, 0].isnan()]) for a, b in sides]
    mean_x, mean_y = x_fit.mean(0), y_fit.mean(0)
    gram = (x_fit - mean_x).T @ (x_fit - mean_x)
    weights = torch.linalg.solve(gram + 50 * torch.eye(len(gram)), (x_fit - mean_x).T @ (y_fit - mean_y))
    error = (y_test - mean_y - (x_test - mean_x) @ weights).square().sum()
    return 1 - (error / (y_test - mean_y).square().sum()).item()


def test_the_bundled_checkpoint_infers_hidden_patches_from_their_context():
    """That is what it was trained for; a fresh network sees nothing but noise there."""
    sound = audio.load(DEMO / "durangs_hornpipe_flute.ogg", sample_rate=16000).samples
    trained = from_pretrained(MODEL)
    torch.manual_seed(0)
    fresh = OmarRQ(trained.config).eval()
    scores = masked_patch_r2(trained, sound), masked_patch_r2(fresh, sound)
    assert scores[0] > scores[1] + 0.05


def test_demo_page_has_a_player_and_a_figure_for_each_recording(tmp_path):
    page, outcome = write_demo(MODEL, [DEMO], tmp_path / "out")
    assert (outcome.count("done"), outcome.exit_code) == (3, 0)
    html = page.read_text(encoding="utf-8")
    assert page == tmp_path / "out" / "index.html"
    assert len(re.findall(r"<audio[ >]", html)) == 3
    assert html.count("data:image/png;base64,") == 3
    assert "self-similarity matrix of joplin maple leaf rag piano" in html
    assert "omar-rq" in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["']https?:""", html)


def test_nearest_pairs_are_the_closest_ones_across_recordings_each_once():
    generator = torch.Generator().manual_seed(0)
    eps = 2.0  # six tokens make a segment of three seconds
    first, second = (torch.randn(18, 8, generator=generator) for _ in range(2))
    second[6:12] = first[12:18]  # the third segment of the first is the second of the second
    recordings = [Recording(name, torch.zeros(1), 1, e, eps) for name, e in (("a", first), ("b", second))]
    pairs = nearest_pairs(recordings)
    score, a, s, b, t = pairs[0]
    assert score == pytest.approx(1.0, abs=1e-5)
    assert {(a, s), (b, t)} == {(0, 6.0), (1, 3.0)}
    keys = [frozenset({(a, s), (b, t)}) for _, a, s, b, t in pairs]
    assert len(keys) == len(set(keys))
    assert [pair[0] for pair in pairs] == sorted((pair[0] for pair in pairs), reverse=True)


def test_centring_removes_the_common_mean():
    recordings = [Recording(str(i), torch.zeros(1), 1, torch.randn(5, 4) + 10, 1.0) for i in range(2)]
    moved = torch.cat([recording.embeddings for recording in centred(recordings)])
    assert moved.mean(0).abs().max() < 1e-5


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UsageError, match="no audio files"):
        write_demo(MODEL, [tmp_path], tmp_path / "out")
    (tmp_path / "noise.wav").write_text("this is not audio")
    with pytest.raises(InputError, match=r"none of the recordings.*noise\.wav"):
        write_demo(MODEL, [tmp_path], tmp_path / "out")
    assert not (tmp_path / "out" / "index.html").exists()


def test_a_bad_file_among_good_ones_is_named_and_left_out(tmp_path):
    bad, good = tmp_path / "noise.wav", DEMO / "durangs_hornpipe_flute.ogg"
    bad.write_text("this is not audio")
    page, outcome = write_demo(MODEL, [bad, good], tmp_path / "out")
    assert len(re.findall(r"<audio[ >]", page.read_text(encoding="utf-8"))) == 1
    assert {entry["path"]: entry["status"] for entry in outcome.entries} == {
        str(bad): "failed",
        str(good): "done",
    }
    assert outcome.exit_code == 3
