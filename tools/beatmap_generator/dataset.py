"""Writing a data set in the layout that the training reads: a table, and a folder for every set."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from beatmap_generator.faults import plant
from beatmap_generator.mapping import AUDIO_NAME, ends_of, make_map
from beatmap_generator.music import Piece
from beatmap_generator.ratings import rank_correlation, star_ratings
from beatmap_generator.sets import MapPlan, SetPlan, status_id
from beatmap_generator.style import MODE_NAMES
from beatmap_generator.tags import TAGS, tags_of
from cm3p.beatmap import Beatmap, Circle, Hold, Slider, Spinner, max_combo, write_beatmap
from pentatonic.cli import progress

TABLE, FACTS, PLANTED, TAG_TABLE = "metadata.parquet", "dataset.json", "planted.jsonl", "tags.json"
_FORBIDDEN = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
_SPEED_1 = 2  # place of the normal speed among the star ratings


def write_dataset(
    out: Path,
    sets: Iterable[SetPlan],
    seed: int,
    recordings: Mapping[str, tuple[Path, float]],
    faults: int = 0,
) -> dict[str, Any]:
    """Write maps, audio and tables.

    Args:
        out: A folder that does not exist.
        sets: What to make.
        seed: Decides what the plans leave open.
        recordings: Audio and its offset of every piece by name; empty for a data set without audio.
        faults: Number of faults planted in every map.

    Returns:
        What ``dataset.json`` says: counts, splits, pieces, and by ruleset the rank correlation of the stars that maps
        were made for with their star rating.
    """
    out.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    planted: list[dict[str, Any]] = []
    pieces: dict[str, dict[str, Any]] = {}
    for plan in progress(list(sets), "mapping"):
        folder = _file_name(f"{plan.id} {plan.piece.theme.artist} - {plan.piece.theme.title}")
        (out / "data" / folder).mkdir(parents=True)
        if plan.piece.name in recordings:
            shutil.copyfile(recordings[plan.piece.name][0], out / "data" / folder / AUDIO_NAME)
        pieces[plan.piece.name] = _facts_of(plan.piece, plan.split, recordings)
        for entry in plan.maps:
            beatmap = _map(plan, entry, seed)
            name = _file_name(
                f"{beatmap.artist} - {beatmap.title} ({beatmap.creator}) [{beatmap.version_name}].osu"
            )
            found = plant(beatmap, faults, random.Random(f"faults/{seed}/{entry.id}"))
            planted += [{"file": f"data/{folder}/{name}", **asdict(fault)} for fault in found]
            text = write_beatmap(beatmap)
            (out / "data" / folder / name).write_text(text, encoding="utf-8", newline="\n")
            rows.append(_row(plan, entry, beatmap, text) | {"BeatmapSetFolder": folder, "BeatmapFile": name})
    _write_table(rows, out / TABLE)
    facts = {"seed": seed, **_counts(rows), "pieces": pieces}
    (out / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    tags = [{key: value for key, value in asdict(tag).items() if key != "threshold"} for tag in TAGS]
    (out / TAG_TABLE).write_text(json.dumps(tags, indent=1), encoding="utf-8")
    if faults:
        (out / PLANTED).write_text("".join(json.dumps(fault) + "\n" for fault in planted), encoding="utf-8")
    return facts


def _map(plan: SetPlan, entry: MapPlan, seed: int) -> Beatmap:
    beatmap = make_map(plan.piece, entry.style, f"{seed}/{entry.id}")
    beatmap.creator, beatmap.version_name = plan.host.name, entry.version
    beatmap.beatmap_id, beatmap.beatmap_set_id = entry.id, plan.id
    return beatmap


def _file_name(text: str) -> str:
    return _FORBIDDEN.sub("", text).strip(" .")


def _facts_of(piece: Piece, split: str, recordings: Mapping[str, tuple[Path, float]]) -> dict[str, Any]:
    return {
        "split": split,
        "title": piece.theme.title,
        "artist": piece.theme.artist,
        "lead_in_ms": piece.lead_in_ms,
        "tempo": piece.tempo,
        "programs": piece.programs,
        "audio_offset_ms": recordings[piece.name][1] if piece.name in recordings else None,
    }


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    splits = {}
    for split in ("train", "test"):
        ids = sorted({row["BeatmapSetId"] for row in rows if row["Split"] == split})
        maps = sum(row["Split"] == split for row in rows)
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        splits[split] = {"sets": len(ids), "maps": maps, "first_set": first, "last_set": last}
    modes = Counter(row["Mode"] for row in rows)
    correlations = {
        mode: rank_correlation(
            [row["TargetStars"] for row in rows if row["Mode"] == mode],
            [row["DifficultyRating"] for row in rows if row["Mode"] == mode],
        )
        for mode, count in modes.items()
        if count > 2
    }
    return {
        "maps": len(rows),
        "modes": dict(modes),
        "statuses": dict(Counter(row["Status"] for row in rows)),
        "splits": splits,
        "rank_correlation_of_stars": correlations,
    }


def _row(plan: SetPlan, entry: MapPlan, beatmap: Beatmap, text: str) -> dict[str, Any]:
    """All columns of the original's tables, in their order, then three of our own."""
    piece, style, objects = plan.piece, entry.style, beatmap.hit_objects
    starts, ends = [item.time_ms for item in objects], ends_of(beatmap)
    stars = star_ratings(text, style.stars)
    tags = tags_of(beatmap)
    breaks_s = sum(event.end_ms - event.start_ms for event in beatmap.breaks) / 1000
    length_s = (max(ends) - starts[0]) / 1000
    rng = random.Random(f"row/{entry.id}")
    plays = round(rng.lognormvariate(8 if plan.status == "ranked" else 5, 1.0))
    passes = round(plays * rng.uniform(0.1, 0.6))
    ranked = plan.status == "ranked"
    bpm = round(60000 / piece.tempo[0][1], 2)
    counts = [sum(isinstance(item, kind) for item in objects) for kind in (Circle, (Slider, Hold), Spinner)]
    return {
        "Id": entry.id,
        "Artist": beatmap.artist,
        "ArtistUnicode": beatmap.artist_unicode,
        "Creator": style.persona.name,
        "FavouriteCount": round(plays / rng.uniform(50, 200)),
        "BeatmapSetId": plan.id,
        "Nsfw": False,
        "Offset": 0,
        "BeatmapSetPlayCount": plays * len(plan.maps),
        "Source": "",
        "BeatmapSetStatus": plan.status,
        "Spotlight": False,
        "Title": beatmap.title,
        "TitleUnicode": beatmap.title_unicode,
        "BeatmapSetUserId": plan.host.id,
        "Video": False,
        "Description": "",
        "GenreId": 13 if piece.name.startswith("composed") else 12,
        "GenreName": "Folk" if piece.name.startswith("composed") else "Classical",
        "LanguageId": 5,
        "LanguageName": "Instrumental",
        "PackTags": [],
        "Ratings": [0] * 11,
        "DownloadDisabled": False,
        "BeatmapSetBpm": bpm,
        "CanBeHyped": not ranked,
        "DiscussionLocked": False,
        "BeatmapSetIsScoreable": plan.status != "graveyard",
        "BeatmapSetLastUpdated": plan.submitted + timedelta(days=7),
        "BeatmapSetRanked": status_id(plan.status),
        "RankedDate": plan.submitted + timedelta(days=30) if ranked else None,
        "Storyboard": False,
        "SubmittedDate": plan.submitted,
        "Tags": " ".join(beatmap.tags),
        "DifficultyRating": stars[_SPEED_1],
        "Mode": MODE_NAMES[style.mode],
        "Status": plan.status,
        "TotalLength": round(length_s),
        "UserId": style.persona.id,
        "Version": beatmap.version_name,
        "Checksum": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        "MaxCombo": max_combo(beatmap),
        "Accuracy": beatmap.overall_difficulty,
        "Ar": beatmap.approach_rate,
        "Bpm": bpm,
        "CountCircles": counts[0],
        "CountSliders": counts[1],
        "CountSpinners": counts[2],
        "Cs": beatmap.circle_size,
        "Drain": beatmap.hp_drain_rate,
        "HitLength": round(length_s - breaks_s),
        "IsScoreable": plan.status != "graveyard",
        "LastUpdated": plan.submitted + timedelta(days=7),
        "ModeInt": style.mode,
        "PassCount": passes,
        "PlayCount": plays,
        "Ranked": status_id(plan.status),
        "Owners": [style.persona.id],
        "TopTagIds": [tag for tag, _ in tags],
        "TopTagCounts": [votes for _, votes in tags],
        "StarRating": stars,
        "OmdbTags": [],
        "AudioFile": AUDIO_NAME,
        "Split": plan.split,
        "Piece": piece.name,
        "TargetStars": style.stars,
    }


def _write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = {
        "PackTags": pa.string(),
        "OmdbTags": pa.string(),
        "TopTagIds": pa.int64(),
        "TopTagCounts": pa.int64(),
    }
    dates = ("RankedDate",)
    arrays = {}
    for name in rows[0]:
        kind = (
            pa.list_(lists[name]) if name in lists else pa.timestamp("us", "UTC") if name in dates else None
        )
        arrays[name] = pa.array([row[name] for row in rows], type=kind)
    pq.write_table(pa.table(arrays), path)
