"""The verbs for encoders of music and text, from ``embed`` to ``train-encoder``. Nothing slow until one runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from notagen.clamp2.melody.commands import index_melodies, search_melody
from notagen.files.commands import Page, check_page_option
from pentatonic.cli import (
    BatchReport,
    Device,
    JsonFlag,
    WeightType,
    add_building_command,
    check_inputs,
    experiments,
    make_output_folder,
    make_output_place,
    pick_device,
    show,
)
from pentatonic.errors import UsageError
from pentatonic.several_values import OptionsOfSeveralValues

if TYPE_CHECKING:
    from notagen.clamp2.embedder import EmbedOptions, Encoder

DEFAULT_ENCODER = "notagen-scorer"
"""A small encoder of music that comes with the package."""
DEFAULT_TEXT_ENCODER = "clamp2"
_STORE_SUFFIX = ".parquet"  # as in notagen.clamp2.feature_sets, which imports torch

_MODEL_HELP = (
    "Encoder: notagen-scorer (music only, comes with the package), clamp2, clamp3-c2, clamp3-saas, ngrams (which takes "
    "no model), m3 (for --frames), a folder, or a weights file."
)
ModelOption = Annotated[str, typer.Option("--model", help=_MODEL_HELP)]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE",
        help="tokenizer.json of the text encoder.",
        show_default="that in the model's folder, else the released one",
    ),
]
PreparationOption = Annotated[
    Literal["clamp2", "notagen"] | None,
    typer.Option(
        "--preparation",
        help="How standard ABC and MusicXML become one line per bar: as the data of CLaMP 2, or as those of NotaGen.",
        show_default="as stored features that are compared with, else clamp2",
    ),
]
AsIs = Annotated[
    bool, typer.Option("--as-is", help="Embed every text as it is, also one voice after the other.")
]
DropUnitLength = Annotated[
    bool | None,
    typer.Option(
        "--drop-unit-length/--keep-unit-length",
        help="Leave L:1/8 out of what the encoder reads.",
        show_default="only with CLaMP 3",
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option("--dtype", help="Number type of the computation.")
]
AssumeSameModel = Annotated[
    bool,
    typer.Option(
        "--assume-same-model",
        help="Compare features that do not say which model made them, as the original's.",
    ),
]
_PIECES = "Scores (ABC, MTF, MIDI, MusicXML), folders of them, or stored features."


class _Search(OptionsOfSeveralValues):
    several: ClassVar[frozenset[str]] = frozenset({"--by"})


class _Classify(OptionsOfSeveralValues):
    several: ClassVar[frozenset[str]] = frozenset({"--labels"})


def add_encoder_commands(app: typer.Typer) -> None:
    """Add the verbs to a command line."""
    for verb in (embed, score, retrieval):
        app.command()(verb)
    app.command(cls=_Search)(search)
    app.command("index-melodies")(index_melodies)
    app.command(cls=_Classify)(classify)
    app.command("convert-weights")(convert_weights)
    add_building_command(
        app,
        "train-encoder",
        "notagen.clamp2.training.train:main",
        feature="Training",
        help=(
            "Train an encoder: M3, CLaMP 2, or a small scorer of music; the same command continues a stopped run.\n\n"
            "Takes Hydra overrides: notagen train-encoder experiment=scorer "
            "data.train=data/notagen/augmented_train.jsonl\n\n" + experiments("notagen", "conf.encoder")
        ),
    )


def embed(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES_OR_DIRS...",
            help="Scores (ABC, MTF, MIDI, MusicXML), texts (.txt), or folders of them.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for .npy files, or one .parquet file, to write.")
    ],
    model: ModelOption = DEFAULT_ENCODER,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="A vector for each patch or token, in place of one for the piece."),
    ] = False,
    music_only: Annotated[
        bool, typer.Option("--music-only", help="Pass texts over, and do not load the text encoder.")
    ] = False,
    preparation: PreparationOption = None,
    as_is: AsIs = False,
    drop_unit_length: DropUnitLength = None,
    tokenizer: TokenizerOption = None,
    device: Device = "auto",
    dtype: Precision = "fp32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute everything again, also with other settings.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Embed scores and texts; continue a stopped run. Files whose content has not changed are not computed again.

    Folders are mirrored, and each tune of a book has a feature of its own. A .parquet file is an index for search.
    Exit status 3: some files, or tunes of a book, could not be embedded; each one is named.
    """
    check_inputs(inputs)
    stored = out.suffix.lower() == _STORE_SUFFIX
    if stored and frames:
        raise UsageError("a .parquet file holds one vector for each piece; --frames needs a folder as --out")
    if stored:
        make_output_place(out, inputs=inputs)
    else:
        make_output_folder(out)
    from notagen.clamp2.embedder import EmbedOptions
    from notagen.clamp2.embedding import embed_parquet, embed_tree, find_inputs

    # Loading a text encoder and its tokenizer takes time, and packages that embedding music does without.
    texts = not music_only and any(
        path.suffix.lower() == ".txt" for path in find_inputs(inputs, texts=True).files
    )
    options = EmbedOptions(preparation or "clamp2", as_is, drop_unit_length)
    embedder = _loaded(model, options, device, dtype, texts=texts, tokenizer=tokenizer)
    if stored:
        report = embed_parquet(embedder, inputs, out, overwrite=overwrite)
    else:
        report = embed_tree(embedder, inputs, out, frames=frames, overwrite=overwrite)
    report.print_summary()
    if as_json:
        show(report.document(), as_json, list)
    else:
        print(out if out.exists() else f"{out} was not written: there is nothing to write")
    report.raise_for_failures()


def score(
    outputs: Annotated[list[Path], typer.Argument(metavar="OUTPUTS...", help=_PIECES)],
    references: Annotated[
        Path,
        typer.Option(
            "--references", help="What they should be like: a folder of scores, or stored features."
        ),
    ],
    each: Annotated[bool, typer.Option("--each", help="Also print the score of each piece.")] = False,
    nearest: Annotated[
        int | None,
        typer.Option(
            "--nearest", metavar="K", min=1, help="Also score by the K references nearest to a piece."
        ),
    ] = None,
    page: Page = None,
    model: ModelOption = DEFAULT_ENCODER,
    preparation: PreparationOption = None,
    as_is: AsIs = False,
    drop_unit_length: DropUnitLength = None,
    assume_same_model: AssumeSameModel = False,
    device: Device = "auto",
    dtype: Precision = "fp32",
    as_json: JsonFlag = False,
) -> None:
    """Say how close pieces are to references: CLaMP 2 score of each, their average, and the group score.

    The average score is the mean over the pieces of the cosine with the mean feature of the references; the group
    score is the cosine of the mean features of both, which is another and usually higher number. The mean of
    references of several kinds is like none of them; --nearest compares a piece with the K that are most like it. Exit
    status 3: some files could not be embedded.
    """
    check_inputs([*outputs, references])
    check_page_option(page)
    from notagen.clamp2.feature_sets import gather, is_stored
    from notagen.clamp2.scoring import score_pieces

    stored = [path for path in (*outputs, references) if is_stored(path)]
    given = _Given(preparation, as_is, drop_unit_length)
    embedder = _lazily(lambda: _loaded(model, given.like(stored), device, dtype))
    pieces, embedded = gather(outputs, embedder)
    wanted, prepared = gather([references], embedder)
    pieces.require(wanted.header, assume_same_model=assume_same_model)
    found = score_pieces(pieces, wanted, nearest=nearest)
    if page is not None:
        found.write_page(page, model, str(references))
    _finish(found.document(), as_json, found.lines(each=each), embedded, prepared)


def search(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="[PIECE]", help="A score, or the name of a piece in the index.", show_default=False
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            help="Stored features, from notagen embed; for --melody scores, or a file of notagen index-melodies.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="A description of what to find.")] = None,
    melody: Annotated[
        str | None, typer.Option("--melody", help="Notes in ABC, such as 'G A B c'; takes no model.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="WHAT...",
            help="What of the melody must be found: interval, contour, rhythm, or several together.",
            show_default="interval",
        ),
    ] = None,
    starts_with: Annotated[
        bool, typer.Option("--starts-with", help="Only where a voice starts with the melody.")
    ] = False,
    same_key: Annotated[
        bool, typer.Option("--same-key", help="Only in the key in which the melody is written.")
    ] = False,
    count: Annotated[
        int, typer.Option("--count", min=1, help="Pieces, or places of a melody, at most.")
    ] = 10,
    method: Annotated[
        Literal["exact", "faiss"],
        typer.Option("--method", help="exact: ties by the order of the index; faiss: a flat FAISS index."),
    ] = "exact",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help=_MODEL_HELP,
            show_default=f"{DEFAULT_ENCODER}; with --text {DEFAULT_TEXT_ENCODER}",
        ),
    ] = None,
    tokenizer: TokenizerOption = None,
    assume_same_model: AssumeSameModel = False,
    device: Device = "auto",
    page: Page = None,
    as_json: JsonFlag = False,
) -> None:
    """Find pieces of an index that are like a piece, like a description, or that have a melody in any key.

    The index must be of the same model. A piece is prepared as those of the index; one that the index has needs no
    model, and neither does a melody. Exit status 3: some scores of a folder could not be read.
    """
    if index is None:
        raise UsageError("there is nothing to search: give --index")
    if [query, text, melody].count(None) != 2:
        raise UsageError("give one of the three: a piece, --text, or --melody")
    if melody is None and (by or starts_with or same_key or page):
        raise UsageError("--by, --starts-with, --same-key and --page belong to --melody")
    check_inputs([index])
    if melody is not None:
        search_melody(
            melody,
            index,
            by=by or (),
            starts=starts_with,
            same_key=same_key,
            count=count,
            page=page,
            as_json=as_json,
        )
        return
    from notagen.clamp2.feature_sets import gather, require_header
    from notagen.clamp2.searching import FeatureIndex

    opened = FeatureIndex(index)
    own = None if query is None else opened.row(query)
    report: BatchReport | None = None
    queries: list[tuple[str, Any]]
    if own is not None:
        queries = [(str(query), opened.vector(own))]
    else:
        if query is not None:
            check_inputs([Path(query)])
        needed = model or (DEFAULT_ENCODER if text is None else DEFAULT_TEXT_ENCODER)
        given = _Given().like([index])
        loaded = _loaded(needed, given, device, "fp32", texts=text is not None, tokenizer=tokenizer)
        require_header(opened.header, loaded.header, str(index), assume_same_model=assume_same_model)
        if text is not None:
            queries = [(text, loaded.text_features([text])[0])]
        else:
            features, report = gather([Path(str(query))], lambda: loaded)
            features.require(opened.header, assume_same_model=assume_same_model)
            queries = list(zip(features.names, features.vectors, strict=True))
    results = [
        {"query": name, "found": opened.search(vector, count, method=method, without=own)}
        for name, vector in queries
    ]
    lines = []
    for each in results:
        lines += [f"{each['query']}:"] * (len(results) > 1)
        lines += [f"{hit.rank:>3}  {hit.score:+.4f}  {hit.name}" for hit in each["found"]]
    _finish({"index": index, "queries": results}, as_json, lines, report)


def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILES_OR_DIRS...", help=_PIECES)],
    labels: Annotated[
        list[str], typer.Option("--labels", metavar="LABEL...", help="Two or more, such as waltz march hymn.")
    ],
    template: Annotated[
        str, typer.Option("--template", help="Text to put each label into, such as 'This is a {}.'")
    ] = "{}",
    model: ModelOption = DEFAULT_TEXT_ENCODER,
    tokenizer: TokenizerOption = None,
    preparation: PreparationOption = None,
    as_is: AsIs = False,
    drop_unit_length: DropUnitLength = None,
    assume_same_model: AssumeSameModel = False,
    device: Device = "auto",
    dtype: Precision = "fp32",
    as_json: JsonFlag = False,
) -> None:
    """Give each piece the label whose text is nearest: zero-shot, with any labels.

    The numbers are cosines, not probabilities. Exit status 3: some files could not be embedded.
    """
    check_inputs(files)
    from notagen.clamp2.feature_sets import gather, is_stored
    from notagen.clamp2.searching import classify as label_pieces
    from notagen.clamp2.searching import label_features

    options = _Given(preparation, as_is, drop_unit_length).like([path for path in files if is_stored(path)])
    loaded = _loaded(model, options, device, dtype, texts=True, tokenizer=tokenizer)
    of_labels = label_features(loaded, labels, template)
    pieces, report = gather(files, lambda: loaded)
    pieces.require(loaded.header, assume_same_model=assume_same_model)
    results = label_pieces(pieces, labels, of_labels)
    lines = [
        f"{each['name']}: {each['label']}  ({', '.join(f'{name} {s:+.4f}' for name, s in each['scores'].items())})"
        for each in results
    ]
    _finish({"labels": labels, "template": template, "pieces": results}, as_json, lines, report)


def retrieval(
    queries: Annotated[Path, typer.Argument(metavar="QUERIES", help="Scores or texts, or stored features.")],
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help="The same, of the same names.")],
    ties: Annotated[
        Literal["best", "mean"],
        typer.Option(
            help="Rank of a true match among equals: the best one, as in the original, or the mean."
        ),
    ] = "best",
    model: ModelOption = DEFAULT_ENCODER,
    tokenizer: TokenizerOption = None,
    preparation: PreparationOption = None,
    as_is: AsIs = False,
    drop_unit_length: DropUnitLength = None,
    assume_same_model: AssumeSameModel = False,
    device: Device = "auto",
    dtype: Precision = "fp32",
    as_json: JsonFlag = False,
) -> None:
    """Measure how well queries find the references of their names: mean reciprocal rank, and share in the first k.

    A text a/song.txt in one folder belongs to a/song.abc in the other. References without a query are left out. Exit
    status 3: some files could not be embedded.
    """
    check_inputs([queries, references])
    from notagen.clamp2.feature_sets import gather, is_stored
    from notagen.clamp2.scores import retrieval as measure

    stored = [path for path in (queries, references) if is_stored(path)]
    given = _Given(preparation, as_is, drop_unit_length)
    embedder = _lazily(
        lambda: _loaded(
            model,
            given.like(stored),
            device,
            dtype,
            texts=any(_has_texts(path) for path in (queries, references)),
            tokenizer=tokenizer,
        )
    )
    asked, embedded = gather([queries], embedder)
    known, prepared = gather([references], embedder)
    asked.require(known.header, assume_same_model=assume_same_model)
    result = measure(asked.vectors, asked.names, known.vectors, known.names, ties=ties).to_dict()
    lines = [f"{name:<10}  {value}" for name, value in result.items()]
    _finish(result, as_json, lines, embedded, prepared)


def convert_weights(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="M3, CLaMP 2 or 3: .pth or .safetensors, or a folder."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    music_only: Annotated[
        bool,
        typer.Option(
            "--music-only", help="Leave out the encoders of text and audio; embedding music does without."
        ),
    ] = False,
    heads: Annotated[
        int | None,
        typer.Option(min=1, help="Attention heads.", show_default="width / 64, as in released files"),
    ] = None,
    dtype: WeightType = "fp32",
) -> None:
    """Convert released weights into a model folder of safetensors, without the state of their training.

    No code of the file is run.
    """
    check_inputs([checkpoint])
    make_output_place(out, kind="folder", inputs=[checkpoint])
    from notagen.clamp2.weights import convert

    print(convert(checkpoint, out, music_only=music_only, heads=heads, half=dtype == "fp16"))


@dataclass(frozen=True)
class _Given:
    """Options of the command line that decide how files are prepared."""

    preparation: Literal["clamp2", "notagen"] | None = None
    as_is: bool = False
    drop_unit_length: bool | None = None

    def like(self, stored: Sequence[Path]) -> EmbedOptions:
        """Return the options that are given, else those of the first stored features, else the defaults."""
        from notagen.clamp2.embedder import EmbedOptions, stored_options
        from notagen.clamp2.feature_sets import read_header

        header = read_header(stored[0]) if stored else None
        like = EmbedOptions() if header is None else stored_options(header, str(stored[0]))
        return EmbedOptions(
            like.preparation if self.preparation is None else self.preparation,
            self.as_is or like.as_is,
            like.drop_unit_length if self.drop_unit_length is None else self.drop_unit_length,
        )


def _loaded(
    model: str,
    options: EmbedOptions,
    device: str,
    dtype: str,
    *,
    texts: bool = False,
    tokenizer: str | None = None,
) -> Encoder:
    from notagen.clamp2.embedder import load_embedder
    from notagen.clamp2.ngrams import NGRAMS, NgramEncoder

    if model == NGRAMS:
        return NgramEncoder(options)
    return load_embedder(
        model,
        options,
        texts=texts,
        tokenizer=tokenizer,
        device=pick_device(device),
        dtype=_number_type(dtype),
    )


def _lazily(load: Callable[[], Encoder]) -> Callable[[], Encoder]:
    """Load an encoder when it is first needed, and once."""
    loaded: list[Encoder] = []

    def embedder() -> Encoder:
        if not loaded:
            loaded.append(load())
        return loaded[0]

    return embedder


def _has_texts(path: Path) -> bool:
    from notagen.clamp2.embedder import TEXT_SUFFIXES
    from pentatonic.folder_run import find_files

    return any(each.suffix.lower() in TEXT_SUFFIXES for each in find_files([path], TEXT_SUFFIXES))


def _number_type(name: str) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def _finish(result: object, as_json: bool, lines: list[str], *reports: BatchReport | None) -> None:
    """Print what became of files that were embedded, then the result; exit status 3 if some failed."""
    done = [report for report in reports if report is not None]
    for report in done:
        if report.count("failed") or report.passed_over or any("flags" in entry for entry in report.entries):
            report.print_summary()
    show(result, as_json, lambda: lines)
    sys.stdout.flush()
    for report in done:
        report.raise_for_failures()
