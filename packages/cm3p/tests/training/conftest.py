"""Maps with audio that the tests of training make."""

from __future__ import annotations

import math
import struct
import wave
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

RATE = 16000
SECONDS = 9
STARS = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


def write_song(path: Path, pitch_hz: float, seconds: float = SECONDS) -> None:
    """Write a tone as a WAV file."""
    values = [int(9000 * math.sin(2 * math.pi * pitch_hz * n / RATE)) for n in range(int(RATE * seconds))]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(values)}h", *values))


def map_text(number: int, name: str, set_number: int, audio: str = "audio.wav") -> str:
    """Return a map of circles; the smaller the number, the more."""
    times = range(500, (SECONDS - 1) * 1000, 150 + 50 * (number % 4))
    objects = "\n".join(f"{(7 * time + 31 * number) % 512},{(3 * time) % 384},{time},1,0" for time in times)
    return (
        f"osu file format v14\n\n[General]\nAudioFilename: {audio}\nMode: 0\n\n"
        f"[Metadata]\nTitle:Song {set_number}\nArtist:Tests\nCreator:mapper{set_number % 3}\nVersion:{name}\n"
        f"BeatmapID:{number}\nBeatmapSetID:{set_number}\n\n"
        "[Difficulty]\nHPDrainRate:5\nCircleSize:4\nOverallDifficulty:5\nApproachRate:8\nSliderMultiplier:1.4\n"
        f"SliderTickRate:1\n\n[TimingPoints]\n0,500,4,2,0,60,1,0\n\n[HitObjects]\n{objects}\n"
    )


def write_data_set(root: Path, sets: int = 8, maps: int = 2) -> Path:
    """Write a data set in Mapperator's format."""
    rows = []
    for set_number in range(1, sets + 1):
        folder = root / "data" / f"set {set_number}"
        folder.mkdir(parents=True)
        write_song(folder / "audio.wav", 200 + 40 * set_number)
        for place in range(maps):
            number = 100 * set_number + place
            (folder / f"{place}.osu").write_text(map_text(number, f"d{place}", set_number), encoding="utf-8")
            rows.append(
                {
                    "BeatmapSetId": set_number,
                    "Id": number,
                    "ModeInt": 0,
                    "Mode": "osu",
                    "Status": "ranked" if set_number % 2 else "graveyard",
                    "Ranked": 1 if set_number % 2 else -2,
                    "UserId": 10 + set_number % 3,
                    "Creator": f"mapper{set_number % 3}",
                    "TopTagIds": [1 + set_number % 2],
                    "SubmittedDate": datetime(2008 + set_number, 5, 1),
                    "DifficultyRating": 1.0 + place,
                    "StarRating": [star + place for star in STARS],
                    "Cs": 4.0,
                    "AudioFile": "audio.wav",
                    "BeatmapFile": f"{place}.osu",
                    "BeatmapSetFolder": folder.name,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), root / "metadata.parquet")
    (root / "tags.json").write_text(
        '{"tags": [{"id": 1, "name": "style/clean", "ruleset_id": null, "description": ""},'
        ' {"id": 2, "name": "skillset/tech", "ruleset_id": 0, "description": ""},'
        ' {"id": 9, "name": "unused", "ruleset_id": 0, "description": ""}]}',
        encoding="utf-8",
    )
    return root


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sets of two maps in Mapperator's format. Not to be changed."""
    return write_data_set(tmp_path_factory.mktemp("data_set"))
