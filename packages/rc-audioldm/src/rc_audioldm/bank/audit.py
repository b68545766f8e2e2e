"""Sort out the clips of a bank that sound more like speech than like music, by their cosines with two texts.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import InputError, UsageError
from rc_audioldm.bank.clips import renumbered
from rc_audioldm.bank.style_bank import StyleBank, write_bank

MUSIC = "instrumental music, no vocals, clean recording, high fidelity"
SPEECH = "speech, vocals, singing, rapping, human voice, talking, narration, choir, crowd"
MARGIN = 0.08


@dataclass(frozen=True)
class Audit:
    """How musical the clips of a bank are.

    Args:
        music: ``(N,)`` cosines with the text of music.
        speech: ``(N,)`` cosines with the text of speech.
        kept: Rows that are kept, in the order of the new bank.
    """

    music: np.ndarray
    speech: np.ndarray
    kept: list[int]

    @property
    def margins(self) -> np.ndarray:
        """``(N,)``: how much nearer to music than to speech."""
        return self.music - self.speech


def audit_bank(
    bank: StyleBank, music: np.ndarray, speech: np.ndarray, *, margin: float = MARGIN, most: int = 0
) -> Audit:
    """Choose the clips that are nearer to music than to speech.

    Args:
        bank: The bank.
        music: Vector of a text of music, ``(D,)``.
        speech: Vector of a text of speech, ``(D,)``.
        margin: Difference of the cosines that is too small.
        most: Clips at most, those of the largest differences, in falling order; 0: all, in the order of the bank.

    Raises:
        InputError: A text's vector has another width.
        UsageError: ``most`` is below 0.
    """
    if most < 0:
        raise UsageError(f"at most {most} clips; allowed: 0 (all) and more")
    for vector in (music, speech):
        if vector.shape != (bank.dimension,):
            raise InputError(f"a text's vector has the shape {vector.shape}; needed: ({bank.dimension},)")
    texts = np.stack([music / np.linalg.norm(music), speech / np.linalg.norm(speech)], axis=1)
    cosines = np.concatenate([block @ texts for block in bank.blocks()])
    margins = cosines[:, 0] - cosines[:, 1]
    kept = np.flatnonzero(margins > margin)
    if most:
        kept = kept[np.argsort(-margins[kept], kind="stable")][:most]
    return Audit(cosines[:, 0], cosines[:, 1], kept.tolist())


def write_audit(bank: StyleBank, audit: Audit, out: Path) -> StyleBank:
    """Write a bank of the clips that are kept, with ``kept_indices.json`` as the original has it.

    Raises:
        InputError: No clip is kept, or the bank does not say what made it.
        CheckpointError: It cannot be written.
    """
    if not audit.kept:
        raise InputError(f"{bank.where}: no clip is nearer to music than to speech by the margin; lower it")
    if bank.header is None:
        raise InputError(
            f"{bank.where}: does not say what made its vectors; a bank of the original is only read"
        )
    return write_bank(
        *(out, bank.rows(audit.kept), renumbered(list(bank.clips), audit.kept), bank.header),
        root=bank.root,
        documents={"kept_indices.json": f"{json.dumps({'kept_indices': audit.kept})}\n"},
    )


def write_margins(path: Path, bank: StyleBank, audit: Audit) -> None:
    """Write what was found for each clip, as JSON lines.

    Raises:
        CheckpointError: It cannot be written.
    """
    kept = set(audit.kept)
    with atomic_file(path, "w") as file:
        for row, clip in enumerate(bank.clips):
            music, speech = round(float(audit.music[row]), 6), round(float(audit.speech[row]), 6)
            line = {"row": row, "path": clip.path, "music": music, "speech": speech, "kept": row in kept}
            file.write(f"{json.dumps(line)}\n")
