"""The offline page of a generation run, and its plots, from the run folder alone."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import run_manifest
from pentatonic.errors import MissingExtra, PentatonicError
from pentatonic.report import Report, is_embeddable
from rc_audioldm.evaluation.sounds import Sound, read_sound
from rc_audioldm.knob.dose_response import Curve, curves
from rc_audioldm.knob.log_mel import log_mel
from rc_audioldm.level import gain_text
from rc_audioldm.run_report.run_files import RunFiles, RunItem, finite, knob_sound, read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {
    "timbre": "timbre, to the reference",
    "melody": "melody, to the reference",
    "melody_any_key": "melody, to the reference in any key",
    "clap_reference": "CLAP, to the reference",
    "clap_prompt": "CLAP, to the prompt",
}
REPORT, PLOTS = "report.html", "visualizations"
DEFAULT_PLAYERS = 50
_GRID_MOST = 16


def write_run_report(folder: Path, *, players: int = DEFAULT_PLAYERS) -> Path:
    """Write ``report.html`` and ``visualizations/`` of a run.

    Args:
        folder: The run folder; see :func:`rc_audioldm.run_report.run_files.read_run`.
        players: Clips with a player and a spectrogram in the page, from the first on; tables have all.

    Returns:
        The path of the page.

    Raises:
        MissingExtra: matplotlib or jinja2 is not installed.
        FormatError: ``items.jsonl`` cannot be used.
        CheckpointError: A file cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None or importlib.util.find_spec("jinja2") is None:
        raise MissingExtra("The report of a run", "rc-audioldm[report]")
    run = read_run(folder)
    own = run_manifest()
    command = run.config.get("command")
    page = Report(
        f"Generated clips: {folder.resolve().name}",
        command=command if isinstance(command, str) else "(the run does not say it)",
        versions=_versions(run) or own["versions"],
    )
    problems = list(run.problems)
    sounds = dict(_sounds(run, problems))
    plots = Plots(folder / PLOTS)
    _add_summary(page, run)
    _add_ledger(page, run)
    _add_overview(page, run, sounds, plots)
    _add_knob(page, run, plots, problems)
    _add_copies(page, run)
    if len(run.items) > players:
        page.heading("Clips")
        page.text(f"The first {players} of {len(run.items)} clips; the others are in {folder.name}/wav.")
    for item in run.items[:players]:
        _add_item(page, run, item, sounds.get(item.id), problems)
    if problems:
        page.heading("What could not be read")
        page.text("\n\n".join(problems[:100]))
    page.listing(json.dumps(run.config, indent=2, default=str), "All settings")
    page.listing(json.dumps(run.hardware, indent=2, default=str), "Machine and libraries")
    page.write(folder / REPORT)
    return folder / REPORT


class Plots:
    """Figures of a run, kept as PNG files too.

    Args:
        folder: For the files; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, page: Report, name: str, figure: Figure, alt: str) -> None:
        """Write a figure to ``<name>.png`` and put it into the page."""
        self._folder.mkdir(exist_ok=True)
        with atomic_file(self._folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
        page.figure(figure, alt)


def _sounds(run: RunFiles, problems: list[str]) -> Iterator[tuple[str, Sound]]:
    for item in run.items:
        try:
            yield item.id, read_sound(item.path)
        except (PentatonicError, OSError) as error:
            problems.append(f"{item.id}: no sound: {error}")


def _add_summary(page: Report, run: RunFiles) -> None:
    rows = [{"what": "clips", "value": len(run.items)}]
    for name in ("model", "model_licence", "seconds", "steps", "guidance", "elapsed_s"):
        value = run.summary.get(name)
        if isinstance(value, str | int | float):
            rows.append({"what": name.replace("_", " "), "value": value})
    page.table(rows, "The run")
    means = run.summary.get("metrics")
    if isinstance(means, dict):
        table = [
            {
                "metric": str(name).replace("_", " "),
                **{key: finite(each.get(key)) for key in ("mean", "std", "clips")},
            }
            for name, each in means.items()
            if isinstance(each, dict)
        ]
        page.table(table, "Means of the clips")


def _add_ledger(page: Report, run: RunFiles) -> None:
    known = [(item, item.ledger) for item in run.items if item.ledger is not None]
    page.heading("What shaped the clips, and what may be done with them")
    if not known:
        page.text("No clip has a ledger.")
        return
    counts = Counter(found.ledger.verdict for _, found in known)
    page.text(
        "By the licences of the clips and of the model's weights (no legal advice): "
        + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        + "."
    )
    page.table(
        [
            {"clip": item.id, "verdict": found.ledger.verdict, "because": found.ledger.judgement.reason}
            for item, found in known
        ],
        "Verdicts",
    )
    sources: dict[tuple[str, str], list[float]] = {}
    for _, found in known:
        for each in found.ledger.influences:
            sources.setdefault((each.clip, each.licence), []).append(each.weight)
    rows = [
        {
            "clip of the bank": clip,
            "licence": licence,
            "in outputs": len(weights),
            "mean weight": float(np.mean(weights)),
        }
        for (clip, licence), weights in sorted(sources.items(), key=lambda each: -sum(each[1]))
    ]
    if rows:
        page.table(rows, "Clips of the bank that were used")
    lines = list(dict.fromkeys(line for _, found in known for line in found.ledger.judgement.attribution))
    if lines:
        page.listing("\n".join(lines), f"Attribution, ready to paste ({len(lines)} lines)")
    notes = list(dict.fromkeys(note for _, found in known for note in found.ledger.judgement.notes))
    if notes:
        page.text("\n\n".join(f"To observe: {note}." for note in notes))
    changed = [item.id for item, found in known if found.fits is False]
    if changed:
        page.text(
            f"The sound of {len(changed)} clips was changed after their ledger: {', '.join(changed[:10])}."
        )


def _add_overview(page: Report, run: RunFiles, sounds: Mapping[str, Sound], plots: Plots) -> None:
    from rc_audioldm.run_report import plots as draw

    page.heading("Overview")
    for name, label in (
        ("clap_text", "cosine of CLAP to the prompt"),
        ("clap_style", "cosine of CLAP to the style"),
    ):
        values = [item.numbers[name] for item in run.items if name in item.numbers]
        if values:
            plots.add(page, f"{name}_hist", draw.histogram(values, label), f"Histogram: {label}")
    loud = {
        item.id: value
        for item in run.items
        if (value := finite(item.metrics.get("loudness_lufs"))) is not None
    }
    if loud:
        figure = draw.loudness(list(loud), list(loud.values()))
        plots.add(page, "loudness", figure, "Integrated loudness of each clip")
    else:
        page.text("The loudness was not measured: it needs the extra rc-audioldm[eval].")
    shown = [item.id for item in run.items if item.id in sounds][:_GRID_MOST]
    if shown:
        mels = [log_mel(sounds[name].samples, sounds[name].sample_rate) for name in shown]
        figure = draw.spectrogram_grid(shown, mels)
        plots.add(page, "spec_grid", figure, f"Spectrograms of the first {len(shown)} clips")


def _add_knob(page: Report, run: RunFiles, plots: Plots, problems: list[str]) -> None:
    if not run.knob:
        return
    from rc_audioldm.run_report import plots as draw

    page.heading("What the strength of the style does")
    try:
        found = curves(list(run.knob.values()))
    except PentatonicError as error:
        problems.append(f"knob.json: {error}")
        return
    page.text(
        "The same noise at each strength. It works if the likeness to the reference rises; that to the prompt may "
        "fall. Timbre is the spectral envelope, melody the sequence of pitch classes; intervals are over clips."
    )
    page.text("\n\n".join(f"{_words(curve.measure)}: {curve.verdict}." for curve in found))
    page.table([_curve_row(curve) for curve in found], "Means over clips [95 % interval]")
    if found:
        plots.add(
            page,
            "knob",
            draw.knob_curves(found, [_words(curve.measure).replace(" in any", ",\nany") for curve in found]),
            "Likeness over the strength of the style",
        )


def _curve_row(curve: Curve) -> dict[str, Any]:
    means = zip(curve.strengths, curve.means, strict=True)
    return {
        "measure": _words(curve.measure),
        "clips": curve.items,
        **{f"at {strength:g}": _estimate(mean) for strength, mean in means},
        "share that never turns": curve.monotone_items,
    }


def _words(measure: str) -> str:
    return MEASURES.get(measure, measure)


def _estimate(value: Any) -> str:
    return f"{value.value:.3f}" if np.isnan(value.low) else str(value)


def _add_copies(page: Report, run: RunFiles) -> None:
    if not run.copies:
        page.heading("Copies")
        page.text("The clips were not compared with their sources: there is no copies.json.")
        return
    from rc_audioldm.knob.copies import SPECTRUM_THRESHOLD, WAVEFORM_THRESHOLD

    rows = [
        {"clip": name, **_match_row(match)}
        for name, matches in run.copies.items()
        for place, match in enumerate(matches)
        if place == 0 or match.get("is_copy")
    ]
    copies = sum(any(match.get("is_copy") for match in matches) for matches in run.copies.values())
    page.heading("Copies")
    page.text(
        f"{copies} of {len(run.copies)} clips hold a copy of a piece of what they were made from. A copy is a window "
        f"of 2 s whose waveform correlates by {WAVEFORM_THRESHOLD:g} or more, or whose spectrum by "
        f"{SPECTRUM_THRESHOLD:g} or more, with a place of a source. Held tones are not judged."
    )
    page.table(rows, "The most alike source of each clip, and all that it copies")


def _match_row(match: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": str(match.get("clip", ""))[:200],
        "copy": "yes" if match.get("is_copy") else "no",
        "waveform": finite(match.get("waveform")),
        "spectrum": finite(match.get("spectrum")),
        "at s": _hundredths(match.get("output_s")),
        "in source at s": _hundredths(match.get("clip_s")),
        "copied s": _hundredths(match.get("seconds")),
        "judged": finite(match.get("judged")),
    }


def _add_item(page: Report, run: RunFiles, item: RunItem, sound: Sound | None, problems: list[str]) -> None:
    from rc_audioldm.run_report import plots as draw

    prompt = item.texts["prompt"]
    page.heading(f"{item.id}: {prompt}" if prompt else item.id)
    if sound is not None:
        _add_player(page, item.path, item.id, problems)
        figure = draw.spectrogram(sound.samples, sound.sample_rate)
        page.figure(figure, f"Waveform and spectrogram of {item.id}")
    for dose in run.knob[item.id].doses if item.id in run.knob else ():
        path = knob_sound(run, item.id, dose.strength)
        if path is not None:
            _add_player(page, path, f"{item.id} at strength {dose.strength:g}", problems)
    values = {name.replace("_", " "): text for name, text in item.texts.items() if text and name != "prompt"}
    numbers = dict(item.numbers)
    gain = numbers.pop("gain", 1.0)
    values |= {name.replace("_", " "): _number(number) for name, number in numbers.items()}
    if 0 < gain < 1:
        values["level"] = gain_text(gain)
    if item.ledger is not None:
        values["verdict"] = f"{item.ledger.ledger.verdict}: {item.ledger.ledger.judgement.reason}"
    page.table([{"what": name, "value": value} for name, value in values.items()], "How it was made")
    rows = [] if item.ledger is None else _influence_rows(item.ledger.ledger.influences)
    if rows:
        page.table(rows, "What shaped it")
    if item.id in run.knob:
        doses = [vars(dose) for dose in run.knob[item.id].doses]
        page.table([{key.replace("_", " "): each[key] for key in each} for each in doses], "The knob")
    if item.joints:
        names = ("time_s", "flux_db", "flux_rank", "change_db", "change_rank")
        joints = [{name.replace("_", " "): finite(each.get(name)) for name in names} for each in item.joints]
        page.table(joints, "Joints of windows; a rank of 1 is more change than anywhere else in the clip")


def _influence_rows(influences: Sequence[Any]) -> list[dict[str, Any]]:
    measured = any(each.effect is not None for each in influences)
    return [
        {
            "clip": each.clip,
            "role": each.role,
            "weight": each.weight,
            "similarity": each.similarity,
            **({"measured effect": each.effect, "place": each.effect_rank} if measured else {}),
            "licence": each.licence,
            "source": each.source or None,
        }
        for each in influences
    ]


def _add_player(page: Report, path: Path, label: str, problems: list[str]) -> None:
    try:
        if is_embeddable(path):
            page.audio(path, label)
        else:
            sound = read_sound(path)
            page.audio(sound.samples, label, sample_rate=sound.sample_rate)
    except (PentatonicError, OSError) as error:  # too large for a page
        problems.append(f"{label}: no player: {error}")


def _hundredths(value: object) -> float | None:
    number = finite(value)
    return None if number is None else round(number, 2)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.4g}"


def _versions(run: RunFiles) -> dict[str, str]:
    versions = run.config.get("versions")
    return {str(name): str(each) for name, each in versions.items()} if isinstance(versions, dict) else {}
