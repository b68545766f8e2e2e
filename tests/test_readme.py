"""The Python in the READMEs runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "packages").glob("*/README.md"))
# The snippets use some audio of the reader.
GIVEN = "import torch\naudio = 0.1 * torch.randn(88200)\n"


@pytest.mark.parametrize("name", ["README.md", "shared/README.md", *PACKAGES])
def test_python_blocks_run_in_order(name: str, tmp_path: Path) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks, f"{name} shows no Python"
    script = tmp_path / "snippets.py"
    script.write_text(GIVEN + "\n".join(blocks))
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_make_lists_its_verbs_and_the_readme_names_the_first_two() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for verb in (
        "setup",
        "demo",
        "test",
        "test-slow",
        "test-gpu",
        "lint",
        "typecheck",
        "bench",
        "docs",
        "check",
    ):
        assert f"make {verb} " in done.stdout
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.index("make demo") < readme.index("make test") < readme.index("##")
