"""Files in the folder where a user works are never executed, also not by the processes that a command starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

PLANTED = (
    *(
        "pentatonic",
        "notagen",
        "omar_rq",
        "myna_rpe",
        "verovio",
        "torch",
        "numpy",
        "soundfile",
        "soxr",
        "scipy",
    ),
    *(
        "json",
        "subprocess",
        "multiprocessing",
        "encodings",
        "tempfile",
        "signal",
        "sitecustomize",
        "usercustomize",
    ),
    *(
        "hydra",
        "omegaconf",
        "accelerate",
        "transformers",
        "gradio",
        "uvicorn",
        "matplotlib",
        "cairosvg",
        "pyarrow",
        "safetensors",
        "starlette",
        "spotipy",
        "tinytag",
        "tokenizers",
        "jams",
        "av",
    ),
)
TUNE = "X:1\nT:Scale\nL:1/8\nM:4/4\nK:C\nCDEF GABc|c8|CDEF GABc|c8|CDEF GABc|c8|CDEF GABc|c8|]\n"
# A step of training, with workers that read ahead.
ONE_STEP = "data.num_workers=1 trainer.max_steps=1 trainer.val_every=0 trainer.save_every=1"

# Verb of a package, what it needs, further words, and a file that it writes.
# One for each way of starting a process: a child that decodes, workers of a loader, pools of children.
STARTERS = [
    ("omar_rq", "torch", "embed a.wav --out out --device cpu", "out/a.wav.npz"),
    (
        "omar_rq",
        "accelerate",
        f"train experiment=debug data.root=. run_dir=out {ONE_STEP}",
        "out/metrics.jsonl",
    ),
    ("myna_rpe", "tinytag", "library scan . --index index", "index/index.json"),
    ("notagen", "verovio", "convert scores --to svg --out out --jobs 2", "out/one-1.svg"),
    ("notagen", "hydra", "preprocess data.source=scores data.out=out jobs=2", "out/augmented.jsonl"),
]
# All the others, in the order in which they can use each other's outputs.
OTHERS = {
    "omar_rq": [
        ("torch", "tokenize a.wav --out tokens --device cpu", "tokens/a.wav.npz"),
        ("pyarrow", "embed a.wav --out table --format parquet --device cpu", "table/run.json"),
        ("pyarrow", "index table --out index", "index/index.json"),
        ("pyarrow", "similar a.wav --index index --device cpu", ""),
        ("ray", "embed a.wav --out on-ray --engine ray --workers 1 --device cpu", "on-ray/run.json"),
        ("torch", "predict a.wav --out chunks --device cpu", "chunks/a.wav.npz"),
        (
            "hydra",
            "probe task=genre data.root=labelled experiment=debug baselines=false store_dir=features "
            "run_dir=probe device=cpu",
            "probe/results.md",
        ),
        ("torch", "info omar-rq-tiny", ""),
        ("torch", "tag a.wav --probe tagging --device cpu", ""),
        ("torch", "chords song.wav --probe chord --out read --lab", "read/song.chords.lab"),
        ("torch", "beats song.wav --probe beat --out read --lab", "read/song.beats"),
        ("torch", "key a.wav --probe key --out read", "read/a.key.json"),
        ("matplotlib", "segments song.wav --out read --picture svg", "read/song.segments.svg"),
        ("jams", "segments song.wav --out read --jams", "read/song.segments.jams"),
        ("torch", "leadsheet song.wav --probe beat --probe chord --out song.abc", "song.abc"),
        ("av", "tag song.flac --probe tagging --write --threshold 0", "song.flac.bak"),
        ("torch", "export omar-rq-tiny --out model", "model/config.json"),
        ("onnxscript", "export omar-rq-tiny --format onnx --layers 0 --out graph", "graph/model.onnx"),
        ("torch", "convert model --out upstream", "upstream/config.gin"),
        ("matplotlib", "layers --out layers.html --motifs 2 --device cpu", "layers.html"),
        ("matplotlib", "demo a.wav --out page", "page/index.html"),
        ("hydra", "prepare input=. output=data workers=1 val_fraction=0", "data/manifest.jsonl"),
        ("hydra", "stats model=debug root=data crop_s=0.5 output=stats.json", "stats.json"),
        ("accelerate", f"train experiment=debug data.root=data run_dir=run {ONE_STEP}", "run/metrics.jsonl"),
    ],
    "myna_rpe": [
        ("torch", "embed a.wav --out embeddings --device cpu", "embeddings/a.wav.npz"),
        ("torch", "info myna-rpe-tiny", ""),
        ("torch", "export myna-rpe-tiny --out model", "model/config.json"),
        ("torch", "convert old.safetensors --out converted", "converted/config.json"),
        ("torch", "detect-mode old.safetensors long --modes zero,head_col", ""),
        ("hydra", "prepare input=long output=data val_fraction=0", "data/index.jsonl"),
        (
            "accelerate",
            f"train experiment=debug data.root=data data.batch_size=2 run_dir=run {ONE_STEP}",
            "run/metrics.jsonl",
        ),
        (
            "hydra",
            "probe data.name=gtzan data.root=gtzan epochs=1 out=result.json device=cpu",
            "result.json",
        ),
        ("tinytag", "library scan long --index index --device cpu", "index/index.json"),
        ("tinytag", "playlist make --like one --index index --count 1 --out made.m3u8", "made.m3u8"),
        ("spotipy", "spotify match-local --help", ""),
    ],
    "notagen": [
        (
            "verovio",
            "generate --out made --max-patches 1 --continue tune.abc --formats svg --page page.html",
            "made/0-1.svg",
        ),
        ("torch", "infill tune.abc --bars 2 --out infilled.abc", "infilled.abc"),
        ("torch", "validate tune.abc", ""),
        ("torch", "validate tune.abc --repair --out repaired", "repaired/tune.abc"),
        ("torch", "repair tune.abc --out mended", "mended/tune.abc"),
        ("torch", "transpose tune.abc --by 2 --out moved", "moved/tune.abc"),
        ("cairosvg", "convert tune.abc --to pdf --out engraved", "engraved/tune.pdf"),
        ("torch", "info notagen-tiny", ""),
        ("torch", "export notagen-tiny --out model", "model/config.json"),
        ("torch", "convert-weights describing --out encoder --music-only", "encoder/config.json"),
        ("pyarrow", "embed scores --out all.parquet --model encoder --device cpu", "all.parquet"),
        ("torch", "score tune.abc --references scores --model encoder --device cpu", ""),
        ("pyarrow", "search tune.abc --index all.parquet --model encoder --device cpu", ""),
        ("pyarrow", "retrieval scores all.parquet --model encoder --device cpu", ""),
        ("torch", "index-melodies scores --out melodies.safetensors", "melodies.safetensors"),
        (
            "transformers",
            "classify tune.abc --labels march waltz --model describing --device cpu",
            "",
        ),
        ("hydra", "preprocess data.source=scores data.out=data jobs=1", "data/augmented.jsonl"),
        (
            "accelerate",
            f"train-encoder experiment=m3-debug data.train=scores run_dir=encoder-run {ONE_STEP}",
            "encoder-run/metrics.jsonl",
        ),
        (
            "accelerate",
            f"train experiment=debug data.train=data/augmented.jsonl run_dir=run {ONE_STEP}",
            "run/metrics.jsonl",
        ),
        (
            "hydra",
            "evaluate model=notagen-tiny data.index=data/augmented.jsonl pieces=0 out=numbers.json",
            "numbers.json",
        ),
        (
            "accelerate",
            "dpo experiment=debug scorer=ngrams data.references=references force=true iterations=1 samples=4 "
            "selection.copied_notes=1000 selection.similarity=2 run_dir=dpo-run",
            "dpo-run/summary.md",
        ),
    ],
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with modules that leave a trace, and with something to work on."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'a').write({name!r})\n")
    (folder / "scores").mkdir()
    for name in ("one", "two"):
        (folder / "scores" / f"{name}.abc").write_text(TUNE.replace("Scale", name))
    (folder / "references").mkdir()
    for number, notes in enumerate(("CDEF GABc", "EGce gece", "cBAG FEDC", "GABG cdec"), 1):
        (folder / "references" / f"{number}.abc").write_text(TUNE.replace("CDEF GABc", notes))
    (folder / "tune.abc").write_text(TUNE)
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16000), 16000)
    return folder


def command(package: str, words: str) -> list[str]:
    """What the console script does."""
    return [sys.executable, "-P", "-c", f"from {package}.cli import main; main()", *words.split()]


def environment(tmp_path: Path) -> dict[str, str]:
    # An empty entry of the module path stands for the current folder.
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "TMPDIR": str(tmp_path)}
    variables.pop("PYTHONSAFEPATH", None)
    return variables


def check(here: Path, package: str, words: str, output: str) -> None:
    done = subprocess.run(
        command(package, words),
        cwd=here,
        env=environment(here.parent),
        capture_output=True,
        text=True,
        timeout=300,
    )
    trace = here.parent / "trace"
    assert not trace.exists(), f"{words}: {trace.read_text()}"
    assert done.returncode == 0, f"{words}: {done.stderr}"
    assert not output or (here / output).is_file(), words


@pytest.mark.parametrize(("package", "needs", "words", "output"), STARTERS)
def test_planted_modules_are_not_executed(
    here: Path, package: str, needs: str, words: str, output: str
) -> None:
    pytest.importorskip(needs)
    check(here, package, words, output)


@pytest.mark.slow
@pytest.mark.parametrize("package", OTHERS)
def test_planted_modules_are_not_executed_by_any_verb(here: Path, package: str) -> None:
    if package == "omar_rq":
        write_labelled_recordings(here / "labelled")
    if package == "myna_rpe":
        write_files_for_myna(here)
    if package == "omar_rq":
        write_probes(here)
    if package == "notagen":
        write_encoder(here)
    for needs, words, output in OTHERS[package]:
        pytest.importorskip(needs)
        check(here, package, words, output)


def write_labelled_recordings(folder: Path) -> None:
    """Write recordings of two genres, with both in every split."""
    import soundfile

    generator = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    (folder / "labels").mkdir()
    for split in ("train", "valid", "test"):
        for genre in ("low", "high"):
            soundfile.write(
                folder / "audio" / f"{split}-{genre}.wav", generator.uniform(-0.1, 0.1, 16000), 16000
            )
            labels = json.dumps({"split": split, "genre": genre})
            (folder / "labels" / f"{split}-{genre}.json").write_text(labels)


def write_files_for_myna(here: Path) -> None:
    """Write recordings of 12 seconds, a data set of them, and a checkpoint with the names of the original."""
    import soundfile
    import torch
    from safetensors.torch import save_file

    from myna_rpe.config import EncoderConfig
    from myna_rpe.key_map import KEY_MAP
    from myna_rpe.model import MynaEncoder

    generator = np.random.default_rng(0)
    for genre in ("long", "gtzan/low", "gtzan/high"):
        (here / genre).mkdir(parents=True)
        for name in ("one", "two"):
            soundfile.write(here / genre / f"{name}.wav", generator.uniform(-0.1, 0.1, 12 * 16000), 16000)
    for split in ("train", "valid", "test"):
        names = [f"{genre}/{name}.wav" for name in ("one", "two") for genre in ("low", "high")]
        (here / "gtzan" / f"{split}_filtered.txt").write_text("\n".join(names))
    torch.manual_seed(0)
    config = EncoderConfig(dim=32, depth=1, heads=1, dim_head=64, mlp_dim=32, out_dim=8)
    tensors = KEY_MAP.to_theirs(MynaEncoder(config).state_dict())
    tensors["cls_token"] = tensors["cls_token"].reshape(1, 1, -1)
    save_file({name: value.contiguous() for name, value in tensors.items()}, here / "old.safetensors")


def write_probes(here: Path) -> None:
    """Write probes whose weights are random, and recordings of eight seconds with a burst of noise every half."""
    import soundfile
    import torch

    import omar_rq
    from omar_rq.probing.features import FeatureConfig
    from omar_rq.probing.heads import HeadConfig, ProbeHead
    from omar_rq.probing.saved import EncoderRecord, SavedProbe

    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 8 * 16000)
    noise *= np.exp(-(np.arange(len(noise)) % 8000) / 1000)
    for name in ("song.wav", "song.flac"):
        soundfile.write(here / name, noise, 16000)
    model = omar_rq.from_pretrained("omar-rq-tiny")
    encoder = EncoderRecord.of(model, "omar-rq-tiny")
    for task, labels, outputs, granularity in (
        ("tagging", ("piano", "drums"), "multilabel", "recording"),
        ("key", ("C major", "A minor"), "classes", "recording"),
        ("chord", ("N", "C:maj"), "classes", "frame"),
        ("beat", ("beat", "downbeat"), "multilabel", "frame"),
    ):
        pooling = "none" if granularity == "frame" else "mean"
        torch.manual_seed(0)
        head = ProbeHead(
            HeadConfig(encoder.embed_dim, len(labels), layers=(0,), granularity=granularity, pooling=pooling)
        )
        probe = SavedProbe(task, labels, outputs, encoder, FeatureConfig((0,), pooling), head.eval())
        probe.save(here / task)


def write_encoder(here: Path) -> None:
    """Write an encoder of music and texts with its tokenizer."""
    pytest.importorskip("transformers")
    from notagen.clamp2.config import ClampConfig, EncoderConfig, TextConfig
    from notagen.clamp2.model import Clamp
    from notagen.clamp2.tokens import train_tokenizer
    from notagen.clamp2.weights import save_pretrained

    music = EncoderConfig(layers=1, width=16, heads=2, mlp_width=16, length=32)
    text = TextConfig(300, layers=1, width=16, heads=2, mlp_width=16, positions=34, length=32)
    model = Clamp(ClampConfig(family="clamp2", projection=8, music=music, text=text))
    save_pretrained(model, here / "describing")
    train_tokenizer(["a slow waltz", "a quick march"], 270).save(str(here / "describing" / "tokenizer.json"))


@pytest.mark.parametrize("package", OTHERS)
def test_every_verb_is_tried(package: str) -> None:
    from importlib import import_module

    import typer

    app = typer.main.get_command(import_module(f"{package}.cli").app)
    tried = {words.split()[0] for of, _, words, _ in STARTERS if of == package}
    tried |= {words.split()[0] for _, words, _ in OTHERS[package]}
    served = {"notagen": {"demo", "rate"}, "myna_rpe": {"serve"}}.get(package, set())
    assert tried | served == set(app.commands)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("words", ["demo --port 0", "rate scores --out ratings.jsonl --port 0"])
def test_the_server_executes_no_planted_modules(here: Path, words: str) -> None:
    pytest.importorskip("gradio")
    with subprocess.Popen(
        command("notagen", words),
        cwd=here,
        env=environment(here.parent),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[3]
        with urlopen(f"{address}config", timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    assert not (here.parent / "trace").exists(), (here.parent / "trace").read_text()


def test_the_trap_works(here: Path) -> None:
    """Without the protection a child process executes what is planted."""
    subprocess.run([sys.executable, "-c", "import tempfile"], cwd=here, check=True)
    assert (here.parent / "trace").read_text() == "tempfile"
