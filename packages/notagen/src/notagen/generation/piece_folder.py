"""The folder that ``notagen generate`` writes: a stopped run continues, finished pieces stay, failures are named.

A piece is complete as soon as ``<seed>.json`` exists. It holds the text as the model wrote it and the settings it was
made with, so a later run with the same settings skips its seed. ``manifest.json`` lists the pieces of the folder and
how they were made; it is built from those files.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from notagen.evaluation.measures import measure
from notagen.files.writing import write_piece
from notagen.generation.best_of import Choice, best_pieces
from notagen.generation.decoding import Limits, Request, Update
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen
from notagen.notation.rests import complete_rests
from notagen.notation.validation import validate
from notagen.vocabulary import ANYTHING, Vocabulary
from pentatonic import folder_run
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, Interrupted, progress, run_manifest
from pentatonic.errors import PentatonicError, UsageError
from pentatonic.folder_run import claim_folder, refuse_other_settings, write_json

MANIFEST_FILE = "manifest.json"
_ADVICE = "choose another folder"


def write_pieces(
    model: NotaGen,
    requests: Sequence[Request],
    out: Path,
    *,
    model_name: str,
    formats: Sequence[str],
    sampling: Sampling,
    limits: Limits,
    constrained: bool,
    batch_size: int,
    upstream_layout: bool = False,
    compiled: bool = False,
    best_of: int = 1,
    soundfont: Path | None = None,
    watch: Callable[[Update], None] | None = None,
) -> tuple[list[dict[str, Any]], BatchReport]:
    """Write each piece in several formats as soon as it has ended, and continue a run that was stopped.

    Args:
        model: In evaluation mode.
        requests: What to write, each with its own seed, which names the files of the piece.
        out: Folder to write. An earlier run may have been for other seeds or formats; its other settings must be
            equal, and a seed that it wrote must have the same prompt and bars.
        model_name: For the manifest and the original's layout.
        formats: Of :data:`notagen.files.formats.FORMATS`.
        sampling: As :func:`notagen.generation.decoding.stream`.
        limits: As :func:`notagen.generation.decoding.stream`.
        constrained: As :func:`notagen.generation.decoding.stream`.
        batch_size: As :func:`notagen.generation.decoding.stream`.
        compiled: As :func:`notagen.generation.decoding.stream`.
        best_of: Number of candidates of each piece; see :func:`notagen.generation.best_of.best_pieces`.
        soundfont: For the format ``wav``, as for :class:`notagen.files.formats.ExportPiece`. Sound of another one, or
            of the synthesiser, is written again.
        upstream_layout: Also write the two files that the original writes, below ``original`` and ``interleaved``.
        watch: Called with each update, in place of a progress bar; its ``index`` counts the candidates of this run.

    Returns:
        The pieces, in the order of the requests, and what became of each in this run. A piece has ``seed``,
        ``prompt``, ``bars``, ``status``, ``text``, ``closing``, ``draws`` (as
        :class:`notagen.generation.decoding.Piece`), ``candidates`` (``seed``, ``score`` and ``status`` of each, of
        which ``chosen`` is the index of the one that was kept), ``measures`` (of
        :func:`notagen.evaluation.measures.measure`), ``duration_s`` of its making, ``report`` (of
        :func:`notagen.notation.validation.validate`), ``files`` (format -> names) and ``errors`` (format -> reason).

    Raises:
        UsageError: Two requests have one seed, or ``out`` or a piece in it was made with other settings, or
            from another prompt.
        CheckpointError: ``out`` cannot be written.
        FormatError, UsageError: As :func:`notagen.generation.decoding.stream`.
    """
    if len({request.seed for request in requests}) < len(requests):
        raise UsageError("two pieces have the same seed; each needs its own")
    settings = {
        "model": fingerprint(model),
        "sampling": asdict(sampling),
        "limits": asdict(limits),
        "constrained": constrained,
        "best_of": best_of if best_of > 1 else None,  # as in folders of before there was a choice
    }
    if model.vocabulary != ANYTHING:
        words = json.dumps(model.vocabulary.to_dict(), sort_keys=True)
        settings["vocabulary"] = hashlib.sha256(words.encode()).hexdigest()
    about = {"model": model_name, "settings": settings, **run_manifest()}
    upstream_name = _upstream_name(model_name, sampling) if upstream_layout else None
    folder = _PieceFolder(out, about, formats, upstream_name, model.vocabulary, soundfont)
    folder.claim(requests)
    try:
        with progress(len(requests), "writing pieces") if watch is None else nullcontext() as bar:
            todo = [request for request in requests if not folder.has(request)]
            if bar is not None:
                bar.advance(len(requests) - len(todo))
            started: dict[int, float] = {}

            def heard(update: Update) -> None:
                started.setdefault(update.index // best_of, time.monotonic())
                if watch is not None:
                    watch(update)

            for i, choice in best_pieces(
                model,
                todo,
                best_of=best_of,
                watch=heard,
                sampling=sampling,
                limits=limits,
                batch_size=batch_size,
                constrained=constrained,
                compiled=compiled,
            ):
                folder.add(todo[i], choice, time.monotonic() - started[i])
                if bar is not None:
                    bar.advance(1, note=f"seed {todo[i].seed} {choice.piece.status}")
    except KeyboardInterrupt:
        raise Interrupted(folder.report(requests)) from None
    finally:  # also when interrupted: finished pieces are listed
        folder.write_manifest()
    return [folder.records[request.seed] for request in requests], folder.report(requests)


def fingerprint(model: NotaGen) -> str:
    """Return the SHA-256 of a model's configuration and weights, in their dtype."""
    return folder_run.fingerprint(model.config, model.state_dict())


@dataclass
class _PieceFolder:
    """Pieces of one run.

    Attributes:
        about: Model, settings, versions and hardware of the run, for the manifest.
        vocabulary: That of the model, for the measures.
        soundfont: For sound.
        records: Seed -> what ``<seed>.json`` has.
        written: Seeds of pieces that this run has written or exported.
    """

    out: Path
    about: Mapping[str, Any]
    formats: Sequence[str]
    upstream_name: str | None
    vocabulary: Vocabulary
    soundfont: Path | None = None
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)

    def claim(self, requests: Sequence[Request]) -> None:
        """Create the folder, or check that what it holds was made with the same settings."""
        claim_folder(self.out / MANIFEST_FILE, self.about["settings"], advice=_ADVICE)
        for request in requests:
            path = self.out / f"{request.seed}.json"
            if (record := _read_record(path)) is not None:
                if record["made_by"].get("prompt") != request.prompt:
                    raise UsageError(f"{path} was made from another prompt; {_ADVICE}")
                refuse_other_settings(path, record["made_by"], self._made_by(request), advice=_ADVICE)
        self.write_manifest()

    def has(self, request: Request) -> bool:
        """Whether a piece is complete; writes formats that are missing."""
        record = _read_record(self.out / f"{request.seed}.json")
        if record is None:
            return False
        self.records[request.seed] = record
        self._export(request.seed)
        return True

    def add(self, request: Request, choice: Choice, duration_s: float) -> None:
        """Check, export and record a piece that has ended."""
        files, piece, text = {}, choice.piece, choice.piece.text
        if self.upstream_name is not None:
            files["upstream"] = _write_upstream(self.out, self.upstream_name, text, duration_s, request.seed)
        self.records[request.seed] = {
            "seed": request.seed,
            "prompt": request.prompt,
            "bars": request.bars,
            "status": piece.status,
            "text": text,
            "closing": piece.closing,
            "draws": None if piece.draws is None else asdict(piece.draws),
            "candidates": [asdict(candidate) for candidate in choice.candidates],
            "chosen": choice.chosen,
            "measures": measure(text, self.vocabulary).to_dict(),
            "duration_s": round(duration_s, 3),
            "report": validate(text).to_dict(),
            "files": files,
            "errors": {},
            "made_by": self._made_by(request),
        }
        self._export(request.seed)

    def report(self, requests: Sequence[Request]) -> BatchReport:
        report = BatchReport()
        for request in requests:
            record, path = self.records.get(request.seed), self.out / f"{request.seed}.json"
            if record is None:
                report.not_done(path)
            elif failed := [name for name in self.formats if name in record["errors"]]:
                report.failed(path, "; ".join(f"{name}: {record['errors'][name]}" for name in failed))
            elif request.seed in self.written:
                report.done(path)
            else:
                report.skipped(path)
        return report

    def write_manifest(self) -> None:
        paths = [path for path in self.out.glob("*.json") if path.stem.isdecimal()]
        found = [record for path in paths if (record := _read_record(path)) is not None]
        pieces = [
            {key: value for key, value in record.items() if key not in ("text", "made_by")}
            for record in sorted(found, key=lambda record: record["seed"])
        ]
        write_json(self.out / MANIFEST_FILE, {**self.about, "pieces": pieces})

    def _made_by(self, request: Request) -> dict[str, Any]:
        return json.loads(
            json.dumps({**self.about["settings"], "prompt": request.prompt, "bars": request.bars})
        )

    def _export(self, seed: int) -> None:
        """Write the missing formats of a piece; a failing format does not affect the others."""
        record = self.records[seed]
        missing = [name for name in self.formats if not self._exist(record["files"].get(name))]
        font = None if self.soundfont is None else self.soundfont.name
        if "wav" in self.formats and record.get("soundfont") != font:
            missing = list(dict.fromkeys([*missing, "wav"]))
        if not missing and (self.out / f"{seed}.json").is_file():
            return
        self.written.add(seed)
        for name in missing:
            record["errors"].pop(name, None)
            try:
                paths = write_piece(record["text"], self.out / str(seed), [name], soundfont=self.soundfont)[
                    name
                ]
                record["files"][name] = [path.name for path in paths]
                if name == "wav":
                    record["soundfont"] = font
            except (PentatonicError, OSError) as error:
                record["errors"][name] = str(error)
        write_json(self.out / f"{seed}.json", record)

    def _exist(self, names: Sequence[str] | None) -> bool:
        return bool(names) and all((self.out / name).is_file() for name in names)


def _read_record(path: Path) -> dict[str, Any] | None:
    """Return a piece; None where there is none, or the file is not one of this module's."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("made_by"), dict) else None


def _upstream_name(model_name: str, sampling: Sampling) -> str:
    from notagen.weights import RELEASED_FILES

    stem = Path(RELEASED_FILES.get(model_name, model_name)).name
    for suffix in (".pth", ".safetensors"):
        stem = stem.removesuffix(suffix)
    return f"{stem}_k_{sampling.top_k}_p_{sampling.top_p}_temp_{sampling.temperature}"


def _write_upstream(out: Path, folder: str, text: str, duration_s: float, number: int) -> list[str]:
    """Write a piece as the original's batch script does: as generated, and with its rests completed."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}_{duration_s:.2f}_{number}.abc"
    written = []
    for kind, content in (("original", text), ("interleaved", complete_rests(text).text)):
        path = out / kind / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content.encode())
        written.append(path.relative_to(out).as_posix())
    return written
