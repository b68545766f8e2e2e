"""Damaged ABC and MusicXML through everything in NotaGen that reads text.

    python tools/fuzz/fuzz_notagen.py --count 100000 --seed 0
    python tools/fuzz/fuzz_notagen.py --count 5000 --kind yue2

Each input is a real piece (those of the package's tests, MusicXML and lead sheets in the dialect of YuE2 written from
them, and lead sheets of its tests) with a few damages: flipped
bits, cuts, repetitions, pieces of another text, words of ABC or XML. Whatever it is, a reader returns or raises
`InputError`, and takes no longer than the time limit. Anything else is a finding: it is printed with its input, which
is also kept in the folder given by `--out`. The exit status is 1 after any finding.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from damages import MOST_DAMAGES, damaged

from notagen.abc import parse_tune, print_tune
from notagen.codec import encode_generate, encode_train
from notagen.files.reading import tunes_of
from notagen.generation.continuation import continuation
from notagen.musicxml import abc_to_musicxml
from notagen.musicxml.reader import musicxml_to_abc
from notagen.notation.bars import read_tune
from notagen.notation.clean import clean
from notagen.notation.layout import deinterleave, interleave
from notagen.notation.repair import repair
from notagen.notation.rests import complete_rests, final_text, omit_rests
from notagen.notation.transpose import transpose
from notagen.notation.transposed_text import Interval, transpose_text
from notagen.notation.tunebook import split_tunes, standard_tune
from notagen.notation.validation import validate
from notagen.score import read_score
from notagen.score.losses import losses
from notagen.sound.performance import perform
from notagen.yue2 import check as check_yue2
from notagen.yue2.checking import read_music
from notagen.yue2.conversion import Choice, convert_to_yue2
from notagen.yue2.repairing import repair_yue2
from notagen.yue2.tools import differences, strip_chords
from pentatonic.errors import InputError
from pentatonic.processes.time_limit import time_limit

GOLDENS = Path(__file__).parents[2] / "packages" / "notagen" / "tests" / "goldens"
_MUSIC = (
    "| |: :| :: |1 :|2 |] [| [1 & Z4 z x y (3 (99:1:9 (2:3 { } [ ] ( ) [V:1] [V:2] [V:9] [V: [r:0/9] [r: [K:G] [M:3/4] "
    "[L:1/4] [L:0]"
)
_SIGNS = "% \\ $ ! \" + - ^ __ > <<<<< 9999 / //////// /0 ''''''''''' , ~ &b; <![CDATA["
WORDS = (
    *_MUSIC.split(),
    *(
        "\n",
        "\r",
        "\x00",
        "\x0b",
        "\u2028",
        "\ufeff",
        "V:1\n",
        "V:\n",
        "M:\n",
        "K:Q\n",
        "L:1/0\n",
        "X:2\n",
        "%%score {",
    ),
    *_SIGNS.split(),
    *(
        "V: Vocal\n",
        "V: Ins\n",
        "% verse\n",
        "M:3/4\n",
        "K:G\n",
        "Z2|",
        "Z5|",
        '"G7"',
        '"C/E"',
        "[K:Ebm]",
        "c10",
        "z16|",
        "c48-",
    ),
    *("<!DOCTYPE a [<!ENTITY b 'c'>]>", "<note>"),
)
_NUMBERS = "0 -1 1 2 7 1.5 1e400 nan 99999999999 -99999999999"
VALUES = ("", *_NUMBERS.split(), "G", "start", "stop")


KINDS = ("abc", "musicxml", "yue2")


@dataclass(frozen=True)
class Finding:
    """An input that a reader fails on."""

    reader: str
    error: str
    data: bytes


def _set_keys(text: str) -> None:
    tune = read_tune(text)
    for key in ("Cb", "A"):
        transpose(tune, key)


def _counting(reader: Callable[[Any], Any], data: Any) -> None:
    """Read, and check that what is lost is counted in words that fit on a line."""
    with losses() as found:
        reader(data)
    if any(count < 1 or not kind.isprintable() or len(kind) > 100 for kind, count in found.items()):
        raise AssertionError(f"losses {dict(found)}")


def _repair_yue2(text: str, *, cut: bool) -> None:
    """Repair, and check that accepted text and notes stay, and that what comes out is accepted."""
    errors = check_yue2(text)[1]
    accepted = not errors
    repaired = repair_yue2(text, cut=cut)
    if accepted and (repaired.text, repaired.changes) != (text, []):
        raise AssertionError("accepted text was changed")
    if not accepted and not repaired.changes:
        raise AssertionError("a repair without a named change")
    if left := check_yue2(repaired.text)[1]:
        raise AssertionError(f"a repair that is not accepted: {left[0]}")
    # Errors of the whole song: all bars were read.
    if {error.kind for error in errors} <= {"chord_in_ins", "key_timeline_mismatch", "tie_unresolved"}:
        before, after = read_music(text), read_music(repaired.text)
        if any(before[name].notes != after[name].notes for name in before):
            raise AssertionError("a repair that changes what sounds")


def _convert_yue2(text: str, grid: int | None) -> None:
    """Convert, and check that the result is accepted."""
    if errors := check_yue2(convert_to_yue2(text, Choice(grid=grid)).text)[1]:
        raise AssertionError(f"a conversion that is not accepted: {errors[0]}")


YUE2_READERS: Mapping[str, Callable[[str], Any]] = {
    "yue2 check": check_yue2,
    "yue2 repair": lambda text: _repair_yue2(text, cut=False),
    "yue2 repair with cuts": lambda text: _repair_yue2(text, cut=True),
    "yue2 strip chords": lambda text: strip_chords(text, "Ins"),
    "yue2 differences": lambda text: differences(text, text),
    "yue2 convert": lambda text: _convert_yue2(text, None),
    "yue2 convert to a grid": lambda text: _convert_yue2(text, 16),
}
TEXT_READERS: Mapping[str, Callable[[str], Any]] = {
    "parse_tune": lambda text: print_tune(parse_tune(text)),
    "read_tune": read_tune,
    "interleave": interleave,
    "deinterleave": deinterleave,
    "omit_rests": lambda text: omit_rests(read_tune(text)),
    "complete_rests": complete_rests,
    "final_text": final_text,
    "clean": clean,
    "split_tunes": split_tunes,
    "standard_tune": standard_tune,
    "transpose": _set_keys,
    "transpose_text": lambda text: transpose_text(text, Interval(semitones=-3)),
    "tunes_of": lambda text: tunes_of(text.encode(), ".abc"),
    **YUE2_READERS,
    "encode_train": lambda text: encode_train(text, 64),
    "encode_generate": encode_generate,
    "validate": lambda text: json.dumps(validate(text).to_dict()),
    "repair": repair,
    "continuation": continuation,
    "read_score": read_score,
    "abc_to_musicxml": abc_to_musicxml,
    "perform": perform,
    "losses": lambda text: _counting(abc_to_musicxml, text),
}
XML_READERS: Mapping[str, Callable[[bytes], Any]] = {
    "musicxml_to_abc": musicxml_to_abc,
    "losses of MusicXML": lambda data: _counting(musicxml_to_abc, data),
}


@cache
def pieces() -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """Return the real pieces: ABC as files have it, interleaved, and as models write it; and MusicXML."""
    cases = json.loads((GOLDENS / "preprocess.json").read_text(encoding="utf-8"))["cases"]
    found = [text for case in cases for text in (case["interleaved"], *case["augmented"].values()) if text]
    cases = json.loads((GOLDENS / "rest_completion.json").read_text(encoding="utf-8"))["cases"]
    found += [text for case in cases for text in (case["input"], case["completed"]) if text]
    found += [deinterleave(text) for text in found if _succeeds(deinterleave, text)]
    texts = tuple(sorted(set(found)))
    return texts, tuple(abc_to_musicxml(text) for text in texts if _succeeds(abc_to_musicxml, text))


@cache
def lead_sheets() -> tuple[str, ...]:
    """Return texts in the dialect of YuE2: those of the tests that are accepted, and pieces written in it."""
    cases = json.loads((GOLDENS / "yue2" / "cases.json").read_text(encoding="utf-8"))["cases"]
    found = [case["input"] for case in cases if case["op"] == "inspect" and case["valid"]]
    found += [case["output_text"] for case in cases if case.get("output_text")]
    for text in pieces()[0][::4]:
        with suppress(InputError):
            found.append(convert_to_yue2(text, Choice(grid=16)).text)
    return tuple(sorted({text for text in found if not check_yue2(text)[1]}))


def _succeeds(reader: Callable[[Any], Any], text: Any) -> bool:
    try:
        reader(text)
    except InputError:
        return False
    return True


def damaged_score(data: bytes, rng: random.Random) -> bytes:
    """Return MusicXML that is still XML, with one to ``MOST_DAMAGES`` elements gone, doubled, moved or altered."""
    root = ElementTree.fromstring(data)
    for _ in range(rng.randint(1, MOST_DAMAGES)):
        elements = [element for element in root.iter() if len(element)]
        parent = rng.choice(elements)
        at = rng.randrange(len(parent))
        child, kind = parent[at], rng.randrange(6)
        if kind == 0:
            parent.remove(child)
        elif kind == 1:
            for _ in range(rng.choice((1, 1, 2, 50))):
                parent.insert(at, copy.deepcopy(child))
        elif kind == 2:
            rng.choice(elements).append(copy.deepcopy(child))
        elif kind == 3:
            child.tag = rng.choice(rng.choice(elements)).tag
        elif kind == 4 and child.attrib:
            child.set(rng.choice(list(child.attrib)), rng.choice(VALUES))
        else:
            child.text = rng.choice(VALUES)
    return ElementTree.tostring(root)


def findings(
    count: int, seed: int, limit_s: float, outcomes: Counter[tuple[str, str]], kind: str | None = None
) -> Iterator[Finding]:
    """Read ``count`` damaged inputs with every reader.

    Args:
        count: How many.
        seed: Of the damages.
        limit_s: CPU seconds that one reader may take for one input.
        outcomes: Counts ``(reader, "read" | "refused" | "failed")``; extended in place.
        kind: Of :data:`KINDS`; None: all.
    """
    rng = random.Random(seed)
    texts, scores = pieces()
    sources = []
    if kind in (None, "abc"):
        sources += [(text.encode(), TEXT_READERS, bytes.decode) for text in texts]
    if kind in (None, "musicxml"):
        sources += [(score, XML_READERS, bytes) for score in scores]
    if kind in (None, "yue2"):
        sources += [(text.encode(), YUE2_READERS, bytes.decode) for text in lead_sheets()]
    others = [source for source, *_ in sources]
    for _ in range(count):
        source, readers, converted = rng.choice(sources)
        as_text = converted is bytes.decode or rng.random() < 0.2
        data = damaged(source, others, WORDS, rng) if as_text else damaged_score(source, rng)
        if converted is bytes.decode:
            data = data.decode(errors="replace").encode()
        for name, reader in readers.items():
            outcome = "read"
            try:
                with time_limit(limit_s, clock="cpu"):
                    reader(converted(data))
            except InputError:
                outcome = "refused"
            except Exception as error:
                outcome = "failed"
                yield Finding(name, f"{type(error).__name__}: {error}", data)
            outcomes[name, outcome] += 1


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="of the pieces; none: all kinds")
    parser.add_argument("--limit-s", type=float, default=5.0, help="CPU seconds of one reader for one input")
    parser.add_argument("--out", type=Path, help="folder for the inputs of findings")
    arguments = parser.parse_args()
    outcomes: Counter[tuple[str, str]] = Counter()
    found, start_s = Counter(), time.process_time()
    for finding in findings(arguments.count, arguments.seed, arguments.limit_s, outcomes, arguments.kind):
        what = f"{finding.reader}: {finding.error[:200]}"
        found[what] += 1
        name = hashlib.sha256(finding.data).hexdigest()[:16]
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            (arguments.out / name).write_bytes(finding.data)
        if found[what] == 1:
            print(f"{what}\n  {finding.data[:300]!r} ({name})", flush=True)
    for reader in sorted({reader for reader, _ in outcomes}):
        counts = ", ".join(f"{outcomes[reader, kind]} {kind}" for kind in ("read", "refused", "failed"))
        print(f"{reader}: {counts}")
    print(
        f"{arguments.count} inputs, {sum(found.values())} findings, {time.process_time() - start_s:.0f} CPU s"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
