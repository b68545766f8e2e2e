"""Who may import whom: packages import pentatonic, never each other, pentatonic imports no package, and no circles.

The import statements are read from the source, so that imports inside functions count as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = "pentatonic"
TRAINING_ONLY = {"accelerate", "hydra", "omegaconf"}


def import_roots(root: Path) -> dict[str, Path]:
    """Import name -> source folder, of the shared package and of each package."""
    folders = [root / "shared/src" / SHARED, *(root / "packages").glob("*/src/*")]
    return {folder.name: folder for folder in folders if (folder / "__init__.py").is_file()}


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything a module imports, wherever the statement stands."""
    yield from imported_by(ast.walk(tree), module, is_package=is_package)


def imported_by(nodes: Iterable[ast.AST], module: str, *, is_package: bool) -> Iterator[tuple[str, int]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                yield str(node.args[0].value), node.lineno


def forbidden_arrows(root: Path) -> list[str]:
    """Every import of another package of the workspace, and every training import in a ``model.py``."""
    packages = import_roots(root)
    found = []
    for own, folder in packages.items():
        for path in sorted(folder.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
            is_package = path.name == "__init__.py"
            for name, line in imported(tree, module_name(path, folder), is_package=is_package):
                top = name.split(".")[0]
                other_package = top in packages and top not in (own, SHARED)
                training_in_model = path.name == "model.py" and top in TRAINING_ONLY
                if other_package or training_in_model:
                    found.append(f"{path.relative_to(root)}:{line} imports {name}")
    return found


def nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without what stands under ``if TYPE_CHECKING``, which is never executed."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for alternative in child.orelse:
                yield from (alternative, *nodes_that_run(alternative))
        else:
            yield from (child, *nodes_that_run(child))


def import_graph(folder: Path) -> dict[str, set[str]]:
    """Module of a distribution -> those modules of it that it imports, also inside functions.

    Names that a package loads when they are first used (:mod:`pentatonic.lazy`) count as its imports. That a module
    makes its parent packages load does not: it is so for every module.
    """
    paths = {module_name(path, folder): path for path in sorted(folder.rglob("*.py"))}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        nodes = list(nodes_that_run(ast.parse(path.read_text(encoding="utf-8"), str(path))))
        is_package = path.name == "__init__.py"
        names = [name for name, _ in imported_by(nodes, module, is_package=is_package)]
        if is_package:
            # Lazy names are a dictionary from the name to its module.
            names += [node.value for node in nodes if isinstance(node, ast.Constant) and node.value in paths]
        # ``from a.b import c`` is the module a.b.c if there is one, else a name in a.b.
        found = (next((m for m in (name, name.rpartition(".")[0]) if m in paths), None) for name in names)
        graph[module] = {other for other in found if other is not None} - {module}
    return graph


def import_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of two or more modules that import each other, directly or through others of the group."""

    def reachable(start: str) -> set[str]:
        seen, waiting = set(), list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph[module]
        return seen

    reach = {module: reachable(module) for module in graph}
    groups = {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in graph
        if module in reach[module]
    }
    return sorted(sorted(group) for group in groups)


def make_package(root: Path, place: str, name: str, modules: dict[str, str]) -> None:
    folder = root / place / "src" / name
    folder.mkdir(parents=True)
    for file, source in ({"__init__.py": ""} | modules).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(source)


def command_lines() -> list[str]:
    return [f"{name}.cli" for name, folder in import_roots(ROOT).items() if (folder / "cli.py").is_file()]


def test_import_graph_has_no_forbidden_arrow() -> None:
    assert SHARED in import_roots(ROOT)
    assert len(import_roots(ROOT)) > 1
    assert forbidden_arrows(ROOT) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import other",
        "def f():\n    from other.model import X",
        "import importlib\nimportlib.import_module('other.model')",
        "__import__('other')",
    ],
)
@pytest.mark.parametrize("place", ["shared", "packages/mine"])
def test_an_arrow_to_another_package_is_found(tmp_path: Path, place: str, statement: str) -> None:
    make_package(tmp_path, "packages/other", "other", {})
    name = SHARED if place == "shared" else "mine"
    make_package(tmp_path, place, name, {"sub/deep.py": statement})
    (arrow,) = forbidden_arrows(tmp_path)
    assert arrow.startswith(f"{place}/src/{name}/sub/deep.py:")


def test_training_imports_in_model_are_found(tmp_path: Path) -> None:
    source = "import torch\ndef f():\n    from omegaconf import OmegaConf\n"
    make_package(tmp_path, "packages/mine", "mine", {"model.py": source, "train.py": source})
    assert forbidden_arrows(tmp_path) == ["packages/mine/src/mine/model.py:3 imports omegaconf.OmegaConf"]


def test_allowed_arrows_are_let_through(tmp_path: Path) -> None:
    make_package(tmp_path, "shared", SHARED, {"audio.py": "import torch"})
    make_package(tmp_path, "packages/other", "other", {})
    modules = {"model.py": "from pentatonic import audio\nfrom . import other\nfrom .other import x\n"}
    make_package(tmp_path, "packages/mine", "mine", modules | {"other.py": "x = 1"})
    assert forbidden_arrows(tmp_path) == []


@pytest.mark.parametrize("name", import_roots(ROOT))
def test_modules_do_not_import_each_other_in_a_circle(name: str) -> None:
    graph = import_graph(import_roots(ROOT)[name])
    assert len(graph) > 10 and any(graph.values())
    assert import_circles(graph) == []


@pytest.mark.parametrize(
    "modules",
    [
        {"a.py": "from mine import b", "b.py": "import mine.a"},
        {"a.py": "from mine.b import x", "b.py": "def f():\n    from mine.a import y"},
        {"a.py": "from .b import x", "b.py": "class C:\n    def f(self):\n        from . import a"},
        {"a.py": "import mine.b as b", "b.py": "import importlib\nimportlib.import_module('mine.a')"},
        {"a.py": "try:\n    from mine import b\nexcept ImportError:\n    b = None", "b.py": "import mine.a"},
        {"a.py": "if TYPE_CHECKING:\n    pass\nelse:\n    import mine.b", "b.py": "import mine.a"},
    ],
)
def test_a_circle_of_two_is_found(tmp_path: Path, modules: dict[str, str]) -> None:
    make_package(tmp_path, "packages/mine", "mine", modules)
    assert import_circles(import_graph(tmp_path / "packages/mine/src/mine")) == [["mine.a", "mine.b"]]


def test_longer_circles_and_circles_through_packages_are_found(tmp_path: Path) -> None:
    modules = {
        "a.py": "import mine.b",
        "b.py": "def f():\n    import mine.c",
        "c.py": "from mine.a import x",
        "user.py": "import mine.a",
        "sub/__init__.py": "from mine.sub.deep import y",
        "sub/deep.py": "from mine.sub import z",
        "lazy/__init__.py": "__getattr__ = lazy_names(__name__, {'y': 'mine.lazy.deep'})",
        "lazy/deep.py": "def f():\n    from mine.lazy import z",
    }
    make_package(tmp_path, "packages/mine", "mine", modules)
    circles = import_circles(import_graph(tmp_path / "packages/mine/src/mine"))
    assert circles == [
        ["mine.a", "mine.b", "mine.c"],
        ["mine.lazy", "mine.lazy.deep"],
        ["mine.sub", "mine.sub.deep"],
    ]


def test_imports_without_a_circle_are_let_through(tmp_path: Path) -> None:
    modules = {
        "a.py": "from typing import TYPE_CHECKING\nimport torch\nif TYPE_CHECKING:\n    from mine.b import x",
        "b.py": "import mine.a\nfrom mine import a, c",
        "c.py": "from mine.a import mine",
        "sub/__init__.py": "from mine.sub.deep import y\nfrom .deep import z",
        "sub/deep.py": "from mine import a",
    }
    make_package(tmp_path, "packages/mine", "mine", modules)
    assert import_circles(import_graph(tmp_path / "packages/mine/src/mine")) == []


@pytest.mark.parametrize("module", command_lines())
def test_command_line_loads_without_torch(module: str) -> None:
    # ``--help`` has to answer at once, and torch alone takes longer than that.
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'hydra'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
