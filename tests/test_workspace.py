"""What must name every package does so, and continuous integration runs only what is pinned.

``packages/*/pyproject.toml`` is the list of packages. The Makefile, the job matrices, ruff, pyright and mkdocstrings
read it; the places below are written by hand.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml"))
# In the workspace already, without the small model that every package has in the end.
BEING_BUILT: set[str] = set()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")


def settings(path: str) -> dict:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def import_name(package: str) -> str:
    return package.replace("-", "_")


def test_uv_knows_every_package() -> None:
    members = settings("pyproject.toml")["tool"]["uv"]["workspace"]["members"]
    assert sorted(members) == sorted(["shared", *(f"packages/{name}" for name in PACKAGES)])


@pytest.mark.parametrize(
    ("target", "names"), [("list-packages", PACKAGES), ("list-distributions", ["shared", *PACKAGES])]
)
def test_make_finds_every_package(target: str, names: list[str]) -> None:
    done = subprocess.run(["make", "--silent", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == names


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_named_where_readers_look(name: str) -> None:
    assert f"[`packages/{name}`](packages/{name}/README.md)" in text("README.md")
    assert f"| `{name}` |" in text("docs/index.md")
    assert f": {name}.md\n" in text("mkdocs.yml")
    assert f'--8<-- "packages/{name}/README.md' in text(f"docs/{name}.md")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_the_parts_of_all_packages(name: str) -> None:
    folder = ROOT / "packages" / name
    source = folder / "src" / import_name(name)
    for part in ("README.md", "CHANGELOG.md", "LICENSE", "tests"):
        assert (folder / part).exists(), part
    for part in ("__main__.py", "cli.py", "model.py", "weights.py", "py.typed"):
        assert (source / part).is_file(), part
    assert settings(f"packages/{name}/pyproject.toml")["project"]["scripts"] == {
        name: f"{import_name(name)}.cli:main"
    }
    assert f"package={name}\n" in text(f"tests/smoke/{name}.sh")


def test_every_package_but_those_being_built_has_a_small_model() -> None:
    folders = {
        name: ROOT / "packages" / name / "src" / import_name(name) / "checkpoints" for name in PACKAGES
    }
    assert {name for name, folder in folders.items() if not folder.is_dir()} == BEING_BUILT


@pytest.mark.parametrize("name", sorted(set(PACKAGES) - BEING_BUILT))
def test_a_card_lies_beside_the_weights_it_describes(name: str) -> None:
    checkpoints = list((ROOT / "packages" / name / "src" / import_name(name) / "checkpoints").iterdir())
    assert checkpoints
    for checkpoint in checkpoints:
        assert (checkpoint / "MODEL_CARD.md").read_text(encoding="utf-8").startswith(f"# {checkpoint.name}\n")
    link = ROOT / "packages" / name / "MODEL_CARD.md"
    assert (
        link.is_symlink() and link.resolve().parent in checkpoints
    )  # one text, not two that differ some day


def test_workflows_name_no_package() -> None:
    assert len(WORKFLOWS) > 3
    named = {
        path.name: [name for name in PACKAGES if re.search(rf"\b{name}\b(?!-v)", path.read_text())]
        for path in WORKFLOWS
    }
    assert {file: names for file, names in named.items() if names} == {}


def unpinned(workflow: str) -> list[str]:
    """Actions that a workflow takes by a name that can move; those of this repository need none."""
    used = re.findall(r"^\s*(?:- )?uses:\s*(.+?)\s*$", workflow, re.MULTILINE)
    return [action for action in used if not PINNED.fullmatch(action) and not action.startswith("./")]


def test_actions_are_pinned_to_commits() -> None:
    found = {path.name: unpinned(path.read_text(encoding="utf-8")) for path in WORKFLOWS}
    assert {file: actions for file, actions in found.items() if actions} == {}


@pytest.mark.parametrize(
    "action",
    [
        "actions/checkout@v5",
        "actions/checkout@main",
        "actions/checkout@3d3c42e",
        "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1",
        "docker://alpine:3",
    ],
)
def test_an_unpinned_action_is_found(action: str) -> None:
    step = f"      - uses: {action}\n        with:\n          path: site/\n"
    assert unpinned(f"steps:\n{step}") == unpinned(f"steps:\n{step[:6]}  {step[8:]}") == [action]


def test_an_action_has_one_version_everywhere() -> None:
    used = {action for path in WORKFLOWS for action in re.findall(r"uses: (\S+@\S+)", path.read_text())}
    assert len(used) == len({action.partition("@")[0] for action in used})


def test_the_tools_and_the_age_of_dependencies_are_pinned() -> None:
    assert re.search(r"^UV_VERSION := \d+\.\d+\.\d+$", text("Makefile"), re.MULTILINE)
    assert "'uv==$(UV_VERSION)'" in text("Makefile")
    newest = datetime.fromisoformat(settings("pyproject.toml")["tool"]["uv"]["exclude-newer"])
    lock = settings("uv.lock")
    assert datetime.fromisoformat(lock["options"]["exclude-newer"]) == newest
    uploaded = [
        datetime.fromisoformat(wheel["upload-time"])
        for package in lock["package"]
        for wheel in package.get("wheels", ())
    ]
    assert len(uploaded) > 100 and max(uploaded) <= newest
