"""Collect the training data of notagen-tiny from the corpus in the music21 package.

    python tools/tiny_scores.py --out data/tunes
    notagen preprocess corpus=tiny

Writes one ABC file per tune, `prompts.jsonl` (the prompt of each collection) and `manifest.json` (the SHA-256 of every
source file, known rights, and the tunes that were left out, with reasons). Bars of chorales that are split at a fermata
are joined. Tunes that `notagen.notation.validation` rejects are left out.

All the music is out of copyright: tunes printed from 1778 to 1903, and chorales of J. S. Bach. Other parts of the
corpus are not used: the Essen folk songs (encodings licensed for non-commercial use), Josquin (encodings under the
GPL), fife tunes of unknown origin, and everything whose edition has its own licence or copyright.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from notagen.abc import bar_duration, parse_meter, parse_unit_length
from notagen.files.reading import read_tunes
from notagen.notation.bars import BarTable, VoiceBars
from notagen.notation.layout import standard
from notagen.notation.rests import omit_rests
from notagen.notation.tunebook import prepare_tune
from notagen.notation.validation import validate
from pentatonic.cli import progress
from pentatonic.errors import PentatonicError

_ENCODERS = "encoded for the abc community; music21 carries the files with the encoders' permission"


@dataclass(frozen=True)
class Collection:
    """One folder of the corpus.

    Args:
        pattern: Pattern of its file names.
        prompt: Period, composer (for a tune book its editor) and instrumentation.
        source: The printed source.
        rights: Rights of music and encoding, as far as the corpus states them.
    """

    pattern: str
    prompt: tuple[str, str, str]
    source: str
    rights: str


COLLECTIONS = {
    "airdsAirs": Collection(
        "*.abc",
        ("Folk", "Aird, James", "Flute"),
        "James Aird: A Selection of Scotch, English, Irish and Foreign Airs, Glasgow 1778-1801",
        f"public domain; {_ENCODERS} (Jack Campin, 2003-2009)",
    ),
    "oneills1850": Collection(
        "*.abc",
        ("Folk", "O'Neill, Francis", "Fiddle"),
        "Francis O'Neill: Music of Ireland, Chicago 1903",
        f"public domain; {_ENCODERS} (Norbert Paap and others)",
    ),
    "ryansMammoth": Collection(
        "*.abc",
        ("Folk", "Ryan, William Bradbury", "Fiddle"),
        "Ryan's Mammoth Collection, Boston 1883",
        f"public domain; {_ENCODERS} (Ray Davies, John Walsh, John Chambers, Bob Puckette and others)",
    ),
    "bach": Collection(
        "*.mxl",
        ("Baroque", "Bach, Johann Sebastian", "Choral"),
        "J. S. Bach: chorales",
        "public domain; encoded by Margaret Greentree, whose printed pages (not these files) are copyrighted; "
        "music21 carries the files by her permission",
    ),
}
# Bach's vocal works end with BWV 438; later numbers are keyboard and chamber music.
_VOCAL = re.compile(r"bwv(\d+)")
_LAST_VOCAL = 438
_MOST_VOICES = 4
_OWN_METER = re.compile(r"^\[M:[^\]]*\]")
_NOTE = re.compile(r"(\^\^?|__?|=)?([A-Ga-g])([,']*)")


def collect(corpus: Path, out: Path) -> dict[str, dict[str, int]]:
    """Write all collections; return for each the numbers of tunes kept and left out, by reason."""
    if out.exists():
        raise SystemExit(f"{out} exists already; choose another folder")
    counts: dict[str, Counter[str]] = {name: Counter() for name in COLLECTIONS}
    sources, left_out = [], []
    files = [
        (name, file) for name, c in COLLECTIONS.items() for file in sorted((corpus / name).glob(c.pattern))
    ]
    for name, file in progress(files, "collecting"):
        if file.suffix == ".mxl" and not _is_vocal(file):
            continue
        relative = file.relative_to(corpus).as_posix()
        sources.append({"path": relative, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
        for number, outcome in _read(file):
            if isinstance(outcome, str):
                counts[name][outcome.partition(":")[0]] += 1
                left_out.append({"path": f"{relative}#{number}" if number else relative, "reason": outcome})
            else:
                counts[name]["kept"] += 1
                _keep(outcome, f"{file.stem}-{number}" if number else file.stem, out / name)
    prompts = [json.dumps({"path": name, "prompt": c.prompt}) + "\n" for name, c in COLLECTIONS.items()]
    (out / "prompts.jsonl").write_text("".join(prompts))
    collections = {
        name: {"source": c.source, "rights": c.rights, "prompt": c.prompt, "counts": counts[name]}
        for name, c in COLLECTIONS.items()
    }
    manifest = {"collections": collections, "files": sources, "left_out": left_out}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return {name: dict(count) for name, count in counts.items()}


def _read(file: Path) -> Iterator[tuple[str, BarTable | str]]:
    """Yield for every tune in a file its number, and the tune or the reason why it is left out."""
    try:
        tunes = read_tunes(file)
    except PentatonicError as error:
        yield "", f"unreadable: {error}"
        return
    for number, text in tunes:
        try:
            tune = with_whole_bars(prepare_tune(text))
            yield number, _objection(tune) or tune
        except PentatonicError as error:
            yield number, f"unreadable: {error}"


def _objection(tune: BarTable) -> str:
    """Return why a tune is not suitable as training data; empty if it is."""
    if len(tune.voices) > _MOST_VOICES:
        return f"voices: {len(tune.voices)}"
    issues = [issue for issue in validate(omit_rests(tune)).issues if not issue.warning]
    return f"{issues[0].kind}: {issues[0].message}" if issues else ""


def with_whole_bars(tune: BarTable) -> BarTable:
    """Join neighbouring bars that together are as long as the meter says.

    Bars are not joined if an accidental of the first would change a note of the second.
    """
    fields = {line[0]: line[2:] for line in tune.header if line[1:2] == ":"}
    meter = parse_meter(fields["M"])
    if len(tune.voices) == 1 or meter is None:
        return tune
    target = meter.length / parse_unit_length(fields["L"])
    lengths = [bar_duration(bar) or target for bar in next(iter(tune.voices.values())).bars]
    voices = dict(tune.voices)
    for i in range(len(lengths) - 2, -1, -1):
        short = max(lengths[i : i + 2]) < target == sum(lengths[i : i + 2])
        if short and all(_can_join(voice, i) for voice in voices.values()):
            voices = {name: _join(voice, i, f"[M:{fields['M']}]") for name, voice in voices.items()}
            lengths[i : i + 2] = [target]
    return replace(tune, voices=voices)


def _can_join(voice: VoiceBars, i: int) -> bool:
    altered = {letter + marks for sign, letter, marks in _NOTE.findall(voice.bars[i]) if sign}
    plain = {letter + marks for sign, letter, marks in _NOTE.findall(voice.bars[i + 1]) if not sign}
    return voice.barlines[i + 1] == "|" and not altered & plain


def _join(voice: VoiceBars, i: int, meter: str) -> VoiceBars:
    """Join a bar with the next one. Short bars have meters of their own, and the bar after them the ``meter`` again."""
    bars, barlines = list(voice.bars), list(voice.barlines)
    bars[i : i + 2] = [" ".join(_OWN_METER.sub("", bar) for bar in bars[i : i + 2])]
    bars[i + 1 : i + 2] = [bar.removeprefix(meter) for bar in bars[i + 1 : i + 2]]
    del barlines[i + 1]
    return replace(voice, bars=tuple(bars), barlines=tuple(barlines))


def _is_vocal(file: Path) -> bool:
    match = _VOCAL.match(file.name)
    return match is not None and int(match[1]) <= _LAST_VOCAL


def _keep(tune: BarTable, stem: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path, count = folder / f"{stem}.abc", 1
    while path.exists():  # a tune book may use a number twice
        count += 1
        path = folder / f"{stem}-{count}.abc"
    path.write_text(standard(tune), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    import music21

    for name, count in collect(Path(music21.__file__).parent / "corpus", args.out).items():
        print(name, count)


if __name__ == "__main__":
    main()
