"""The verbs ``tag``, ``chords``, ``beats``, ``key``, ``segments`` and ``leadsheet``. Nothing slow until one runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pentatonic.audio_folder.options import (
    MAX_CHANNELS,
    MAX_DURATION_S,
    Duration,
    Inputs,
    MaxChannels,
    MaxDuration,
    NonFinite,
    Start,
    reading_options,
)
from pentatonic.cli import Device, JsonFlag, check_inputs, check_output_folder
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from omar_rq.annotations.events import Annotation
    from omar_rq.reading.batch import Further, Lines, Read
    from omar_rq.reading.beats import BeatOptions

Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        metavar="FOLDER",
        help="A saved probe: its folder, or the name of one that the package ships; once for each task.",
        show_default=False,
    ),
]
EncoderModel = Annotated[
    str | None,
    typer.Option("--model", help="The encoder: as info takes it.", show_default="that of the probe"),
]
OutPlace = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for a .json of each file, and for what the options below add."),
]
Jams = Annotated[bool, typer.Option("--jams", help="Also write JAMS into --out.")]
Lab = Annotated[bool, typer.Option("--lab", help="Also write .lab into --out; of beats .beats.")]
Picture = Annotated[
    Literal["svg", "png"] | None,
    typer.Option("--picture", metavar="svg|png", help="Also draw a picture into --out.", show_default=False),
]
BpmRange = Annotated[
    str, typer.Option("--bpm-range", metavar="LOW:HIGH", help="Allowed tempi; one number: about this tempo.")
]
MeterChoice = Annotated[
    str,
    typer.Option("--meter", help="Allowed meters: beats of a bar such as 3,4, or meters such as 3/4,6/8."),
]
Prior = Annotated[
    str, typer.Option("--prior", help="Preferred tempo, from which others differ at a price; or none.")
]
ChordSeconds = Annotated[
    float, typer.Option("--chord-seconds", help="Usual length of a chord, where there are no beats.")
]
_TAG_TASKS = ("tagging", "genre", "instrument", "emotion", "difficulty", "pitch")
_BPM_RANGE, _METERS, _PRIOR = "55:215", "3,4,6", "120"


def add_reading_commands(app: typer.Typer) -> None:
    """Add the verbs to a command line."""
    for verb in (tag, chords, beats, key, segments, leadsheet):
        app.command()(verb)


def tag(
    inputs: Inputs,
    probe: Probes = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write the likeliest labels into the files; a backup of each is kept."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --write: only say what would be written.")
    ] = False,
    field: Annotated[
        Literal["genre", "mood", "comment"], typer.Option(help="With --write: the tag that is set.")
    ] = "comment",
    threshold: Annotated[
        float, typer.Option(help="With --write: write labels that are at least as likely.")
    ] = 0.5,
    most: Annotated[int, typer.Option("--most", min=1, help="With --write: write at most so many.")] = 5,
    model: EncoderModel = None,
    device: Device = "auto",
    out: OutPlace = None,
    jams: Jams = False,
    picture: Picture = None,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Print one score for each label of a probe, such as tags, genres or instruments.

    Exit status 3: some files could not be read or written; each one is named.
    """
    if dry_run and not write:
        raise UsageError("--dry-run goes with --write")
    _check(inputs, out, jams, False, picture)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.annotations.texts import tag_lines
    from omar_rq.reading.annotate import annotate_tags
    from omar_rq.reading.saved_probes import load_probes

    if len(probe or ()) != 1:
        raise UsageError("--probe is needed once; allowed: one probe, since each has its own labels")
    probes = load_probes(probe or (), _TAG_TASKS, ())
    if write and next(iter(probes.values())).outputs == "regression":
        raise UsageError("--write needs a probe for labels; this one gives values")
    run = partial(_run, inputs, probes, model, device, reading, annotate_tags, tag_lines, as_json)
    outputs = (out, "tags", jams, False, picture)
    if not write:
        run(outputs)
        return
    from omar_rq.annotations.tag_writing import TagWriter
    from pentatonic.audio import DecodingProcess

    with DecodingProcess() as decoder, TagWriter(decoder.stream) as writer:

        def write_tags(path: Path, annotation: Annotation) -> Sequence[str]:
            chosen = [each.label for each in annotation.tags or () if each.value >= threshold][:most]
            if not chosen:
                return [f"  nothing to write: no label reaches {threshold:g}"]
            done = writer.write(path, field, "; ".join(chosen), dry_run=dry_run)
            kept = f"  (backup: {done.backup})" if done.backup else ""
            before = "none" if done.before is None else repr(done.before)
            return [f"  {'would write' if dry_run else 'wrote'} {field}: {before} -> {done.after!r}{kept}"]

        run(outputs, write_tags)


def chords(
    inputs: Inputs,
    probe: Probes = None,
    chord_seconds: ChordSeconds = 2.0,
    bpm_range: BpmRange = _BPM_RANGE,
    meter: MeterChoice = _METERS,
    prior: Prior = _PRIOR,
    model: EncoderModel = None,
    device: Device = "auto",
    out: OutPlace = None,
    jams: Jams = False,
    lab: Lab = False,
    picture: Picture = None,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Print chords with their times; with a second --probe, for beats, they change on beats.

    Exit status 3: some files could not be read; each one is named.
    """
    options = _beat_options(bpm_range, meter, prior)
    _check(inputs, out, jams, lab, picture)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.annotations.texts import chord_lines
    from omar_rq.reading.annotate import annotate_chords
    from omar_rq.reading.saved_probes import load_probes

    probes = load_probes(probe or (), ("chord", "beat"), ("chord",))
    read = partial(annotate_chords, options=options, chord_s=chord_seconds)
    _run(
        inputs,
        probes,
        model,
        device,
        reading,
        read,
        chord_lines,
        as_json,
        (out, "chords", jams, lab, picture),
    )


def beats(
    inputs: Inputs,
    probe: Probes = None,
    bpm_range: BpmRange = _BPM_RANGE,
    meter: MeterChoice = _METERS,
    prior: Prior = _PRIOR,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Known beats to compare with: a .beats file, or a folder with one of the same name for each "
            "recording. Prints F, CMLt, AMLt, Acc1 (tempo within 4 %) and Acc2 (also half, double, a third, triple).",
        ),
    ] = None,
    model: EncoderModel = None,
    device: Device = "auto",
    out: OutPlace = None,
    jams: Jams = False,
    lab: Lab = False,
    picture: Picture = None,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Print beats with their places in the bar, the meter, the tempo curve, and how sure all of it is.

    Exit status 3: some files could not be read; each one is named.
    """
    options = _beat_options(bpm_range, meter, prior)
    _check(inputs, out, jams, lab, picture)
    if reference is not None:
        check_inputs([reference])
        if as_json:
            raise UsageError("--reference prints lines; allowed: without --json")
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.annotations.texts import beat_lines
    from omar_rq.reading.annotate import annotate_beats
    from omar_rq.reading.saved_probes import load_probes

    probes = load_probes(probe or (), ("beat",), ("beat",))
    read = partial(annotate_beats, options=options)
    outputs = (out, "beats", jams, lab, picture)
    run = partial(_run, inputs, probes, model, device, reading, read, beat_lines, as_json, outputs)
    if reference is None:
        run()
        return
    from omar_rq.reading.beat_scores import BeatComparison

    comparison = BeatComparison(reference)
    try:
        run(comparison.lines)
    finally:
        print("\n".join(comparison.summary()))


def key(
    inputs: Inputs,
    probe: Probes = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="Also say how the key changes, from windows of 20 s.")
    ] = False,
    model: EncoderModel = None,
    device: Device = "auto",
    out: OutPlace = None,
    jams: Jams = False,
    lab: Lab = False,
    picture: Picture = None,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Print the likeliest keys with their probabilities; with --changes, --lab or --picture also keys over time.

    Exit status 3: some files could not be read; each one is named.
    """
    _check(inputs, out, jams, lab, picture)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.annotations.texts import key_lines
    from omar_rq.reading.annotate import annotate_key
    from omar_rq.reading.saved_probes import load_probes

    probes = load_probes(probe or (), ("key",), ("key",))
    read = partial(annotate_key, changes=changes or lab or picture is not None)
    _run(inputs, probes, model, device, reading, read, key_lines, as_json, (out, "key", jams, lab, picture))


def segments(
    inputs: Inputs,
    probe: Probes = None,
    count: Annotated[
        int | None,
        typer.Option("--segments", min=1, help="How many sections.", show_default="that stand out"),
    ] = None,
    highlight: Annotated[
        float | None,
        typer.Option(
            help="Also find the stretch of so many seconds that is most like the whole recording.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(help="Block whose embeddings are compared, from 0.", show_default="the middle one"),
    ] = None,
    model: EncoderModel = None,
    device: Device = "auto",
    out: OutPlace = None,
    jams: Jams = False,
    lab: Lab = False,
    picture: Picture = None,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Print sections and which of them repeat: A, B, A. Needs no probe.

    The letters say what is alike, not what is a verse or a chorus: such names come only from a --probe that was trained
    on them. Exit status 3: some files could not be read; each one is named.
    """
    if highlight is not None and not 0 < highlight < float("inf"):
        raise UsageError(f"--highlight is {highlight:g}; allowed: seconds above 0")
    _check(inputs, out, jams, lab, picture)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.annotations.texts import segment_lines
    from omar_rq.command_options import DEFAULT_MODEL
    from omar_rq.reading.annotate import SegmentOptions, annotate_segments
    from omar_rq.reading.saved_probes import load_probes

    probes = load_probes(probe or (), ("structure",), ())
    read = partial(annotate_segments, options=SegmentOptions(layer, count, highlight))
    encoder = model or (None if probes else DEFAULT_MODEL)
    _run(
        inputs,
        probes,
        encoder,
        device,
        reading,
        read,
        segment_lines,
        as_json,
        (out, "segments", jams, lab, picture),
    )


def leadsheet(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", help="The .abc file of one recording, or a folder.")],
    probe: Probes = None,
    bpm_range: BpmRange = _BPM_RANGE,
    meter: MeterChoice = _METERS,
    prior: Prior = _PRIOR,
    model: EncoderModel = None,
    device: Device = "auto",
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Write a lead sheet in ABC: meter, tempo, key, and chord symbols over rests, in bars that add up.

    Takes a --probe for beats, one for chords, and one for keys, without which the chords decide about the key. What
    the probes hear can be wrong: each line has the second that it stands for, to be checked by ear. Exit status 3:
    some files could not be read, or have no beats; each one is named.
    """
    options = _beat_options(bpm_range, meter, prior)
    check_inputs(inputs)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.annotations.texts import lead_sheet_lines
    from omar_rq.reading.annotate import annotate_lead_sheet
    from omar_rq.reading.lead_sheet_files import LeadSheetFiles
    from omar_rq.reading.saved_probes import load_probes

    files = LeadSheetFiles(inputs, out)
    probes = load_probes(probe or (), ("beat", "chord", "key"), ("beat", "chord"))
    read = partial(annotate_lead_sheet, options=options)
    outputs = (None, "leadsheet", False, False, None)
    _run(inputs, probes, model, device, reading, read, lead_sheet_lines, as_json, outputs, files.write)


def _check(inputs: Sequence[Path], out: Path | None, jams: bool, lab: bool, picture: str | None) -> None:
    check_inputs(inputs)
    if out is not None:
        check_output_folder(out)
    elif jams or lab or picture:
        option = "--jams" if jams else "--lab" if lab else "--picture"
        raise UsageError(f"{option} needs --out, the folder that it is written into")


def _beat_options(bpm_range: str, meter: str, prior: str) -> BeatOptions:
    from omar_rq.reading.bar_pointer import Tempi
    from omar_rq.reading.beats import BeatOptions, parse_bpm_range, parse_meters

    try:
        preferred = None if prior == "none" else float(prior)
    except ValueError:
        raise UsageError(f"--prior is {prior!r}; allowed: a tempo such as 120, or none") from None
    try:
        slowest, fastest = parse_bpm_range(bpm_range)
        return BeatOptions(Tempi(slowest, fastest, preferred), parse_meters(meter))
    except UsageError as error:
        raise UsageError(f"--{error}") from error


def _run(
    inputs: Sequence[Path],
    probes: Any,
    model: str | None,
    device: str,
    reading: Any,
    read: Read,
    lines: Lines,
    as_json: bool,
    outputs: tuple[Path | None, str, bool, bool, str | None],
    further: Further | Callable[..., Any] | None = None,
) -> None:
    from omar_rq.reading.batch import Outputs, listening, read_all

    encoder = model or next(iter(probes.values())).encoder.model
    listener = listening(encoder, device, probes, reading)
    report = read_all(inputs, listener, read, lines, Outputs(*outputs), as_json=as_json, further=further)
    report.print_summary()
    report.raise_for_failures()
