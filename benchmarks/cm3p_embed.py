"""Embeddings of maps, compared with the original's way: `cm3p embed` over many maps, and the windows of a single one.

    python benchmarks/cm3p_embed.py
    python benchmarks/cm3p_embed.py --parts windows --map song.osu

Many maps, on all cores: a folder of made maps, each 60 to 150 s long with 100 to 700 objects, and a second one of maps
with songs (FLAC, 44.1 kHz, stereo). The model has the sizes of `cm3p-tiny` and random weights.

- ours: `embed_maps`, what `cm3p embed` calls, over the whole folder, from the list of files to the Parquet file
- original: re-created from its behaviour (`cm3p_original/`) for the first maps of the folder, as all would take long:
  one map after the other, read with linear scans, its windows padded to 2,000 tokens, four at a time through a network
  that computes the whole matrix of scores in every layer; songs are decoded in the same process

The vectors of those maps must be equal to 1e-4. The aim is at least 3x less time per map. Both ways are measured in
turn, and the fastest round of each counts, as virtual machines change their speed from one minute to the next. The
processor time of this process is for a machine on which other programs run; the process that decodes songs is not in
it.

All windows of a map in one batch: packed with local attention, compared with padding and full attention. A model with
the sizes of the released one (22 layers of width 768, every third global) and random weights embeds the windows of a
map of 1,378 objects. One way is ours: the valid tokens of all windows end to end, and local layers that compute their
window alone. The other is the original's on a CPU (`cm3p_original/network.py`): windows padded to 2,000 tokens, and the
whole matrix of scores in every layer. The vectors must be equal to 2e-5. The aim is at least 2x.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import soundfile
import soxr
import torch
import torch.nn.functional as F
from cm3p_original.maps import generated_map
from cm3p_original.models import MAX_LENGTH, TINY, V7, full_model, processor
from cm3p_original.network import beatmap_vectors
from cm3p_original.reading import Map, TextTokenizer, events_of, length_s
from machine import markdown_table, write_results
from torch import Tensor

from cm3p.audio_features import in_positions, padded_window
from cm3p.beatmap import read_beatmap
from cm3p.embedding.run import EmbedOptions, embed_maps
from cm3p.inference.loading import LoadedModel

BATCH, RATE, FILE_RATE, WINDOW_S = 4, 16_000, 44_100, 16.0
TOLERANCE, PACKED_TOLERANCE = 1e-4, 2e-5
Result = TypeVar("Result")


def write_maps(folder: Path, count: int, *, with_songs: bool) -> list[Path]:
    """Write maps, each in a folder of its own, and return their paths."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        seconds, objects = rng.uniform(60, 150), int(rng.integers(100, 700))
        path = folder / f"{number:04}" / "map.osu"
        path.parent.mkdir(parents=True)
        path.write_text(generated_map(number, objects, seconds), encoding="utf-8")
        if with_songs:
            times_s = np.arange(int(seconds * FILE_RATE))[:, None] / FILE_RATE
            tones = np.sin(2 * np.pi * times_s * rng.uniform(100, 900, 2)) * np.exp(-4 * (times_s % 0.5))
            noise = 0.01 * rng.standard_normal(tones.shape)
            soundfile.write(path.with_name("audio.flac"), 0.2 * tones + noise, FILE_RATE)
        paths.append(path)
    return paths


def original_vector(path: Path, loaded: LoadedModel, texts: TextTokenizer, *, with_song: bool) -> np.ndarray:
    """Embed one map as the original does."""
    model: Any = loaded.model
    beatmap = Map(path.read_text("utf-8-sig"))
    samples = None
    if with_song:
        decoded, rate = soundfile.read(path.with_name("audio.flac"), dtype="float32", always_2d=True)
        samples = torch.from_numpy(soxr.resample(decoded.mean(1), rate, RATE))
    seconds = length_s(beatmap) if samples is None else len(samples) / RATE
    events = events_of(beatmap, seconds)
    sequences, features = [], []
    for start_s in np.arange(0, seconds - 1, WINDOW_S).tolist():
        inside = [event for event in events if start_s * 1000 <= event.time < (start_s + WINDOW_S) * 1000]
        prefix: list[int] = []
        if samples is not None:
            window = padded_window(samples, start_s, WINDOW_S, RATE, multiple_of=256_000, at_least=400)
            features.append(in_positions(loaded.processor.audio_feature_extractor(window, "cpu"), 1600))
            tokens = loaded.processor.beatmap_tokenizer
            prefix = [tokens.audio_bos_token_id, *[tokens.audio_token_id] * 200, tokens.audio_eos_token_id]
        sequences.append([*prefix, *texts.ids_of(inside, start_s * 1000)][:MAX_LENGTH])
    ids = torch.full((len(sequences), MAX_LENGTH), loaded.processor.beatmap_tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = torch.tensor(sequence), 1
    spectrograms = torch.cat(features).split(BATCH) if features else [None] * -(-len(ids) // BATCH)
    parts = zip(ids.split(BATCH), mask.split(BATCH), spectrograms, strict=True)
    vectors = torch.cat([beatmap_vectors(model, *part) for part in parts])
    return F.normalize(vectors.mean(0), dim=-1).numpy()


def measured(
    name: str, paths: Sequence[Path], sample: int, loaded: LoadedModel, *, with_songs: bool, rounds: int
) -> dict[str, Any]:
    """Return the line of one folder."""
    out = paths[0].parents[1] / "embeddings.parquet"
    texts = TextTokenizer(loaded.processor.beatmap_tokenizer)
    options = EmbedOptions(with_audio=with_songs)
    ours, theirs = [], []
    for _ in range(rounds):
        out.unlink(missing_ok=True)
        result, *seconds = timed(lambda: embed_maps(loaded, [paths[0].parents[1]], out, options))
        ours.append(seconds)
        if result.rows != len(paths):
            raise SystemExit(f"{result.rows} of {len(paths)} maps were embedded")
        with torch.inference_mode():
            found, *seconds = timed(
                lambda: [
                    original_vector(path, loaded, texts, with_song=with_songs) for path in paths[:sample]
                ]
            )
        theirs.append(seconds)
    table = pq.read_table(out, columns=["Id", "Windows", "embedding"]).to_pydict()
    vectors = dict(zip(table["Id"], table["embedding"], strict=True))
    gap = max(
        float(np.abs(vector - np.array(vectors[number])).max())
        for number, vector in enumerate(found, start=1)
    )
    if gap > TOLERANCE:
        raise SystemExit(f"the vectors differ by {gap:.2g}")
    ours_ms, ours_cpu_ms = (1000 * min(column) / len(paths) for column in zip(*ours, strict=True))
    theirs_ms, theirs_cpu_ms = (1000 * min(column) / sample for column in zip(*theirs, strict=True))
    return {
        "folder": name,
        "rounds": rounds,
        "maps, ours": len(paths),
        "windows": sum(table["Windows"]),
        "ours, ms a map": ours_ms,
        "maps, original's way": sample,
        "original's way, ms a map": theirs_ms,
        "original / ours": theirs_ms / ours_ms,
        "ours, ms of this process": ours_cpu_ms,
        "original's way, ms of this process": theirs_cpu_ms,
        "the same by processor time": theirs_cpu_ms / ours_cpu_ms,
        "greatest difference": gap,
    }


def timed(run: Callable[[], Result]) -> tuple[Result, float, float]:
    """Run something; return its result, the seconds it took, and those of processor time."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - start_s, time.process_time() - start_cpu_s


def folders_of_maps(maps: int, sample: int, with_songs: int, rounds: int) -> list[dict[str, Any]]:
    """Return the lines of the folders without and with songs."""
    parts = processor()
    loaded = LoadedModel("tiny sizes", full_model(TINY, parts), parts, "0" * 64, "cpu", torch.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        plain = write_maps(Path(folder) / "maps", maps, with_songs=False)
        rows.append(measured("maps", plain, sample, loaded, with_songs=False, rounds=1))
        if with_songs:
            songs = write_maps(Path(folder) / "songs", with_songs, with_songs=True)
            options: dict[str, Any] = {"with_songs": True, "rounds": rounds}
            rows.append(measured("maps with songs", songs, min(sample, with_songs), loaded, **options))
    return rows


def windows_of_a_map(path: Path | None, layers: int, most: int | None, rounds: int) -> list[dict[str, Any]]:
    """Return the lines of both ways to embed all windows of one map."""
    parts = processor()
    beatmap = read_beatmap(path or generated_map(0))
    batch = parts(beatmap=beatmap, beatmap_kwargs={"padding": "max_length"})
    ids, mask = (batch[name][:most] for name in ("input_ids", "attention_mask"))
    lengths = mask.sum(1)
    model = full_model(V7, parts, num_hidden_layers=layers)

    def ours() -> Tensor:
        return F.normalize(model.get_beatmap_features(ids, None, mask), dim=-1)

    ways: dict[str, tuple[int, Callable[[], Tensor]]] = {
        "ours, packed": (int(lengths.sum()), ours),
        f"original's way, padded to {MAX_LENGTH}, full attention": (
            ids.numel(),
            lambda: beatmap_vectors(model, ids, mask),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, Tensor] = {}
    with torch.inference_mode():
        model.get_beatmap_features(ids[:1, :200], None, mask[:1, :200])
        for _ in range(rounds):
            for name, (_, work) in ways.items():
                start_s = time.perf_counter()
                vectors[name] = work()
                seconds[name].append(time.perf_counter() - start_s)
    first = vectors["ours, packed"]
    least_s = min(seconds["ours, packed"])
    rows: list[dict[str, Any]] = [
        {
            "way": name,
            "windows": len(ids),
            "longest": int(lengths.max()),
            "tokens computed": count,
            "s": min(seconds[name]),
            "s / ours packed": min(seconds[name]) / least_s,
            "greatest difference": float((vectors[name] - first).abs().max()),
        }
        for name, (count, _) in ways.items()
    ]
    if max(row["greatest difference"] for row in rows) > PACKED_TOLERANCE:
        raise SystemExit(f"the vectors differ by more than {PACKED_TOLERANCE}")
    return rows


def report(subject: str, rows: list[dict[str, Any]], options: str) -> None:
    """Print and write the results of a part."""
    print(markdown_table(rows))
    command = f"python benchmarks/cm3p_embed.py {options}"
    print(f"\nwritten: {write_results(subject, rows, command=command)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    both = ["folders", "windows"]
    parser.add_argument("--parts", nargs="+", choices=both, default=both)
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=12, help="maps that the original's way embeds")
    parser.add_argument("--with-songs", type=int, default=120, help="maps with songs")
    parser.add_argument("--map", type=Path, help="a map, for the windows of one")
    parser.add_argument("--layers", type=int, default=22, help="of its model")
    parser.add_argument("--windows", type=int, help="its first ones only")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of the maps with songs, and of the windows of one map"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if "folders" in arguments.parts:
        counts = arguments.maps, arguments.sample, arguments.with_songs, arguments.rounds
        options = "--maps {} --sample {} --with-songs {} --rounds {}".format(*counts)
        report("cm3p_embed", folders_of_maps(*counts), f"--parts folders {options}")
    if "windows" in arguments.parts:
        settings = arguments.layers, arguments.windows, arguments.rounds
        given = " --map MAP" if arguments.map else ""
        most = f" --windows {arguments.windows}" if arguments.windows else ""
        options = f"--parts windows{given} --layers {arguments.layers}{most} --rounds {arguments.rounds}"
        report("cm3p_packed", windows_of_a_map(arguments.map, *settings), options)


if __name__ == "__main__":
    main()
