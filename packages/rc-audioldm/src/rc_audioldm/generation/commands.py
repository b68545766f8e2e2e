"""``rc-audioldm generate``. No torch until the command runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pentatonic.cli import Device, JsonFlag, check_inputs, check_output_folder, pick_device, show
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from rc_audioldm.generation.settings import Settings
    from rc_audioldm.generation.styles import StyleFinder

DEFAULT_MODEL = "rc-audioldm-tiny"
_STYLE, _MAKING, _LEGACY = "Style", "Making", "The original's modes"


def generate_command(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="What to make.", show_default=False)
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Bundled name, directory, or hub id such as cvssp/audioldm2.")
    ] = DEFAULT_MODEL,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of the model.")] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="File with a prompt on each line; .jsonl: objects with prompt, negative, strength, reference, "
            "reference_licence.",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="prompt, clap-in, augment, audio-init; AudioLDM 2 also lm-mix, lm-concat, adapter; the original's "
            "legacy-cond-residual, -cond-orth, -cond-replace, -embed (AudioLDM 1), -lm-pad, -lm-linear (AudioLDM 2).",
            show_default="clap-in with a style, else prompt",
        ),
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(help="Bank whose nearest clips are the style.", rich_help_panel=_STYLE)
    ] = None,
    auxiliary: Annotated[
        Path | None,
        typer.Option(help="Bank for prompts to which nothing in the first is near.", rich_help_panel=_STYLE),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="A clip that is the style, or whose neighbours in the bank are.", rich_help_panel=_STYLE
        ),
    ] = None,
    reference_licence: Annotated[
        str, typer.Option(help="Licence of that clip.", rich_help_panel=_STYLE)
    ] = "unknown",
    strength: Annotated[
        float,
        typer.Option(help="Of the style: 0 none of it, 1 as much as the mode can.", rich_help_panel=_STYLE),
    ] = 0.35,
    blend: Annotated[
        Literal["slerp", "linear", "add", "orth", "none"],
        typer.Option(help="How the vectors of text and style are joined.", rich_help_panel=_STYLE),
    ] = "slerp",
    style_guidance: Annotated[
        float | None,
        typer.Option(
            help="Guide towards the style by itself, after the text, so strongly.",
            show_default="style and text guide as one",
            rich_help_panel=_STYLE,
        ),
    ] = None,
    neighbours: Annotated[int, typer.Option(min=1, help="Clips in a style.", rich_help_panel=_STYLE)] = 4,
    temperature: Annotated[
        float, typer.Option(help="Of the softmax that weighs them.", rich_help_panel=_STYLE)
    ] = 0.07,
    fallback_below: Annotated[
        float, typer.Option(help="Mean similarity below which --auxiliary is used.", rich_help_panel=_STYLE)
    ] = 0.30,
    terms: Annotated[
        Literal["any", "known", "commercial", "free"],
        typer.Option(
            help="Only clips whose licence is known, allows commercial use, or asks for nothing.",
            rich_help_panel=_STYLE,
        ),
    ] = "any",
    clap: Annotated[
        str | None,
        typer.Option(
            help="CLAP model that made the bank: a directory or a hub id.",
            show_default="the one that the bank names, that of a small model, or the published one",
            rich_help_panel=_STYLE,
        ),
    ] = None,
    clap_revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch of it.", rich_help_panel=_STYLE)
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights", help="It is random: do not test its text tower.", rich_help_panel=_STYLE
        ),
    ] = False,
    adapter: Annotated[
        Path | None, typer.Option(help="Of the mode adapter: its file or run folder.", rich_help_panel=_STYLE)
    ] = None,
    projector: Annotated[
        Path | None, typer.Option(help="Map style vectors by this projector.", rich_help_panel=_STYLE)
    ] = None,
    negative: Annotated[str, typer.Option(help="What clips shall not be.", rich_help_panel=_MAKING)] = "",
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Length of each clip.",
            show_default="as in training: 10 for the published models",
            rich_help_panel=_MAKING,
        ),
    ] = None,
    preset: Annotated[
        Literal["fast", "paper"],
        typer.Option(help="fast: 25 steps of dpm++; paper: 200 of ddim.", rich_help_panel=_MAKING),
    ] = "fast",
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of denoising.", show_default="the preset's", rich_help_panel=_MAKING),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="checkpoint, ddim, dpm++, unipc, deis, euler or heun.",
            show_default="the preset's",
            rich_help_panel=_MAKING,
        ),
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="How strongly the text guides; up to 1: not.", rich_help_panel=_MAKING)
    ] = 3.0,
    seed: Annotated[int, typer.Option(help="Of all noise.", rich_help_panel=_MAKING)] = 42,
    batch_size: Annotated[int, typer.Option(help="Clips made together.", rich_help_panel=_MAKING)] = 4,
    variants: Annotated[int, typer.Option(help="Clips of each prompt.", rich_help_panel=_MAKING)] = 1,
    candidates: Annotated[
        int, typer.Option(help="Make so many of each prompt, and keep the best.", rich_help_panel=_MAKING)
    ] = 1,
    rank_by: Annotated[
        Literal["text", "style", "both"],
        typer.Option(help="What the best are nearest to, by CLAP.", rich_help_panel=_MAKING),
    ] = "text",
    knob: Annotated[
        bool,
        typer.Option(
            "--knob", help="Also make each clip at the strengths 0, 0.5 and 1.", rich_help_panel=_MAKING
        ),
    ] = False,
    causal: Annotated[
        bool,
        typer.Option(
            "--causal",
            help="Measure what each clip of a style does, by leaving it out; makes two clips more than it has.",
            rich_help_panel=_MAKING,
        ),
    ] = False,
    device: Device = "auto",
    dtype: Annotated[
        Literal["fp32", "fp16", "bf16"],
        typer.Option(help="Number type of the UNet.", rich_help_panel=_MAKING),
    ] = "fp32",
    offload: Annotated[
        bool,
        typer.Option(
            "--offload", help="Parts are on the GPU only while they compute.", rich_help_panel=_MAKING
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html.", rich_help_panel=_MAKING)
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Take the folder of another run.", rich_help_panel=_MAKING)
    ] = False,
    legacy_alpha: Annotated[
        float | None,
        typer.Option(help="Its alpha_style.", show_default="0.06, 0.08, 0.12", rich_help_panel=_LEGACY),
    ] = None,
    legacy_beta: Annotated[
        float, typer.Option(help="Its cond_mix_beta, of legacy-cond-*.", rich_help_panel=_LEGACY)
    ] = 0.18,
    legacy_blend: Annotated[
        Literal["residual", "orth", "concat", "plain"],
        typer.Option(help="Its blend_mode; of legacy-embed plain or orth.", rich_help_panel=_LEGACY),
    ] = "orth",
    legacy_select: Annotated[
        Literal["roundrobin", "random", "index"],
        typer.Option(help="Its style_select; not of legacy-embed.", rich_help_panel=_LEGACY),
    ] = "roundrobin",
    legacy_prior: Annotated[
        str,
        typer.Option(
            help="Of legacy-embed, as all that follow: its text_prior, which prompts move towards.",
            rich_help_panel=_LEGACY,
        ),
    ] = "",
    legacy_prior_weight: Annotated[
        float, typer.Option(help="Its prior_weight, 0 to 1; needs --legacy-prior.", rich_help_panel=_LEGACY)
    ] = 0.0,
    legacy_anchor_weight: Annotated[
        float,
        typer.Option(
            help="Its music_anchor_weight, 0 to 1: how far prompts move towards music without vocals.",
            rich_help_panel=_LEGACY,
        ),
    ] = 0.0,
    legacy_gate_margin: Annotated[
        float,
        typer.Option(
            help="Its style_gate_margin, 0 to 1: a style that is no nearer to the prompt is left out.",
            rich_help_panel=_LEGACY,
        ),
    ] = 0.0,
    legacy_speech_push: Annotated[
        float,
        typer.Option(
            help="Its speech_push, 0 and more: how far to move away from speech.", rich_help_panel=_LEGACY
        ),
    ] = 0.0,
    legacy_centre: Annotated[
        bool,
        typer.Option(
            "--legacy-centre",
            help="Its center_style_bank: take the mean of the bank off its rows.",
            rich_help_panel=_LEGACY,
        ),
    ] = False,
    legacy_normalise: Annotated[
        bool,
        typer.Option(
            "--legacy-normalise",
            help="Its normalize_after_blend: bring the blended vector to norm 1.",
            rich_help_panel=_LEGACY,
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make clips from prompts, and from the nearest clips of a bank or a reference; the same command goes on.

    Exit status 3: some clips could not be made; report.json and the table name each one.
    """
    given = (prompts_file, bank, auxiliary, reference, adapter, projector)
    check_inputs([path for path in given if path is not None])
    check_output_folder(out)
    if not prompts and prompts_file is None:
        raise UsageError("there is nothing to make; give a prompt, or --prompts FILE")
    for prompt in prompts or ():
        if _is_file(prompt):
            raise UsageError(f"{prompt}: is a file, which is no prompt; give a file of prompts by --prompts")
    if adapter is not None and mode != "adapter":
        raise UsageError("--adapter is heard in the mode adapter alone; add --mode adapter")
    from rc_audioldm.convert import DTYPES
    from rc_audioldm.denoising.guidance import Guidance
    from rc_audioldm.denoising.loop import PAPER, Denoising
    from rc_audioldm.denoising.sampling import sampling_for
    from rc_audioldm.generation.finish import ModelNote
    from rc_audioldm.generation.loading import load_adapter, load_clap, load_finder
    from rc_audioldm.generation.requests import Defaults, read_requests, requests_of
    from rc_audioldm.generation.run import Run, run_generation
    from rc_audioldm.generation.settings import LegacyOptions, Retrieval, Settings
    from rc_audioldm.licences import licence_name
    from rc_audioldm.weights import from_pretrained, licence_of_weights

    how = PAPER if preset == "paper" else Denoising()
    how = replace(
        how,
        scheduler=scheduler or how.scheduler,
        steps=how.steps if steps is None else steps,
        guidance=Guidance(guidance, 1.0 if style_guidance is None else style_guidance),
    )
    legacy = LegacyOptions(
        *(legacy_alpha, legacy_beta, legacy_blend, legacy_select),
        prior=legacy_prior,
        prior_weight=legacy_prior_weight,
        anchor_weight=legacy_anchor_weight,
        gate_margin=legacy_gate_margin,
        speech_push=legacy_speech_push,
        centre=legacy_centre,
        normalise=legacy_normalise,
    )
    place = pick_device(device)
    licence = licence_of_weights(model, revision)
    loaded = from_pretrained(model, revision, place, DTYPES[dtype], offload=offload)
    settings = Settings(
        mode=mode,
        sampling=sampling_for(loaded, seconds, seed=seed, denoising=how, batch_size=batch_size),
        variants=variants,
        candidates=candidates,
        rank_by=rank_by,
        blend=blend,
        second_guidance=style_guidance is not None,
        retrieval=Retrieval(neighbours, temperature, terms, fallback_below),
        legacy=legacy,
        knob=knob,
        causal=causal,
    )
    defaults = Defaults(negative, strength, reference, licence_name(reference_licence))
    requests = requests_of(prompts or [], defaults)
    if prompts_file is not None:
        requests += read_requests(prompts_file, defaults, first=len(requests))
    print(f"{model}: the licence of the weights is {licence}", file=sys.stderr)
    needs_style = bank is not None or any(each.reference is not None for each in requests)
    encoder = None
    if needs_style or settings.ranks or clap is not None:
        encoder = load_clap(clap, clap_revision, bank, place, model=model, random_weights=random_weights)
    if not needs_style and projector is not None:
        raise UsageError("--projector maps styles, and there are none; give --bank or --reference")
    finder: StyleFinder | None = None
    if needs_style:
        assert encoder is not None
        finder = load_finder(encoder, bank, auxiliary, settings.retrieval, projector)
    note = ModelNote(model if not Path(model).is_dir() else Path(model).name, revision or "", licence)
    run = Run(
        *(loaded, note, requests, settings, out),
        finder=finder,
        clap=encoder,
        adapter=None if adapter is None else load_adapter(adapter, encoder),
        adapter_note=_named(settings, adapter, projector),
        report=report,
        overwrite=overwrite,
    )
    done = run_generation(run)
    done.print_summary()
    show({"out": out, **done.document()}, as_json, lambda: [str(out)])
    done.raise_for_failures()


def _named(settings: Settings, *files: Path | None) -> str:
    """Hashes of the files of networks between style and model, which decide what is heard."""
    from rc_audioldm.adapters.adapter_files import adapter_path
    from rc_audioldm.generation.loading import file_hash

    return " ".join("none" if file is None else file_hash(adapter_path(file)) for file in files)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # longer than a path can be
        return False
