"""Many recordings, one after the other: what each command reads, its text, and its files.

A recording that cannot be used is named in the report, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omar_rq.annotations.document import annotation_document, write_document
from omar_rq.annotations.events import Annotation
from omar_rq.annotations.lab import write_beats, write_lab
from omar_rq.reading.hearing import Listener, Recording
from omar_rq.signals import LayerIndexError
from pentatonic import audio
from pentatonic.audio_folder.npz import find_audio
from pentatonic.audio_folder.reading import ReadOptions, Stream
from pentatonic.cli import BatchReport, emit_json
from pentatonic.errors import InputError, UsageError
from pentatonic.folder_run import mirrored, without_suffixes
from pentatonic.progress import one_line, progress

Read = Callable[[Listener, Path], tuple[Recording, Annotation]]
Lines = Callable[[Annotation], Sequence[str]]
Further = Callable[[Path, Annotation], Sequence[str]]

_LABS = {"chords": "chords", "keys": "key", "segments": "segments"}


@dataclass(frozen=True)
class Outputs:
    """Which files are written for each recording.

    Attributes:
        folder: Where; None: nothing is written.
        verb: Part of the names: ``song.chords.json``.
        jams: Also JAMS.
        lab: Also ``.lab``, or ``.beats``.
        picture: Also a picture: ``svg``, ``png`` or None.
    """

    folder: Path | None
    verb: str
    jams: bool = False
    lab: bool = False
    picture: str | None = None

    def write(self, place: Path, annotation: Annotation, recording: Recording) -> list[str]:
        """Write the files of one recording.

        Args:
            place: Without a suffix, below the folder.
            annotation: What was read.
            recording: What was heard.

        Returns:
            Their paths.

        Raises:
            MissingExtra: A format needs an extra that is not installed.
            CheckpointError: A file cannot be written.
        """
        if self.folder is None:
            return []
        base = self.folder / place
        base.parent.mkdir(parents=True, exist_ok=True)

        def named(ending: str) -> Path:
            return base.with_name(f"{base.name}.{ending}")

        written = [named(f"{self.verb}.json")]
        write_document(annotation, written[0])
        if self.jams:
            from omar_rq.annotations.jams_files import write_jams

            written.append(named(f"{self.verb}.jams"))
            write_jams(annotation, written[-1])
        if self.lab:
            if annotation.beats is not None:
                written.append(named("beats"))
                write_beats(annotation.beats, written[-1])
            for part, name in _LABS.items():
                if (spans := getattr(annotation, part)) is not None:
                    written.append(named(f"{name}.lab"))
                    write_lab(spans, written[-1])
        if self.picture:
            from omar_rq.annotations.picture import write_picture

            written.append(named(f"{self.verb}.{self.picture}"))
            write_picture(annotation, written[-1], recording.envelope)
        return list(map(str, written))


def read_all(
    inputs: Sequence[Path],
    listener: Callable[[Stream], Listener],
    read: Read,
    lines: Lines,
    outputs: Outputs,
    *,
    as_json: bool,
    further: Further | None = None,
) -> BatchReport:
    """Read recordings, print what was read, and write files.

    Args:
        inputs: Files and folders.
        listener: Makes the listener, given what decodes files.
        read: Reads one recording.
        lines: What is printed of it.
        outputs: Which files are written.
        as_json: Print one JSON document with all annotations in place of the lines.
        further: What is done with a recording at last, and further lines to print.

    Returns:
        What became of each recording.

    Raises:
        UsageError: There are no audio files.
    """
    files = find_audio(inputs)
    places = without_suffixes(mirrored(inputs, files.files))
    report = BatchReport()
    report.passed_over = files.passed_over
    documents: list[dict[str, Any]] = []
    with audio.DecodingProcess() as decoder, report.interruptible(files.files):
        ears = listener(decoder.stream)
        for path in progress(files.files, "reading"):
            with _reported(report, path):
                recording, annotation = read(ears, path)
                written = outputs.write(Path(places[path]), annotation, recording)
                said = further(path, annotation) if further else []
                if as_json:
                    documents.append(annotation_document(annotation))
                else:
                    print("\n".join(map(one_line, [*lines(annotation), *said])))
                report.done(path, outputs=written, flags=recording.flags)
    if as_json:
        emit_json(documents)
    return report


@contextmanager
def _reported(report: BatchReport, path: Path) -> Iterator[None]:
    try:
        yield
    except LayerIndexError as error:
        raise UsageError(f"--layer: {error}") from error
    except InputError as error:
        report.failed(path, error)


def listening(model: str, device: str, probes: Any, reading: ReadOptions) -> Callable[[Stream], Listener]:
    """Load an encoder, and say how to hear recordings with it."""
    from omar_rq.weights import from_pretrained
    from pentatonic.cli import pick_device

    loaded = from_pretrained(model, device=pick_device(device))
    return lambda stream: Listener(loaded, probes, stream, reading)
