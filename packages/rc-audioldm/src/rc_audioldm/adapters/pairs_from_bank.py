"""Pairs for training from a style bank: its vectors, and those of the captions that a manifest gives for its clips."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pentatonic.errors import InputError
from rc_audioldm.adapters.pair_vectors import PairVectors
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.data.manifest import ManifestRow

if TYPE_CHECKING:
    from rc_audioldm.clap import ClapEncoder
    from rc_audioldm.model import AudioLDM


def pairs_from_bank(
    bank: StyleBank, rows: Iterable[ManifestRow], encoder: ClapEncoder, model: AudioLDM | None = None
) -> PairVectors:
    """Pair the clips of a bank with their captions; no audio is read.

    Rows without a caption, and clips that no row has, are left out. A row's group is ``group`` of its further values,
    else ``src_id``, as windows of a recording have it, else its own id.

    Args:
        bank: Clips as vectors.
        rows: Captions by path.
        encoder: The CLAP that made the bank.
        model: AudioLDM 2, whose language model writes the states to learn from; None: no states.

    Raises:
        IncompatibleVectors: Another CLAP made the bank.
        InputError: The bank does not say what made it, or has no clip with a caption.
    """
    if bank.header is None:
        raise InputError(f"{bank.where}: does not say what made its vectors; build it again")
    bank.header.require(encoder.header, bank.where)
    by_path = {row.path: row for row in rows if row.caption.strip()}
    found = [(number, by_path[clip.path]) for number, clip in enumerate(bank.clips) if clip.path in by_path]
    if not found:
        raise InputError(
            f"{bank.where}: none of its clips has a caption; paths of the manifest are those of the bank"
        )
    captions = [row.caption for _, row in found]
    different = list(dict.fromkeys(captions))
    texts = dict(zip(different, encoder.embed_text(different).cpu().numpy(), strict=True))
    audio = bank.rows([number for number, _ in found])
    states = None
    if model is not None:
        from rc_audioldm.adapters.teacher import teacher_states

        states = teacher_states(model, audio, captions)
    return PairVectors(
        audio=audio,
        text=np.stack([texts[caption] for caption in captions]),
        captions=captions,
        groups=[str(row.more.get("group") or row.more.get("src_id") or row.id) for _, row in found],
        clap=bank.header,
        states=states,
        where=bank.where,
    )
