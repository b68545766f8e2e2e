"""Checkpoints: files and directories that are written completely or not at all, and are checked before use.

Tensors are kept in safetensors files, everything else in JSON; nothing here writes pickles, and the pickled
formats of other projects are read by :func:`read_legacy`, which executes no code from the file. Names are loaded when
first used: a program that only writes files does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from pentatonic.checkpoint.atomic import atomic_directory, atomic_file
    from pentatonic.checkpoint.manifest import MANIFEST, FileRecord, file_sha256, verify_directory
    from pentatonic.checkpoint.rotation import model_directory, newest_verified, prune
    from pentatonic.checkpoint.state import flatten_state, rng_state, set_rng_state, unflatten_state
    from pentatonic.checkpoint.tensors import load_tensors, read_legacy, save_tensors

_HOMES = {
    "MANIFEST": "pentatonic.checkpoint.manifest",
    "FileRecord": "pentatonic.checkpoint.manifest",
    "atomic_directory": "pentatonic.checkpoint.atomic",
    "atomic_file": "pentatonic.checkpoint.atomic",
    "file_sha256": "pentatonic.checkpoint.manifest",
    "flatten_state": "pentatonic.checkpoint.state",
    "load_tensors": "pentatonic.checkpoint.tensors",
    "model_directory": "pentatonic.checkpoint.rotation",
    "newest_verified": "pentatonic.checkpoint.rotation",
    "prune": "pentatonic.checkpoint.rotation",
    "read_legacy": "pentatonic.checkpoint.tensors",
    "rng_state": "pentatonic.checkpoint.state",
    "save_tensors": "pentatonic.checkpoint.tensors",
    "set_rng_state": "pentatonic.checkpoint.state",
    "unflatten_state": "pentatonic.checkpoint.state",
    "verify_directory": "pentatonic.checkpoint.manifest",
}

__all__ = [
    "MANIFEST",
    "FileRecord",
    "atomic_directory",
    "atomic_file",
    "file_sha256",
    "flatten_state",
    "load_tensors",
    "model_directory",
    "newest_verified",
    "prune",
    "read_legacy",
    "rng_state",
    "save_tensors",
    "set_rng_state",
    "unflatten_state",
    "verify_directory",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
