"""A teacher for audio models: the taggers of musicnn 0.1.0, from the weights inside the package's wheel.

    python tools/musicnn_teacher.py song.ogg other.flac --cache ~/.cache/musicnn
    python tools/musicnn_teacher.py song.ogg --wheel musicnn-0.1.0-py3-none-any.whl --model MSD --out song.safetensors

Prints the most likely tags of each recording as JSON lines. `--out` writes, for each, the 200 values before the tags
(`<file>.penultimate`, P x 200) and the tags (`<file>.tags`, P x 50) of its P patches of 187 frames (3 s).

The wheel is read and not installed; without `--wheel`, pip downloads it into the folder `--cache`. The networks are the
work of Jordi Pons and the Music Technology Group, Universitat Pompeu Fabra, under the ISC licence. What is derived from
them, also a model that was distilled from their outputs, carries its notice: `licence(wheel)` returns it, and the file
of `--out` has it in its header.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, get_args

import torch
from musicnn_network import SAMPLE_RATE, Musicnn, mel_patches
from tensorflow_bundle import read_bundle
from torch import Tensor

from pentatonic.archive import Archive
from pentatonic.audio import load
from pentatonic.checkpoint import file_sha256, save_tensors
from pentatonic.cli import make_output_place
from pentatonic.errors import AudioError, InputError, PentatonicError, WeightsError

Model = Literal["MTT", "MSD"]
WHEEL = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
_LICENCE = "musicnn-0.1.0.dist-info/LICENSE.md"
_BATCH = 16

_LABELS: dict[Model, str] = {
    "MTT": (
        "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin, vocal, "
        "synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute, woman, "
        "male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice, "
        "female vocal, beats, harp, cello, no voice, weird, country, metal, female voice, choral"
    ),
    "MSD": (
        "rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz, beautiful, "
        "metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, 80s, folk, 90s, chill, "
        "instrumental, punk, oldies, blues, hard rock, ambient, acoustic, experimental, female vocalist, guitar, "
        "Hip-Hop, 70s, party, country, easy listening, sexy, catchy, funk, electro, heavy metal, Progressive rock, "
        "60s, rnb, indie pop, sad, House, happy"
    ),
}

# Module of the network -> name in the checkpoint.
_NORMS = {
    "input_norm": "batch_normalization",
    **{f"front.{i}.norm": f"batch_normalization_{i + 1}" for i in range(5)},
    **{f"middle.{i}.norm": f"batch_normalization_{i + 6}" for i in range(3)},
    "pooled_norm": "batch_normalization_9",
    "hidden_norm": "batch_normalization_10",
}
_LAYERS = {
    "front.0.conv": "conv2d",
    **{f"front.{i}.conv": f"conv2d_{i}" for i in range(1, 5)},
    **{f"middle.{i}.conv": f"conv2d_{i + 5}" for i in range(3)},
    "hidden": "dense",
    "tags": "dense_1",
}
_NORM_TENSORS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@torch.inference_mode()
def embed(network: Musicnn, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Penultimate values ``(P, 200)`` and tags ``(P, 50)`` of ``(n,)`` float32 samples at 16 kHz.

    Raises:
        AudioTooShort: There is no whole patch.
    """
    parts = [network(batch) for batch in mel_patches(audio).split(_BATCH)]
    penultimate, tags = zip(*parts, strict=True)
    return torch.cat(penultimate), torch.cat(tags)


def load_teacher(wheel: Path, model: Model) -> Musicnn:
    """Read one tagger out of the wheel.

    Args:
        wheel: The wheel of musicnn 0.1.0.
        model: ``"MTT"`` (trained on MagnaTagATune) or ``"MSD"`` (Million Song Dataset).

    Raises:
        FormatError: The wheel or the checkpoint in it cannot be read.
        WeightsError: A tensor is missing or has another shape.
    """
    folder = f"musicnn/{model}_musicnn"
    with Archive(wheel) as archive:
        index, data = archive.read(f"{folder}/.index"), archive.read(f"{folder}/.data-00000-of-00001")
    network = Musicnn()
    state, names = network.state_dict(), _names(network)
    tensors = read_bundle(index, data, set(names.values()).__contains__)
    for name, source in names.items():
        if source not in tensors:
            raise WeightsError(f"{wheel}: the checkpoint has no tensor {source!r}")
        tensor = _in_layout(tensors[source], state[name])
        if tensor.shape != state[name].shape:
            raise WeightsError(
                f"{wheel}: {source!r} has shape {tuple(tensor.shape)}, not {tuple(state[name].shape)}"
            )
        state[name] = tensor
    network.load_state_dict(state)
    return network.eval()


def labels(model: Model) -> list[str]:
    """Return the 50 tags of a model, in the order of its outputs."""
    return _LABELS[model].split(", ")


def licence(wheel: Path) -> str:
    """Return the ISC notice in the wheel, which everything derived from the teacher carries."""
    with Archive(wheel) as archive:
        return archive.read(_LICENCE).decode("utf-8")


def _names(network: Musicnn) -> dict[str, str]:
    """Name of each tensor of the network -> its name in the checkpoint."""
    names = {}
    for name in network.state_dict():
        module, _, kind = name.rpartition(".")
        if module in _LAYERS:
            names[name] = f"{_LAYERS[module]}/{'kernel' if kind == 'weight' else 'bias'}"
        elif kind in _NORM_TENSORS:
            names[name] = f"{_NORMS[module]}/{_NORM_TENSORS[kind]}"
    return names


def _in_layout(tensor: Tensor, expected: Tensor) -> Tensor:
    """Convert a kernel from TensorFlow's order of axes, in which the output channel is the last, to PyTorch's."""
    if expected.ndim == 4 and tensor.ndim == 4:  # (frames, bands, in, out)
        return tensor.permute(3, 2, 0, 1)
    if (
        expected.ndim == 3 and tensor.ndim == 4
    ):  # (frames, in, 1, out): the channels lie on the axis of the bands
        return tensor[:, :, 0].permute(2, 1, 0)
    return tensor.T if expected.ndim == 2 and tensor.ndim == 2 else tensor


def teacher_wheel(cache: Path) -> Path:
    """Return the wheel in a folder, which pip downloads first if it is not there.

    Args:
        cache: The folder; made if needed.

    Raises:
        InputError: There is no pip, it cannot download the wheel, or the file is not the published one.
    """
    wheel = cache / WHEEL
    if not wheel.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _download(Path(folder))
            Path(folder, WHEEL).replace(wheel)
    check_wheel(wheel)
    return wheel


def check_wheel(wheel: Path) -> None:
    """Compare a file with the published wheel.

    Raises:
        InputError: It is missing, or its SHA-256 is another one.
    """
    if not wheel.is_file():
        raise InputError(f"{wheel} is not a file; the wheel {WHEEL} is needed")
    if (found := file_sha256(wheel)) != WHEEL_SHA256:
        raise InputError(f"{wheel} has the SHA-256 {found}; that of the published {WHEEL} is {WHEEL_SHA256}")


def _download(folder: Path) -> None:
    by_hand = f"download {WHEEL} by hand and give its path with --wheel"
    runner = ["pip"] if shutil.which("pip") else ["uvx", "pip"]
    if shutil.which(runner[0]) is None:
        raise InputError(f"neither pip nor uvx is on the search path; {by_hand}")
    wanted = ["musicnn==0.1.0", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*runner, "download", *wanted], capture_output=True, text=True, check=False)
    if done.returncode or not Path(folder, WHEEL).is_file():
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise InputError(f"pip could not download musicnn 0.1.0: {last}; {by_hand}")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="recordings of at least 3 s")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help=f"the file {WHEEL}")
    source.add_argument(
        "--cache", type=Path, help="folder that holds the wheel, or into which pip downloads it"
    )
    parser.add_argument("--model", choices=get_args(Model), default="MTT")
    parser.add_argument("--out", type=Path, help="safetensors file for the values of all patches")
    arguments = parser.parse_args()
    try:
        sys.exit(_embed_files(arguments))
    except PentatonicError as error:
        sys.exit(f"error: {error}")


def _embed_files(arguments: argparse.Namespace) -> int:
    """Embed the files of the command line; return the exit status, 3 if one could not be used."""
    if arguments.out:
        make_output_place(arguments.out)
    if arguments.wheel:
        check_wheel(arguments.wheel)
    wheel = arguments.wheel or teacher_wheel(arguments.cache.expanduser())
    network, tensors, status = load_teacher(wheel, arguments.model), {}, 0
    for path in arguments.files:
        try:
            audio = load(path, sample_rate=SAMPLE_RATE).samples[0]
            penultimate, tags = embed(network, audio)
        except AudioError as error:
            print(f"error: {path}: {error.reason}", file=sys.stderr)
            status = 3
            continue
        likely = tags.mean(dim=0).topk(5)
        names = [labels(arguments.model)[i] for i in likely.indices]
        values = dict(zip(names, (round(v, 3) for v in likely.values.tolist()), strict=True))
        print(json.dumps({"file": str(path), "patches": len(tags), "tags": values}, ensure_ascii=False))
        tensors |= {f"{path}.penultimate": penultimate, f"{path}.tags": tags}
    if arguments.out:
        notice = {"model": f"musicnn 0.1.0, {arguments.model}_musicnn", "licence": licence(wheel)}
        save_tensors(arguments.out, tensors, notice)
    return status


if __name__ == "__main__":
    main()
