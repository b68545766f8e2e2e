"""The commands ``rc-audioldm prepare``. Nothing slow is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pentatonic.cli import JsonFlag, check_inputs, emit_json, make_output_folder, make_output_place
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from pentatonic.cli import BatchReport
    from rc_audioldm.data.layouts.pairs import DataSet
    from rc_audioldm.data.manifest import Manifest

_TABLES = ("licences.csv", "licenses.csv")  # looked for in a folder of clips

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Prepare clips for a bank or for adapters: lists, choices, audits, windows, MIDI.",
)

ManifestFile = Annotated[
    Path, typer.Argument(metavar="MANIFEST", help="Manifest, one JSON object on each line.")
]
Root = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that paths are relative to; default: that of the manifest."),
]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Files at a time.")]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the outputs.")]
Limit = Annotated[int | None, typer.Option(min=0, help="Rows at most.")]


@app.command()
def manifest(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of clips.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Manifest to write.")],
    licences: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Table with a column path, and any of licence, source, caption and labels.",
            show_default=f"{' or '.join(_TABLES)} in the folder",
        ),
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the clips that say nothing.")] = "unknown",
    source: Annotated[str, typer.Option(help="Source of the clips that say nothing.")] = "",
    tags: Annotated[bool, typer.Option("--tags/--no-tags", help="Read the tags of the files.")] = True,
    workers: Workers = 2,
    as_json: JsonFlag = False,
) -> None:
    """List a folder of clips with their licences, from a table or from tags; a clip without one has 'unknown'.

    Exit status 3: the tags of some files cannot be read; the table names each one.
    """
    from rc_audioldm.data.folders import manifest_of_folder
    from rc_audioldm.data.manifest import root_for, write_manifest

    check_inputs([folder, *([licences] if licences else [])])
    make_output_place(out, inputs=[licences])
    root = root_for(out, [folder])
    if licences is None:
        licences = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    rows, report = manifest_of_folder(
        folder, root, table=licences, licence=licence, source=source, tags=tags, workers=workers
    )
    write_manifest(out, rows)
    counts = _count(row.licence for row in rows)
    _finish(report, as_json, {"manifest": out, "rows": len(rows), "root": root, "licences": counts})


@app.command()
def pairs(
    out: Annotated[Path, typer.Option(metavar="FILE", help="pairs.csv, or a manifest (.jsonl).")],
    maestro: Annotated[Path | None, typer.Option(metavar="DIR", help="MAESTRO v2 or v3.")] = None,
    urmp: Annotated[Path | None, typer.Option(metavar="DIR", help="URMP.")] = None,
    fsd50k: Annotated[Path | None, typer.Option(metavar="DIR", help="FSD50K.")] = None,
    max_maestro: Limit = None,
    max_urmp: Limit = None,
    max_fsd50k: Limit = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Mix the data sets, by --seed.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the order of --shuffle.")] = 123,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="Captions and look-ups of the original, with their errors.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write pairs of audio and caption from MAESTRO, URMP and FSD50K."""
    from rc_audioldm.data.layouts.pairs import collect_pairs, rows_below, write_pairs
    from rc_audioldm.data.manifest import root_for, write_manifest

    if out.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"--out is {out}; allowed: a name that ends in .csv or .jsonl")
    folders = [folder for folder in (maestro, urmp, fsd50k) if folder is not None]
    check_inputs(folders)
    make_output_place(out)
    found = collect_pairs(
        maestro=_data_set(maestro, max_maestro),
        urmp=_data_set(urmp, max_urmp),
        fsd50k=_data_set(fsd50k, max_fsd50k),
        shuffle_seed=seed if shuffle else None,
        legacy=legacy,
    )
    about: dict[str, Any] = {"pairs": len(found), "file": out}
    if out.suffix == ".csv":
        write_pairs(out, found)
    else:
        root = root_for(out.resolve(), [folder.resolve() for folder in folders])
        write_manifest(out, rows_below(root, found))
        about["root"] = root
    _print(about, as_json)


@app.command()
def union(
    manifests: Annotated[
        list[str], typer.Argument(metavar="NAME=MANIFEST...", help="Data sets, each with its manifest.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Manifest to write.")],
    dedup: Annotated[
        bool, typer.Option("--dedup", help="Each file once, in the first set that has it.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Join manifests, such as the queries of several data sets; paths are relative to the folder that holds all."""
    from rc_audioldm.data.manifest import root_for, write_manifest
    from rc_audioldm.data.union import united

    named = {name: path for name, _, path in (text.partition("=") for text in manifests)}
    if len(named) < len(manifests) or not all(name and path for name, path in named.items()):
        raise UsageError(f"{' '.join(manifests)}; allowed: NAME=MANIFEST, each name once")
    make_output_place(out, inputs=named.values())
    opened = {name: _open(Path(path), None) for name, path in named.items()}
    root = root_for(out, [each.root for each in opened.values()])
    rows = list(united(opened, root, each_file_once=dedup))
    write_manifest(out, rows)
    _print({"manifest": out, "rows": len(rows), "root": root}, as_json)


@app.command()
def curate(
    tables: Annotated[list[Path], typer.Argument(metavar="CSV...", help="dev.csv, eval.csv of FSD50K.")],
    audio_root: Annotated[Path, typer.Option(metavar="DIR", help="Folder with the audio of FSD50K.")],
    out: OutFolder,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Lists pos, vocal, neg_strict and neg_relaxed; default: ours."),
    ] = None,
    min_secs_strict: Annotated[float, typer.Option(min=0, help="Least length, strict.")] = 6.0,
    min_secs_relaxed: Annotated[float, typer.Option(min=0, help="Least length, relaxed.")] = 5.0,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="Split from the whole path; unreadable clips pass.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Sort the music of FSD50K into four manifests: instrumental or with vocals, strict or relaxed.

    Exit status 3: some clips cannot be read; the table names each one.
    """
    from rc_audioldm.data.curation.curate import curate as choose
    from rc_audioldm.data.curation.curate import statistics, write_curation
    from rc_audioldm.data.curation.music_classes import Strictness, read_classes
    from rc_audioldm.data.layouts.audio_index import AudioIndex

    check_inputs([*tables, audio_root, *([classes] if classes else [])])
    least_s: dict[Strictness, float] = {"strict": min_secs_strict, "relaxed": min_secs_relaxed}
    lists = read_classes(classes)
    make_output_folder(out)
    curation = choose(tables, AudioIndex(audio_root), lists, least_s, legacy=legacy)
    write_curation(out, curation, least_s)
    _finish(curation.report, as_json, {**statistics(curation, least_s), "root": audio_root})


@app.command()
def audit(
    manifest: ManifestFile,
    out: Annotated[Path, typer.Option(metavar="JSON", help="Audit to write.")],
    root: Root = None,
    deep: Annotated[
        Literal["none", "suspects", "all"],
        typer.Option(help="Whose spectrum is measured: of clips whose level is suspect, of all, of none."),
    ] = "suspects",
    legacy_floor: Annotated[
        bool, typer.Option("--legacy-floor", help="Floor of the original, about 60 dB higher.")
    ] = False,
    rms_silent: Annotated[float, typer.Option(help="Level of a silent clip, in dBFS.")] = -60.0,
    rms_noise: Annotated[float, typer.Option(help="Above it, sign changes make a clip suspect.")] = -12.0,
    zcr_noise: Annotated[float, typer.Option(help="So many of them, as a share.")] = 0.18,
    zcr_mid: Annotated[float, typer.Option(help="The share for clips from -40 to -12 dBFS.")] = 0.20,
    hf_ratio: Annotated[float, typer.Option(help="Share from 8 kHz on of a noisy clip, if flat.")] = 0.35,
    flatness: Annotated[float, typer.Option(help="Flatness of a noisy clip.")] = 0.40,
    floor_db_min: Annotated[float, typer.Option(help="Floor of a noisy clip, in dB.")] = -40.0,
    workers: Workers = 2,
    as_json: JsonFlag = False,
) -> None:
    """Measure the clips of a manifest: which are silent, noisy, or cannot be read.

    Exit status 3: some clips cannot be read; the audit names them too, and prune drops them.
    """
    from rc_audioldm.data.audits.audit import audit_manifest
    from rc_audioldm.data.audits.verdicts import Thresholds

    thresholds = Thresholds(rms_silent, rms_noise, zcr_noise, zcr_mid, hf_ratio, flatness, floor_db_min)
    make_output_place(out, inputs=[manifest])
    found = audit_manifest(
        _open(manifest, root), deep=deep, thresholds=thresholds, legacy_floor=legacy_floor, workers=workers
    )
    found.write(out)
    _finish(found.report, as_json, {"audit": out, "rows": len(found.rows), **found.counts})


@app.command()
def prune(
    manifest: ManifestFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Manifest to write.")],
    audit: Annotated[
        Path | None, typer.Option(metavar="JSON", help="What audit wrote for this manifest.")
    ] = None,
    fast_json: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="audit_fast.json of the original: match by base name, as it does."),
    ] = None,
    plus_json: Annotated[Path | None, typer.Option(metavar="JSON", help="Its audit_plus.json.")] = None,
    suspects_txt: Annotated[Path | None, typer.Option(metavar="TXT", help="Its suspects.txt.")] = None,
    root: Root = None,
    as_json: JsonFlag = False,
) -> None:
    """Drop the clips that an audit speaks against; beside the manifest, list them with the reasons.

    The paths of the new manifest are relative to the same root as those of the old one.
    """
    from pentatonic.errors import InputError
    from pentatonic.untrusted.files import read_text
    from rc_audioldm.data.audits import prune as pruning
    from rc_audioldm.data.audits.audit import read_audit

    if (audit is None) == (fast_json is None):
        raise UsageError("allowed: --audit, or --fast-json for an audit of the original")
    make_output_place(out, inputs=[manifest, audit, fast_json])
    rows = _open(manifest, root).rows
    if audit is not None:
        found = read_audit(audit)
        pruned = pruning.prune(rows, found.rows, found.thresholds)
    else:
        fast, plus = (
            [] if file is None else pruning.read_original_rows(file) for file in (fast_json, plus_json)
        )
        listed = "" if suspects_txt is None else read_text(suspects_txt, max_bytes=1 << 26, error=InputError)
        names = [line for line in listed.splitlines() if line.strip()]
        pruned = pruning.prune_like_the_original(rows, fast, plus, names)
    pruned.write(out, input_manifest=str(manifest), audit=str(audit or fast_json))
    _print({"manifest": out, **pruned.counts}, as_json)


@app.command()
def chunk(
    manifest: ManifestFile,
    out: OutFolder,
    root: Root = None,
    sr: Annotated[int, typer.Option(help="Sample rate of the chunks in Hz.")] = 48_000,
    secs: Annotated[float, typer.Option(help="Length of a chunk in seconds.")] = 10.0,
    hop_secs: Annotated[
        float | None, typer.Option(help="From one start to the next; default: the length.")
    ] = None,
    min_tail_ratio: Annotated[float, typer.Option(help="Least part of a chunk that is audio.")] = 0.5,
    audio_format: Annotated[Literal["flac", "wav"], typer.Option(help="Of the files.")] = "flac",
    workers: Workers = 2,
    as_json: JsonFlag = False,
) -> None:
    """Cut clips into windows of equal length, with a manifest, chunks.jsonl; the same command continues a stopped run.

    Exit status 3: some clips cannot be read; the table names each one.
    """
    from rc_audioldm.data.chunking import MANIFEST_FILE, ChunkSettings, cut_manifest

    settings = ChunkSettings(sr, secs, hop_secs, min_tail_ratio, audio_format)
    rows, report = cut_manifest(_open(manifest, root), out, settings, workers=workers)
    _finish(report, as_json, {"manifest": out / MANIFEST_FILE, "chunks": len(rows), **report.counts})


@app.command()
def tokenise(
    midi: Annotated[
        Path, typer.Argument(metavar="DIR_OR_MANIFEST", help="Folder of MIDI files, or a manifest of them.")
    ],
    out: OutFolder,
    root: Root = None,
    longest: Annotated[int, typer.Option(min=1, help="Most tokens of a chunk.")] = 2048,
    shortest: Annotated[int, typer.Option(min=1, help="Least tokens of one that ends at a bar.")] = 256,
    legacy: Annotated[bool, typer.Option("--legacy", help="Cut behind bar tokens, as the original.")] = False,
    workers: Workers = 2,
    as_json: JsonFlag = False,
) -> None:
    """Turn MIDI files into REMI tokens, cut at bars: tokens.npz and tokens.jsonl.

    Exit status 3: some files cannot be read; the table names each one.
    """
    from pentatonic.folder_run import write_json
    from rc_audioldm.data.midi.tokenise import midi_manifest, tokenise_manifest

    check_inputs([midi])
    make_output_folder(out)
    manifest = midi_manifest(midi) if midi.is_dir() else _open(midi, root)
    tokens, report = tokenise_manifest(
        manifest, longest=longest, shortest=shortest, legacy=legacy, workers=workers
    )
    tokens.write(out)
    n_sequences, n_chunks = len(tokens.sequence_offsets) - 1, len(tokens.chunks)
    about = {
        "files": len(tokens.rows),
        "sequences": n_sequences,
        "chunks": n_chunks,
        "tokens": len(tokens.ids),
    }
    write_json(out / "report.json", {**about, **report.document()})
    _finish(report, as_json, about)


@app.command()
def render(
    tokens: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that tokenise wrote.")],
    out: OutFolder,
    synthesiser: Annotated[
        Literal["auto", "fluidsynth", "additive"],
        typer.Option(help="auto: FluidSynth if the program and a soundfont are there, else sines."),
    ] = "auto",
    soundfont: Annotated[Path | None, typer.Option(metavar="SF2", help="For FluidSynth.")] = None,
    sample_rate: Annotated[int, typer.Option(help="In Hz.")] = 48_000,
    target_seconds: Annotated[float, typer.Option(help="Length of every file.")] = 10.0,
    velocity_floor: Annotated[float, typer.Option(help="Least mean velocity.")] = 8.0,
    skip_quiet_db: Annotated[float, typer.Option(help="Least level, in dBFS.")] = -45.0,
    dense_poly_thresh: Annotated[int, typer.Option(help="Notes at once of a dense chunk.")] = 64,
    gain: Annotated[float, typer.Option(help="Of FluidSynth.")] = 0.5,
    effects: Annotated[bool, typer.Option("--effects", help="Reverb and chorus of FluidSynth.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for one chunk.")] = 120.0,
    max_chunks: Limit = None,
    workers: Workers = 2,
    as_json: JsonFlag = False,
) -> None:
    """Render chunks of tokens to audio with a manifest, rendered.jsonl; the same command continues a stopped run.

    Exit status 3: some chunks could not be rendered; the table names each one.
    """
    from rc_audioldm.data.midi.render import MANIFEST_FILE, RenderSettings, render_tokens
    from rc_audioldm.data.midi.token_files import read_tokens

    settings = RenderSettings(
        synthesiser=synthesiser,
        sample_rate=sample_rate,
        seconds=target_seconds,
        velocity_floor=velocity_floor,
        quiet_dbfs=skip_quiet_db,
        dense_polyphony=dense_poly_thresh,
        gain=gain,
        effects=effects,
        timeout_s=timeout,
    )
    check_inputs([tokens, *([soundfont] if soundfont else [])])
    rows, report = render_tokens(
        read_tokens(tokens), out, settings, soundfont=soundfont, max_chunks=max_chunks, workers=workers
    )
    _finish(report, as_json, {"manifest": out / MANIFEST_FILE, "rendered": len(rows), **report.counts})


def _open(manifest: Path, root: Path | None) -> Manifest:
    from rc_audioldm.data.manifest import read_manifest

    check_inputs([manifest, *([root] if root else [])])
    return read_manifest(manifest, root)


def _data_set(root: Path | None, limit: int | None) -> DataSet | None:
    from rc_audioldm.data.layouts.pairs import DataSet

    return None if root is None else DataSet(root, limit)


def _count(values: Any) -> dict[str, int]:
    from collections import Counter

    return dict(Counter(values).most_common())


def _print(about: dict[str, Any], as_json: bool) -> None:
    from pentatonic.cli import show

    show(about, as_json, lambda: [f"{key}: {value}" for key, value in about.items()])


def _finish(report: BatchReport, as_json: bool, about: dict[str, Any]) -> None:
    """Print the result, and end with status 3 if an input failed."""
    if as_json:
        emit_json({**about, "inputs": report.entries})
    else:
        _print(about, as_json)
        report.print_summary()
    report.raise_for_failures()
