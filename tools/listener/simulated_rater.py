"""What ``notagen dpo ratings=…`` learns from a listener who wants one thing: a simulated rater, and a measure of it.

    python tools/listener/simulated_rater.py --wants dotted --out runs/rater
    python tools/listener/simulated_rater.py --wants minor --pairs 50 200 --samples 160 --out runs/rater-minor

A pool of pieces is written by the policy, pairs of it are drawn and rated (the piece with more of what is wanted is
better; neither, where both have as much), and a policy is trained on the first 50 and another one on all 200 pairs,
each by ``notagen dpo``. The pieces of the policies are compared with those of the policy before: the share of what is
wanted with its 95 % interval over pieces, valid pieces, and known runs of notes. The steps that are done already are
not done again, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from notagen.clamp2.melody.lines import lines_of
from notagen.dpo.iterations import main as run_dpo
from notagen.dpo.judge import judged_text
from notagen.dpo.ratings import Rating
from notagen.generation.decoding import Limits, Request
from notagen.generation.piece_folder import write_pieces
from notagen.score.reader import read_score
from notagen.weights import from_pretrained
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError
from pentatonic.folder_run import write_json
from pentatonic.statistics import mean_interval

_MINOR = re.compile(r"^K: *[A-G][#b]? *(?:m|[Mm]in\w*|[Aa]eo\w*)\b", re.MULTILINE)


def dotted(text: str) -> float:
    """Return the share of the notes that are dotted, broken rhythms included; 0 where there are none."""
    try:
        notes = [note for line in lines_of(read_score(text)) for note in line.notes]
    except FormatError:
        return 0.0
    # Three halves of a power of two: 3/8, 3/16, 3/4 and so on.
    lengths = [note.length for note in notes]
    found = [each.numerator == 3 and each.denominator & (each.denominator - 1) == 0 for each in lengths]
    return sum(found) / max(1, len(found))


def minor(text: str) -> float:
    """Return 1 for a piece in a minor key, else 0."""
    return float(_MINOR.search(text) is not None)


WANTED: Mapping[str, Callable[[str], float]] = {"dotted": dotted, "minor": minor}


def rated_pairs(
    values: Mapping[str, float], count: int, *, seed: int = 0, wrong: float = 0.0
) -> list[Rating]:
    """Return what the rater says about pairs that are drawn, until so many are decided.

    Args:
        values: File of a piece to how much it has of what is wanted.
        count: Decided pairs.
        seed: Of the draws.
        wrong: Share of the decided pairs in which the rater is mistaken.

    Raises:
        SystemExit: All pieces have as much of it, or there are too few pairs.
    """
    names = sorted(values)
    if len(set(values.values())) < 2:
        raise SystemExit("all pieces of the pool have as much of what is wanted; there is nothing to rate")
    rng = random.Random(seed)
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    rng.shuffle(pairs)
    ratings, decided = [], 0
    for one, other in pairs:
        if decided == count:
            return ratings
        first, second = (one, other) if rng.random() < 0.5 else (other, one)
        better = "neither"
        if values[first] != values[second]:
            decided += 1
            better = "first" if (values[first] > values[second]) != (rng.random() < wrong) else "second"
        ratings.append(Rating(first, second, better))
    if decided < count:
        raise SystemExit(f"the pool has {decided} pairs that can be decided, and {count} are wanted")
    return ratings


def measured(run: Path, iteration: int, value_of: Callable[[str], float]) -> dict[str, Any]:
    """Return what the pieces of an iteration have of what is wanted, and how valid and new they are."""
    folder = run / f"iter_{iteration:02d}"
    texts = [json.loads(line)["text"] for line in (folder / "samples.jsonl").read_text().splitlines()]
    values = np.array([value_of(judged_text(text)) for text in texts])
    measures = json.loads((folder / "measures.json").read_text())
    row: dict[str, Any] = {"pieces": len(texts)}
    for name, each in (("share", values), ("pieces with some", (values > 0).astype(float))):
        estimate = mean_interval(each, np.arange(len(each)))
        row[name] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return row | {name: measures[name] for name in ("valid", "known_notes", "copies", "length")}


def table(rows: Mapping[str, Mapping[str, Any]], wanted: str) -> str:
    """Return the measures of several policies as Markdown."""

    def interval(value: Mapping[str, float]) -> str:
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"

    lines = [
        f"| policy | {wanted}: share | pieces with some | valid | known notes | copies | length |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        numbers = f"{row['valid']:.3f} | {row['known_notes']:.3f} | {row['copies']:.3f} | {row['length']:.0f}"
        lines.append(
            f"| {name} | {interval(row['share'])} | {interval(row['pieces with some'])} | {numbers} |"
        )
    return "\n".join(lines) + "\n"


def write_pool(out: Path, *, init: str, prompt: str, count: int, max_patches: int, seed: int) -> list[Path]:
    """Write the pieces that are rated, as the policy writes them, and return their files."""
    model = from_pretrained(init)
    text = "".join(f"%{line}\n" for line in prompt.split(" / "))
    records, _ = write_pieces(
        model,
        [Request(text, seed=seed + i) for i in range(count)],
        out / "pieces",
        model_name=init,
        formats=["abc"],
        sampling=model.sampling,
        limits=Limits(patches=max_patches),
        constrained=True,
        batch_size=16,
    )
    (out / "pool").mkdir(exist_ok=True)
    files = []
    for record in records:
        files.append(out / "pool" / f"{record['seed']}.abc")
        with atomic_file(files[-1], "w") as file:
            file.write(record["text"])
    return files


def run(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Write, rate, train and measure; return the measures of each policy."""
    out, value_of = arguments.out, WANTED[arguments.wants]
    out.mkdir(parents=True, exist_ok=True)
    files = write_pool(
        out,
        init=arguments.init,
        prompt=arguments.prompt,
        count=arguments.pool,
        max_patches=arguments.max_patches,
        seed=10_000 + arguments.seed,
    )
    values = {f"pool/{file.name}": value_of(judged_text(file.read_text(encoding="utf-8"))) for file in files}
    rows: dict[str, dict[str, Any]] = {}
    for count in arguments.pairs:
        ratings = out / f"ratings-{count}.jsonl"
        lines = [
            each.line() for each in rated_pairs(values, count, seed=arguments.seed, wrong=arguments.wrong)
        ]
        with atomic_file(ratings, "w") as file:
            file.write("".join(lines))
        folder = out / f"dpo-{count}"
        run_dpo(
            [
                "experiment=smoke",
                f"init={arguments.init}",
                "iterations=1",
                "on_floor=warn",
                f"ratings={ratings}",
                f"samples={arguments.samples}",
                f"writing.prompts=[{json.dumps(arguments.prompt)}]",
                f"writing.max_patches={arguments.max_patches}",
                "data.references=notagen:fiddle-tunes",
                "data.other_style=notagen:chorales",
                f"seed={arguments.seed}",
                f"run_dir={folder}",
                *arguments.overrides,
            ]
        )
        rows["before"] = measured(folder, 0, value_of)
        rows[f"{count} pairs"] = measured(folder, 1, value_of)
        write_json(out / "measures.json", {"wants": arguments.wants, "policies": rows})
        with atomic_file(out / "measures.md", "w") as file:
            file.write(table(rows, arguments.wants))
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wants", choices=WANTED, default="dotted")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", default="notagen-tiny", help="the policy")
    parser.add_argument("--prompt", default="Folk / Ryan, William Bradbury / Fiddle")
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 200], help="rated pairs of each run")
    parser.add_argument("--pool", type=int, default=96, help="pieces that pairs are drawn from")
    parser.add_argument("--samples", type=int, default=160, help="pieces that are measured, of each policy")
    parser.add_argument("--max-patches", type=int, default=256)
    parser.add_argument("--wrong", type=float, default=0.0, help="share of the pairs that are rated wrongly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="further settings of notagen dpo, key=value, after --")
    arguments = parser.parse_args(words)
    print(table(run(arguments), arguments.wants))


if __name__ == "__main__":
    main()
