"""Annotations as one JSON document. All times are seconds from the start of the file, and ends are excluded.

::

    {
      "format": "omar-rq annotation", "version": 1,
      "file": "song.flac", "start_s": 0.0, "duration_s": 181.3,
      "beats": {"meter": "4/4", "bpm": 120.1, "confidence": 0.8, "meter_confidence": 0.7, "double": 0.1, "half": 0.0,
                "beats": [{"time": 0.37, "position": 1, "bpm": 120.0, "confidence": 0.9}, ...]},
      "chords":   [{"start": 0.0, "end": 1.9, "label": "C:maj", "confidence": 0.7}, ...],
      "key":      [{"label": "A minor", "value": 0.6}, ...],       all keys, the likeliest first
      "keys":     [{"start": 0.0, "end": 60.0, "label": "A minor", "confidence": 0.6}, ...],
      "segments": [{"start": 0.0, "end": 14.5, "label": "A", "confidence": 0.9}, ...],
      "highlight": {"start": 30.0, "end": 60.0, "likeness": 0.4},
      "tags":     [{"label": "piano", "value": 0.9}, ...],
      "notes":    ["tags: mean over 143 tokens"],
      "probes":   {"beat": {"encoder": "omar-rq-tiny", "sha256": "...", "labels": 2}}
    }

Parts that were not read are absent. ``position`` is the place in the bar from 1; ``confidence`` is 0 to 1, or null.
:mod:`omar_rq.annotations.events` says what each number means.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omar_rq.annotations.events import Annotation, Beats
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import json_text

FORMAT, VERSION = "omar-rq annotation", 1
_PARTS = ("chords", "key", "keys", "segments", "highlight", "tags")


def annotation_document(annotation: Annotation) -> dict[str, Any]:
    """Return the document as JSON values.

    Args:
        annotation: What was read from one recording.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "file": annotation.path,
        "start_s": annotation.start,
        "duration_s": annotation.duration,
    }
    values = asdict(annotation)
    if annotation.beats is not None:
        document["beats"] = _beats(annotation.beats)
    document |= {name: values[name] for name in _PARTS if values[name] is not None}
    return document | {"notes": list(annotation.notes), "probes": values["probes"]}


def write_document(annotation: Annotation, target: Path) -> None:
    """Write the document, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(target, "w") as file:
        file.write(f"{json_text(annotation_document(annotation))}\n")


def _beats(beats: Beats) -> dict[str, Any]:
    values = asdict(beats)
    return values | {"meter": None if beats.meter is None else str(beats.meter)}
