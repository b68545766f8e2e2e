"""Checkpoints: files and directories that exist whole or not at all, and are checked before use.

Tensors are kept in safetensors files, everything else in JSON; nothing here writes pickles, and the old pickled
formats of other projects are read by :func:`read_legacy` without running what is inside. Names are loaded when first
used: a program that only writes files does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from pentatonic.checkpoint.atomic import atomic_directory, atomic_file
    from pentatonic.checkpoint.manifest import MANIFEST, FileRecord, file_sha256, verify_directory
    from pentatonic.checkpoint.rotation import newest_verified, prune
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
