"""A generation run in a folder: clips one batch after the other, each written as a whole; a stopped run continues."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pentatonic import audio as audio_files
from pentatonic.checkpoint import atomic_file
from pentatonic.checkpoint.manifest import file_sha256
from pentatonic.cli import BatchReport, Interrupted, progress, run_manifest
from pentatonic.errors import PentatonicError
from pentatonic.folder_run import OutputError, claim_folder, fingerprint, write_json
from pentatonic.processes.run_lock import locked_run_folder
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.denoising.noise import clip_seed
from rc_audioldm.generation.checks import agreement, check_settings, disagreement
from rc_audioldm.generation.finish import Finisher, ModelNote, finish_run, joints_of
from rc_audioldm.generation.generate import generate
from rc_audioldm.generation.metrics import row_of, write_metrics
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.result import Result
from rc_audioldm.generation.run_folder import (
    COPIES,
    HARDWARE,
    ITEMS,
    KNOB,
    KNOB_FILE,
    METRICS,
    PROMPTS,
    REPORT,
    RUN_CONFIG,
    STYLES,
    WAV,
    Finished,
    Journal,
    clip_file,
    config_hash,
    knob_file,
    remove_outputs,
)
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.level import gain_texts
from rc_audioldm.model import AudioLDM

_ADVICE = "choose another folder, or --overwrite"


@dataclass(frozen=True, eq=False)
class Run:
    """A run.

    Args:
        model: The model.
        note: What is known of it.
        requests: What is asked for.
        settings: How.
        out: Its folder.
        finder: Finds styles; None: there are none.
        clap: Compares clips with texts and styles; None: that of the finder.
        adapter: For the mode ``adapter``.
        adapter_note: What names the adapter and the projector, for the record.
        report: Write ``report.html``.
        overwrite: Take the folder of another run, and remove its clips.
    """

    model: AudioLDM
    note: ModelNote
    requests: Sequence[Request]
    settings: Settings
    out: Path
    finder: StyleFinder | None = None
    clap: ClapEncoder | None = None
    adapter: torch.nn.Module | None = None
    adapter_note: str = ""
    report: bool = True
    overwrite: bool = False

    @property
    def compared_by(self) -> ClapEncoder | None:
        """The CLAP model that clips are compared by."""
        return self.clap or (None if self.finder is None else self.finder.encoder)


def run_generation(run: Run) -> BatchReport:
    """Make what is not there yet, then the tables, the metrics and the report of the whole run.

    Returns:
        What became of each clip; what could not be made is named there, and has no file.

    Raises:
        UsageError: The folder belongs to a run with other settings, or a setting cannot work.
        RunFolderInUse: Another process works in the folder.
        Interrupted: Ctrl-C; the same command goes on where this one stopped.
    """
    check_settings(run.model, run.settings, run.requests, run.finder, run.compared_by, run.adapter)
    settings = _settings_of(run)
    with locked_run_folder(run.out):
        claim_folder(run.out / RUN_CONFIG, settings, advice=_ADVICE, overwrite=run.overwrite)
        if run.overwrite and _made_by_others(run.out / RUN_CONFIG, settings):
            remove_outputs(run.out)
        (run.out / WAV).mkdir(exist_ok=True)
        _describe(run, settings)
        started = time.monotonic()
        with Journal(run.out) as journal:
            try:
                report = _make(run, settings, journal)
            except Interrupted as interrupt:
                _write_tables(run, journal, interrupt.report, time.monotonic() - started)
                raise
            _write_tables(run, journal, report, time.monotonic() - started)
        report.write(run.out / REPORT)
        if run.report and report.count("done") + report.count("skipped") and (why := finish_run(run.out)):
            print(why, file=sys.stderr)
    return report


def _make(run: Run, settings: Mapping[str, Any], journal: Journal) -> BatchReport:
    report = BatchReport()
    hashes = {request.index: config_hash([settings, _request_values(request)]) for request in run.requests}
    finished: set[str] = set()
    for request in run.requests:
        for identity, _ in _names(run, request):
            if journal.has(identity, hashes[request.index]):
                finished.add(identity)
                report.skipped(_title(request, identity))

    def is_done(request: Request) -> bool:
        return all(identity in finished for identity, _ in _names(run, request))

    def on_failure(request: Request, variant: int, error: PentatonicError) -> None:
        report.failed(_title(request, _identity(request, variant)), error)

    finisher = Finisher(run.note, run.compared_by)
    inputs = [_title(request, identity) for request in run.requests for identity, _ in _names(run, request)]
    clips = generate(
        run.model,
        run.requests,
        run.settings,
        finder=run.finder,
        clap=run.clap,
        adapter=run.adapter,
        is_done=is_done,
        on_failure=on_failure,
    )
    with (
        report.interruptible(inputs, run.out / REPORT),
        progress(len(inputs) - len(finished), "clips") as bar,
        closing(clips),  # type: ignore[type-var]
    ):
        for result in clips:
            if result.id in finished:
                continue  # it was made again for the sake of the others of its batch
            title = _title(result.request, result.id)
            try:
                clip, flags = _write(run, result, hashes[result.request.index], finisher)
                journal.add(clip)
            except PentatonicError as error:
                if _disk_is_full(error):
                    raise OutputError(
                        f"{run.out}: {error}; the same command goes on from here", report
                    ) from error
                report.failed(title, error)
            else:
                report.done(
                    title, seconds=round(result.seconds_taken, 3), **({"flags": flags} if flags else {})
                )
            bar.advance(1, note=result.id)
    return report


def _write(run: Run, result: Result, config: str, finisher: Finisher) -> tuple[Finished, list[str]]:
    """Write a clip with all that belongs to it; also what is unusual about it."""
    file = clip_file(result.request.index, result.request.prompt, result.variant, run.settings.variants)
    wav = run.out / file
    audio_files.save(wav, result.audio, result.sample_rate)
    finisher.write_ledger(wav, result)
    for strength, audio in result.knob.items():
        (run.out / KNOB).mkdir(exist_ok=True)
        audio_files.save(run.out / knob_file(result.id, strength), audio, result.sample_rate)
    copies, flags = finisher.copies(result)
    flags = [*gain_texts(result.gain, result.knob_gains), *flags]
    joints = joints_of(run.model, run.settings.sampling, result.audio)
    clip = Finished(
        config=config,
        sha256=file_sha256(wav),
        record=_record(result, file) | ({} if joints is None else {"joints": joints}),
        metrics=row_of(result, file),
        style=None if result.style is None else result.style.vector.numpy(),
        vector=None if result.vector is None else result.vector.numpy(),
        knob=finisher.knob(result),
        copies=copies,
    )
    return clip, flags


def _record(result: Result, file: str) -> dict[str, Any]:
    request = result.request
    return {
        "id": result.id,
        "index": request.index,
        "variant": result.variant,
        "file": file,
        "prompt": request.prompt,
        "prompt_used": result.prompt_used,
        "words": list(result.words),
        "negative": request.negative,
        "mode": result.mode,
        "strength": result.strength,
        "reference": None if request.reference is None else request.reference.name,
        "seed": result.seed,
        "draw": result.draw,
        "gain": result.gain,
        "knob_gains": {f"{strength:g}": gain for strength, gain in result.knob_gains.items()},
        "scores": list(result.scores),
        "cos_text": result.cos_text,
        "cos_style": result.cos_style,
        "clap_text": result.clap_text,
        "clap_style": result.clap_style,
        **({} if result.causal is None else {"causal": result.causal.as_dict()}),
        "influences": [each.as_dict() for each in result.influences],
        "seconds_taken": round(result.seconds_taken, 3),
    }


def _write_tables(run: Run, journal: Journal, report: BatchReport, seconds: float) -> None:
    """Write what is said of all clips, in the order of the requests."""
    wanted = [identity for request in run.requests for identity, _ in _names(run, request)]
    made = {entry["path"].split(" ")[0] for entry in report.entries if entry["status"] in ("done", "skipped")}
    clips = [journal.clips[identity] for identity in wanted if identity in made]
    _write_lines(run.out / ITEMS, [clip.record for clip in clips])
    heard: dict[int, dict[str, Any]] = {}
    for clip in clips:
        names = ("index", "prompt", "prompt_used", "negative", "words")
        heard.setdefault(clip.record["index"], {name: clip.record[name] for name in names})
    _write_lines(run.out / PROMPTS, list(heard.values()))
    if any(clip.style is not None for clip in clips):
        width = next(len(clip.style) for clip in clips if clip.style is not None)
        none = np.zeros(width, np.float32)
        with atomic_file(run.out / STYLES) as file:
            np.save(file, np.stack([none if clip.style is None else clip.style for clip in clips]))
    for name, values in (
        (KNOB_FILE, {clip.record["id"]: clip.knob for clip in clips if clip.knob is not None}),
        (COPIES, {clip.record["id"]: clip.copies for clip in clips if clip.copies is not None}),
    ):
        if values:
            write_json(run.out / name, values)
    sampling = run.settings.sampling
    about = {
        "model": run.note.name,
        "model_licence": run.note.licence,
        "seconds": sampling.seconds,
        "steps": sampling.denoising.steps,
        "guidance": sampling.denoising.guidance.text,
        "elapsed_s": round(seconds, 3),
        "counts": report.counts,
    }
    vectors = [clip.vector for clip in clips if clip.vector is not None]
    write_metrics(run.out / METRICS, [clip.metrics for clip in clips], vectors, about)


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_file(path, "w") as file:
        for row in rows:
            file.write(f"{json.dumps(row)}\n")


def _settings_of(run: Run) -> dict[str, Any]:
    """What decides the clips: settings, models, banks and requests."""
    finder = run.finder
    weights = {
        f"{name}.{key}": value
        for name, module in run.model.modules().items()
        for key, value in module.state_dict().items()
    }
    retrieval = finder is not None
    return json.loads(
        json.dumps(
            {
                "model": fingerprint({"family": run.model.family}, weights),
                "device": run.model.device.type,
                "clap": None if run.compared_by is None else run.compared_by.header.to_json(),
                "banks": finder.identity() if retrieval else None,
                "adapter": run.adapter_note,
                **run.settings.to_json(),
                "requests": config_hash([_request_values(request) for request in run.requests])[:12],
            }
        )
    )


def _request_values(request: Request) -> dict[str, Any]:
    reference = request.reference
    known = reference is not None and reference.is_file()
    return {
        **vars(request),
        "reference": None if reference is None else reference.name,
        "reference_sha256": file_sha256(reference) if known and reference is not None else "",
    }


def _describe(run: Run, settings: Mapping[str, Any]) -> None:
    manifest = run_manifest()
    hardware = manifest.pop("hardware")
    seed, made = run.settings.sampling.seed, run.settings.made
    seeds = {
        f"{request.index:03d}": [clip_seed(seed, request.index, draw) for draw in range(made)]
        for request in run.requests
    }
    clap = run.compared_by
    alike = None if clap is None else agreement(run.model, clap)
    if run.finder is not None and (doubt := disagreement(alike, run.note.name)):
        print(doubt, file=sys.stderr)
    about = {
        **manifest,
        "model": vars(run.note) | {"family": run.model.family, "sample_rate": run.model.sample_rate},
        "clap_agreement": alike,
        "settings": settings,
        "seeds": seeds,
    }
    write_json(run.out / RUN_CONFIG, about)
    libraries = {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")}
    write_json(
        run.out / HARDWARE,
        {**hardware, "python": manifest["versions"]["python"], **libraries, "device": str(run.model.device)},
    )


def _made_by_others(path: Path, settings: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return found != settings


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _names(run: Run, request: Request) -> list[tuple[str, int]]:
    return [(_identity(request, variant), variant) for variant in range(run.settings.variants)]


def _identity(request: Request, variant: int) -> str:
    return f"{request.index:03d}_v{variant}"


def _title(request: Request, identity: str) -> str:
    """What names a clip in the report of the run."""
    return f"{identity} {request.prompt}"
