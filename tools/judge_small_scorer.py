"""Judge a small scorer of music that was trained on the pieces of `notagen preprocess corpus=tiny`.

    python tools/judge_small_scorer.py retrieval MODEL --data data/notagen-tiny
    python tools/judge_small_scorer.py order MODEL --data data/notagen-tiny

`retrieval`: does a piece find its other half in another key, itself in another key, and other harmonisations of the
same melody (chorales whose first phrase has the same soprano; most of them are training pieces)? Beside it: a bag of
notes (scale degrees and lengths, each counted), the n-grams of notagen.dpo.judge, and chance. `order`: the tests that
`notagen dpo` makes of a judge, and how often a held-out piece scores above a spoilt version of itself.

Intervals are of 95 %, from draws of pieces, or of melodies. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from notagen.clamp2.scores import clamp2_scores, cosines, true_ranks
from notagen.clamp2.training.views import halved
from notagen.dpo.judge import Judge, NgramJudge, judged_text, load_judge
from notagen.dpo.judge_checks import check_judge
from notagen.notation.keys import MAJOR_KEYS
from notagen.notation.shuffling import shuffled_bars
from notagen.training.index import Index
from pentatonic.errors import FormatError
from pentatonic.statistics import mean_interval

_LETTERS = "CDEFGAB"
_NOTE = re.compile(r'"[^"\n]*"|![^!\n]*!|\{[^{}\n]*\}|\[[A-Za-z]:[^\[\]\n]*\]|([A-Ga-g])([,\']*)([\d/]*)')
_CHORALES = "Choral"


class BagOfNotes:
    """How often each scale degree, and each length, is written."""

    name, fingerprint = "bag of notes", "bag of notes"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return a vector of each piece."""
        counts = [self._counts(text) for text in texts]
        known = {each: place for place, each in enumerate(sorted({key for found in counts for key in found}))}
        vectors = np.full((len(texts), len(known)), 1e-9)
        for vector, found in zip(vectors, counts, strict=True):
            for key, count in found.items():
                vector[known[key]] += np.sqrt(count / sum(found.values()))
        return vectors

    def _counts(self, text: str) -> Counter[tuple[str, str]]:
        tonic = next((line[2:3] for line in text.split("\n") if line.startswith("K:")), "C")
        found: Counter[tuple[str, str]] = Counter()
        for line in text.split("\n"):
            for letter, _, length in _NOTE.findall(line) if line.startswith("[V:") else ():
                if letter:
                    degree = (_LETTERS.index(letter.upper()) - _LETTERS.index(tonic)) % 7
                    found.update([("degree", str(degree)), ("length", length)])
        return found


def first_phrase(text: str) -> tuple[tuple[int, str], ...]:
    """Steps and lengths of the soprano of a chorale, up to its first fermata."""
    soprano = "".join(
        match[0] for match in re.findall(r"^\[V:1\](.*?)(\[V:|$)", text, re.MULTILINE) if match[0]
    )
    phrase, _, rest = soprano.partition("!fermata!")
    notes = [
        (
            _LETTERS.index(letter.upper()) + 7 * (letter.islower() + marks.count("'") - marks.count(",")),
            length,
        )
        for letter, marks, length in _NOTE.findall(phrase + rest[:2])
        if letter
    ]
    return tuple((after[0] - before[0], after[1]) for before, after in pairwise(notes))


def stepped_up(text: str, rng: random.Random) -> str:
    """Put every fourth bar a step higher, in all voices together."""
    lines = text.split("\n")
    bars = [number for number, line in enumerate(lines) if line.startswith("[V:")]
    for number in rng.sample(bars, max(1, len(bars) // 4)):
        lines[number] = _NOTE.sub(lambda note: _higher(note) if note[1] else note[0], lines[number])
    return "\n".join(lines)


def _higher(note: re.Match[str]) -> str:
    letter, marks, length = note.groups()
    place = _LETTERS.index(letter.upper()) + 1
    octave = letter.islower() + marks.count("'") - marks.count(",") + place // 7
    letter = _LETTERS[place % 7]
    return (letter.lower() + "'" * (octave - 1) if octave > 0 else letter + "," * -octave) + length


def without_end(text: str) -> str:
    """Leave the last quarter of the bars out, and with it the cadence."""
    lines = text.rstrip("\n").split("\n")
    bars = [number for number, line in enumerate(lines) if line.startswith("[V:")]
    return "\n".join(lines[: bars[-max(1, len(bars) // 4)]]) + "\n"


SPOILT: dict[str, Callable[[str, random.Random], str]] = {
    "all bars shuffled": shuffled_bars,
    "a fifth of the bars shuffled": lambda text, rng: shuffled_bars(text, rng, share=0.2),
    "voices shuffled apart": lambda text, rng: shuffled_bars(text, rng, apart=True),
    "a quarter of the bars a step higher": stepped_up,
    "without the last quarter": lambda text, _: without_end(text),
}


def retrieval(judges: Sequence[Judge], data: Path, seed: int) -> None:
    """Print how often the nearest piece is the right one."""
    index, rng = Index(data / "eval206.jsonl"), random.Random(seed)
    firsts, seconds, wholes, others = [], [], [], []
    for number in range(len(index)):
        key = rng.choice([each for each in MAJOR_KEYS if each != index.entries[number].key])
        own, other = index.read(number), index.read(number, key)
        try:
            (header, first, _), (other_header, _, second) = halved(own), halved(other)
        except FormatError:
            continue
        firsts.append("".join(header + first))
        seconds.append("".join(other_header + second))
        wholes.append(judged_text(own))
        others.append(judged_text(other))
    print(f"{len(firsts)} held-out pieces; chance: {1 / len(firsts):.4f}")
    for title, queries, found in (
        ("other half, in another key", firsts, seconds),
        ("whole, in another key", wholes, others),
    ):
        ranked = {judge.name: _ranks(judge, queries, found) for judge in judges}
        _print_ranks(title, ranked, np.arange(len(queries)), seed)
    train, settings, melodies = Index(data / "augmented_train.jsonl"), [], []
    for source in (train, index):
        for number, entry in enumerate(source.entries):
            if _CHORALES in entry.prompt:
                settings.append(judged_text(source.read(number)))
                melodies.append(first_phrase(settings[-1]))
    counts = Counter(melodies)
    places = [place for place, melody in enumerate(melodies) if counts[melody] > 1 and len(melody) > 3]
    names = {melody: number for number, melody in enumerate(counts)}
    groups = np.array([names[melodies[place]] for place in places])
    same = np.array([[a == b for b in melodies] for a in melodies])
    np.fill_diagonal(same, False)
    chance = np.mean([same[place].sum() / (len(melodies) - 1) for place in places])
    print(f"{len(places)} of {len(settings)} chorales have other settings; chance: {chance:.4f}")
    hits = {}
    for judge in judges:
        near = cosines(*[judge.embed(settings)] * 2)
        np.fill_diagonal(near, -2)
        hits[judge.name] = np.array([same[place, near[place].argmax()] for place in places], float)
    _print_hits("another setting", hits, groups, seed)


def order(judges: Sequence[Judge], data: Path, seed: int) -> None:
    """Print what judges hear."""
    index, train = Index(data / "eval206.jsonl"), Index(data / "augmented_train.jsonl")
    rng = random.Random(seed)
    held = [judged_text(index.read(number)) for number in range(len(index))]
    chorales = [text for text, entry in zip(held, index.entries, strict=True) if _CHORALES in entry.prompt]
    tunes = [text for text, entry in zip(held, index.entries, strict=True) if _CHORALES not in entry.prompt]
    known: dict[bool, list[str]] = {True: [], False: []}
    for number in rng.sample(range(len(train)), len(train)):
        kind = _CHORALES in train.entries[number].prompt
        if len(known[kind]) < 128:
            known[kind].append(judged_text(train.read(number)))
    for judge in judges:
        for kind, pieces, others in ((False, tunes, chorales), (True, chorales, tunes)):
            print(f"{'chorales' if kind else 'tunes'}, references: {len(known[kind])} training pieces")
            references = judge.embed(known[kind])
            print("\n".join(check_judge(judge, pieces, references, others=others, seed=seed).lines()))
            own = clamp2_scores(judge.embed(pieces), references)
            for title, spoil in SPOILT.items():
                spoilt = [spoil(text, rng) for text in pieces]
                kept = [place for place, text in enumerate(spoilt) if text != pieces[place]]
                scores = clamp2_scores(judge.embed([spoilt[place] for place in kept]), references)
                above = mean_interval((own[kept] > scores).astype(float), np.arange(len(kept)), seed=seed)
                gap = mean_interval(own[kept] - scores, np.arange(len(kept)), seed=seed)
                print(f"  {title}: {above} of {len(kept)} pieces score above it, by {gap}")


def _ranks(judge: Judge, queries: Sequence[str], found: Sequence[str]) -> NDArray[np.float64]:
    both = judge.embed([*queries, *found])
    return true_ranks(cosines(both[: len(queries)], both[len(queries) :]), ties="mean")


def _print_ranks(title: str, ranked: dict[str, NDArray], groups: NDArray, seed: int) -> None:
    _print_hits(title, {name: (ranks <= 1).astype(float) for name, ranks in ranked.items()}, groups, seed)
    for name, ranks in ranked.items():
        print(f"  {name}: mean reciprocal rank {(1 / ranks).mean():.3f}")


def _print_hits(title: str, hits: dict[str, NDArray], groups: NDArray, seed: int) -> None:
    names = list(hits)
    for name, found in hits.items():
        print(f"{title}, {name}: first {mean_interval(found, groups, seed=seed)}")
    for other in names[1:]:
        difference = mean_interval(hits[names[0]] - hits[other], groups, seed=seed)
        print(f"  {names[0]} less {other}: {difference}")


def main() -> None:
    """Run one of the tests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("test", choices=["retrieval", "order"])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=Path("data/notagen-tiny"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    judges: list[Judge] = [load_judge(options.model), NgramJudge()]
    if options.test == "retrieval":
        retrieval([*judges, BagOfNotes()], options.data, options.seed)
    else:
        order(judges, options.data, options.seed)


if __name__ == "__main__":
    main()
