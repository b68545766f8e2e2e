"""The inputs of `fuzz_cm3p.py`: maps with every kind of object, and what damages do to them and to archives of maps."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator, Sequence

from damages import MOST_DAMAGES, damaged

WORDS = (
    "\n", "\r", "\x00", "\x0b", "\u2028", "\ufeff", "//", "[HitObjects]\n", "[TimingPoints]\n", "[General]\n",
    "osu file format v128\n", "B|", "P|", "C|", "L|", "B3|", "|B|", ",,,", "::::", "0:0:0:0:", "Mode: 3\n",
)  # fmt: skip
NUMBERS = (
    "0", "-1", "1", "1.5", "-0.0001", "1e-298", "1E+90", "1e308", "NaN", "-NaN", "Infinity", "-inf", "2147483648",
    "-200000001", "1151400000", "86399999999999999", "99999999999999999999", "131073", "9000", "9001", "1_0", "",
    "x", "0x10", "\uff11", "9" * 5000,
)  # fmt: skip
ARCHIVE_SHARE = 0.02
_MADE_MAPS = 500
_WHOLE_SHARE = (
    0.003  # of the inputs from a corpus; the others are excerpts, which are as good and much faster
)
_LONG_SHARE = 0.0005  # of the damages: a slider of very many anchors
_LINES_OF_EXCERPTS = 24


def made_map(rng: random.Random) -> str:
    """Return a map with kinds of objects, curves and timing points by chance, of a random ruleset and version."""
    mode = rng.randrange(4)
    lines = [
        f"osu file format v{rng.choice((3, 5, 7, 8, 9, 12, 14, 128))}", "", "[General]", "AudioFilename: audio.mp3",
        f"Mode: {mode}", "StackLeniency: 0.7", "", "[Editor]", "Bookmarks: 1000,2000", "", "[Metadata]", "Title:Made",
        "TitleUnicode:作った", "Artist:Nobody", "Creator:tool", "Version:hard", "Tags:a b c", "BeatmapID:0", "",
        "[Difficulty]", "HPDrainRate:5", f"CircleSize:{rng.choice((4, 7, 18))}", "OverallDifficulty:7.5",
        f"SliderMultiplier:{rng.uniform(0.4, 3.6):.2f}", "SliderTickRate:2", "", "[Events]", '0,0,"bg.jpg",0,0',
        "2,9000,12000", "Sprite,Foreground,Centre,\"x.png\",320,240", " M,0,100,200,1,2", "", "[TimingPoints]",
    ]  # fmt: skip
    for index in range(_few(rng, 20)):
        red = index == 0 or rng.random() < 0.3
        beat = round(rng.uniform(200, 900), 3) if red else -rng.choice((50, 80, 100, 133.333, 1000))
        lines.append(
            f"{index * 1500},{beat},4,{rng.randrange(4)},0,{rng.randrange(101)},{int(red)},{rng.randrange(2)}"
        )
    lines += ["", "[Colours]", "Combo1 : 255,0,0", "", "[HitObjects]"]
    lines += [_made_object(rng, index * 300) for index in range(_few(rng, 40))]
    return "\n".join(lines) + "\n"


def _few(rng: random.Random, most: int) -> int:
    """Return a number from 1 to ``most``, a tenth of it on average."""
    return min(most, 1 + int(rng.expovariate(10 / most)))


def _made_object(rng: random.Random, time_ms: int) -> str:
    start = f"{rng.randint(0, 512)},{rng.randint(0, 384)},{time_ms}"
    kind = rng.choice((1, 5, 2, 6, 2, 22, 8, 12, 128))
    if kind & 1:
        return f"{start},{kind},{rng.randrange(16)}" + rng.choice(("", ",0:0:0:0:", ",1:2:3:40:clap.wav"))
    if kind & 2:
        curve = "|".join(_made_curve(rng) for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 3))))
        repeat, length = rng.choice((1, 1, 1, 2, 5)), rng.choice((0, 35, 70, 140.5, 300, 2000))
        edges = "|".join(["2"] * (repeat + 1)) + "," + "|".join(["0:0"] * (repeat + 1))
        return f"{start},{kind},0,{curve},{repeat},{length}" + rng.choice(
            ("", f",{edges}", f",{edges},0:0:0:0:")
        )
    if kind & 8:
        return f"{start},{kind},4,{time_ms + 900},0:0:0:0:"
    return f"{start},{kind},0,{time_ms + 450}:0:0:0:0:"


def _made_curve(rng: random.Random) -> str:
    letter = rng.choice(("B", "B", "L", "P", "C", "B3"))
    points = [
        f"{rng.randint(-50, 560)}:{rng.randint(-50, 430)}" for _ in range(rng.choice((1, 2, 2, 3, 7, 30)))
    ]
    if rng.random() < 0.3:
        points.append(points[-1])
    return "|".join([letter, *points])


def damaged_fields(data: bytes, rng: random.Random) -> bytes:
    """Return a map with hostile numbers in some fields, and with lines that are doubled, moved or gone."""
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, MOST_DAMAGES)):
        at = rng.randrange(len(lines))
        kind = rng.random()
        if kind < _LONG_SHARE:
            lines.append(_long_slider(rng).encode())
        elif kind < 0.2:
            lines.insert(rng.randrange(len(lines) + 1), lines[at])
        elif kind < 0.4 and len(lines) > 1:
            del lines[at]
        else:
            separator = rng.choice((b",", b",", b":", b"|"))
            fields = lines[at].split(separator)
            fields[rng.randrange(len(fields))] = rng.choice(NUMBERS).encode()
            lines[at] = separator.join(fields)
    return b"\n".join(lines)


def _long_slider(rng: random.Random) -> str:
    """Return a slider of very many anchors, of one piece or of thousands."""
    anchors = [
        rng.choice(("1:1", "9:9", "200:5", "131072:-131072"))
        for _ in range(rng.choice((99, 100, 3000, 30_000)))
    ]
    between = rng.choice(("|", "|", "|", "|L|", "|P|", "|B|", "|C|"))
    curve = rng.choice(("B", "L", "C", "P", "B2", "B9", "B60"))
    return f"1,1,5000,2,0,{curve}|{between.join(anchors)},{rng.choice((1, 9000))},{rng.choice((0, 100, 1e5))}"


def excerpt(data: bytes, rng: random.Random) -> bytes:
    """Return a map with only a few lines in a row of each long section."""
    kept: list[bytes] = []
    section: list[bytes] = []
    for line in [*data.split(b"\n"), b"["]:
        if line.startswith(b"["):
            most = rng.randint(1, _LINES_OF_EXCERPTS)
            first = rng.randrange(max(1, len(section) - most))
            kept += section[:1] + section[1 + first : 1 + first + most]
            section = []
        section.append(line)
    return b"\n".join(kept)


def damaged_archive(maps: Sequence[bytes], others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return an archive of maps with damages."""
    buffer = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for number in range(rng.randint(1, 3)):
            folder = rng.choice(("", "", "song/", "曲/"))
            archive.writestr(f"{folder}{number} [hard].osu", rng.choice(maps))
        archive.writestr(rng.choice(("audio.mp3", "AUDIO.MP3", "song/audio.mp3")), b"1", zipfile.ZIP_DEFLATED)
    return damaged(buffer.getvalue(), others, WORDS, rng)


def inputs(count: int, seed: int | str, corpus: Sequence[bytes]) -> Iterator[bytes]:
    """Yield damaged maps, half of them made here and half from the corpus if there is one, and some archives."""
    rng = random.Random(seed)
    made = [made_map(rng).encode() for _ in range(min(count, _MADE_MAPS))]
    others = [*made, *corpus]
    for _ in range(count):
        if corpus and rng.random() < 0.5:
            source = rng.choice(corpus)
            source = source if rng.random() < _WHOLE_SHARE else excerpt(source, rng)
        else:
            source = rng.choice(made)
        if rng.random() < ARCHIVE_SHARE:
            yield damaged_archive([source, made[0]], others, rng)
        elif rng.random() < 0.7:
            yield damaged_fields(source, rng)
        else:
            yield damaged(source, others, WORDS, rng)
