"""The teacher: its checkpoint format, its network and its mel spectrogram.

Bundles are written here: several data blocks, keys that share their start. Tests that need the published weights run
where the environment variable MUSICNN_WHEEL names the wheel of musicnn 0.1.0.
"""

import hashlib
import json
import os
import struct
import sys
import zipfile
from pathlib import Path

import musicnn_teacher
import numpy as np
import pytest
import torch
from musicnn_network import PATCH_FRAMES, Musicnn, mel_frames, mel_patches
from musicnn_teacher import check_wheel, embed, labels, licence, load_teacher, teacher_wheel
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.torch import load_file
from tensorflow_bundle import read_bundle

from pentatonic.audio import save
from pentatonic.errors import AudioTooShort, FormatError, InputError, WeightsError

GOLDEN = Path(__file__).parent / "goldens" / "musicnn"
WHEEL = os.environ.get("MUSICNN_WHEEL")
with_weights = pytest.mark.skipif(not WHEEL, reason="MUSICNN_WHEEL does not name the wheel of musicnn 0.1.0")


# The format of the checkpoint.

MAGIC = 0xDB4775248B80FB57


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    """A number as varint, bytes as a nested message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(dtype, shape, offset, size):
    dimensions = b"".join(field(2, field(1, n) if n else b"") for n in shape)
    crc = varint(6 << 3 | 5) + struct.pack("<I", 0xDEADBEEF)
    return field(1, dtype) + field(2, dimensions) + field(4, offset) + field(5, size) + crc


def block(entries):
    out, before = bytearray(), b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b),
            min(len(key), len(before)),
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return bytes(out) + struct.pack("<II", 0, 1)


def table(entries, per_block=3):
    """An index file with these (key, value) pairs."""
    out, places = bytearray(), []

    def add(content):
        handle = varint(len(out)) + varint(len(content))
        out.extend(content + b"\0" + b"crc.")
        return handle

    for number in range(0, len(entries), per_block):
        part = entries[number : number + per_block]
        places.append((part[-1][0], add(block(part))))
    footer = add(block([])) + add(block(places))
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def bundle(tensors):
    """(index, data) of a checkpoint with these arrays; those that are not float32 get dtype 9 (int64)."""
    data, entries = bytearray(), [(b"", field(1, 1))]
    for name in sorted(tensors):
        values = np.asarray(tensors[name])
        dtype = 1 if values.dtype == np.float32 else 9
        entries.append((name.encode(), entry(dtype, values.shape, len(data), values.nbytes)))
        data += values.tobytes()
    return table(entries), bytes(data)


def everything(name):
    return True


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    shapes = {
        "dense/bias": (),
        "dense/kernel": (3, 5),
        "dense_1/kernel": (200, 2),
        "norm/beta": (1,),
        "z": (4,),
    }
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_all_tensors_are_read(arrays):
    found = read_bundle(*bundle(arrays), everything)
    assert list(found) == sorted(arrays)
    for name, values in arrays.items():
        assert found[name].shape == values.shape
        assert found[name].numpy().tobytes() == values.tobytes()


def test_only_wanted_tensors_are_read(arrays):
    arrays["global_step"] = np.array(7, dtype=np.int64)
    index, data = bundle(arrays)
    assert list(read_bundle(index, data, lambda name: name.startswith("dense/"))) == [
        "dense/bias",
        "dense/kernel",
    ]
    with pytest.raises(FormatError, match="'global_step' has dtype 9; only 1"):
        read_bundle(index, data, everything)


def test_every_damaged_index_is_read_or_refused(arrays):
    index, data = bundle(arrays)
    outcomes = set()
    damaged = [index[:size] for size in range(len(index))]
    damaged += [
        index[:i] + bytes([index[i] ^ bits]) + index[i + 1 :] for i in range(len(index)) for bits in (1, 0x80)
    ]
    for content in damaged:
        try:
            read_bundle(content, data, everything)
            outcomes.add("read")  # such as a change in a checksum, or in a name
        except FormatError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (entry(1, (3,), 0, 16), "cannot have 16 bytes"),
        (entry(1, (4,), 8, 16), "at 8 with 16 bytes, and the data has 16"),
        (entry(1, (1 << 62, 0), 0, 0), "cannot have 0 bytes"),
        (entry(1, (1,) * 9, 0, 4), "cannot have 4 bytes"),
        (field(1, 1) + field(2, field(2, 4)), "must be a message"),
        (b"\x0b", "wire type 3"),
        (b"\x08" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x12\x7f", "needs 127 bytes"),
    ],
)
def test_entries_that_do_not_fit_the_data_are_refused(value, reason):
    with pytest.raises(FormatError, match=reason):
        read_bundle(table([(b"x", value)]), bytes(16), everything)


def test_a_compressed_block_is_refused(arrays):
    index, data = bundle(arrays)
    position = index.index(b"crc.") - 1
    with pytest.raises(FormatError, match="compressed by method 1"):
        read_bundle(index[:position] + b"\1" + index[position + 1 :], data, everything)


def test_a_key_cannot_share_more_than_the_key_before_has():
    index = bytearray(table([(b"a", b""), (b"ab", b"")]))
    assert index[4] == 1  # after lengths 0, 1, 0 and the key
    index[4] = 2
    with pytest.raises(FormatError, match="shares 2 bytes with one of 1"):
        read_bundle(bytes(index), b"", lambda name: False)


def test_restart_offsets_cannot_be_larger_than_their_block(arrays):
    index, data = bundle(arrays)
    position = index.index(b"\0crc.") - 4
    with pytest.raises(FormatError, match="states 262144 bytes of restart offsets"):
        read_bundle(index[:position] + b"\xff\xff\0\0" + index[position + 4 :], data, everything)


def test_more_entries_than_a_checkpoint_has_are_refused():
    values = [(b"%06d" % number, b"") for number in range(10_001)]
    with pytest.raises(FormatError, match="more than 10000 entries"):
        read_bundle(table(values, per_block=5000), b"", lambda name: False)


def test_another_file_is_refused():
    with pytest.raises(FormatError, match="not the index"):
        read_bundle(struct.pack("<Q", MAGIC), b"", everything)


# The network.

KERNELS = [(7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51)]
KERNELS += [(7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]
NORMS = [1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200]


def numbered(name, number):
    return name if number == 0 else f"{name}_{number}"


def random_checkpoint():
    """Tensors with the names and shapes of the published checkpoint, and an optimizer's beside them."""
    generator = np.random.default_rng(3)
    tensors = {}
    for number, channels in enumerate(NORMS):
        name = numbered("batch_normalization", number)
        for kind in ("gamma", "beta", "moving_mean"):
            tensors[f"{name}/{kind}"] = generator.standard_normal(channels)
        tensors[f"{name}/moving_variance"] = generator.uniform(0.5, 2.0, channels)
    shapes = {numbered("conv2d", number): kernel for number, kernel in enumerate(KERNELS)}
    for name, shape in {**shapes, "dense": (1506, 200), "dense_1": (200, 50)}.items():
        fan_in = np.prod(shape[:-1])
        tensors[f"{name}/kernel"] = generator.standard_normal(shape) / np.sqrt(fan_in)
        tensors[f"{name}/bias"] = generator.standard_normal(shape[-1])
    tensors["dense_1/bias/Adam"] = tensors["dense_1/bias"] + 1
    tensors["beta1_power"] = np.zeros(())
    return {name: values.astype(np.float32) for name, values in tensors.items()}


def write_wheel(path, tensors, model="MTT"):
    index, data = bundle(tensors)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"musicnn/{model}_musicnn/.index", index)
        archive.writestr(f"musicnn/{model}_musicnn/.data-00000-of-00001", data)
        archive.writestr("musicnn-0.1.0.dist-info/LICENSE.md", "The notice.")
    return path


def reference(tensors, mel):
    """One patch through the network, in float64 and in the checkpoint's own order of axes: (T, 96) -> (200,), (50,)."""
    t = {name: values.astype(np.float64) for name, values in tensors.items()}

    def norm(x, number):
        name = numbered("batch_normalization", number)
        scale = t[f"{name}/gamma"] / np.sqrt(t[f"{name}/moving_variance"] + 1e-3)
        return (x - t[f"{name}/moving_mean"]) * scale + t[f"{name}/beta"]

    def convolved(x, number):
        name = numbered("conv2d", number)
        kernel = t[f"{name}/kernel"][:, :, 0]
        height = len(kernel)
        padded = np.pad(x, (((height - 1) // 2, height - 1 - (height - 1) // 2), (0, 0)))
        windows = sliding_window_view(padded, kernel.shape[:2])
        out = np.tensordot(windows, kernel, axes=([2, 3], [0, 1])) + t[f"{name}/bias"]
        return norm(np.maximum(out, 0), number + 1)

    image = norm(mel.astype(np.float64), 0)
    front = np.concatenate([convolved(image, number).max(axis=1) for number in range(5)], axis=1)
    first = convolved(front, 5)[:, 0]
    second = convolved(first, 6)[:, 0] + first
    third = convolved(second, 7)[:, 0] + second
    x = np.concatenate([front, first, second, third], axis=1)
    pooled = np.empty(2 * x.shape[1])
    pooled[0::2], pooled[1::2] = x.max(axis=0), x.mean(axis=0)
    hidden = np.maximum(norm(pooled, 9) @ t["dense/kernel"] + t["dense/bias"], 0)
    penultimate = norm(hidden, 10)
    logits = penultimate @ t["dense_1/kernel"] + t["dense_1/bias"]
    return penultimate, 1 / (1 + np.exp(-logits))


def test_the_network_of_a_wheel_equals_a_plain_computation(tmp_path):
    tensors = random_checkpoint()
    network = load_teacher(write_wheel(tmp_path / "musicnn.whl", tensors), "MTT")
    mel = np.random.default_rng(1).uniform(0, 5, (2, 30, 96)).astype(np.float32)
    with torch.inference_mode():
        penultimate, tags = network(torch.from_numpy(mel))
    for row in range(2):
        expected_penultimate, expected_tags = reference(tensors, mel[row])
        np.testing.assert_allclose(penultimate[row], expected_penultimate, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(tags[row], expected_tags, rtol=1e-4, atol=1e-5)


def test_a_wheel_without_the_model_or_a_tensor_is_refused(tmp_path):
    tensors = random_checkpoint()
    wheel = write_wheel(tmp_path / "musicnn.whl", tensors)
    with pytest.raises(FormatError, match="MSD_musicnn"):
        load_teacher(wheel, "MSD")
    del tensors["dense/bias"]
    with pytest.raises(WeightsError, match="no tensor 'dense/bias'"):
        load_teacher(write_wheel(wheel, tensors), "MTT")
    tensors["dense/bias"] = np.zeros(100, dtype=np.float32)
    with pytest.raises(WeightsError, match=r"'dense/bias' has shape \(100,\), not \(200,\)"):
        load_teacher(write_wheel(wheel, tensors), "MTT")


def test_the_network_has_as_many_values_as_the_published_one():
    state = Musicnn().state_dict()
    assert sum(values.numel() for name, values in state.items() if "num_batches" not in name) == 792_079


def test_every_tag_has_a_name():
    for model in ("MTT", "MSD"):
        assert len(set(labels(model))) == len(labels(model)) == 50


# The spectrogram.


def test_the_spectrogram_is_that_of_the_package():
    golden = load_file(GOLDEN / "io.safetensors")
    tolerance = json.loads((GOLDEN / "meta.json").read_text())["tolerance"]["mel"]
    frames = mel_frames(golden["audio"])
    for start, expected in zip((0, 40), golden["mel"], strict=True):
        torch.testing.assert_close(frames[start : start + PATCH_FRAMES], expected, rtol=0, atol=tolerance)


def test_loud_audio_gives_finite_values():
    # In float16, 10000 times a power above 6.55 is infinite.
    audio = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    frames = mel_frames(audio)
    assert frames.isfinite().all()
    assert frames.max() > np.log10(10000 * 6.55)


def test_only_whole_patches_are_cut():
    audio = torch.rand(256 * (2 * PATCH_FRAMES + 50))
    patches = mel_patches(audio)
    assert patches.shape == (2, PATCH_FRAMES, 96)
    assert torch.equal(patches.flatten(0, 1), mel_frames(audio)[: 2 * PATCH_FRAMES])
    with pytest.raises(AudioTooShort, match=r"186 frames; a patch of the teacher has 187"):
        mel_patches(audio[: 256 * 186 - 1])


# The published weights.


@with_weights
@pytest.mark.parametrize("model", ["MTT", "MSD"])
def test_outputs_are_those_of_the_package(model):
    golden = load_file(GOLDEN / "io.safetensors")
    tolerance = json.loads((GOLDEN / "meta.json").read_text())["tolerance"]
    network = load_teacher(Path(WHEEL), model)
    frames = mel_frames(golden["audio"])
    patches = torch.stack([frames[start : start + PATCH_FRAMES] for start in (0, 40)])
    for mel in (golden["mel"], patches):
        with torch.inference_mode():
            penultimate, tags = network(mel)
        for name, found in (("penultimate", penultimate), ("tags", tags)):
            torch.testing.assert_close(found, golden[f"{model}_musicnn.{name}"], rtol=0, atol=tolerance[name])


@with_weights
def test_the_wheel_is_the_published_one_and_holds_its_notice():
    check_wheel(Path(WHEEL))
    assert licence(Path(WHEEL)).startswith("Copyright (c) Music Technology Group")


# The command.


def test_files_are_embedded_and_the_bad_one_is_named(tmp_path, monkeypatch, capsys):
    wheel = write_wheel(tmp_path / "musicnn.whl", random_checkpoint())
    monkeypatch.setattr(musicnn_teacher, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    audio = torch.rand(16000 * 7) - 0.5
    song, short, out = tmp_path / "song.wav", tmp_path / "short.wav", tmp_path / "new" / "values.safetensors"
    save(song, audio, 16000)
    save(short, audio[:16000], 16000)
    arguments = [str(each) for each in (song, short, "--wheel", wheel, "--out", out)]
    monkeypatch.setattr(sys, "argv", ["musicnn_teacher.py", *arguments])
    with pytest.raises(SystemExit, match="3"):
        musicnn_teacher.main()
    printed = capsys.readouterr()
    line = json.loads(printed.out)
    assert (line["file"], line["patches"], len(line["tags"])) == (str(song), 2, 5)
    assert f"{short}: 63 frames" in printed.err
    tensors = load_file(out)
    assert {name.rpartition(".")[2]: tuple(values.shape) for name, values in tensors.items()} == {
        "penultimate": (2, 200),
        "tags": (2, 50),
    }
    assert b"The notice." in out.read_bytes()  # what is derived from the teacher carries its licence


def test_a_file_that_is_not_the_published_wheel_is_refused(tmp_path):
    wheel = write_wheel(tmp_path / "musicnn.whl", random_checkpoint())
    with pytest.raises(InputError, match="has the SHA-256"):
        check_wheel(wheel)
    with pytest.raises(InputError, match="is not a file"):
        check_wheel(tmp_path / "none.whl")


def pip(folder, script):
    """A stand-in for pip, which alone is on the search path."""
    folder.mkdir()
    path = folder / "pip"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(folder)


def test_the_wheel_is_downloaded_once(tmp_path, monkeypatch):
    made = write_wheel(tmp_path / "made.whl", random_checkpoint())
    monkeypatch.setattr(musicnn_teacher, "WHEEL_SHA256", hashlib.sha256(made.read_bytes()).hexdigest())
    script = f'for last; do :; done; /bin/cp "{made}" "$last/{musicnn_teacher.WHEEL}"; echo x >> "{tmp_path}/calls"'
    monkeypatch.setenv("PATH", pip(tmp_path / "bin", script))
    for _ in range(2):
        wheel = teacher_wheel(tmp_path / "cache")
        assert wheel.read_bytes() == made.read_bytes()
    assert (tmp_path / "calls").read_text() == "x\n"
    assert list((tmp_path / "cache").iterdir()) == [wheel]


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", pip(tmp_path / "bin", "echo 'no network' >&2; exit 1"))
    with pytest.raises(
        InputError, match=r"could not download musicnn 0\.1\.0: no network; download .* by hand"
    ):
        teacher_wheel(tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"neither pip nor uvx is on the search path; download .* by hand"):
        teacher_wheel(tmp_path / "cache")


def test_long_recordings_are_embedded_in_batches_with_the_same_result(monkeypatch):
    monkeypatch.setattr(musicnn_teacher, "_BATCH", 2)
    network = Musicnn().eval()
    audio = torch.rand(256 * 3 * PATCH_FRAMES) - 0.5
    penultimate, tags = embed(network, audio)
    with torch.inference_mode():
        expected, expected_tags = network(mel_patches(audio))
    torch.testing.assert_close(penultimate, expected)
    torch.testing.assert_close(tags, expected_tags)
