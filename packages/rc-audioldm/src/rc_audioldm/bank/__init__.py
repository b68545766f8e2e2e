"""Style banks: clips as CLAP vectors with their sources, licences and tags, and what is near a prompt among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from rc_audioldm.bank.build import build_bank
    from rc_audioldm.bank.clips import BankClip
    from rc_audioldm.bank.neighbours import find_neighbours
    from rc_audioldm.bank.originals import read_original
    from rc_audioldm.bank.style_bank import StyleBank

__all__ = ["BankClip", "StyleBank", "build_bank", "find_neighbours", "read_original"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BankClip": "rc_audioldm.bank.clips",
        "StyleBank": "rc_audioldm.bank.style_bank",
        "build_bank": "rc_audioldm.bank.build",
        "find_neighbours": "rc_audioldm.bank.neighbours",
        "read_original": "rc_audioldm.bank.originals",
    },
)
