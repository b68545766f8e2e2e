"""The folder of a generation run: names of its files, and a journal of finished clips, so that a stopped run continues.

run_config.json     command, versions, model, settings, seeds
hardware.json       machine and libraries
items.jsonl         one line for each clip
prompts_used.jsonl  prompts as given and as the model heard them
style_vectors.npy   (clips, D) float32 in the order of items.jsonl; zeros where a clip has no style
wav/                clips with their ledgers
knob/, knob.json    the same noise at three strengths, where that was asked for
metrics/            per_item.csv, per_item.json, summary.json
report.json         what became of each clip
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from pentatonic.checkpoint.manifest import file_sha256

RUN_CONFIG, HARDWARE, REPORT = "run_config.json", "hardware.json", "report.json"
ITEMS, PROMPTS, STYLES = "items.jsonl", "prompts_used.jsonl", "style_vectors.npy"
WAV, KNOB, METRICS = "wav", "knob", "metrics"
KNOB_FILE, COPIES = "knob.json", "copies.json"
JOURNAL = ".journal.jsonl"

_MOST_CHARACTERS, _MOST_BYTES = 60, 180  # a name has 255 bytes at most, and the longest suffix follows


def slug(prompt: str) -> str:
    """Return a prompt as a part of a file name, by the rule of the original.

    The first sixty characters; all but letters, digits, spaces, ``_`` and ``-`` become ``_``, and then spaces too.
    """
    kept = "".join(sign if sign.isalnum() or sign in " _-" else "_" for sign in prompt[:_MOST_CHARACTERS])
    name = kept.strip().replace(" ", "_")
    return name.encode()[:_MOST_BYTES].decode(errors="ignore")


def clip_file(index: int, prompt: str, variant: int, variants: int) -> str:
    """Return the path of a clip in its run, such as ``wav/003__slow_cello__v1.wav``.

    Args:
        index: Of the request.
        prompt: Of the request.
        variant: Of the clip.
        variants: How many are kept of each request; one needs no number.
    """
    return f"{WAV}/{index:03d}__{slug(prompt)}{f'__v{variant}' if variants > 1 else ''}.wav"


def knob_file(identity: str, strength: float) -> str:
    """Return the path of a clip at a strength of its knob in its run."""
    return f"{KNOB}/{identity}__{strength:.2f}.wav"


def config_hash(settings: object) -> str:
    """Return the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Finished:
    """A clip that is on the disk.

    Args:
        config: Hash of the settings and the request that made it.
        sha256: Of its WAV.
        record: Its line of ``items.jsonl``.
        metrics: Its row of ``metrics/per_item.csv``.
        style: Style vector, or None.
        vector: CLAP vector, or None.
        knob: Its record of ``knob.json``, or None.
        copies: Its record of ``copies.json``, or None.
    """

    config: str
    sha256: str
    record: Mapping[str, Any]
    metrics: Mapping[str, Any]
    style: np.ndarray | None = None
    vector: np.ndarray | None = None
    knob: Any = None
    copies: Any = None

    def to_line(self) -> str:
        """Return it as a line of JSON."""
        values = {**vars(self), "style": _packed(self.style), "vector": _packed(self.vector)}
        return json.dumps(values)

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read what :meth:`to_line` gives; ValueError, KeyError or TypeError for anything else."""
        values = json.loads(line)
        if not all(isinstance(values[name], dict) for name in ("record", "metrics")):
            raise TypeError("is no record")
        return cls(**{**values, "style": _unpacked(values["style"]), "vector": _unpacked(values["vector"])})


@dataclass
class Journal:
    """Finished clips by id, in a file that grows by a line for each; use it as a context manager.

    Args:
        folder: Of the run.
    """

    folder: Path
    clips: dict[str, Finished] = field(default_factory=dict)
    _file: IO[str] | None = None

    def __enter__(self) -> Self:
        path = self.folder / JOURNAL
        whole = 0
        if path.is_file():
            with path.open("rb") as file:
                for line in file:
                    try:
                        if not line.endswith(b"\n"):
                            break  # a kill has cut it
                        clip = Finished.from_line(line.decode())
                        self.clips[str(clip.record["id"])] = clip
                    except (ValueError, KeyError, TypeError):
                        break
                    whole += len(line)
            os.truncate(path, whole)
        self._file = path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, clip: Finished) -> None:
        """Add a clip whose files are written; when this returns, a kill of the program does not lose it."""
        assert self._file is not None
        self._file.write(f"{clip.to_line()}\n")
        self._file.flush()
        self.clips[str(clip.record["id"])] = clip

    def has(self, identity: str, config: str) -> bool:
        """Whether a clip is finished and was made from this, and its file is the one that was written."""
        clip = self.clips.get(identity)
        if clip is None or clip.config != config:
            return False
        path = self.folder / str(clip.record["file"])
        return path.is_file() and file_sha256(path) == clip.sha256


def remove_outputs(folder: Path) -> None:
    """Remove the clips of a run, and what was measured of them, so that another run can have the folder."""
    with Journal(folder) as journal:
        files = [folder / str(clip.record["file"]) for clip in journal.clips.values()]
    for path in (folder / KNOB).glob("*_v*__*.wav"):
        path.unlink()
    for path in files:
        if path.is_relative_to(folder / WAV) and ".." not in path.parts:
            path.unlink(missing_ok=True)
            path.with_suffix(".ledger.json").unlink(missing_ok=True)
    for name in (JOURNAL, ITEMS, PROMPTS, STYLES, KNOB_FILE, COPIES, REPORT):
        (folder / name).unlink(missing_ok=True)


def _packed(vector: np.ndarray | None) -> str | None:
    return None if vector is None else base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _unpacked(text: str | None) -> np.ndarray | None:
    return None if text is None else np.frombuffer(base64.b64decode(text), "<f4")
