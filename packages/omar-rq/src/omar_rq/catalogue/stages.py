"""The three stages of a catalogue run: plain functions, which the run on one machine and the one on Ray both call.

:func:`read_block` decodes a block of recordings, :func:`compute_block` embeds them, and :func:`write_block` writes one
part of the data set. :func:`packed` and :func:`unpacked` turn what was read into plain arrays and back, so that it can
travel between machines.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omar_rq.catalogue.parts import part_name, write_part
from omar_rq.catalogue.sources import Recording, on_this_machine
from omar_rq.catalogue.storage import Storage
from omar_rq.files.stages import EmbeddingOptions, compute_embeddings, pass_s
from omar_rq.model import OmarRQ
from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem, decode_ahead
from pentatonic.audio_folder.npz import NpzContent
from pentatonic.audio_folder.reading import MeasuredBlocks, ReadOptions, open_audio
from pentatonic.cli import BatchReport
from pentatonic.errors import AudioError, PentatonicError
from pentatonic.pipeline import WarningsByThread

# Recordings up to this length are decoded by the first stage; the second one reads longer ones piece by piece.
MOST_DECODED_S = 1800.0
# Most recordings of a block.
_MOST_FILES = 1024
_ERRORS = (PentatonicError, OSError)


def plan_blocks(recordings: Sequence[Recording], minutes: float) -> list[list[Recording]]:
    """Group recordings into blocks: consecutive ones of about so many minutes of music together.

    The plan depends on the list alone, so that a run that is made again has the same blocks.

    Args:
        recordings: All of them, in order.
        minutes: Of music in a block, guessed from the sizes of the files.
    """
    blocks: list[list[Recording]] = []
    filled = 0.0
    for recording in recordings:
        if not blocks or filled + recording.minutes > minutes or len(blocks[-1]) == _MOST_FILES:
            blocks.append([])
            filled = 0.0
        blocks[-1].append(recording)
        filled += recording.minutes
    return blocks


@dataclass(frozen=True)
class ReadFile:
    """A recording after the first stage.

    Args:
        recording: Which one.
        item: Its samples; None where it failed, or is too long to be decoded at once.
        failure: What the report says of a failure.
        warnings: What was noted about it.
    """

    recording: Recording
    item: AudioItem | None = None
    failure: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Work:
    """What all blocks of a run have in common; it travels to other machines.

    Args:
        out: The folder of the parts.
        settings: What decides the embeddings, as the parts store it.
        options: Of the computation.
        reading: Which part of each recording is read, and up to which limits.
        strict: Damaged audio is an error.
        sample_rate: Of the model, in Hz.
    """

    out: Storage
    settings: Mapping[str, Any]
    options: EmbeddingOptions
    reading: ReadOptions
    strict: bool
    sample_rate: int


@dataclass
class Computed:
    """A block after the second stage: the embeddings of its good recordings, and what the report says of each."""

    recordings: Sequence[Recording]
    contents: list[tuple[Recording, NpzContent]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)


# First stage


def read_block(
    block: Sequence[Recording],
    work: Work,
    decoder: audio.DecodingProcess,
    caught: WarningsByThread,
    model: OmarRQ | None = None,
) -> list[ReadFile]:
    """Decode a block of recordings; the first stage.

    Args:
        block: The recordings.
        work: The run.
        decoder: Decodes them; nobody else uses it meanwhile.
        caught: Collects warnings.
        model: Refuses recordings that are too short already here; else the second stage does.

    Returns:
        What was read, in the order of the block.
    """
    read = []
    for recording in block:
        texts: list[str] = []
        with caught.into(texts):
            one = _read(recording, work, decoder, model)
        read.append(replace(one, warnings=texts))
    return read


def _read(recording: Recording, work: Work, decoder: audio.DecodingProcess, model: OmarRQ | None) -> ReadFile:
    ahead_s = pass_s(work.options.context_s)
    check = {} if model is None else {"check": model.frontend.check}
    try:
        with on_this_machine(recording) as path, _named_as(recording, path):
            item = _opened(recording, path, work, decoder)
            item = decode_ahead(item, sample_rate=work.sample_rate, seconds=ahead_s, **check)
            if item.whole:
                return ReadFile(recording, item)
            start = list(item.start)
            n_samples, most = item.n_decoded, MOST_DECODED_S * work.sample_rate
            for more in item.blocks:
                start.append(more)
                n_samples += len(more)
                if n_samples > most:
                    item.close()
                    return ReadFile(recording)
            return ReadFile(recording, replace(item, start=start))
    except _ERRORS as error:
        return ReadFile(recording, failure=failure_entry(recording, error))


def _opened(recording: Recording, path: Path, work: Work, decoder: audio.DecodingProcess) -> AudioItem:
    if recording.bytes < 0:
        path.stat()  # raises what the search met
    blocks = open_audio(
        path, stream=decoder.stream, sample_rate=work.sample_rate, strict=work.strict, reading=work.reading
    )
    return AudioItem(Path(recording.source), "", blocks, work.reading.start_s)


@contextmanager
def _named_as(recording: Recording, path: Path) -> Iterator[None]:
    """Name a recording in errors about its copy."""
    try:
        yield
    except AudioError as error:
        if str(error.path) == str(path):
            error.path, error.args = recording.source, (f"{recording.source}: {error.reason}",)
        raise


def failure_entry(recording: Recording, error: BaseException) -> dict[str, Any]:
    """What the report says about a recording that failed."""
    report = BatchReport()
    report.failed(recording.source, error)
    return report.entries[0]


# Between the stages


def packed(read: Sequence[ReadFile]) -> dict[str, Any]:
    """Return what was read as plain values: JSON text, and all samples in one array.

    Args:
        read: From :func:`read_block`.

    Returns:
        ``files``, JSON text, and ``samples`` (n,) float32.
    """
    files, samples = [], [np.zeros(0, np.float32)]
    for each in read:
        about: dict[str, Any] = {"failure": each.failure, "warnings": list(each.warnings)}
        if (item := each.item) is not None:
            samples += [block.numpy() for block in item.start]
            about["item"] = {
                "lengths": [len(block) for block in item.start],
                "whole": item.whole,
                "peak": item.blocks.peak,
                "n_samples": item.blocks.n_samples,
            }
        files.append(about)
    return {"files": json.dumps(files), "samples": np.concatenate(samples)}


def unpacked(block: Sequence[Recording], parcel: Mapping[str, Any], work: Work) -> list[ReadFile]:
    """Return what :func:`packed` was given.

    Args:
        block: The recordings.
        parcel: Their parcel.
        work: The run.
    """
    samples = torch.from_numpy(np.array(parcel["samples"], np.float32))  # a copy that may be written
    read, at = [], 0
    for recording, about in zip(block, json.loads(parcel["files"]), strict=True):
        item = None
        if (stored := about.get("item")) is not None:
            measured = MeasuredBlocks((), work.sample_rate, Path(recording.source).name)
            measured.peak, measured.n_samples = stored["peak"], stored["n_samples"]
            start = []
            for length in stored["lengths"]:
                start.append(samples[at : at + length])
                at += length
            item = AudioItem(
                Path(recording.source), "", measured, work.reading.start_s, start, stored["whole"]
            )
        read.append(ReadFile(recording, item, about["failure"], about["warnings"]))
    return read


# Second stage


def compute_block(
    read: Sequence[ReadFile],
    work: Work,
    model: OmarRQ,
    decoder: audio.DecodingProcess,
    caught: WarningsByThread,
    scratch: Path,
) -> Computed:
    """Embed what was read; the second stage. A recording that fails does not affect the others.

    Args:
        read: A block.
        work: The run.
        model: In evaluation mode.
        decoder: Decodes recordings that are too long for the first stage; nobody else uses it meanwhile.
        caught: Collects warnings.
        scratch: Where large embeddings wait on disk.
    """
    computed = Computed([each.recording for each in read])
    whole = [each for each in read if each.item is not None and each.item.whole]
    texts: dict[str, list[str]] = {each.recording.place: list(each.warnings) for each in read}
    made = dict(_together(whole, work, model, scratch, caught, texts))
    for each in read:
        place = each.recording.place
        if each.failure is None and place not in made:
            with caught.into(texts[place]):
                made[place] = _alone(each, work, model, decoder, scratch)
    for each in read:
        result = made.get(each.recording.place, each.failure)
        if not isinstance(result, NpzContent):
            assert result is not None
            computed.entries.append(dict(result))
            continue
        computed.contents.append((each.recording, result))
        entry = {"status": "done", "path": each.recording.source, **result.about}
        if notes := texts[each.recording.place]:
            prefix = f"{each.recording.source}: "
            entry["warnings"] = [note.removeprefix(prefix) for note in notes]
        computed.entries.append(entry)
    return computed


_Outcome = NpzContent | dict[str, Any]


def _together(
    files: Sequence[ReadFile],
    work: Work,
    model: OmarRQ,
    scratch: Path,
    caught: WarningsByThread,
    texts: Mapping[str, list[str]],
) -> Iterator[tuple[str, _Outcome]]:
    """Yield (place, outcome) of recordings that are decoded whole; one that fails is left out with its group."""
    if not files:
        return
    items = [each.item for each in files if each.item is not None]
    noted: list[str] = []
    try:
        with caught.into(noted):
            contents = compute_embeddings(items, model=model, options=work.options, folder=scratch)
    except _ERRORS:
        return  # each is computed alone
    for each, content in zip(files, contents, strict=True):
        own = f"{each.recording.source}: "
        texts[each.recording.place].extend(text for text in noted if text.startswith(own))
        yield each.recording.place, content


def _alone(
    each: ReadFile, work: Work, model: OmarRQ, decoder: audio.DecodingProcess, scratch: Path
) -> _Outcome:
    """Embed one recording, or say why not."""
    try:
        with ExitStack() as stack:
            item = each.item
            if item is None:
                path = stack.enter_context(on_this_machine(each.recording))
                stack.enter_context(_named_as(each.recording, path))
                item = decode_ahead(
                    _opened(each.recording, path, work, decoder),
                    sample_rate=work.sample_rate,
                    seconds=pass_s(work.options.context_s),
                )
            (content,) = compute_embeddings([item], model=model, options=work.options, folder=scratch)
            return content
    except _ERRORS as error:
        return failure_entry(each.recording, error)


# Third stage


def write_block(computed: Computed, work: Work) -> list[dict[str, Any]]:
    """Write the part of a block; the last stage.

    Returns:
        What the report says of each recording, in the order of the block.

    Raises:
        CheckpointError, OutputError: It cannot be written.
    """
    if not computed.contents:
        return computed.entries
    name = part_name(work.settings, computed.recordings)
    try:
        write_part(
            work.out, name, computed.contents, settings=work.settings, model_name=work.options.model_name
        )
    finally:
        for _, content in computed.contents:
            content.files.close()
    return [{**entry, "output": name} if entry["status"] == "done" else entry for entry in computed.entries]


def scratch_folder(work: Work) -> Path:
    """Where embeddings wait on disk: beside the outputs, as the folder for temporary files may be memory."""
    if work.out.local is not None:
        with suppress(OSError):
            work.out.local.mkdir(parents=True, exist_ok=True)
            return work.out.local
    return Path(tempfile.gettempdir())


def entries_in_order(
    recordings: Iterable[Recording], entries: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the entries by source in the order of the recordings."""
    return [entries[each.source] for each in recordings if each.source in entries]
