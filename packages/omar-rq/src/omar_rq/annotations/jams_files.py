"""Annotations as JAMS files, the JSON format of annotated music (extra ``jams``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omar_rq.annotations.events import Annotation, Span
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import MissingExtra
from pentatonic.provenance import distribution_version

_SPANS = {"chords": "chord", "keys": "key_mode", "segments": "segment_open"}


def write_jams(annotation: Annotation, target: Path) -> None:
    """Write one JAMS file, whole or not at all.

    Beats go to the namespaces ``beat`` (the value is the place in the bar) and ``tempo``, chords to ``chord``, keys to
    ``key_mode``, sections to ``segment_open`` and tags to ``tag_open``, with their confidence.

    Args:
        annotation: What was read from one recording.
        target: The file.

    Raises:
        MissingExtra: jams is not installed.
        CheckpointError: The file cannot be written.
    """
    try:
        import jams
    except ImportError as error:
        raise MissingExtra("JAMS files", "omar-rq[jams]") from error
    end = annotation.start + annotation.duration
    document = jams.JAMS()
    document.file_metadata.duration = end
    document.file_metadata.title = Path(annotation.path).stem

    def add(namespace: str, rows: list[tuple[float, float, Any, float | None]]) -> None:
        made = jams.Annotation(namespace=namespace)
        made.time, made.duration = annotation.start, annotation.duration  # pyright: ignore[reportAttributeAccessIssue]
        made.annotation_metadata = jams.AnnotationMetadata(
            data_source="program",
            annotation_tools="omar-rq",
            version=distribution_version("omar-rq") or "unknown",
        )
        for time, duration, value, confidence in rows:
            made.append(time=time, duration=duration, value=value, confidence=confidence)
        document.annotations.append(made)

    if (beats := annotation.beats) is not None:
        add("beat", [(beat.time, 0.0, beat.position, beat.confidence) for beat in beats.beats])
        if beats.bpm is not None:
            add("tempo", [(annotation.start, annotation.duration, beats.bpm, beats.confidence)])
    for part, namespace in _SPANS.items():
        if (spans := getattr(annotation, part)) is not None:
            add(namespace, [_row(span, part) for span in spans])
    if annotation.key and annotation.keys is None:
        best = annotation.key[0]
        add("key_mode", [_row(Span(annotation.start, end, best.label, best.value), "keys")])
    if annotation.tags is not None:
        add(
            "tag_open",
            [(annotation.start, annotation.duration, tag.label, tag.value) for tag in annotation.tags],
        )
    with atomic_file(target, "w") as file:
        file.write(f"{document.dumps(indent=2)}\n")


def _row(span: Span, part: str) -> tuple[float, float, str, float | None]:
    label = span.label.replace(" ", ":") if part == "keys" else span.label
    return span.start, span.end - span.start, label, span.confidence
