"""What the source may not contain: unsafe deserialisation, code execution, oversized or nameless modules.

The rules read the syntax tree, so that a docstring may name what the code must not do. Tests are exempt from
the import and call rules: they build the malicious inputs.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 600
MAX_MODULES = 20

BANNED_MODULES = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"),
    "quadprog",
}
BANNED_CALLS = {
    *("eval", "exec", "compile", "os.system", "os.popen", "tempfile.mktemp"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("torch.hub.load", "shutil.unpack_archive"),
}
BANNED_METHODS = {"extractall", "read_pickle", "to_pickle"}
# A keyword that may only be absent or have this value, whatever the function.
ONLY_SAFE_VALUE = {"shell": False, "weights_only": True, "allow_pickle": False}
# What starts a Python process that imports from the working folder unless it is protected; the shared module does it.
PROCESS_MODULES = ("multiprocessing", "torch.multiprocessing")
PROCESS_NAMES = {
    *("concurrent.futures.ProcessPoolExecutor", "concurrent.futures.process.ProcessPoolExecutor"),
    *("torch.utils.data.DataLoader", "torch.utils.data.dataloader.DataLoader"),
    *("os.fork", "os.forkpty", "pty.fork", "pty.spawn", "runpy.run_path", "runpy.run_module"),
}
MAY_START_PROCESSES = {
    "shared/src/pentatonic/child_process.py",
    # These start the workers of their DataLoader within safe_path().
    "shared/src/pentatonic/training/loader.py",
    "packages/cm3p/src/cm3p/training/data.py",
}
PYTHON_COMMAND = re.compile(r"(?:.*/)?python[\d.]*")
NAMELESS = {"utils", "util", "common", "misc", "helpers", "helper"}

# Places on somebody's machine. Written so that the pattern does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.:/~$}-])/(?:home|root|Users|work|mnt|scratch)/[\w.-]")
BINARY = {
    ".safetensors",
    ".wav",
    ".flac",
    ".ogg",
    ".mp3",
    ".m4a",
    ".png",
    ".npy",
    ".npz",
    ".pt",
    ".zip",
    ".mid",
}


def tracked_files() -> list[Path]:
    """Files of the repository, with those that are new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def is_test(path: Path) -> bool:
    return "tests" in path.relative_to(ROOT).parts


def python_files(*, tests: bool) -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".py" and (tests or not is_test(path))]


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of a name or attribute, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it was imported as: ``import numpy as np``, ``from torch import load``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Modules outside this package that the statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if node.module and not node.level else []


def broken_rules(source: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) for every banned import, call and keyword of a module."""
    tree = ast.parse(source)
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in imported_modules(node):
                if module.split(".")[0] in BANNED_MODULES:
                    yield node.lineno, f"imports {module}"
        if isinstance(node, ast.Call):
            yield from ((node.lineno, problem) for problem in broken_call_rules(node, known))


def unprotected_children(source: str, *, may_start_processes: bool = False) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) for every way to start a Python process without ``-P``.

    Args:
        source: A module.
        may_start_processes: It may use pools and loaders; its commands are checked all the same.
    """
    tree = ast.parse(source)
    known = aliases(tree)
    commands = [node.elts for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple)]
    safe = {
        id(first)
        for elements in commands
        for first, second in pairwise(elements)
        if isinstance(second, ast.Constant) and second.value == "-P"
    }
    for elements in commands:
        first = elements[0] if elements else None
        if isinstance(first, ast.Constant) and PYTHON_COMMAND.fullmatch(str(first.value)):
            yield first.lineno, f"starts {first.value}, which need not be this interpreter"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and not may_start_processes:
            names = {
                f"{node.module}.{alias.name}" for alias in node.names if isinstance(node, ast.ImportFrom)
            }
            for name in {*imported_modules(node), *names}:
                if starts_processes(name):
                    yield node.lineno, f"imports {name}"
        if isinstance(node, ast.Attribute | ast.Name):
            name = resolved(node, known)
            if name == "sys.executable" and id(node) not in safe:
                yield node.lineno, "uses sys.executable without '-P' behind it"
            if isinstance(node, ast.Attribute) and starts_processes(name) and not may_start_processes:
                yield node.lineno, f"uses {name}"


def starts_processes(name: str) -> bool:
    return name in PROCESS_NAMES or any(f"{name}.".startswith(f"{module}.") for module in PROCESS_MODULES)


def resolved(node: ast.expr, known: dict[str, str]) -> str:
    """The full name that a name or attribute stands for, as far as imports tell."""
    head, _, rest = dotted(node).partition(".")
    return ".".join(part for part in (known.get(head, head), rest) if part)


def broken_call_rules(call: ast.Call, known: dict[str, str]) -> Iterator[str]:
    name = resolved(call.func, known)
    if name in BANNED_CALLS:
        yield f"calls {name}"
    if isinstance(call.func, ast.Attribute) and call.func.attr in BANNED_METHODS:
        yield f"calls {call.func.attr}"
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "trust_remote_code" in keywords:
        yield "passes trust_remote_code"
    for keyword, safe in ONLY_SAFE_VALUE.items():
        value = keywords.get(keyword)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is safe):
            yield f"passes {keyword} other than {safe}"
    if name == "torch.load" and "weights_only" not in keywords:
        yield "calls torch.load without weights_only=True"


def test_source_breaks_no_rule() -> None:
    files = python_files(tests=False)
    assert len(files) > 10
    found = [
        f"{path.relative_to(ROOT)}:{line} {problem}"
        for path in files
        for line, problem in broken_rules(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "def f():\n    import joblib.parallel",
        "import quadprog",
        "eval('1')",
        "exec(code)",
        "import yaml\nyaml.load(f)",
        "import yaml as y\ny.load(f, Loader=y.SafeLoader)",
        "from yaml import load\nload(f)",
        "archive.extractall()",
        "zipfile.ZipFile(f).extractall('x')",
        "subprocess.run(c, shell=True)",
        "subprocess.run(c, shell=wanted)",
        "import os\nos.system('ls')",
        "import torch\ntorch.load(p)",
        "import torch as t\nt.load(p, weights_only=False)",
        "from torch import load\nload(p)",
        "import torch\ntorch.load(p, weights_only=flag)",
        "np.load(p, allow_pickle=True)",
        "AutoModel.from_pretrained(n, trust_remote_code=True)",
        "AutoModel.from_pretrained(n, trust_remote_code=False)",
        "import pandas as pd\npd.read_pickle(p)",
        "import torch\ntorch.hub.load('a/b', 'c')",
    ],
)
def test_unsafe_source_is_found(source: str) -> None:
    assert list(broken_rules(source))


@pytest.mark.parametrize(
    "source",
    [
        "'''Never use pickle, eval(x) or trust_remote_code.'''",
        "import torch\ntorch.load(p, weights_only=True, mmap=True)",
        "import yaml\nyaml.safe_load(f)",
        "import numpy as np\nnp.load(p, allow_pickle=False)",
        "subprocess.run(c, shell=False)",
        "model.eval()",
        "import re\nre.compile('x')",
        "import torch\ntorch.compile(model)",
        "from .pickle import loads",
        "checkpoint.load(path)",
    ],
)
def test_safe_source_is_let_through(source: str) -> None:
    assert list(broken_rules(source)) == []


def test_python_processes_start_in_the_shared_way() -> None:
    found = []
    for path in python_files(tests=False):
        place = path.relative_to(ROOT).as_posix()
        allowed = place in MAY_START_PROCESSES
        problems = unprotected_children(path.read_text(encoding="utf-8"), may_start_processes=allowed)
        found += [f"{place}:{line} {problem}" for line, problem in problems]
    assert found == []
    assert all((ROOT / place).is_file() for place in MAY_START_PROCESSES)


UNPROTECTED = [
    "import sys\nrun([sys.executable, '-c', code])",
    "import sys\nrun([sys.executable, '-c', '-P'])",
    "import sys\nrun((sys.executable,))",
    "import sys\ncommand = sys.executable + ' x.py'",
    "import sys\nrun(f'{sys.executable} -P x.py')",
    "import sys\nrun([*before, sys.executable, script])",
    "import sys as s\nrun([s.executable, script])",
    "from sys import executable\nrun([executable, script])",
    "run(['python', 'x.py'])",
    "run(['/usr/bin/python3.11', '-P', 'x.py'])",
]
PROCESSES = [
    "import multiprocessing",
    "import multiprocessing.pool as p",
    "from multiprocessing import get_context",
    "from multiprocessing.pool import ThreadPool",
    "import torch.multiprocessing as mp",
    "from torch import multiprocessing",
    "import torch\ntorch.multiprocessing.spawn(f)",
    "from concurrent.futures import ProcessPoolExecutor as Pool",
    "from concurrent import futures\nfutures.ProcessPoolExecutor(2)",
    "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor(2)",
    "def f():\n    from torch.utils.data import DataLoader",
    "from torch.utils import data\ndata.DataLoader(d)",
    "import os\nos.fork()",
    "import runpy\nrunpy.run_path('x.py')",
]


@pytest.mark.parametrize("source", [*UNPROTECTED, *PROCESSES])
def test_unprotected_children_are_found(source: str) -> None:
    assert list(unprotected_children(source))


@pytest.mark.parametrize("source", UNPROTECTED)
def test_commands_are_checked_everywhere(source: str) -> None:
    assert list(unprotected_children(source, may_start_processes=True))


@pytest.mark.parametrize("source", PROCESSES)
def test_pools_are_let_through_where_they_belong(source: str) -> None:
    assert list(unprotected_children(source, may_start_processes=True)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nrun([sys.executable, '-P', '-c', code])",
        "import sys\nrun([*before, *(sys.executable, '-P', script)])",
        "run(['git', 'status'])",
        "from concurrent.futures import ThreadPoolExecutor",
        "from torch.utils.data import Dataset",
        "import os\nos.path.join('a')",
        "'Not with multiprocessing or sys.executable.'",
    ],
)
def test_protected_children_are_let_through(source: str) -> None:
    assert list(unprotected_children(source)) == []


def test_modules_are_small() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(tests=False)
    }
    assert {name: lines for name, lines in sizes.items() if lines > MAX_LINES} == {}


def test_no_folder_has_more_modules_than_a_reader_can_oversee() -> None:
    """In packages, tools and benchmarks; tests have a module for each module that they test."""
    modules = Counter(path.parent.relative_to(ROOT) for path in python_files(tests=False))
    assert {Path("tools"), Path("benchmarks"), Path("shared/src/pentatonic")} <= set(modules)
    assert {str(folder): count for folder, count in modules.items() if count > MAX_MODULES} == {}


def test_modules_are_named_after_what_they_hold() -> None:
    parts = {
        path.relative_to(ROOT): {part.removesuffix(".py").strip("_") for part in path.relative_to(ROOT).parts}
        for path in python_files(tests=True)
    }
    assert [str(path) for path, names in parts.items() if names & NAMELESS] == []


def test_no_text_names_a_place_on_one_machine() -> None:
    found = []
    for path in tracked_files():
        if path.suffix in BINARY:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if match := MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number} {match.group()}")
    assert found == []


@pytest.mark.parametrize("place", ["home/ann/x", "root/.cache", "work/main", "Users/ann"])
def test_places_on_one_machine_are_recognised(place: str) -> None:
    assert MACHINE_PATH.search(f'root = "/{place}"')


@pytest.mark.parametrize("text", ["https://example.org/home/x", "a/work/b", "${ROOT}/work/x", "/workspace/x"])
def test_other_text_is_no_place_on_one_machine(text: str) -> None:
    assert not MACHINE_PATH.search(text)
