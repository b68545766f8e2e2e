"""From one recording to its annotation: what each command reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omar_rq.annotations.events import Annotation
from omar_rq.probing.saved import SavedProbe
from omar_rq.reading.beats import BeatOptions, read_beats
from omar_rq.reading.chords import CHORD_S, read_chords
from omar_rq.reading.hearing import Listener, Recording
from omar_rq.reading.key import key_of_chords, read_key, read_key_changes
from omar_rq.reading.segments import find_highlight, find_segments
from omar_rq.reading.structure import read_structure
from omar_rq.reading.tags import read_tags

LETTERS = "sections with one letter are alike; the letters do not say which is a verse or a chorus"
_ON_BEATS = "chords change on beats"


def annotate_tags(listener: Listener, path: Path) -> tuple[Recording, Annotation]:
    """Read one score for each label of the only probe."""
    heard = listener.hear(path)
    (prediction,) = heard.predictions.values()
    tags, rule = read_tags(prediction)
    return heard, _annotation(listener, heard, tags=tags, notes=[f"pooling: {rule}"])


def annotate_beats(listener: Listener, path: Path, options: BeatOptions) -> tuple[Recording, Annotation]:
    """Read beats, downbeats, meter and tempo."""
    heard = listener.hear(path)
    return heard, _annotation(listener, heard, beats=read_beats(heard.predictions["beat"], options))


def annotate_chords(
    listener: Listener, path: Path, options: BeatOptions, chord_s: float = CHORD_S
) -> tuple[Recording, Annotation]:
    """Read chords, which change on beats where there is a probe for beats."""
    heard = listener.hear(path)
    beats = read_beats(heard.predictions["beat"], options) if "beat" in heard.predictions else None
    chords = read_chords(heard.predictions["chord"], heard.end, beats=beats, chord_s=chord_s)
    return heard, _annotation(
        listener, heard, chords=chords, beats=beats, notes=[_ON_BEATS] if beats and beats.beats else []
    )


def annotate_key(listener: Listener, path: Path, *, changes: bool) -> tuple[Recording, Annotation]:
    """Read the key, and with ``changes`` how it changes."""
    heard = listener.hear(path, key_changes=changes)
    key = read_key(heard.predictions["key"])
    keys = read_key_changes(heard.predictions["key changes"], heard.end) if changes else None
    pooling = f"pooling: {heard.predictions['key'].pooling}"
    return heard, _annotation(listener, heard, key=key, keys=keys, notes=[pooling])


@dataclass(frozen=True)
class SegmentOptions:
    """What is looked for in the structure of a recording.

    Attributes:
        layer: Block of the encoder whose embeddings are compared; None: the middle one.
        count: Number of sections; None: as many as stand out.
        highlight_s: Seconds of the stretch that stands best for the recording; None: not looked for.
    """

    layer: int | None = None
    count: int | None = None
    highlight_s: float | None = None


def annotate_segments(
    listener: Listener, path: Path, options: SegmentOptions
) -> tuple[Recording, Annotation]:
    """Find sections and repeats in the embeddings; with a probe for structure, sections by its names."""
    layer = len(listener.model.trunk.blocks) // 2 if options.layer is None else options.layer
    heard, steps, step_s = listener.steps(path, layer)
    notes = []
    if probe := listener.probes.get("structure"):
        answers = listener.hear(path).predictions["structure"]
        segments, named = read_structure(answers, heard.end, count=options.count)
        notes.append(f"names by the probe: {', '.join(named)}" if named else LETTERS)
        if not named:
            edges = [segment.start for segment in segments]
            segments = find_segments(steps, step_s, heard.end, start=heard.start, edges=edges)
        notes.append(f"boundaries by the probe for {probe.task}")
    else:
        segments = find_segments(steps, step_s, heard.end, start=heard.start, count=options.count)
        notes.append(LETTERS)
    highlight = None
    if options.highlight_s is not None:
        highlight = find_highlight(steps, step_s, heard.end, start=heard.start, seconds=options.highlight_s)
        notes.append("highlight: the stretch with the highest mean likeness to the whole recording")
    return heard, _annotation(listener, heard, segments=segments, highlight=highlight, notes=notes)


def annotate_lead_sheet(listener: Listener, path: Path, options: BeatOptions) -> tuple[Recording, Annotation]:
    """Read what a lead sheet shows: beats, chords on beats, and the key, from chords where no probe names it."""
    heard = listener.hear(path, key_changes=True)
    beats = read_beats(heard.predictions["beat"], options)
    chords = read_chords(heard.predictions["chord"], heard.end, beats=beats)
    keys, notes = None, [_ON_BEATS]
    if "key" in heard.predictions:
        key = read_key(heard.predictions["key"])
        keys = read_key_changes(heard.predictions["key changes"], heard.end)
    else:
        key = key_of_chords(chords)
        notes.append("the key is that whose scale the chords fit best; no probe for keys was given")
    return heard, _annotation(listener, heard, beats=beats, chords=chords, key=key, keys=keys, notes=notes)


def _annotation(listener: Listener, heard: Recording, **parts: Any) -> Annotation:
    return Annotation(str(heard.path), heard.start, heard.duration, probes=_about(listener.probes), **parts)


def _about(probes: Mapping[str, SavedProbe]) -> dict[str, dict[str, Any]]:
    return {
        task: {
            "encoder": probe.encoder.model,
            "sha256": probe.encoder.sha256,
            "labels": len(probe.labels),
            "layer_weights": {str(layer): weight for layer, weight in probe.layer_weights.items()},
        }
        for task, probe in probes.items()
    }
