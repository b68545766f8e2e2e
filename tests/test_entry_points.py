"""``python -m <package>`` is the command line of the package, which is how launchers start it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent.name for path in (ROOT / "packages").glob("*/src/*/__init__.py"))
WITH_TRAINER = sorted(path.parts[-3] for path in (ROOT / "packages").glob("*/src/*/training/train.py"))


def run_module(package: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", package, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_module_is_the_console_script(package: str) -> None:
    name = package.replace("_", "-")
    (script,) = entry_points(group="console_scripts", name=name)
    assert script.value == f"{package}.cli:main"
    done = run_module(package, "--version")
    assert done.returncode == 0 and done.stdout.startswith(f"{name} ")


@pytest.mark.parametrize("package", WITH_TRAINER)
def test_help_lists_every_experiment(package: str) -> None:
    (folder,) = (ROOT / "packages").glob(f"*/src/{package}/conf/experiment")
    done = run_module(package, "train", "--help")
    assert done.returncode == 0 and not done.stderr
    listed = done.stdout.partition("Experiments:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == sorted(path.stem for path in folder.glob("*.yaml"))
    assert all(len(line.split()) > 1 for line in listed), (
        "the first comment of the file describes an experiment"
    )


@pytest.mark.parametrize("package", WITH_TRAINER)
@pytest.mark.parametrize(
    "word",
    [
        "experiment=nope",
        *(
            pytest.param(word, marks=pytest.mark.slow)
            for word in ("optim.nope=1", "trainer.max_steps=many", "word")
        ),
    ],
)
def test_a_wrong_override_is_one_sentence(package: str, word: str) -> None:
    pytest.importorskip("hydra")
    done = run_module(package, "train", word)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"Error: {package}.conf/train: ") and done.stderr.count("\n") == 1
    assert word.partition("=")[0].rpartition(".")[2] in done.stderr


@pytest.mark.parametrize("package", WITH_TRAINER)
@pytest.mark.parametrize(
    "options", [[], ["GPUS=8"], ["GPUS=8", "NODES=2"], ["GPUS=4", "NODES=2", "LAUNCHER=slurm"]], ids=" ".join
)
def test_make_starts_every_launcher_with_the_same_words(package: str, options: list[str]) -> None:
    command = [
        "make",
        "--dry-run",
        "--no-print-directory",  # this test may itself be run by make
        f"train-{package.replace('_', '-')}",
        "CONFIG=tiny",
        "ARGS=optim.lr=1",
        *options,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    start = "configs/launcher/slurm.sbatch" if "LAUNCHER=slurm" in options else "-m"
    assert done.stdout.rstrip().endswith(f" {start} {package} train experiment=tiny optim.lr=1")


def test_every_command_in_the_launch_configurations_is_such_a_start() -> None:
    comments = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "configs").glob("*/*")))
    found = re.findall(r"(?:-m|slurm\.sbatch) (\w+ \w+)", comments)
    assert len(found) >= 4 and set(found) <= {f"{package} train" for package in WITH_TRAINER}


def starts_as_a_script(tree: ast.Module) -> bool:
    """Whether the module asks if it is ``__main__``."""
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(tree)) and any(
        isinstance(node, ast.Constant) and node.value == "__main__" for node in ast.walk(tree)
    )


def test_there_is_no_second_way_to_start_a_trainer() -> None:
    modules = [
        path
        for name in ("train", "prepare", "preprocess", "stats", "evaluate")
        for path in (ROOT / "packages").glob(f"*/src/**/{name}.py")
    ]
    assert len(modules) >= len(WITH_TRAINER)
    assert [path for path in modules if starts_as_a_script(ast.parse(path.read_text(encoding="utf-8")))] == []
