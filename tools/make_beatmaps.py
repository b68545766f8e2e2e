"""Make a data set of beatmaps with known style: training data of the small model of cm3p, and of its fault finder.

No beatmap of a person is used. Pieces come from scores of the music21 corpus that are out of copyright, and from a
small composer; FluidSynth renders them (Debian packages `fluidsynth` and `fluid-soundfont-gm`), so all onsets are
known. Styles are documented in `beatmap_generator/style.py` and `beatmap_generator/personas.py`.

    python tools/make_beatmaps.py --maps 1200 --pieces 300 --seed 0 --out data/maps
    python tools/make_beatmaps.py --maps 200 --pieces 50 --seed 1 --faults 6 --no-audio --out data/faulty

Writes `metadata.parquet` and `data/<set>/` with `.osu` files and `audio.ogg`, `tags.json` (the table of tags),
`dataset.json` (counts, the range of set ids of each split, the pieces with tempo and measured audio offset, rank
correlation of aimed-at and actual star rating) and with `--faults` also `planted.jsonl`: every fault with file, index
of the object, time and change. About one piece in ten is held out, by a hash of its name; its maps are the split
`test`. The same options give the same maps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from beatmap_generator.dataset import write_dataset
from beatmap_generator.pieces import make_pieces, recording
from beatmap_generator.sets import plan_sets

from pentatonic.cli import progress


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=int, default=1200)
    parser.add_argument("--pieces", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--score-share", type=float, default=0.35, help="share of the pieces made from scores"
    )
    parser.add_argument("--no-audio", action="store_true")
    parser.add_argument("--recordings", type=Path, help="folder of recordings to use and to add to")
    parser.add_argument(
        "--faults", type=int, default=0, help="faults to plant in every map; all maps are clean else"
    )
    args = parser.parse_args()
    if args.maps < 1 or args.pieces < 1:
        parser.error("--maps and --pieces must be at least 1")
    if args.out.exists():
        parser.error(f"{args.out} exists already; choose another folder")
    pieces = list(progress(make_pieces(args.pieces, args.seed, args.score_share), "composing"))
    folder = args.recordings or args.out.with_name(f"{args.out.name}-recordings")
    recordings = (
        {} if args.no_audio else {p.name: recording(p, folder) for p in progress(pieces, "rendering")}
    )
    sets = plan_sets(pieces, args.maps, args.seed, only_ranked=bool(args.faults))
    facts = write_dataset(args.out, sets, args.seed, recordings, args.faults)
    print(json.dumps({key: value for key, value in facts.items() if key != "pieces"}, indent=1))


if __name__ == "__main__":
    main()
