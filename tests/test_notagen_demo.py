"""The part of ``make demo`` that compares the pieces of NotaGen and searches a melody, on pieces that are there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("notagen")
ROOT = Path(__file__).parents[1]
DEMO = ROOT / "packages" / "notagen" / "demo"


def test_scores_and_a_melody_that_is_found(tmp_path: Path) -> None:
    script = subprocess.run(
        ["make", "-n", "demo-notagen"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = [line.split("run --no-sync ")[1] for line in script.stdout.splitlines() if " notagen " in line]
    assert [command.split()[1] for command in commands] == ["generate", "score", "search"]
    (tmp_path / "pieces").mkdir()
    for number, piece in enumerate(sorted(DEMO.rglob("*.abc"))):
        shutil.copy(piece, tmp_path / "pieces" / f"{number}.abc")
    said = []
    for command in commands[1:]:
        words = shlex.split(command.replace("out/notagen", str(tmp_path)))
        pieces = sorted(str(path) for path in (tmp_path / "pieces").glob("*.abc"))
        given = [each for word in words[1:] for each in (pieces if "*" in word else [word])]
        done = subprocess.run(
            [sys.executable, "-P", "-m", words[0], *given],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    scores, places = said
    assert len(re.findall(r"^\d\.\d{4}  ", scores, re.MULTILINE)) == 5
    assert re.search(r"^average score 0\.\d+", scores, re.MULTILINE)
    assert re.search(r"^nearest score 0\.\d+", scores, re.MULTILINE)
    assert "DurangsHornpipe-1.abc" in places and places.rstrip().endswith("in 1 of 5 tunes")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.index("How close the pieces are to references") < page.index("Where a melody is")
