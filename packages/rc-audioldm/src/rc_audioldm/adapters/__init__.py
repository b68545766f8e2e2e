"""Adapters: small networks between CLAP vectors and what a model hears, trained from cached vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from rc_audioldm.adapters.projector import Projector, ProjectorConfig
    from rc_audioldm.adapters.projector_files import load_projector, save_projector
    from rc_audioldm.adapters.state_files import load_state_adapter, save_state_adapter
    from rc_audioldm.adapters.style_to_states import StateAdapterConfig, StyleToStates

_HOMES = {
    "Projector": "rc_audioldm.adapters.projector",
    "ProjectorConfig": "rc_audioldm.adapters.projector",
    "StateAdapterConfig": "rc_audioldm.adapters.style_to_states",
    "StyleToStates": "rc_audioldm.adapters.style_to_states",
    "load_projector": "rc_audioldm.adapters.projector_files",
    "load_state_adapter": "rc_audioldm.adapters.state_files",
    "save_projector": "rc_audioldm.adapters.projector_files",
    "save_state_adapter": "rc_audioldm.adapters.state_files",
}

__all__ = [
    "Projector",
    "ProjectorConfig",
    "StateAdapterConfig",
    "StyleToStates",
    "load_projector",
    "load_state_adapter",
    "save_projector",
    "save_state_adapter",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
