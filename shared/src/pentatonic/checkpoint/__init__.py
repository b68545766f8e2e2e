"""Checkpoints: files and directories that are written completely or not at all, and are checked before use.

Tensors are kept in safetensors files, everything else in JSON; nothing here writes pickles, and the pickled
formats of other projects are read by :func:`read_legacy`, which executes no code from the file.
"""

from __future__ import annotations

from pentatonic.checkpoint.atomic import atomic_directory, atomic_file
from pentatonic.checkpoint.manifest import MANIFEST, FileRecord, file_sha256, verify_directory
from pentatonic.checkpoint.rotation import model_directory, newest_verified, prune
from pentatonic.checkpoint.state import flatten_state, rng_state, set_rng_state, unflatten_state
from pentatonic.checkpoint.tensors import load_tensors, read_legacy, save_tensors

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
