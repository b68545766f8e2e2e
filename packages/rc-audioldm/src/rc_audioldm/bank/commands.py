"""``rc-audioldm bank``: build banks of clips, sort them out, and look for neighbours. No torch until a command runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pentatonic.cli import (
    Device,
    JsonFlag,
    check_inputs,
    emit_json,
    make_output_folder,
    make_output_place,
    pick_device,
    show,
)
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from rc_audioldm.bank.sources import Clips
    from rc_audioldm.bank.style_bank import StyleBank
    from rc_audioldm.clap import ClapEncoder

app = typer.Typer(
    no_args_is_help=True, help="Banks of clips: build, audit, index, neighbours.", rich_markup_mode=None
)

BankFolder = Annotated[Path, typer.Argument(metavar="BANK", help="Folder of a bank.")]
DEFAULT_MODEL = "rc-audioldm-tiny"
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="CLAP model: bundled name, directory, or hub id such as laion/clap-htsat-unfused.",
    ),
]
Revision = Annotated[str | None, typer.Option(help="Commit hash, tag or branch on the hub.")]
WindowsOption = Annotated[
    Literal["overlapped", "clapback-embed"],
    typer.Option(
        "--windows", help="Windows of 10 s: overlapped by half, or as the package clapback-embed has them."
    ),
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="The model is random: do not test its text tower.")
]


@app.command()
def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of clips, manifest in JSON lines, or text file with a path on each line."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bank.")],
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    windows: WindowsOption = "overlapped",
    root: Annotated[
        Path | None, typer.Option(help="Folder of the paths of a manifest or a list.", show_default="its own")
    ] = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(
            help="Table of licences, sources and tags (.csv, .jsonl, FSD50K's .json); again for several.",
            show_default="those in the folder",
        ),
    ] = None,
    near_duplicates: Annotated[
        float, typer.Option(help="Least cosine of clips that are marked as near-duplicates; above 1: none.")
    ] = 0.99,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a bank that was made in another way.")
    ] = False,
    random_weights: RandomWeights = False,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Build a bank, or bring one up to date; the same command continues a stopped build.

    Exit status 3: some clips could not be used; report.json and the table name each one.
    """
    check_inputs([source, *(table or [])])
    make_output_place(out, kind="folder", inputs=[source])
    from rc_audioldm.bank.build import build_bank
    from rc_audioldm.bank.sources import find_clips
    from rc_audioldm.bank.style_bank import StyleBank

    clips: Clips = find_clips(source, root=root, tables=table)
    encoder = _encoder(model, revision, windows, device, random_weights=random_weights)
    report = build_bank(encoder, clips, out, duplicates=near_duplicates, overwrite=overwrite)
    report.print_summary()
    about = _about(StyleBank.open(out))
    show({**about, "report": report.document()}, as_json, lambda: _lines(about))
    report.raise_for_failures()


@app.command()
def info(bank: BankFolder, as_json: JsonFlag = False) -> None:
    """Show what made a bank, its licences and tags, and compare its files with their hashes."""
    check_inputs([bank])
    from pentatonic.checkpoint import verify_directory

    opened = _open(bank)
    verify_directory(bank)
    about = _about(opened)
    show(about, as_json, lambda: _lines(about))


@app.command()
def audit(
    bank: BankFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the bank of the clips that are kept.")],
    model: Model,
    revision: Revision = None,
    windows: WindowsOption = "overlapped",
    music_text: Annotated[str | None, typer.Option(help="Text of music.", show_default="built in")] = None,
    speech_text: Annotated[str | None, typer.Option(help="Text of speech.", show_default="built in")] = None,
    keep_margin: Annotated[
        float, typer.Option(help="Keep clips that are nearer to music by more than this.")
    ] = 0.08,
    max_keep: Annotated[
        int, typer.Option(min=0, help="Keep at most so many, the most musical first; 0: all.")
    ] = 0,
    random_weights: RandomWeights = False,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Leave out clips that sound more like speech than like music, by their similarity to two texts."""
    check_inputs([bank])
    make_output_place(out, kind="folder", inputs=[bank])
    from rc_audioldm.bank.audit import MUSIC, SPEECH, audit_bank, write_audit, write_margins

    encoder = _encoder(model, revision, windows, device, random_weights=random_weights)
    opened = _open(bank, encoder)
    music, speech = encoder.embed_text([music_text or MUSIC, speech_text or SPEECH]).numpy()
    found = audit_bank(opened, music, speech, margin=keep_margin, most=max_keep)
    write_audit(opened, found, out)
    margins = out.with_name(f"{out.name}.margins.jsonl")
    write_margins(margins, opened, found)
    about = {"clips": len(opened), "kept": len(found.kept), "bank": str(out), "margins": str(margins)}
    show(about, as_json, lambda: _lines(about))


@app.command()
def index(
    bank: BankFolder,
    kind: Annotated[
        Literal["exact", "faiss-flat", "faiss-ivfpq"],
        typer.Option(help="exact: all rows, ties by the lower row; the others need the extra faiss-cpu."),
    ] = "exact",
    seed: Annotated[int, typer.Option(help="Of what an index learns.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Choose how a bank is searched, and measure it against the exact search."""
    check_inputs([bank])
    from rc_audioldm.bank.index import choose_index, write_choice

    choice = choose_index(_open(bank), kind, seed=seed)
    about = {**asdict(choice), "file": str(write_choice(bank, choice))}
    show(about, as_json, lambda: _lines(about))


@app.command()
def neighbors(
    bank: BankFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="CLAP model, for texts and audio files.", show_default="none"),
    ] = None,
    revision: Revision = None,
    windows: WindowsOption = "overlapped",
    text: Annotated[list[str] | None, typer.Option(help="A query; again for several.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="File with a query on each line.")] = None,
    audio: Annotated[
        list[Path] | None, typer.Option(help="Audio file as a query; again for several.")
    ] = None,
    queries: Annotated[Path | None, typer.Option(help="A bank whose clips are the queries.")] = None,
    auxiliary: Annotated[
        Path | None, typer.Option(help="Bank for queries to which nothing in the first is near.")
    ] = None,
    fallback_below: Annotated[
        float, typer.Option(help="Mean similarity below which that bank is used.")
    ] = 0.30,
    top_k: Annotated[int, typer.Option(min=1, help="Neighbours of a query.")] = 50,
    style_of: Annotated[int, typer.Option(min=1, help="Neighbours in a style vector.")] = 8,
    weighting: Annotated[
        Literal["softmax", "mean"], typer.Option(help="Weights in a style vector.")
    ] = "softmax",
    temperature: Annotated[float, typer.Option(help="Of the softmax.")] = 0.08,
    centre: Annotated[
        bool,
        typer.Option(
            "--centre", help="Compare after subtracting the means of the bank and of texts or queries."
        ),
    ] = False,
    terms: Annotated[
        Literal["any", "known", "commercial", "free"],
        typer.Option(help="Only clips whose licence is known, allows commercial use, or asks for nothing."),
    ] = "any",
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also write the pairs as arrays, for training.")
    ] = False,
    random_weights: RandomWeights = False,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Find the neighbours of texts, audio files or clips of another bank, and the style vectors they make.

    Writes neighbors.jsonl, agg_emb.npy and retrieval_stats.json.
    """
    check_inputs([bank, *(audio or []), *(path for path in (prompts, queries, auxiliary) if path)])
    if not (text or prompts or audio or queries):
        raise UsageError("there is nothing to look for; give --text, --prompts, --audio or --queries")
    make_output_folder(out)
    from rc_audioldm.bank.asking import ask_bank
    from rc_audioldm.bank.style_bank import StyleBank

    encoder = (
        None if model is None else _encoder(model, revision, windows, device, random_weights=random_weights)
    )
    about = ask_bank(
        _open(bank, encoder),
        out,
        encoder=encoder,
        texts=text or [],
        prompts=prompts,
        audio=audio or [],
        queries=None if queries is None else StyleBank.open(queries),
        auxiliary=None if auxiliary is None else StyleBank.open(auxiliary),
        fallback_below=fallback_below,
        top_k=top_k,
        style_of=style_of,
        weighting=weighting,
        temperature=temperature,
        centre=centre,
        terms=terms,
        pairs=pairs,
    )
    if as_json:
        emit_json(about)
        return
    for each in about["queries"]:
        print(f"{each['query']}  ({each['bank']}, mean similarity {each['mean_similarity']:.3f})")
        for found in each["nearest"]:
            print(f"  {found['similarity']:.3f}  {found['path']}  {found['licence']}")


def _encoder(
    model: str, revision: str | None, windows: str, device: str, *, random_weights: bool
) -> ClapEncoder:
    from rc_audioldm.clap import from_pretrained

    place = pick_device(device)
    return from_pretrained(model, revision, device=place, windows=windows, random_weights=random_weights)


def _open(folder: Path, encoder: ClapEncoder | None = None) -> StyleBank:
    from rc_audioldm.bank.style_bank import StyleBank

    return StyleBank.open(folder, None if encoder is None else encoder.header)


def _about(bank: StyleBank) -> dict[str, Any]:
    licences = Counter(clip.licence for clip in bank.clips)
    tags = Counter(tag for clip in bank.clips for tag in clip.tags)
    known = [clip.duration_s for clip in bank.clips if clip.duration_s is not None]
    return {
        "clips": len(bank),
        "dimension": bank.dimension,
        "hours": round(sum(known) / 3600, 3),
        "near_duplicates": sum(clip.duplicate_of is not None for clip in bank.clips),
        "licences": dict(licences.most_common()),
        "tags": dict(tags.most_common(20)),
        **({} if bank.header is None else bank.header.to_json()),
    }


def _lines(about: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in about.items():
        text = (
            ", ".join(f"{n} {name}" for name, n in value.items()) if isinstance(value, dict) else str(value)
        )
        lines.append(f"{key:<18}{text}")
    return lines
