"""The bundled checkpoint and the demo page made with it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

from omar_rq.demo import write_demo
from omar_rq.demo.page import _nearest, centred, nearest_pairs
from omar_rq.demo.recording import MeanRows, Recording, read_recording
from omar_rq.frontends import patchify
from omar_rq.model import OmarRQ
from omar_rq.training.masking import mask_patches, mask_window_tokens
from omar_rq.weights import BUNDLED, from_pretrained
from pentatonic import audio
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions
from pentatonic.errors import InputError, UsageError
from pentatonic.report import Report

pytestmark = pytest.mark.usefixtures("decode_here")

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


def recording(tokens: torch.Tensor, segment: int = 6, segment_s: float = 3.0) -> Recording:
    segments = MeanRows(segment)
    segments.add(tokens)
    picture = torch.zeros(1, 1)
    seconds = len(tokens) / segment * segment_s
    return Recording(
        path=Path("a.wav"),
        duration_s=seconds,
        n_tokens=len(tokens),
        mean=tokens.mean(0),
        overview=tokens,
        segments=segments.rows(),
        segment_s=segment_s,
        spectrogram=picture,
        sound=b"",
        sound_s=seconds,
        flags=[],
    )


def test_nearest_pairs_are_the_closest_ones_across_recordings_each_once():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(18, 8, generator=generator) for _ in range(2))
    second[6:12] = first[12:18]  # the third segment of the first is the second of the second
    pairs = nearest_pairs([recording(first), recording(second)])
    score, a, s, b, t = pairs[0]
    assert score == pytest.approx(1.0, abs=1e-5)
    assert {(a, s), (b, t)} == {(0, 6.0), (1, 3.0)}
    keys = [frozenset({(a, s), (b, t)}) for _, a, s, b, t in pairs]
    assert len(keys) == len(set(keys))
    assert [pair[0] for pair in pairs] == sorted((pair[0] for pair in pairs), reverse=True)


def test_nearest_pairs_compare_all_with_all(monkeypatch):
    monkeypatch.setattr("omar_rq.demo.page._COMPARED_SEGMENTS", 2)
    generator = torch.Generator().manual_seed(0)
    recordings = [recording(torch.randn(n, 4, generator=generator), segment=1) for n in (5, 3, 7)]
    segments = [torch.nn.functional.normalize(each.segments, dim=1) for each in recordings]
    expected = set()
    for a, own in enumerate(segments):
        for i, segment in enumerate(own):
            scores = {
                (b, j): float(other @ segment)
                for b, o in enumerate(segments)
                if b != a
                for j, other in enumerate(o)
            }
            expected.add(
                frozenset({(a, 3.0 * i), max((score, b, 3.0 * j) for (b, j), score in scores.items())[1:]})
            )
    assert {frozenset({(a, s), (b, t)}) for _, a, s, b, t in nearest_pairs(recordings)} == expected


def test_links_lead_to_what_a_player_has():
    tokens = torch.eye(8)
    long = replace(recording(tokens, segment=1), sound_s=7.0)
    report = Report("", command="", versions={})
    players = [report.audio(torch.zeros(9), name, sample_rate=8000) for name in "ab"]
    with mock.patch.object(report, "links") as links:
        _nearest(report, [recording(tokens, segment=1), long], players)
    linked = {
        player: {at for call in links.call_args_list for _, to, at in call.args[0] if to == player}
        for player in players
    }
    assert linked == {players[0]: {3.0 * i for i in range(8)}, players[1]: {0.0, 3.0, 6.0}}


def test_centring_removes_the_common_mean():
    moved = centred([recording(torch.randn(n, 4) + 10) for n in (5, 50)])
    assert torch.cat([each.overview for each in moved]).mean(0).abs().max() < 1e-5
    assert (5 * moved[0].mean + 50 * moved[1].mean).abs().max() < 1e-3
    assert moved[1].segments.abs().max() < 5


@pytest.mark.parametrize("most", [None, 4, 7])
@pytest.mark.parametrize("n", [1, 3, 8, 29, 64])
def test_means_of_rows_do_not_depend_on_the_pieces(n, most):
    rows = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    length = 2
    while most and n // length > most:
        length *= 2
    expected = [part.mean(0) for part in rows.split(length) if 2 * len(part) >= length or n < length]
    for size in (1, 5, n):
        means = MeanRows(2, most)
        for piece in rows.split(size):
            means.add(piece)
        assert means.length == length
        torch.testing.assert_close(means.rows(), torch.stack(expected))


def test_a_recording_is_pooled_to_a_bounded_size(monkeypatch):
    """Short recordings keep every token; of longer ones, pictures are means."""
    model = from_pretrained(MODEL)
    path = DEMO / "durangs_hornpipe_flute.ogg"
    whole = read_recording(model, path, audio.stream, DEFAULT_READING)
    tokens = model.extract_embeddings(audio.load(path, sample_rate=16000).samples, sample_rate=16000)[0, 0]
    assert whole.n_tokens == len(tokens)
    torch.testing.assert_close(whole.overview, tokens, rtol=0, atol=2e-4)
    torch.testing.assert_close(whole.mean, tokens.mean(0), rtol=0, atol=2e-5)
    torch.testing.assert_close(whole.segments[0], tokens[:47].mean(0), rtol=0, atol=2e-5)
    assert whole.segment_s == pytest.approx(3, abs=0.05) and len(whole.segments) == 10
    assert (whole.sound, whole.duration_s, whole.sound_s) == (path, 30.0, 30.0)
    monkeypatch.setattr("omar_rq.demo.recording.PICTURE_ROWS", 100)
    pooled = read_recording(model, path, audio.stream, DEFAULT_READING)
    assert len(pooled.overview) == 59 and pooled.spectrogram.shape == (96, 59)
    torch.testing.assert_close(pooled.overview[3], tokens[24:32].mean(0), rtol=0, atol=2e-4)


def test_what_a_player_has(tmp_path, monkeypatch):
    model = from_pretrained(MODEL)
    path = DEMO / "durangs_hornpipe_flute.ogg"
    expected = audio.load(path, sample_rate=16000).samples[0]
    part = ReadOptions(start_s=5, duration_s=4)
    excerpt = read_recording(model, path, audio.stream, part)
    assert excerpt.duration_s == excerpt.sound_s == 4
    monkeypatch.setattr("omar_rq.demo.recording.PLAYER_BYTES", 10)
    monkeypatch.setattr("omar_rq.demo.recording.PLAYER_S", 20)
    large = read_recording(model, path, audio.stream, DEFAULT_READING)
    assert (large.duration_s, large.sound_s) == (30.0, 20)
    for found, samples in ((excerpt, expected[80000:144000]), (large, expected[: 20 * 16000])):
        (tmp_path / "a.ogg").write_bytes(found.sound)
        decoded = audio.load(tmp_path / "a.ogg")
        assert decoded.sample_rate == 16000 and decoded.samples.shape == (1, len(samples))
        assert (decoded.samples[0] - samples).square().mean() < 0.05 * samples.square().mean()


def test_a_file_that_no_player_reads_is_encoded(tmp_path):
    """What a file is called does not matter: here it is MP3."""
    sound = audio.load(DEMO / "durangs_hornpipe_flute.ogg", duration_s=3)
    audio.save(tmp_path / "a.mp3", sound.samples, sound.sample_rate, subtype="MPEG_LAYER_III")
    (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    page, outcome = write_demo(MODEL, [tmp_path / "a.wav"], tmp_path / "out")
    assert outcome.exit_code == 0 and "data:audio/ogg;base64," in page.read_text(encoding="utf-8")


def test_the_report_of_a_demo(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "notes.txt").touch()
    audio.save(folder / "quiet.wav", 1e-4 * torch.ones(32000), 16000)
    page, outcome = write_demo(MODEL, [folder], tmp_path / "out", ReadOptions(start_s=1.5))
    assert outcome.passed_over == {".txt": 1}
    (entry,) = outcome.entries
    assert entry["duration_s"] == 0.5
    assert entry["flags"] == ["quiet (peak -80.8 dBFS)", "short (0.50 s)"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["inputs"][0]["flags"] == entry["flags"]
    assert "the rest from 1.5 s on was read" in page.read_text(encoding="utf-8")


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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path):
    for minutes in (2, 10):
        t = torch.arange(minutes * 60 * 16000) / 16000
        audio.save(tmp_path / f"{minutes}.flac", 0.3 * torch.sin(2 * torch.pi * 440 * t), 16000)
    program = """
        import re, sys
        from pathlib import Path
        from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig
        from omar_rq.demo.page import _figure, centred
        from omar_rq.demo.recording import read_recording
        from pentatonic.audio_folder.reading import DEFAULT_READING
        from omar_rq.model import OmarRQ
        from pentatonic import audio

        net = ConformerConfig(embed_dim=128, depth=1, num_heads=4)
        model = OmarRQ(ModelConfig(input=MelFrontendConfig(), net=net)).eval()
        for minutes in (2, 10):
            path = Path(sys.argv[1]) / f"{minutes}.flac"
            recording = read_recording(model, path, audio.stream, DEFAULT_READING)
            _figure(centred([recording])[0]).savefig(Path(sys.argv[1]) / "figure.png", dpi=192)
            print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(program), str(tmp_path)]
    short, long = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert long - short < 32 * 1024, "KiB; the samples alone are 38 MB, a matrix of all tokens 350 MB"
