"""Render scores to audio: training data of the small model, and the demo recordings.

Scores come from the corpus that the music21 package carries; sound comes from FluidSynth and a General MIDI
soundfont (Debian packages `fluidsynth` and `fluid-soundfont-gm`). It is not needed to use a model.

    python tools/render_scores.py midi  --out data/scores                      # scores -> MIDI, once
    python tools/render_scores.py audio --scores data/scores --out data/rendered
    python tools/render_scores.py audio --scores data/scores --out data/rich --rich --soundfont FluidR3_GM.sf2 …
    python tools/render_scores.py demo  --scores data/scores --out packages/omar-rq/demo
    python tools/render_scores.py library --out packages/myna-rpe/demo

`audio` draws, for every rendering, a score, instruments, a transposition and a tempo from a seeded generator, and
writes 16 kHz mono FLAC beside a JSON file that lists what was played (notes in seconds, programs, score). A score
belongs to the split `train` or `heldout` by a hash of its name, so no score is in both. `--rich` arranges with more
sounds, drums, a bass and effects (`rich_arrangements.py`), each rendering with one of the soundfonts.
"""

from __future__ import annotations

import argparse
import base64
import codecs
import hashlib
import importlib.util
import json
import random
import tempfile
import zipfile
from pathlib import Path

from pentatonic.audio.soundfont import find_soundfont, render_midi
from pentatonic.child_process import process_pool

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
RENDERED_RATE, SAMPLE_RATE = 44100, 16000
# Composers and collections out of copyright; one glob per folder of the music21 corpus.
COLLECTIONS = {
    "bach": "*.mxl",
    "ryansMammoth": "*.abc",
    "beethoven": "**/*.mxl",
    "mozart": "**/*.mxl",
    "haydn": "**/*.mxl",
    "monteverdi": "*.mxl",
    "trecento": "*.xml",
    "corelli": "**/*.xml",
    "handel": "**/*.mxl",
    "joplin": "*.mxl",
}
# General MIDI programs, 0-based, by family; the family is the label of the instrument probe.
FAMILIES = {
    "piano": [0, 1, 2, 4],
    "mallets": [9, 11, 12, 13],
    "organ": [16, 19, 20, 21],
    "guitar": [24, 25, 26, 27],
    "strings": [40, 41, 42, 48],
    "voices": [52, 53],
    "brass": [56, 57, 58, 60, 61],
    "reeds": [64, 65, 66, 68, 70, 71],
    "flutes": [72, 73, 74, 75],
}
DRUM_LOOP = ((0.0, 36), (0.5, 42), (1.0, 38), (1.5, 42))  # (beat within two beats, General MIDI drum)


def split_of(score: str) -> str:
    """Return ``heldout`` for about one score in ten, by a hash of its name."""
    return "heldout" if hashlib.sha256(score.encode()).digest()[0] % 10 == 0 else "train"


def write_midi(source: Path, target: Path) -> str | None:
    """Convert one score; return the error message when it cannot be read, otherwise None.

    verovio plays MusicXML, with its repeats; symusic plays ABC. music21 would take an hour for all.
    """
    import symusic
    import verovio

    try:
        if source.suffix == ".abc":
            music = symusic.Score.from_abc(source.read_text(encoding="utf-8", errors="replace"))
            target.write_bytes(music.dumps_midi())
            return None
        verovio.enableLog(verovio.LOG_OFF)
        toolkit = verovio.toolkit()
        if not toolkit.loadData(_music_xml(source)):
            return f"{source.name}: verovio cannot read it"
        target.write_bytes(base64.b64decode(toolkit.renderToMIDI()))
    except (ValueError, RuntimeError, OSError, KeyError, zipfile.BadZipFile) as error:
        return f"{source.name}: {type(error).__name__}: {error}"
    return None


def _music_xml(source: Path) -> str:
    """Text of a MusicXML file, plain or compressed; verovio's own reader of archives ends the process at a bad one."""
    data = source.read_bytes()
    if source.suffix == ".mxl":
        with zipfile.ZipFile(source) as archive:
            names = [name for name in archive.namelist() if not name.startswith("META-INF/")]
            data = archive.read(next((name for name in names if name.endswith(".xml")), "no score"))
    return data.decode(
        "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    )


def collect_midi(out: Path, workers: int) -> None:
    """Write every score of the collections as ``<collection>__<name>.mid``."""
    found = importlib.util.find_spec("music21")  # not imported: that takes seconds
    if found is None or found.origin is None:
        raise SystemExit("the package music21 is not installed, whose corpus has the scores")
    root = Path(found.origin).parent / "corpus"
    out.mkdir(parents=True, exist_ok=True)
    jobs = [
        (
            path,
            out / f"{name}__{path.relative_to(root / name).with_suffix('').as_posix().replace('/', '_')}.mid",
        )
        for name, pattern in COLLECTIONS.items()
        for path in sorted((root / name).glob(pattern))
    ]
    jobs = [(source, target) for source, target in jobs if not target.exists()]
    with process_pool(workers) as pool:
        failures = [
            reason for reason in pool.map(write_midi, *zip(*jobs, strict=True), chunksize=8) if reason
        ]
    print(f"{len(jobs) - len(failures)} scores written, {len(failures)} failed", *failures, sep="\n  ")


def arrange(midi: Path, rng: random.Random, max_seconds: float):
    """Return (score in seconds, families) with random instruments, key and tempo, and sometimes drums."""
    import symusic

    score = symusic.Score(midi).to("second")
    stretch, shift = rng.uniform(0.75, 1.35), rng.randint(-5, 6)
    solo = rng.random() < 0.5
    families = [rng.choice(list(FAMILIES))] * len(score.tracks)
    if not solo:
        families = [rng.choice(list(FAMILIES)) for _ in score.tracks]
    start = rng.uniform(0, max(0.0, score.end() / stretch - max_seconds))
    arranged = symusic.Score(480).to("second")
    for family, track in zip(families, score.tracks, strict=True):
        part = symusic.Track(program=rng.choice(FAMILIES[family]), is_drum=False, ttype="second")
        gain = rng.uniform(0.6, 1.0)
        for note in track.notes:
            begin, pitch = note.time / stretch - start, note.pitch + shift
            if 0 <= begin < max_seconds and 21 <= pitch <= 108:
                velocity = max(20, min(127, round(gain * rng.gauss(88, 10))))
                part.notes.append(
                    symusic.Note(begin, note.duration / stretch, pitch, velocity, ttype="second")
                )
        if len(part.notes):
            arranged.tracks.append(part)
    if not solo and rng.random() < 0.35:
        arranged.tracks.append(drum_track(max_seconds, beat_s=0.5 / stretch))
    return arranged, sorted(set(families))


def drum_track(seconds: float, beat_s: float):
    """Return a plain drum pattern of two beats, repeated."""
    import symusic

    part = symusic.Track(program=0, is_drum=True, ttype="second")
    for bar in range(int(seconds / (2 * beat_s))):
        for beat, drum in DRUM_LOOP:
            part.notes.append(symusic.Note((2 * bar + beat) * beat_s, 0.1, drum, 70, ttype="second"))
    return part


def synthesise(midi: bytes, soundfont: Path = SOUNDFONT):
    """Return the sound of a MIDI file by FluidSynth, ``(n,)`` at ``RENDERED_RATE``."""
    stereo = render_midi(midi, find_soundfont(soundfont), RENDERED_RATE, timeout_s=600)
    return stereo.mean(axis=0)


def render(job: tuple[Path, Path, str, float, tuple[Path, ...], bool]) -> float:
    """Render one arrangement; return its seconds."""
    import rich_arrangements
    import soundfile
    import soxr

    midi, stem, seed, max_seconds, soundfonts, rich = job
    rng = random.Random(seed)
    arranged, families = (rich_arrangements.arrange if rich else arrange)(midi, rng, max_seconds)
    soundfont = rng.choice(soundfonts) if len(soundfonts) > 1 else soundfonts[0]
    notes = [
        [round(note.time, 4), round(note.time + note.duration, 4), note.pitch, track.program]
        for track in arranged.tracks
        if not track.is_drum
        for note in track.notes
    ]
    if not notes:
        return 0.0
    samples = synthesise(arranged.to("tick").dumps_midi(), soundfont)
    mono = soxr.resample(samples, RENDERED_RATE, SAMPLE_RATE)[: int(max_seconds * SAMPLE_RATE)]
    if rich:
        mono = rich_arrangements.effects(mono, SAMPLE_RATE, rng)
    mono *= rng.uniform(0.3, 0.9) / max(1e-4, float(abs(mono).max()))
    soundfile.write(f"{stem}.flac", mono, SAMPLE_RATE)
    record = {"score": midi.stem, "families": families, "notes": notes, "seconds": len(mono) / SAMPLE_RATE}
    record |= {"soundfont": soundfont.name}
    Path(f"{stem}.json").write_text(json.dumps(record))
    return record["seconds"]


# The recordings of `make demo`: score, instruments of its parts in turn, seconds. None is in the training split.
DEMO = {
    "bach_chorale_strings": ("bach__bwv57.8", (48, 48, 42, 42), 27.0),
    "joplin_maple_leaf_rag_piano": ("joplin__maple_leaf_rag", (0,), 30.0),
    "durangs_hornpipe_flute": ("ryansMammoth__DurangsHornpipe", (73,), 30.0),
}


def render_demo(scores: Path, out: Path) -> None:
    """Write the demo recordings as 44.1 kHz mono Ogg Vorbis."""
    import soundfile
    import symusic

    out.mkdir(parents=True, exist_ok=True)
    for name, (score, programs, seconds) in DEMO.items():
        if split_of(score) != "heldout":
            raise SystemExit(f"{score} is a training score")
        music = symusic.Score(scores / f"{score}.mid")
        for index, track in enumerate(music.tracks):
            track.program = programs[index % len(programs)]
        mono = synthesise(music.dumps_midi())[: int(seconds * RENDERED_RATE)]
        fade = min(len(mono), RENDERED_RATE // 2)
        mono[-fade:] *= [1 - i / fade for i in range(fade)]
        soundfile.write(
            out / f"{name}.ogg", 0.8 * mono / abs(mono).max(), RENDERED_RATE, compression_level=0.6
        )


# The library of `make demo`: file, score of music21, instruments of its parts in turn, title, composer. Four pieces
# each for strings, winds, choir and keyboards.
LIBRARY = (
    ("quartet_haydn", "haydn/opus74no1/movement1", (40, 40, 41, 42), "Quartet op. 74 no. 1", "Joseph Haydn"),
    (
        "quartet_mozart",
        "mozart/k155/movement1",
        (40, 40, 41, 42),
        "Quartet K. 155",
        "Wolfgang Amadeus Mozart",
    ),
    (
        "quartet_beethoven",
        "beethoven/opus18no1/movement2",
        (40, 40, 41, 42),
        "Quartet op. 18 no. 1",
        "Ludwig van Beethoven",
    ),
    ("chorale_strings", "bach/bwv269", (48,), "Chorale BWV 269, strings", "Johann Sebastian Bach"),
    ("hornpipe_flute", "ryansMammoth/DurangsHornpipe", (73,), "Durang's Hornpipe", "traditional"),
    ("reel_recorder", "ryansMammoth/ArkansasTravellerReel", (74,), "Arkansas Traveller", "traditional"),
    ("jig_oboe", "ryansMammoth/GarryOwenJig", (68,), "Garry Owen", "traditional"),
    ("chorale_winds", "bach/bwv318", (73, 68, 71, 70), "Chorale BWV 318, winds", "Johann Sebastian Bach"),
    ("chorale_choir", "bach/bwv281", (52,), "Chorale BWV 281, choir", "Johann Sebastian Bach"),
    ("madrigal_choir", "monteverdi/madrigal.3.1", (52, 53), "La giovinetta pianta", "Claudio Monteverdi"),
    (
        "aria_choir",
        "handel/rinaldo/Lascia_chio_pianga",
        (53, 52),
        "Lascia ch'io pianga",
        "George Frideric Handel",
    ),
    ("chorale_choir_2", "bach/bwv302", (52,), "Chorale BWV 302, choir", "Johann Sebastian Bach"),
    ("rag_piano", "joplin/maple_leaf_rag", (0,), "Maple Leaf Rag", "Scott Joplin"),
    ("chorale_piano", "bach/bwv366", (0,), "Chorale BWV 366, piano", "Johann Sebastian Bach"),
    ("quartet_piano", "mozart/k156/movement1", (0,), "Quartet K. 156, on a piano", "Wolfgang Amadeus Mozart"),
    ("chorale_harpsichord", "bach/bwv253", (6,), "Chorale BWV 253, harpsichord", "Johann Sebastian Bach"),
)
_LIBRARY_S = 12.0


def render_library(out: Path) -> None:
    """Write the demo library as 44.1 kHz mono Ogg Vorbis with tags; one piece twice, as if from another rip."""
    import soundfile
    import symusic
    from music21 import corpus

    out.mkdir(parents=True, exist_ok=True)
    for name, score, programs, title, composer in LIBRARY:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain.mid"
            corpus.parse(score).write("midi", fp=plain)
            music = symusic.Score(plain)
        for index, track in enumerate(music.tracks):
            track.program = programs[index % len(programs)]
        mono = synthesise(music.dumps_midi())[: int(_LIBRARY_S * RENDERED_RATE)]
        fade = min(len(mono), RENDERED_RATE // 2)
        mono[-fade:] *= [1 - i / fade for i in range(fade)]
        mono *= 0.8 / abs(mono).max()
        copies = [(name, title, mono, 0.85)]
        if name == "hornpipe_flute":
            late = [0.0] * (RENDERED_RATE // 2)
            copies.append((f"{name}_copy", f"{title} (other rip)", [*late, *(0.6 * mono)], 0.95))
        for file, tag, audio, level in copies:
            with soundfile.SoundFile(
                out / f"{file}.ogg",
                "w",
                RENDERED_RATE,
                1,
                format="OGG",
                subtype="VORBIS",
                compression_level=level,
            ) as target:
                target.title, target.artist, target.album = tag, composer, "Demo library"
                target.write(audio)


def render_split(
    midis: list[Path],
    out: Path,
    *,
    hours: float,
    seed: str,
    max_seconds: float,
    workers: int,
    soundfonts: tuple[Path, ...] = (SOUNDFONT,),
    rich: bool = False,
) -> None:
    """Render scores into ``out`` until it holds ``hours`` of audio; existing recordings are kept."""
    out.mkdir(parents=True, exist_ok=True)
    # A collection counts as 60 scores at most; otherwise most recordings would be of the 1,000 fiddle tunes.
    collections = [midi.stem.split("__")[0] for midi in midis]
    weights = [min(collections.count(name), 60) / collections.count(name) for name in collections]
    picks = random.Random(seed).choices(midis, weights, k=int(hours * 3600 / max_seconds))
    jobs = [
        (midi, out / f"{index:05d}__{midi.stem}", f"{seed}/{index}", max_seconds, soundfonts, rich)
        for index, midi in enumerate(picks)
    ]
    jobs = [job for job in jobs if not Path(f"{job[1]}.json").exists()]
    with process_pool(workers) as pool:
        seconds = sum(pool.map(render, jobs, chunksize=4))
    print(f"{out}: {len(jobs)} recordings, {seconds / 3600:.2f} h")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    midi = verbs.add_parser("midi", help="scores -> MIDI files")
    audio = verbs.add_parser("audio", help="MIDI files -> FLAC + JSON")
    demo = verbs.add_parser("demo", help="MIDI files -> the demo recordings")
    library = verbs.add_parser("library", help="scores -> the demo library")
    for verb in (midi, audio, demo, library):
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--workers", type=int, default=2)
    for verb in (audio, demo):
        verb.add_argument("--scores", type=Path, required=True)
    audio.add_argument("--train-hours", type=float, default=5.14)
    audio.add_argument("--heldout-hours", type=float, default=3.0)
    audio.add_argument("--seed", type=int, default=0)
    audio.add_argument("--max-seconds", type=float, default=60.0)
    audio.add_argument("--rich", action="store_true", help="more sounds, drums, a bass and effects")
    audio.add_argument(
        "--soundfont", type=Path, nargs="+", default=[SOUNDFONT], help="each rendering takes one of them"
    )
    args = parser.parse_args()
    if args.verb == "midi":
        collect_midi(args.out, args.workers)
    elif args.verb == "library":
        render_library(args.out)
    elif args.verb == "demo":
        render_demo(args.scores, args.out)
    else:
        midis = sorted(args.scores.glob("*.mid"))
        for split, hours in (("train", args.train_hours), ("heldout", args.heldout_hours)):
            chosen = [midi for midi in midis if split_of(midi.stem) == split]
            seed = f"{args.seed}/{split}"
            render_split(
                chosen,
                args.out / split,
                hours=hours,
                seed=seed,
                max_seconds=args.max_seconds,
                workers=args.workers,
                soundfonts=tuple(args.soundfont),
                rich=args.rich,
            )


if __name__ == "__main__":
    main()
