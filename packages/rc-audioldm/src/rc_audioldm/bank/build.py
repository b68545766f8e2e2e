"""Build a bank: decode clips ahead of the model, embed each content once, and write the bank as a whole at the end.

Vectors are kept in a folder beside the bank as they are computed. A build that was stopped or killed continues there,
and a bank that exists is a cache for the next build: a file whose content is known is not computed again, whatever its
name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pentatonic.audio import DecodingProcess
from pentatonic.audio_folder.reading import MeasuredBlocks, open_audio
from pentatonic.checkpoint import file_sha256
from pentatonic.cli import BatchReport, Interrupted, json_text, run_manifest
from pentatonic.errors import CheckpointError, InputError, UsageError
from pentatonic.folder_run import REPORT_FILE, RUN_FILE, OutputError, claim_folder, run_files, write_json
from pentatonic.processes.run_lock import locked_run_folder
from rc_audioldm.bank.clips import BankClip
from rc_audioldm.bank.duplicates import NEARLY_THE_SAME, find_duplicates
from rc_audioldm.bank.file_tags import TagReader
from rc_audioldm.bank.information import Information
from rc_audioldm.bank.journal import VECTORS, Computed, Journal
from rc_audioldm.bank.sources import Clips
from rc_audioldm.bank.style_bank import BANK, StyleBank, write_bank
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.licences import UNKNOWN

_WINDOWS_OF_A_BATCH = {"cpu": 4}
_WINDOWS_ON_A_GPU = 32
_ADVICE = "remove that folder, or use the same model and windows"


@dataclass
class _Item:
    """A clip on its way: its first windows, and the others where it is long."""

    sha256: str
    blocks: MeasuredBlocks
    ahead: list[Tensor]
    rest: Iterator[Tensor] | None
    information: Information


@dataclass(frozen=True)
class _Result:
    sha256: str
    vector: np.ndarray
    about: Computed


def build_bank(
    encoder: ClapEncoder,
    clips: Clips,
    out: str | Path,
    *,
    duplicates: float = NEARLY_THE_SAME,
    overwrite: bool = False,
) -> BatchReport:
    """Build a bank, or bring one up to date.

    Args:
        encoder: The CLAP model.
        clips: From :func:`rc_audioldm.bank.sources.find_clips`.
        out: Folder of the bank; while it is built, ``<out>.building`` lies beside it.
        duplicates: Least cosine of clips that are marked as near-duplicates; above 1: none are.
        overwrite: Replace a bank that another model made, or with other windows.

    Returns:
        What became of each clip. Those that cannot be used are named, and the bank is made of the others.

    Raises:
        IncompatibleVectors: ``out`` was made in another way; the message names each difference.
        InputError: No clip can be used; the report lies in ``<out>.building``.
        UsageError: ``out`` is a folder of something else, or a build with other settings has begun.
        RunFolderInUse: Another process builds the bank.
        Interrupted: Ctrl-C; the same call continues.
        OutputError: The vectors cannot be written, for instance because the disk is full.
    """
    out = Path(out)
    known = _existing(out, encoder, overwrite=overwrite)
    work = out.with_name(f"{out.name}.building")
    header = encoder.header
    settings = {"command": "bank build", **header.to_json(), "model": header.weights}
    claim_folder(work / RUN_FILE, settings, advice=_ADVICE, overwrite=overwrite)
    with locked_run_folder(work):
        if overwrite and not _same_settings(work, settings):
            for path in work.iterdir():
                if path.name != ".lock":
                    path.unlink()
        run = {"settings": settings, **run_manifest()}
        write_json(work / RUN_FILE, run)
        with Journal(work, encoder.dimension) as journal:
            try:
                report, hashes = _embed(encoder, clips, journal, known, out, work)
            except (Interrupted, OutputError) as error:
                with suppress(CheckpointError):
                    error.report.write(work / REPORT_FILE)
                raise
            for name, error in clips.refused.items():
                report.failed(name, error)
            report.passed_over = clips.passed_over
            report.write(work / REPORT_FILE)
            rows, vectors = _rows(clips, hashes, journal, known)
    if not rows:
        raise InputError(
            f"none of {len(report.entries)} clips can be used, so the bank would be empty; {work / REPORT_FILE} says "
            "why"
        )
    marked = [
        BankClip(**{**vars(row), "duplicate_of": original})
        for row, original in zip(rows, find_duplicates(vectors, duplicates), strict=True)
    ]
    write_bank(
        *(out, vectors, marked, header),
        root=clips.root,
        documents={RUN_FILE: f"{json_text(run)}\n", REPORT_FILE: f"{json_text(report.document())}\n"},
        details={"near_duplicates": duplicates},
    )
    shutil.rmtree(work)
    return report


def _existing(out: Path, encoder: ClapEncoder, *, overwrite: bool) -> StyleBank | None:
    """Return the bank that is there, if its vectors were made in the same way."""
    if not (out / BANK).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} is there, and is no bank; choose another folder")
        return None
    if overwrite:
        with suppress(InputError):
            return StyleBank.open(out, encoder.header)
        return None
    return StyleBank.open(out, encoder.header)


def _same_settings(work: Path, settings: dict[str, Any]) -> bool:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads((work / RUN_FILE).read_text(encoding="utf-8"))["settings"] == settings
    return not (work / RUN_FILE).exists()


def _embed(
    encoder: ClapEncoder, clips: Clips, journal: Journal, known: StyleBank | None, out: Path, work: Path
) -> tuple[BatchReport, dict[Path, str]]:
    """Fill the journal with what is not known yet."""
    in_bank = {clip.sha256 for clip in known.clips} if known else set()
    hashes: dict[Path, str] = {}
    begun: dict[str, Path] = {}
    batch = _WINDOWS_OF_A_BATCH.get(encoder.device.type, _WINDOWS_ON_A_GPU)
    targets = {clip.path: work / VECTORS for clip in clips.clips}

    with DecodingProcess() as decoder, TagReader() as tag_reader:

        def is_done(path: Path, _: Path) -> bool:
            hashes[path] = digest = file_sha256(path)
            return digest in in_bank or digest in journal or begun.setdefault(digest, path) != path

        def read(path: Path) -> _Item:
            blocks = open_audio(path, stream=decoder.stream, sample_rate=encoder.sample_rate)
            spectrograms = iter(encoder.spectrograms(blocks))
            ahead = list(islice(spectrograms, batch + 1))
            rest = spectrograms if len(ahead) > batch else None
            return _Item(hashes[path], blocks, ahead, rest, tag_reader.read(path))

        def share(item: _Item) -> float:
            return float("inf") if item.rest is not None else len(item.ahead) / batch

        def compute(items: Sequence[_Item]) -> list[_Result]:
            whole = [item for item in items if item.rest is None]
            vectors = iter(encoder.embed_batch([item.ahead for item in whole]))
            return [
                _result(item, next(vectors) if item.rest is None else _long_vector(encoder, item))
                for item in items
            ]

        def write(result: _Result, _: Path) -> dict[str, object]:
            journal.add(result.sha256, result.vector, result.about)
            return {"output": out, **({"flags": list(result.about.flags)} if result.about.flags else {})}

        report = run_files(
            targets,
            read,
            compute,
            write,
            description="embedding",
            is_done=is_done,
            share=share,
        )
    return report, hashes


def _long_vector(encoder: ClapEncoder, item: _Item) -> Tensor:
    counted = _Counted(chain(item.ahead, item.rest or ()))
    vector = encoder.embed_windows(counted)
    item.ahead = [item.ahead[0]] * counted.count  # as many as there were
    return vector


class _Counted:
    """Counts what it passes on."""

    def __init__(self, values: Iterable[Tensor]) -> None:
        self._values, self.count = values, 0

    def __iter__(self) -> Iterator[Tensor]:
        for value in self._values:
            self.count += 1
            yield value


def _result(item: _Item, vector: Tensor) -> _Result:
    information = item.information
    about = Computed(
        round(item.blocks.duration_s, 3),
        len(item.ahead),
        information.licence,
        information.source,
        information.tags,
        tuple(flag for flag in item.blocks.flags if flag.startswith("quiet")),
    )
    return _Result(item.sha256, vector.numpy(), about)


def _rows(
    clips: Clips, hashes: dict[Path, str], journal: Journal, known: StyleBank | None
) -> tuple[list[BankClip], np.ndarray]:
    """Put together what is known of the clips that have a vector, in their order."""
    in_bank = {clip.sha256: row for row, clip in enumerate(known.clips)} if known else {}
    rows: list[BankClip] = []
    vectors: list[np.ndarray] = []
    for clip in clips.clips:
        digest = hashes.get(clip.path, "")
        about = clip.information
        if found := journal.get(digest):
            vector, computed = found
            about = about.or_else(Information(computed.licence, computed.source, computed.tags))
            duration, windows = computed.duration_s, computed.windows
        elif known is not None and digest in in_bank:
            old = known.clips[in_bank[digest]]
            vector, duration, windows = known.vectors[in_bank[digest]], old.duration_s, old.windows
            about = about.or_else(
                Information(old.licence, "" if old.source == UNKNOWN else old.source, old.tags)
            )
        else:
            continue
        vectors.append(vector)
        rows.append(
            BankClip(
                clip.name,
                about.licence,
                about.source or UNKNOWN,
                about.tags,
                digest,
                duration,
                windows,
                id=about.id,
            )
        )
    return rows, np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, 1), np.float32)
