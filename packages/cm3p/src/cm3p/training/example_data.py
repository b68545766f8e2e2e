"""A small data set in Mapperator's format that is made on the spot, so that training can be tried without maps.

Its songs are tones, and its maps circles at even distances: what can be learned is which of them are denser, and whose
song is higher.
"""

from __future__ import annotations

import json
import math
import struct
import wave
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cm3p.catalogue.mapperator import METADATA_FILE
from cm3p.training.vocabulary import TAGS_FILE

_RATE, _SECONDS = 16000, 9
_STARS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
_TAGS = ("style/clean", "skillset/tech", "unused")


def write_example_data_set(root: Path, sets: int = 8, maps: int = 2) -> Path:
    """Write a data set; the same one for the same numbers.

    Args:
        root: Its folder, which is made.
        sets: Number of sets, every second of which is ranked.
        maps: Maps of each set.

    Returns:
        ``root``.
    """
    rows: list[dict[str, Any]] = []
    for set_number in range(1, sets + 1):
        folder = root / "data" / f"set {set_number}"
        folder.mkdir(parents=True, exist_ok=True)
        write_tone(folder / "audio.wav", 200 + 40 * set_number)
        for place in range(maps):
            number = 100 * set_number + place
            (folder / f"{place}.osu").write_text(map_text(number, f"d{place}", set_number), encoding="utf-8")
            rows.append(_row(folder.name, set_number, place, number))
    tags = [
        {"id": number, "name": name, "ruleset_id": None, "description": ""}
        for number, name in enumerate(_TAGS, 1)
    ]
    (root / TAGS_FILE).write_text(json.dumps({"tags": tags}), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), root / METADATA_FILE)
    return root


def write_tone(path: Path, pitch_hz: float, seconds: float = _SECONDS) -> None:
    """Write a tone as a WAV file."""
    values = [int(9000 * math.sin(2 * math.pi * pitch_hz * n / _RATE)) for n in range(int(_RATE * seconds))]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, _RATE, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(values)}h", *values))


def map_text(number: int, name: str, set_number: int, audio: str = "audio.wav") -> str:
    """Return an ``.osu`` file of circles.

    Args:
        number: Id of the map; its remainder by 4 decides how dense the circles are.
        name: Of the difficulty.
        set_number: Id of the set.
        audio: Name of the song's file.
    """
    times_ms = range(500, (_SECONDS - 1) * 1000, 150 + 50 * (number % 4))
    objects = "\n".join(
        f"{(7 * time + 31 * number) % 512},{(3 * time) % 384},{time},1,0" for time in times_ms
    )
    return (
        f"osu file format v14\n\n[General]\nAudioFilename: {audio}\nMode: 0\n\n"
        f"[Metadata]\nTitle:Song {set_number}\nArtist:Tests\nCreator:mapper{set_number % 3}\nVersion:{name}\n"
        f"BeatmapID:{number}\nBeatmapSetID:{set_number}\n\n"
        "[Difficulty]\nHPDrainRate:5\nCircleSize:4\nOverallDifficulty:5\nApproachRate:8\nSliderMultiplier:1.4\n"
        f"SliderTickRate:1\n\n[TimingPoints]\n0,500,4,2,0,60,1,0\n\n[HitObjects]\n{objects}\n"
    )


def _row(folder: str, set_number: int, place: int, number: int) -> dict[str, Any]:
    ranked = set_number % 2 == 1
    return {
        "BeatmapSetId": set_number,
        "Id": number,
        "ModeInt": 0,
        "Mode": "osu",
        "Status": "ranked" if ranked else "graveyard",
        "Ranked": 1 if ranked else -2,
        "UserId": 10 + set_number % 3,
        "Creator": f"mapper{set_number % 3}",
        "TopTagIds": [1 + set_number % 2],
        "SubmittedDate": datetime(2008 + set_number % 16, 5, 1),
        "DifficultyRating": 1.0 + place,
        "StarRating": [star + place for star in _STARS],
        "Cs": 4.0,
        "AudioFile": "audio.wav",
        "BeatmapFile": f"{place}.osu",
        "BeatmapSetFolder": folder,
    }
