"""Render chunks of tokens to audio files with a manifest, by FluidSynth or by adding sines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from pentatonic import audio
from pentatonic.audio.soundfont import find_soundfont, render_midi
from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport
from pentatonic.errors import BackendUnavailable, InputError
from pentatonic.folder_run import claim_folder, write_json
from pentatonic.untrusted.config import Range, check_fields
from rc_audioldm.data.batch import AlreadyDone, Skipped, run_rows
from rc_audioldm.data.manifest import ManifestRow, write_manifest
from rc_audioldm.data.midi.additive import render_additive
from rc_audioldm.data.midi.notes import Notes, peak_polyphony, without_overlaps
from rc_audioldm.data.midi.token_files import Tokens
from rc_audioldm.data.midi.tokenizer import check_installed, decode_notes, midi_bytes, with_state

Synthesiser = Literal["auto", "fluidsynth", "additive"]
MANIFEST_FILE, REPORT_FILE = "rendered.jsonl", "rendering.json"
_PEAK = 0.95
_MEMORY_BYTES = 8 << 30
_BEYOND_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class RenderSettings:
    """How chunks are rendered.

    Args:
        synthesiser: ``fluidsynth`` needs the program and a soundfont; ``auto`` takes it if both are there.
        sample_rate: In Hz.
        seconds: Length of every file: cut, or continued with zeros.
        velocity_floor: A chunk whose mean velocity is below is skipped.
        quiet_dbfs: A chunk whose level is below, at a peak of 0.95, is skipped.
        dense_polyphony: From so many notes at once on, repeated notes are kept apart before rendering, and FluidSynth
            gets ``dense_voices``.
        voices: Most voices of FluidSynth.
        dense_voices: The same for dense chunks.
        gain: Of FluidSynth.
        effects: Reverb and chorus of FluidSynth.
        timeout_s: For one chunk.

    Raises:
        ConfigError: A value is out of range.
    """

    synthesiser: Synthesiser = "auto"
    sample_rate: Annotated[int, Range(8000, 96_000)] = 48_000
    seconds: Annotated[float, Range(0, 600, above=True)] = 10.0
    velocity_floor: Annotated[float, Range(0, 127)] = 8.0
    quiet_dbfs: Annotated[float, Range(-240, 0)] = -45.0
    dense_polyphony: Annotated[int, Range(1, 10_000)] = 64
    voices: Annotated[int, Range(1, 65_535)] = 512
    dense_voices: Annotated[int, Range(1, 65_535)] = 768
    gain: Annotated[float, Range(0, 10, above=True)] = 0.5
    effects: bool = False
    timeout_s: Annotated[float, Range(1, 3600)] = 120.0

    def __post_init__(self) -> None:
        check_fields(self, "rendering")


def render_tokens(
    tokens: Tokens,
    folder: Path,
    settings: RenderSettings,
    *,
    soundfont: Path | None = None,
    max_chunks: int | None = None,
    workers: int = 2,
) -> tuple[list[ManifestRow], BatchReport]:
    """Write ``chunk_<number>.flac`` for every chunk, their manifest and a report. Files that are there stay.

    Args:
        tokens: From :func:`~rc_audioldm.data.midi.token_files.read_tokens`.
        folder: For the files; one that another run made is refused.
        settings: How to render.
        soundfont: For FluidSynth; None: one in a usual place.
        max_chunks: Of the first ones; None: of all.
        workers: Chunks at a time.

    Returns:
        Rows of the files in the order of the chunks, and what became of each chunk.

    Raises:
        UsageError: The folder cannot be used.
        BackendUnavailable: FluidSynth was asked for, and it or a soundfont is missing.
        MissingExtra: MidiTok is not installed.
        Interrupted: Ctrl-C; the same command continues.
        OutputError: The disk is full.
    """
    check_installed()
    soundfont = _soundfont(settings, soundfont)
    chosen = replace(settings, synthesiser="additive" if soundfont is None else "fluidsynth")
    about = {"rendering": asdict(chosen), "tokens": tokens.fingerprint}
    claim_folder(folder / "run.json", about, advice="choose another folder")
    write_json(folder / "run.json", {"settings": about})
    rows = [_row(*each, chosen.synthesiser) for each in islice(tokens.chunk_rows(), max_chunks)]
    font = None if soundfont is None else str(soundfont)
    seconds = chosen.timeout_s + _BEYOND_TIMEOUT_S
    with ChildPool(f"{__name__}:answer", workers, seconds=seconds, memory_bytes=_MEMORY_BYTES) as pool:

        def work(row: ManifestRow) -> ManifestRow | AlreadyDone[ManifestRow] | Skipped:
            if (folder / row.path).is_file():
                return AlreadyDone(row)
            ids, start, stop = tokens.sequence_of(row.more["chunk"])
            value = {"settings": asdict(chosen), "soundfont": font, "start": start, "stop": stop}
            request = Message(value, ids.astype("<i4").tobytes())
            try:
                found = pool.answers(request)[0]
            except ChildFailure as failure:
                raise InputError(f"the renderer {failure}") from failure
            if found.value["skipped"]:
                return Skipped(found.value["skipped"])
            audio.save(folder / row.path, np.frombuffer(found.data, np.float32), chosen.sample_rate)
            return row

        results, report = run_rows(rows, work, description="render", workers=workers)
    rendered = [row for row in results if row is not None]
    write_manifest(folder / MANIFEST_FILE, rendered)
    write_json(folder / REPORT_FILE, {"settings": about, **report.document()})
    return rendered, report


def _soundfont(settings: RenderSettings, wanted: Path | None) -> Path | None:
    if settings.synthesiser == "additive":
        return None
    try:
        return find_soundfont(wanted)
    except BackendUnavailable:
        if settings.synthesiser == "fluidsynth" or wanted is not None:
            raise
        return None


def _row(chunk: int, source: ManifestRow, synthesiser: str) -> ManifestRow:
    more = {"midi": source.path, "chunk": chunk, "synthesiser": synthesiser}
    return replace(source, id=f"{source.id}#{chunk:06d}", path=f"chunk_{chunk:06d}.flac", more=more)


def answer(request: Message) -> Message:
    """Render the tokens of a request, in the child: float32 samples, or why the chunk is skipped.

    Raises:
        InputError: The tokens cannot be decoded, or FluidSynth fails.
    """
    settings = RenderSettings(**request.value["settings"])
    font = request.value["soundfont"]
    ids = np.frombuffer(request.data, "<i4")
    notes = decode_notes(with_state(ids, request.value["start"], request.value["stop"]))
    result = render_notes(notes, settings, None if font is None else Path(font))
    if isinstance(result, Skipped):
        return Message({"skipped": result.reason})
    return Message({"skipped": ""}, result.tobytes())


def render_notes(
    notes: Notes, settings: RenderSettings, soundfont: Path | None = None
) -> NDArray[np.float32] | Skipped:
    """Return the sound of notes with a peak of 0.95, cut or continued to the length that is set.

    Args:
        notes: With the fields of :data:`~rc_audioldm.data.midi.notes.NOTE`.
        settings: How to render.
        soundfont: For FluidSynth; None: add sines.

    Returns:
        ``(n,)`` float32, or why there is nothing to keep.

    Raises:
        InputError: FluidSynth fails.
    """
    if not len(notes):
        return Skipped("no notes")
    if (mean := float(notes["velocity"].mean())) < settings.velocity_floor:
        return Skipped(f"mean velocity {mean:.1f} is below {settings.velocity_floor:g}")
    dense = peak_polyphony(notes) >= settings.dense_polyphony
    # Whichever synthesiser follows gets these notes.
    played = without_overlaps(notes) if dense else notes
    played = played[played["start_s"] < settings.seconds]
    sound = _synthesise(played, settings, soundfont, dense) if len(played) else np.zeros(0, np.float32)
    length = round(settings.seconds * settings.sample_rate)
    sound = sound[:length]
    peak = float(np.abs(sound).max(initial=0.0))
    if not peak:
        return Skipped("silent")
    sound = sound * np.float32(_PEAK / peak)
    level = 10 * float(np.log10(np.mean(sound.astype(np.float64) ** 2)))
    if level < settings.quiet_dbfs:
        return Skipped(f"level {level:.1f} dBFS is below {settings.quiet_dbfs:g}")
    return np.concatenate([sound, np.zeros(length - len(sound), np.float32)])


def _synthesise(
    notes: Notes, settings: RenderSettings, soundfont: Path | None, dense: bool
) -> NDArray[np.float32]:
    if soundfont is None:
        return render_additive(notes, settings.sample_rate, settings.seconds)
    stereo = render_midi(
        midi_bytes(notes),
        soundfont,
        settings.sample_rate,
        gain=settings.gain,
        polyphony=settings.dense_voices if dense else settings.voices,
        effects=settings.effects,
        timeout_s=settings.timeout_s,
    )
    return stereo.mean(axis=0, dtype=np.float64).astype(np.float32)
