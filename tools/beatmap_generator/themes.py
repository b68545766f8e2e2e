"""Themes: from scores of the music21 corpus that are out of copyright, and composed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beatmap_generator.music import BASS, HARMONY, MELODY, Note, Theme

_MOST_BARS = 64
_FEWEST_BARS = 8
_ARTISTS = {
    "bach": "Johann Sebastian Bach",
    "ryansMammoth": "traditional",
    "beethoven": "Ludwig van Beethoven",
    "mozart": "Wolfgang Amadeus Mozart",
    "haydn": "Joseph Haydn",
    "monteverdi": "Claudio Monteverdi",
    "trecento": "Trecento",
    "corelli": "Arcangelo Corelli",
    "handel": "George Frideric Handel",
    "joplin": "Scott Joplin",
}
# A collection counts as so many scores at most; otherwise most pieces would be of the 1,000 fiddle tunes.
_MOST_OF_A_COLLECTION = 90

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
_PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (3, 4, 2, 5), (0, 3, 0, 4), (0, 6, 5, 4))
# Onsets within a bar of four beats (or of as many halves of three) in beats, from calm to busy.
_MOTIFS = (
    (0, 2), (0, 1, 2, 3), (0, 1.5, 2, 3), (0, 0.5, 1, 2, 2.5, 3), (0, 0.75, 1.5, 2, 3, 3.5),
    (0, 1, 1.5, 2, 2.5, 3, 3.5), (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5), (0, 0.25, 0.5, 1, 1.5, 2, 2.25, 2.5, 3, 3.5),
    (0, 0.75, 1.5, 2.25, 3, 3.5),
)  # fmt: skip
_TERNARY_MOTIFS = ((0, 1, 2, 3), (0, 2 / 3, 1, 5 / 3, 2, 3), (0, 1 / 3, 2 / 3, 1, 2, 7 / 3, 8 / 3, 3))
_ADJECTIVES = (
    "Silver",
    "Distant",
    "Burning",
    "Paper",
    "Winter",
    "Electric",
    "Hollow",
    "Crimson",
    "Quiet",
    "Last",
)
_NOUNS = (
    "Harbour",
    "Signal",
    "Garden",
    "Comet",
    "Letters",
    "Machine",
    "River",
    "Parade",
    "Lantern",
    "Horizon",
)
_BANDS = (
    "Seeded Choir",
    "Grid & Tempo",
    "The Quarter Notes",
    "Markov Ensemble",
    "Lead-in",
    "Offbeat Society",
)


def composed_theme(seed: str) -> Theme:
    """Compose 16 bars: two phrases over a progression of four chords, A A' B A'.

    Args:
        seed: Decides everything.
    """
    rng = random.Random(f"theme/{seed}")
    ternary = rng.random() < 0.15
    scale, progression = rng.choice(_SCALES), rng.choice(_PROGRESSIONS)
    key = rng.randint(55, 66)
    phrases = {name: _phrase(rng, ternary, progression) for name in "AB"}
    notes: list[Note] = []
    for index, name in enumerate("AABA"):
        for beat, beats, degree in phrases[name]:
            pitch = key + 12 * (degree // 7) + scale[degree % 7]
            notes.append(Note(beat + 16 * index, beats, pitch, 0.8 if beat % 4 == 0 else 0.65))
        for bar, root in enumerate(progression):
            start = 16.0 * index + 4 * bar
            chord = [scale[(root + third) % 7] + key - 12 for third in (0, 2, 4)]
            notes += [Note(start, 4.0, pitch, 0.4, HARMONY) for pitch in chord]
            notes += [Note(start + half, 1.5, chord[0] - 12, 0.6, BASS) for half in (0, 2)]
    title = f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}"
    return Theme(f"composed-{seed}", title, rng.choice(_BANDS), 4, ternary, 16, notes)


def _phrase(
    rng: random.Random, ternary: bool, progression: tuple[int, ...]
) -> list[tuple[float, float, int]]:
    """(beat, beats, scale degree) of four bars."""
    motifs = rng.choices(_TERNARY_MOTIFS if ternary else _MOTIFS, k=2)
    degree, notes = rng.choice((4, 7, 9)), []
    for bar, root in enumerate(progression):
        onsets = motifs[bar % 2]
        for beat, after in zip(onsets, (*onsets[1:], 4), strict=True):
            if beat in (0, 2):  # a note of the chord, as near as there is one
                degree = min(
                    (root + step for step in (-7, -5, -3, 0, 2, 4, 7, 9, 11)), key=lambda d: abs(d - degree)
                )
            else:
                degree += rng.choice((-2, -1, -1, 1, 1, 2))
            degree = max(0, min(14, degree))
            notes.append((4.0 * bar + beat, float(after - beat), degree))
    return notes


def score_files(rng: random.Random) -> Iterator[tuple[str, Path]]:
    """Yield (name, file) of the corpus's scores in random order, few of any one collection."""
    import music21
    from render_scores import COLLECTIONS

    root = Path(music21.__file__).parent / "corpus"
    files = []
    for name, pattern in COLLECTIONS.items():
        found = sorted((root / name).glob(pattern))
        for path in rng.sample(found, min(len(found), _MOST_OF_A_COLLECTION)):
            relative = path.relative_to(root / name).with_suffix("").as_posix().replace("/", "_")
            files.append((f"{name}__{relative}", path))
    rng.shuffle(files)
    yield from files


def score_theme(name: str, path: Path) -> Theme | None:
    """Read a score, up to where its bars stop being regular.

    Returns:
        None if too little of it is regular, or music21 cannot read it.
    """
    from music21 import converter

    try:
        score: Any = converter.parse(path)
        part = score.parts[0]
        measures = list(part.getElementsByClass("Measure"))
        signatures = list(part.recurse().getElementsByClass("TimeSignature"))
    except Exception:  # music21 raises errors of many kinds; one bad score must not end the run
        return None
    if not measures or not signatures:
        return None
    signature = signatures[0]
    ternary = signature.denominator == 8 and signature.numerator % 3 == 0
    unit = 1.5 if ternary else 1.0
    bar_quarters = float(signature.barDuration.quarterLength)
    meter = bar_quarters / unit
    if meter not in (2, 3, 4):
        return None
    first = float(measures[0].quarterLength) if float(measures[0].quarterLength) < bar_quarters else 0.0
    others = [other for other in signatures if other.ratioString != signature.ratioString]
    bars = _regular_bars(measures, first, bar_quarters, others)
    if bars < _FEWEST_BARS:
        return None
    notes = _notes_of(score, first, unit, bars * meter)
    if sum(note.voice == MELODY for note in notes) < 2 * bars:
        return None
    collection, _, file = name.partition("__")
    title = score.metadata.title if score.metadata is not None and score.metadata.title else file
    artist = _ARTISTS[collection]
    return Theme(name, " ".join(title.split()), artist, int(meter), ternary, bars, notes)


def _regular_bars(measures: list[Any], first: float, bar_quarters: float, other_signatures: list[Any]) -> int:
    """Number of bars, from the first full one, that start at multiples of the bar's length."""
    end = first
    for measure in measures:
        offset, length = float(measure.offset), float(measure.quarterLength)
        if other_signatures and offset > 0 and measure.timeSignature in other_signatures:
            break
        if length == bar_quarters and (offset - first) % bar_quarters:
            break
        end = offset + length
    return min(_MOST_BARS, int((end - first) // bar_quarters))


def _notes_of(score: Any, first: float, unit: float, beats: float) -> list[Note]:
    """Notes of all parts: the top part is the melody, the lowest the bass."""
    notes = []
    parts = list(score.parts)
    for index, part in enumerate(parts):
        voice = MELODY if index == 0 else BASS if index == len(parts) - 1 else HARMONY
        for item in part.flatten().notes:
            beat = (float(item.getOffsetInHierarchy(part)) - first) / unit
            if not item.pitches or item.quarterLength == 0 or not 0 <= beat < beats:
                continue
            pitches = sorted(pitch.midi for pitch in item.pitches)
            length = float(item.quarterLength) / unit
            for rank, pitch in enumerate(reversed(pitches)):
                notes.append(
                    Note(beat, length, int(pitch), 0.7 if rank == 0 else 0.5, voice if rank == 0 else HARMONY)
                )
    return notes
