"""Load what a run needs beside its model: the CLAP model of a bank, the bank, adapters."""

from __future__ import annotations

from pathlib import Path

import torch

from pentatonic.checkpoint.manifest import file_sha256
from pentatonic.errors import HubError, UsageError
from rc_audioldm.adapters.projector_files import load_projector
from rc_audioldm.adapters.state_files import load_state_adapter
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.clap.weights import from_pretrained, has_own_clap
from rc_audioldm.clap.windows import WINDOWS
from rc_audioldm.generation.settings import Retrieval
from rc_audioldm.generation.styles import StyleFinder

DEFAULT_CLAP = "laion/clap-htsat-unfused"
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_clap(
    name: str | None,
    revision: str | None,
    bank: Path | None,
    device: str,
    *,
    model: str | None = None,
    random_weights: bool = False,
) -> ClapEncoder:
    """Load a CLAP model with the windows and the number type of a bank.

    Args:
        name: Bundled name, directory or hub id; None: the one that the bank names. Without a bank, the one that the
            AudioLDM brings along, or the published one.
        revision: On the hub; None: the bank's.
        bank: Folder of the bank, or None.
        device: Where to compute.
        model: Name or directory of the AudioLDM that hears the vectors.
        random_weights: Do not test the text tower.

    Raises:
        HubError: There is no such model.
        FormatError: The bank cannot be read.
    """
    header = None if bank is None else StyleBank.open(bank).header
    own = model if model is not None and has_own_clap(model) else DEFAULT_CLAP
    named = own if header is None else header.model
    dtype = _DTYPES.get(header.dtype if header is not None else "fp32", torch.float32)
    if name is None and header is not None:
        revision = revision or header.revision or None
    try:
        encoder = from_pretrained(
            name or named, revision, device=device, dtype=dtype, random_weights=random_weights
        )
    except HubError as error:
        if name is not None:
            raise
        raise HubError(f"{error}; give the CLAP model that made the bank with --clap") from error
    for windows in WINDOWS.values():
        if header is not None and windows.describe(encoder.frontend.window_s) == header.windows:
            encoder.windows = windows
    return encoder


def load_finder(
    encoder: ClapEncoder,
    bank: Path | None,
    auxiliary: Path | None,
    retrieval: Retrieval,
    projector: Path | None,
) -> StyleFinder:
    """Open banks and load a projector.

    Args:
        encoder: The CLAP model of the banks.
        bank: Folder of the bank; None: only references.
        auxiliary: Folder of the auxiliary bank, or None.
        retrieval: How a style is found.
        projector: File of a projector, or None.

    Raises:
        FormatError, IncompatibleVectors, CheckpointError: A file cannot be used, or was made for another CLAP model.
    """
    if auxiliary is not None and bank is None:
        raise UsageError("--auxiliary needs --bank")
    mapped = None if projector is None else load_projector(projector, clap=encoder.header).projector
    opened = [None if folder is None else StyleBank.open(folder) for folder in (bank, auxiliary)]
    return StyleFinder(encoder, opened[0], opened[1], retrieval, mapped)


def load_adapter(path: Path, encoder: ClapEncoder | None) -> torch.nn.Module:
    """Load an adapter from styles to the states of a language model.

    Args:
        path: Its file or folder.
        encoder: The CLAP model of the styles.

    Raises:
        CheckpointError, IncompatibleVectors: It cannot be used, or was made for another CLAP model.
    """
    return load_state_adapter(path, clap=None if encoder is None else encoder.header)[0]


def file_hash(path: Path) -> str:
    """Return the start of the SHA-256 of a file, to tell files apart."""
    return file_sha256(path)[:16]
