"""The pieces of a data set, and their recordings."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from beatmap_generator.arranging import arrange
from beatmap_generator.music import Piece
from beatmap_generator.rendering import render
from beatmap_generator.themes import composed_theme, score_files, score_theme
from pentatonic.checkpoint import atomic_file


def make_pieces(count: int, seed: int, score_share: float) -> Iterator[Piece]:
    """Yield pieces: scores of the corpus and composed ones in turn, as many of each as the share says.

    Args:
        count: How many.
        seed: Decides everything.
        score_share: Share of the pieces that come from scores, 0 to 1. It ends when the corpus does.
    """
    scores = score_files(random.Random(f"scores/{seed}")) if score_share else iter(())
    from_scores = 0
    for index in range(count):
        theme = None
        if from_scores < score_share * (index + 1):
            theme = next((theme for file in scores if (theme := score_theme(*file))), None)
        from_scores += theme is not None
        yield arrange(theme or composed_theme(f"{seed}-{index}"), str(seed))


def recording(piece: Piece, folder: Path) -> tuple[Path, float]:
    """Return the audio of a piece and the measured offset in milliseconds.

    It is rendered unless the folder has it, of the same arrangement: another seed arranges a score in another way.

    Args:
        piece: The piece.
        folder: Where recordings are kept, ``<piece>.ogg`` with ``<piece>.json``.
    """
    audio, facts = folder / f"{piece.name}.ogg", folder / f"{piece.name}.json"
    arrangement = {"tempo": piece.tempo, "lead_in_ms": piece.lead_in_ms, "programs": piece.programs}
    arrangement = json.loads(json.dumps(arrangement))  # lists for tuples, to compare
    if facts.exists() and audio.exists():
        known = json.loads(facts.read_text())
        if all(known[key] == value for key, value in arrangement.items()):
            return audio, float(known["offset_ms"])
    offset_ms = render(piece, audio)
    with atomic_file(facts) as file:
        file.write(json.dumps({"offset_ms": offset_ms, **arrangement}).encode())
    return audio, offset_ms
