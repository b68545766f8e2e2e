"""Fixtures of the package's tests."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="session")
def real_maps() -> Path:
    """A folder with ``osu/`` (real maps, which are not shipped) and ``goldens/`` (numbers made from them)."""
    folder = os.environ.get("CM3P_REAL_MAPS")
    if not folder:
        pytest.skip("CM3P_REAL_MAPS is not set to a folder of real maps")
    return Path(folder)


@pytest.fixture(scope="session")
def golden_cases() -> Any:
    """``golden_cases(name)`` returns the cases of a golden, each with its text as ``osu_text``."""

    def load(name: str) -> list[dict[str, Any]]:
        content = json.loads((GOLDENS / name / "cases.json").read_text(encoding="utf-8"))
        texts = content.get("osu_texts", {})
        return [
            case if "osu_text" in case else {**case, "osu_text": texts[case["osu_text_ref"]]}
            for case in content["cases"]
        ]

    return load


SavedMap = Callable[..., Path]


@pytest.fixture
def save_map() -> SavedMap:
    """``save_map(path, ...)`` writes a map of some circles, sliders or holds, 500 ms apart."""

    def save(
        path: Path,
        *,
        mode: int = 0,
        map_id: int = 0,
        set_id: int = -1,
        x: int = 100,
        objects: int = 16,
        **header: str,
    ) -> Path:
        fields = {"Title": "Song", "Artist": "Somebody", "Creator": "Mapper", "Version": path.stem} | header
        metadata = "\n".join(f"{name}:{value}" for name, value in fields.items() if name != "AudioFilename")
        lines = [_object(mode, number, x) for number in range(objects)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"osu file format v14\n\n[General]\nAudioFilename: {header.get('AudioFilename', 'song.wav')}\n"
            f"Mode: {mode}\n\n[Metadata]\n{metadata}\nBeatmapID:{map_id}\nBeatmapSetID:{set_id}\n\n"
            "[Difficulty]\nHPDrainRate:5\nCircleSize:4\nOverallDifficulty:6\nApproachRate:8\n\n[TimingPoints]\n"
            "0,500,4,2,0,60,1,0\n3000,-50,4,2,0,60,0,1\n5000,-100,4,2,0,60,0,0\n\n[HitObjects]\n"
            + "\n".join(lines),
            encoding="utf-8",
        )
        return path

    return save


def _object(mode: int, number: int, x: int) -> str:
    time, place = 500 * (number + 1), (x + 37 * number) % 512
    if number % 3 == 1 and mode == 3:
        return f"{place},192,{time},128,0,{time + 400}:0:0:0:0:"
    if number % 3 == 1:
        return f"{place},192,{time},6,0,B|{place + 40}:220|{place + 80}:192,2,60"
    if number == 8 and mode != 3:
        return f"256,192,{time},12,0,{time + 400}"
    return f"{place},{(100 + 23 * number) % 384},{time},{5 if number % 4 == 0 else 1},{number % 4 * 2}"


@pytest.fixture
def cm3p_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``cm3p_command(*arguments)`` runs the command line, and returns exit status, output and messages."""
    from cm3p.cli import app
    from pentatonic.cli import run

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(app, [str(each) for each in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command
