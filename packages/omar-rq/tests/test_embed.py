"""Files and folders to ``.npz`` and Parquet: numbers, bad files, continuation."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig, QuantizerConfig
from omar_rq.embed import embed_file, embed_folder, fingerprint, tokenize_folder
from omar_rq.files.stages import EmbeddingOptions, audio_share, compute_embeddings
from omar_rq.model import OmarRQ
from omar_rq.signals import LayerIndexError
from omar_rq.weights import load_directory, save_pretrained
from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem, decode_ahead
from pentatonic.audio_folder.npz import write_npz
from pentatonic.audio_folder.reading import ReadOptions
from pentatonic.cli import ProgressBar
from pentatonic.errors import (
    AudioTooShort,
    ConfigError,
    CorruptAudio,
    InputError,
    NonFiniteAudio,
    UsageError,
)
from pentatonic.folder_run import OutputError

pytestmark = pytest.mark.usefixtures("decode_here")

CONFIG = ModelConfig(
    input=MelFrontendConfig(),
    targets=(MelFrontendConfig(),),
    net=ConformerConfig(embed_dim=16, depth=3, num_heads=2, beta_deepnorm=1.0),
    quantizer=QuantizerConfig(type="random_codebook", num_codebooks=2, codebook_size=64),
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "small"
    save_pretrained(OmarRQ(CONFIG), folder)
    return folder


@pytest.fixture(scope="module")
def model(model_folder) -> OmarRQ:
    return load_directory(model_folder, quantization_targets=True)


def tone(
    path: Path, seconds: float = 1.0, sample_rate: int = 16000, channels: int = 1, hz: float = 440.0
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    t = torch.arange(round(seconds * sample_rate)) / sample_rate
    phases = torch.arange(channels)[:, None] * 0.1
    audio.save(path, 0.3 * torch.sin(2 * torch.pi * hz * t + phases), sample_rate)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def statuses(report) -> dict[str, str]:
    return {Path(entry["path"]).name: entry["status"] for entry in report.entries}


def good_corpus(folder: Path) -> list[str]:
    tone(folder / "a.wav", 1.3)
    tone(folder / "a.flac", 0.7, hz=300)
    tone(folder / "sub" / "a.wav", 2.0, sample_rate=44100, channels=2)
    tone(folder / "eight.wav", 0.5, channels=8)
    tone(folder / "Ü Ⅷ 音.wav", 0.5, hz=200)
    audio.save(folder / "silence.wav", torch.zeros(16000), 16000)
    shutil.copyfile(tone(folder / "x.flac", 0.4), folder / "flac_inside.wav")  # the content counts
    (folder / "x.flac").unlink()
    (folder / "sub" / "loop").symlink_to(folder, target_is_directory=True)
    return ["a.flac", "a.wav", "eight.wav", "flac_inside.wav", "silence.wav", "sub/a.wav", "Ü Ⅷ 音.wav"]


def bad_corpus(folder: Path) -> dict[str, str]:
    """Add bad files; name -> error that the report must give."""
    whole = tone(folder / "truncated.wav", 1.0).read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").touch()
    (folder / "text.mp3").write_text("this is not audio")
    import soundfile

    soundfile.write(folder / "nan.wav", np.array([0.0, np.nan] * 8000), 16000, subtype="FLOAT")
    tone(folder / "short.wav", 0.01)
    (folder / "dangling.wav").symlink_to(folder / "nowhere.wav")
    os.mkfifo(folder / "fifo.wav")
    bad = {
        "truncated.wav": "TruncatedAudio",
        "empty.wav": "UnsupportedFormat",
        "text.mp3": "UnsupportedFormat",
        "nan.wav": "NonFiniteAudio",
        "short.wav": "AudioTooShort",
        "dangling.wav": "FileNotFoundError",
        "fifo.wav": "AudioFileNotFound",
    }
    if os.geteuid() != 0:  # root reads everything
        tone(folder / "locked.wav").chmod(0)
        bad["locked.wav"] = "AudioError"
    return bad


def noises(folder: Path, lengths_s: Sequence[float]) -> list[Path]:
    generator = torch.Generator().manual_seed(0)
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:02}.wav" for i in range(len(lengths_s))]
    for path, length_s in zip(paths, lengths_s, strict=True):
        audio.save(path, 0.1 * torch.randn(round(length_s * 16000), generator=generator), 16000)
    return paths


@pytest.mark.parametrize("options", [{}, {"pool": "mean"}])
def test_files_that_share_a_pass_have_the_numbers_of_each_alone(model, tmp_path, monkeypatch, options):
    lengths_s = [0.3, 2.0, 0.31, 4.0, 0.1, 2.0, 1.2, 0.7, 3.9, 0.3]
    paths = noises(tmp_path / "in", lengths_s)
    sizes = []
    extract = OmarRQ.extract_embeddings

    def spy(self, signals, *arguments, **options):
        sizes.append(len(signals))
        return extract(self, signals, *arguments, **options)

    monkeypatch.setattr(OmarRQ, "extract_embeddings", spy)
    for batch in (1, 3, 32):
        sizes.clear()
        report = embed_folder(
            model, [tmp_path / "in"], tmp_path / str(batch), layers=[0, 2], batch=batch, **options
        )
        assert report.count("done") == len(paths) == sum(sizes) and max(sizes) <= batch
        assert (max(sizes) == 1) == (batch == 1)
        assert [entry["duration_s"] for entry in report.entries] == lengths_s
    monkeypatch.undo()
    for path in paths:
        embed_file(model, path, tmp_path / "alone.npz", layers=[0, 2], **options)
        alone = read(tmp_path / "alone.npz")
        for batch in ("1", "3", "32"):
            shared = read(tmp_path / batch / f"{path.name}.npz")
            assert shared["embeddings"].shape == alone["embeddings"].shape
            error = np.abs(shared["embeddings"] - alone["embeddings"]).max()
            assert error <= 2e-5 * np.abs(alone["embeddings"]).max()
            if "times_s" in alone:
                np.testing.assert_array_equal(shared["times_s"], alone["times_s"])


def test_files_up_to_the_context_take_one_pass_and_longer_ones_are_streamed(model, tmp_path, monkeypatch):
    short, just, long = noises(tmp_path / "in", [1.0, 2.0, 2.01])
    monkeypatch.setattr(
        "omar_rq.files.stages.stream_embeddings",
        lambda *_, **__: (_ for _ in ()).throw(InputError("streamed")),
    )
    for context_s, streamed in ((2.0, {long.name}), (None, set()), (0.5, {short.name, just.name, long.name})):
        report = embed_folder(
            model, [tmp_path / "in"], tmp_path / str(context_s), context_s=context_s, overwrite=True
        )
        failed = {Path(e["path"]).name for e in report.entries if e["status"] == "failed"}
        assert failed == streamed


def test_one_pass_gives_the_numbers_of_extraction(model, tmp_path):
    (path,) = noises(tmp_path / "in", [3.0])
    embed_file(model, path, tmp_path / "a.npz", layers=[0, 2])
    expected = model.extract_embeddings(audio.load(path).samples, [0, 2], sample_rate=16000)[:, 0]
    np.testing.assert_array_equal(read(tmp_path / "a.npz")["embeddings"], expected.numpy())


def test_large_results_wait_on_disk(model, tmp_path, monkeypatch):
    (path,) = noises(tmp_path / "in", [3.0])
    embed_file(model, path, tmp_path / "memory.npz", layers=[0, 2])
    monkeypatch.setattr("omar_rq.files.stages._IN_MEMORY_BYTES", 100)
    opened = []
    temporary = tempfile.TemporaryFile
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **options: opened.append(options) or temporary(**options)
    )
    embed_file(model, path, tmp_path / "disk.npz", layers=[0, 2])
    assert opened == [{"dir": tmp_path}]
    assert (tmp_path / "disk.npz").read_bytes() == (tmp_path / "memory.npz").read_bytes()


def test_decoding_ahead_stops_after_one_pass(model):
    taken = []

    def blocks():
        try:
            for i in range(10):
                taken.append(i)
                yield torch.full((16000,), float(i))
        finally:
            taken.append("closed")

    item = AudioItem(Path("a.wav"), "", blocks())
    started = decode_ahead(item, sample_rate=16000, check=model.frontend.check, seconds=2.0)
    assert taken == [0, 1, 2] and not started.whole and audio_share(started, model=model) == np.inf
    first = next(iter(started.all_blocks()))
    assert first[0] == 0
    started.close()
    assert taken == [0, 1, 2, "closed"]
    whole = decode_ahead(
        AudioItem(Path("a.wav"), "", blocks()), sample_rate=16000, check=model.frontend.check, seconds=10.0
    )
    assert whole.whole and whole.n_decoded == 160000 and torch.cat(list(whole.all_blocks()))[-1] == 9
    assert 0 < audio_share(whole, model=model) < 1
    with pytest.raises(AudioTooShort, match=r"^a\.wav: 10 samples"):
        decode_ahead(
            AudioItem(Path("a.wav"), "", [torch.zeros(10)]),
            sample_rate=16000,
            check=model.frontend.check,
            seconds=2.0,
        )


def test_errors_of_a_whole_signal_name_its_file(model, tmp_path, monkeypatch):
    paths = noises(tmp_path / "in", [1.0, 1.0])
    blocks = {paths[0]: torch.full((16000,), torch.inf), paths[1]: torch.zeros(16000)}
    items = [
        decode_ahead(AudioItem(path, "", [block]), sample_rate=16000, seconds=300.0)
        for path, block in blocks.items()
    ]
    options = EmbeddingOptions([2], None, "none", "float32", "")
    with pytest.raises(NonFiniteAudio, match=r"00\.wav: there are NaN"):
        compute_embeddings(items[:1], model=model, options=options, folder=tmp_path)
    monkeypatch.setattr(audio, "stream", lambda path, **_: iter([blocks[Path(path)]]))
    monkeypatch.setattr(audio.DecodingProcess, "stream", staticmethod(audio.stream))
    report = embed_folder(model, [tmp_path / "in"], tmp_path / "out")
    assert [(entry["status"], entry.get("reason", "")[:13]) for entry in report.entries] == [
        ("failed", "there are NaN"),
        ("done", ""),
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files are read from /proc")
@pytest.mark.parametrize("run", [embed_folder, tokenize_folder])
def test_a_full_disk_ends_the_run_and_the_report_stays(model, tmp_path, monkeypatch, run):
    noises(tmp_path / "in", [6.0] * 120)  # several times what is read and computed ahead
    out = tmp_path / "out"
    written = []
    fsync = os.fsync

    def fill(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if name.startswith(".00.wav.npz.tmp-"):
            time.sleep(0.5)  # its turn comes first, and nobody waits for it
        elif ".npz.tmp-" in name:
            written.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(OutputError, match=r"cannot write .*01\.wav\.npz: No space left on device"):
        run(model, [tmp_path / "in"], out)
    monkeypatch.undo()
    assert json.loads((out / "report.json").read_text())["counts"] == {"done": 1, "skipped": 0, "failed": 0}
    assert len(written) < 90
    assert sorted(path.name for path in out.iterdir()) == ["00.wav.npz", "report.json", "run.json"]


@pytest.mark.parametrize("store", ["float32", "float16"])
def test_a_file_holds_what_the_model_gives(model, tmp_path, store):
    path = tone(tmp_path / "a.wav", 3.0, sample_rate=44100, channels=2)
    about = embed_file(model, path, tmp_path / "a.npz", layers=[-1, 0], store=store, model_name="small")
    stored = read(tmp_path / "a.npz")
    sound = audio.load(path, sample_rate=16000)
    expected = model.extract_embeddings(sound.samples, [0, 2], sample_rate=16000)[:, 0].numpy()
    assert stored["embeddings"].dtype == store and stored["embeddings"].shape == (2, 47, 16)
    tolerance = 2e-5 if store == "float32" else 1e-3
    np.testing.assert_allclose(
        stored["embeddings"], expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )
    np.testing.assert_array_equal(stored["times_s"], np.arange(47) / 15.625)
    np.testing.assert_allclose(stored["centres_s"], (np.arange(47) + 0.375) / 15.625, rtol=1e-12)
    assert stored["layers"].tolist() == [0, 2]
    facts = {
        name: stored[name].item()
        for name in ("embedding_rate_hz", "eps", "sample_rate", "duration_s", "model")
    }
    assert facts == {
        "embedding_rate_hz": 15.625,
        "eps": 15.625,
        "sample_rate": 16000,
        "duration_s": 3.0,
        "model": "small",
    }
    assert about == {"tokens": 47, "duration_s": 3.0, "dtype": "fp32"}


def test_pooling_is_the_mean_over_tokens(model, tmp_path):
    path = tone(tmp_path / "a.wav", 3.0)
    embed_file(model, path, tmp_path / "all.npz", layers=[0, 2])
    embed_file(model, path, tmp_path / "mean.npz", layers=[0, 2], pool="mean")
    pooled = read(tmp_path / "mean.npz")
    assert pooled["embeddings"].shape == (2, 16) and not {"times_s", "centres_s"} & pooled.keys()
    np.testing.assert_allclose(
        pooled["embeddings"], read(tmp_path / "all.npz")["embeddings"].mean(1), atol=1e-6
    )


def test_times_of_a_part_are_places_in_the_file(model, tmp_path):
    path = tmp_path / "a.wav"
    samples = 0.1 * torch.randn(64000, generator=torch.Generator().manual_seed(0))
    audio.save(path, samples, 16000)
    part = ReadOptions(start_s=1.5, duration_s=2)
    assert embed_file(model, path, tmp_path / "a.npz", reading=part) == {
        "tokens": 31,
        "duration_s": 2.0,
        "dtype": "fp32",
    }
    stored = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(stored["times_s"], 1.5 + np.arange(31) / 15.625)
    np.testing.assert_allclose(stored["centres_s"] - stored["times_s"], 0.375 / 15.625, rtol=1e-9)
    assert (stored["start_s"], stored["duration_s"]) == (1.5, 2.0)
    audio.save(tmp_path / "part.wav", samples[24000:56000], 16000)
    embed_file(model, tmp_path / "part.wav", tmp_path / "part.npz")
    alone = read(tmp_path / "part.npz")
    np.testing.assert_array_equal(stored["embeddings"], alone["embeddings"])
    assert alone["times_s"][0] == alone["start_s"] == 0
    with pytest.raises(AudioTooShort, match="past the end"):
        embed_file(model, path, tmp_path / "b.npz", reading=ReadOptions(start_s=4))


def test_whole_numbers_of_seconds_are_stored_as_other_numbers():
    """Outputs say what they were made with as text, which must not depend on how a number was given."""
    given = ReadOptions(start_s=1, duration_s=2, max_duration_s=3)
    assert json.dumps(asdict(given)) == json.dumps(asdict(ReadOptions(1.0, 2.0, "raise", 3.0)))


def test_quiet_and_short_files_are_flagged_and_done(model, tmp_path):
    (tmp_path / "in").mkdir()
    for name, seconds, level in (
        ("a", 1.0, 1e-2),
        ("short", 0.9, 1e-2),
        ("quiet", 1.0, 9e-4),
        ("both", 0.5, 0.0),
    ):
        audio.save(
            tmp_path / "in" / f"{name}.wav",
            level * torch.ones(round(16000 * seconds)),
            16000,
            subtype="FLOAT",
        )
    for run in (embed_folder, tokenize_folder):
        report = run(model, [tmp_path / "in"], tmp_path / run.__name__)
        assert report.exit_code == 0
        flags = {Path(entry["path"]).stem: entry.get("flags") for entry in report.entries}
        assert flags == {
            "a": None,
            "short": ["short (0.90 s)"],
            "quiet": ["quiet (peak -60.9 dBFS)"],
            "both": ["quiet (silence)", "short (0.50 s)"],
        }


def test_progress_moves_inside_a_file(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ProgressBar, "PLAIN_INTERVAL_S", 0.0)
    path = tone(tmp_path / "a.wav", 70.0)
    embed_folder(model, [path], tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    notes = [line.split(", ")[2] for line in lines[1:]]
    expected = [*(f"a.wav: {seconds} s of audio" for seconds in (30, 60, 70)), "a.wav", "a.wav"]
    assert notes == expected and lines[1].startswith("embedding: 0/1 (0%), ")


def test_the_context_reaches_the_model(model, tmp_path):
    path = tmp_path / "a.wav"
    audio.save(path, 0.1 * torch.randn(64000, generator=torch.Generator().manual_seed(0)), 16000)
    for name, context_s in (("all", None), ("some", 0.5)):
        embed_file(model, path, tmp_path / f"{name}.npz", context_s=context_s)
    everything, some = (read(tmp_path / f"{name}.npz")["embeddings"] for name in ("all", "some"))
    assert everything.shape == some.shape and np.abs(everything - some).max() > 1e-4


def test_values_beyond_float16_are_an_error_and_leave_no_file(model_folder, tmp_path):
    model = load_directory(model_folder)
    with torch.no_grad():
        model.trunk.blocks[0].norm_out.weight.fill_(1e5)
    path = tone(tmp_path / "in" / "a.wav")
    out = tmp_path / "out"
    out.mkdir()
    for pool in ("none", "mean"):
        with pytest.raises(InputError, match="float16"):
            embed_file(model, path, out / "a.npz", layers=0, store="float16", pool=pool)
    assert not list(out.iterdir())


def test_every_bad_file_is_named_and_no_good_one(model, tmp_path):
    corpus, out = tmp_path / "in", tmp_path / "out"
    good, bad = good_corpus(corpus), bad_corpus(corpus)
    report = embed_folder(model, [corpus], out)
    failed = {Path(e["path"]).name: e["error"] for e in report.entries if e["status"] == "failed"}
    assert failed.keys() == bad.keys()
    for name, error in bad.items():
        assert failed[name] == error or name == "locked.wav", name
    assert all(e["reason"] and "audio:" not in e["reason"] for e in report.entries if e["status"] == "failed")
    done = [os.path.relpath(e["path"], corpus) for e in report.entries if e["status"] == "done"]
    assert sorted(done) == sorted(good)
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.npz")) == sorted(
        f"{g}.npz" for g in good
    )
    assert json.loads((out / "report.json").read_text())["counts"] == {
        "done": len(good),
        "skipped": 0,
        "failed": len(bad),
    }
    assert report.exit_code == 3


def test_bad_files_change_nothing_for_good_ones(model, tmp_path):
    corpus = tmp_path / "in"
    good = good_corpus(corpus)
    embed_folder(model, [corpus], tmp_path / "clean")
    bad_corpus(corpus)
    embed_folder(model, [corpus], tmp_path / "mixed")
    for name in good:
        one, other = ((tmp_path / folder / f"{name}.npz").read_bytes() for folder in ("clean", "mixed"))
        assert one == other, name


def test_damaged_files_give_their_good_part_when_asked(model, tmp_path):
    corpus = tmp_path / "in"
    bad_corpus(corpus)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is wrong is in the report and nowhere else
        report = embed_folder(model, [corpus], tmp_path / "out", strict=False)
    entries = {Path(entry["path"]).name: entry for entry in report.entries}
    assert entries["truncated.wav"]["status"] == "done"
    assert 0.4 < entries["truncated.wav"]["duration_s"] <= 0.5
    assert (
        "truncated" in entries["truncated.wav"]["warnings"][0]
        or "promise" in entries["truncated.wav"]["warnings"][0]
    )
    assert entries["empty.wav"]["status"] == entries["nan.wav"]["status"] == "failed"
    with pytest.raises(CorruptAudio):
        embed_file(model, corpus / "truncated.wav", tmp_path / "x.npz")


def test_finished_files_are_not_computed_again(model, tmp_path):
    corpus, out = tmp_path / "in", tmp_path / "out"
    for name in "abcd":
        tone(corpus / f"{name}.wav")
    embed_folder(model, [corpus], out)
    tone(corpus / "b.wav", 1.5)  # changed
    (out / "c.wav.npz").unlink()  # lost
    (out / "d.wav.npz").write_bytes((out / "d.wav.npz").read_bytes()[:100])  # damaged
    before = (out / "a.wav.npz").stat().st_mtime_ns
    report = embed_folder(model, [corpus], out)
    assert statuses(report) == {"a.wav": "skipped", "b.wav": "done", "c.wav": "done", "d.wav": "done"}
    assert (out / "a.wav.npz").stat().st_mtime_ns == before
    assert read(out / "b.wav.npz")["duration_s"] == 1.5
    assert statuses(embed_folder(model, [corpus], out, overwrite=True)) == dict.fromkeys(
        statuses(report), "done"
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layers": 0}, "layers"),
        ({"context_s": 20.0}, "context_s"),
        ({"pool": "mean"}, "pool"),
        ({"store": "float16"}, "store"),
        ({"strict": False}, "strict"),
        ({"reading": ReadOptions(start_s=0.1)}, "start_s 0.0, not 0.1"),
        ({"reading": ReadOptions(duration_s=0.5)}, "no duration_s, now 0.5"),
        ({"reading": ReadOptions(nonfinite="zero")}, "nonfinite"),
        ({"reading": ReadOptions(max_duration_s=5)}, "max_duration_s"),
        ({"reading": ReadOptions(max_channels=5)}, "max_channels"),
    ],
)
def test_a_folder_of_other_settings_is_not_mixed(model, tmp_path, options, named):
    corpus, out = tmp_path / "in", tmp_path / "out"
    tone(corpus / "a.wav")
    embed_folder(model, [corpus], out)
    with pytest.raises(UsageError, match=named):
        embed_folder(model, [corpus], out, **options)
    assert statuses(embed_folder(model, [corpus], out, overwrite=True, **options)) == {"a.wav": "done"}
    assert statuses(embed_folder(model, [corpus], out, **options)) == {"a.wav": "skipped"}


def test_another_model_is_another_setting(model, model_folder, tmp_path):
    corpus, out = tmp_path / "in", tmp_path / "out"
    tone(corpus / "a.wav")
    embed_folder(model, [corpus], out)
    same, half, changed = (load_directory(model_folder) for _ in range(3))
    with torch.no_grad():
        changed.embed.bias[0] += 1e-3
    assert fingerprint(same) == fingerprint(model)
    for other in (half.bfloat16(), changed):
        assert fingerprint(other) != fingerprint(model)
        with pytest.raises(UsageError, match="model"):
            embed_folder(other, [corpus], out)


def test_a_run_file_of_something_else_is_refused(model, tmp_path):
    tone(tmp_path / "in" / "a.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("[]")
    with pytest.raises(UsageError, match=r"run\.json"):
        embed_folder(model, [tmp_path / "in"], tmp_path / "out")


def test_a_folder_without_audio_is_named(model, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"no audio files in .*none$"):
        embed_folder(model, [tmp_path / "none"], tmp_path / "out")
    (tmp_path / "none" / "a.txt").touch()
    with pytest.raises(UsageError, match=r"none \(1 file passed over for its suffix: 1 \.txt\)$"):
        embed_folder(model, [tmp_path / "none"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_equal_arrays_give_equal_bytes(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz", {"x": np.arange(3)})
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    write_npz(tmp_path / "b.npz", {"x": np.arange(3)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_tokens_of_a_folder(model, tmp_path):
    path = tone(tmp_path / "in" / "a.wav", 2.0)
    (tmp_path / "in" / "bad.wav").write_text("no")
    tone(tmp_path / "in" / "short.wav", 0.001)
    report = tokenize_folder(model, [tmp_path / "in"], tmp_path / "out", model_name="small")
    assert statuses(report) == {"a.wav": "done", "bad.wav": "failed", "short.wav": "failed"}
    stored = read(tmp_path / "out" / "a.wav.npz")
    expected = model.tokenizer.tokenize(audio.load(path).samples, sample_rate=16000)[0]
    assert stored["tokens"].dtype == np.int32 and stored["tokens"].shape == (31, 2)
    np.testing.assert_array_equal(stored["tokens"], expected.numpy())
    assert stored["codebook_sizes"].tolist() == [64, 64] and len(stored["times_s"]) == 31
    assert statuses(tokenize_folder(model, [path], tmp_path / "out")) == {"a.wav": "skipped"}
    with pytest.raises(UsageError, match="command"):
        embed_folder(model, [path], tmp_path / "out")


def test_tokens_need_a_tokenizer(model_folder, tmp_path):
    with pytest.raises(ConfigError, match="tokenizer"):
        tokenize_folder(load_directory(model_folder), [tmp_path], tmp_path / "out")


def test_bad_options_are_named(model, tmp_path):
    tone(tmp_path / "a.wav")
    for options in ({"pool": "max"}, {"store": "int8"}, {"batch": 0}):
        with pytest.raises(UsageError, match=f"{next(iter(options))} is"):
            embed_folder(model, [tmp_path], tmp_path / "out", **options)
    with pytest.raises(LayerIndexError):
        embed_folder(model, [tmp_path], tmp_path / "out", layers=3)
    assert not (tmp_path / "out").exists()


def test_a_killed_run_continues(model, model_folder, tmp_path):
    corpus, out = tmp_path / "in", tmp_path / "out"
    for i in range(12):
        tone(corpus / f"{i:02}.wav", 20.0, hz=100 + 50 * i)
    arguments = ["embed", str(corpus), "--model", str(model_folder), "--out", str(out), "--layers", "all"]
    command = [sys.executable, "-c", "from omar_rq.cli import main; main()", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    try:
        while len(list(out.glob("*.npz"))) < 2 and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*.npz")}
    assert 2 <= len(finished) < 12, "the process must die in the middle"
    assert not (out / "report.json").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "report.json").read_text())["counts"] == {
        "done": 12 - len(finished),
        "skipped": len(finished),
        "failed": 0,
    }
    assert all(path.stat().st_mtime_ns == changed for path, changed in finished.items())
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    assert names == [*(f"{i:02}.wav.npz" for i in range(12)), "report.json", "run.json"]
    embed_folder(
        load_directory(model_folder),
        [corpus],
        tmp_path / "straight",
        layers=[0, 1, 2],
        model_name=str(model_folder),
    )
    for path in out.glob("*.npz"):
        one, other = read(path), read(tmp_path / "straight" / path.name)
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    for minutes in (2, 10):
        tone(tmp_path / f"{minutes}.wav", 60.0 * minutes)
    program = """
        import re, sys
        from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig
        from omar_rq.embed import embed_file
        from omar_rq.model import OmarRQ

        net = ConformerConfig(embed_dim=128, depth=3, num_heads=4)
        model = OmarRQ(ModelConfig(input=MelFrontendConfig(), net=net)).eval()
        for minutes in (2, 10):
            path = f"{sys.argv[1]}/{minutes}"
            embed_file(model, f"{path}.wav", f"{path}.npz", layers=[0, 1, 2], context_s=30.0)
            print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    short, long = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert read(tmp_path / "10.npz")["embeddings"].shape == (3, 9375, 128)
    assert long - short < 8 * 1024, "KiB; the samples alone are 38 MB, the embeddings 14 MB"
