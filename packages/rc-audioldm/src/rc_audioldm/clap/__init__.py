"""CLAP: vectors of audio and text in one space, the same every time, with a header that says how they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from rc_audioldm.clap.encoder import ClapEncoder
    from rc_audioldm.clap.header import ClapHeader
    from rc_audioldm.clap.weights import from_pretrained
    from rc_audioldm.clap.windows import WINDOWS, Windows

__all__ = ["WINDOWS", "ClapEncoder", "ClapHeader", "Windows", "from_pretrained"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "WINDOWS": "rc_audioldm.clap.windows",
        "ClapEncoder": "rc_audioldm.clap.encoder",
        "ClapHeader": "rc_audioldm.clap.header",
        "Windows": "rc_audioldm.clap.windows",
        "from_pretrained": "rc_audioldm.clap.weights",
    },
)
