"""Ledgers in files: in the metadata of a WAV, and in a JSON sidecar beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError
from pentatonic.provenance import distribution_version
from pentatonic.untrusted.files import parse_json, read_json
from rc_audioldm.ledger.ledger import Ledger
from rc_audioldm.ledger.wav_chunks import (
    MAX_METADATA_BYTES,
    read_document,
    samples_sha256,
    write_metadata,
)
from rc_audioldm.licences import plain

SUFFIX = ".ledger.json"
_HASH = "samples_sha256"
_MOST_CREDITS = 20


@dataclass(frozen=True)
class FoundLedger:
    """A ledger of a file.

    Args:
        ledger: What it says.
        place: Where it was: in the WAV itself, or in the sidecar.
        fits: Whether the samples are those that it was written for; None where the sound is not there.
    """

    ledger: Ledger
    place: Literal["wav", "sidecar"]
    fits: bool | None


def sidecar_of(path: Path) -> Path:
    """Return the path of the sidecar of a recording: ``003.wav`` -> ``003.ledger.json``."""
    return path.with_suffix(SUFFIX)


def write_ledger(wav: Path, ledger: Ledger) -> Path:
    """Write a ledger into a WAV and beside it. The samples stay as they are, byte for byte.

    People find the prompt as title, the verdict and the lines of attribution as comment, and the licences as copyright
    in any player; programs read the whole as JSON in the chunk iXML, or in the sidecar.

    Args:
        wav: An existing WAV file.
        ledger: What shaped it.

    Returns:
        The path of the sidecar.

    Raises:
        FormatError: The file is not a complete WAV, or the ledger is too large for its metadata.
        CheckpointError: A file cannot be written.
    """
    document = {**ledger.as_dict(), _HASH: samples_sha256(wav)}
    text = json.dumps(document, allow_nan=False)
    if len(text) > MAX_METADATA_BYTES // 2:
        raise FormatError(f"its ledger has {len(text)} bytes; allowed: {MAX_METADATA_BYTES // 2}", path=wav)
    write_metadata(wav, _texts(ledger), text)
    sidecar = sidecar_of(wav)
    with atomic_file(sidecar, "w") as file:
        file.write(f"{json.dumps(document, indent=2, allow_nan=False)}\n")
    return sidecar


def read_ledger(path: Path) -> Ledger:
    """Return the ledger of a WAV, from the file itself or its sidecar; or that of a sidecar.

    Raises:
        FormatError: There is none, or it cannot be used.
    """
    return find_ledger(path).ledger


def find_ledger(path: Path) -> FoundLedger:
    """Return the ledger of a recording, and whether it is about these samples.

    Args:
        path: A WAV, whose own ledger counts more than its sidecar; another recording with a sidecar; or a sidecar.

    Raises:
        FormatError: There is none, or it cannot be used.
    """
    if path.suffix.lower() == ".json":
        wav = path.with_name(path.name.removesuffix(SUFFIX) + ".wav")
        return _read(_sidecar_values(path), path, "sidecar", wav if wav.is_file() else None)
    is_wav = path.suffix.lower() in (".wav", ".wave", ".bwf")
    if is_wav and (text := read_document(path)) is not None:
        return _read(parse_json(text, where=f"{path}: its iXML", error=FormatError), path, "wav", path)
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        raise FormatError(f"has no ledger, and there is no {sidecar.name} beside it", path=path)
    return _read(_sidecar_values(sidecar), sidecar, "sidecar", path if is_wav else None)


def _sidecar_values(path: Path) -> Any:
    return read_json(path, max_bytes=MAX_METADATA_BYTES, error=FormatError)


def _read(values: Any, path: Path, place: Literal["wav", "sidecar"], wav: Path | None) -> FoundLedger:
    stated = values.get(_HASH) if isinstance(values, dict) else None
    known = (
        {key: value for key, value in values.items() if key != _HASH} if isinstance(values, dict) else values
    )
    try:
        ledger = Ledger.from_dict(known)
    except FormatError as error:
        raise FormatError(f"its ledger {error.reason}", path=path) from error
    return FoundLedger(ledger, place, None if wav is None else samples_sha256(wav) == stated)


def _texts(ledger: Ledger) -> dict[str, str]:
    """Texts of LIST/INFO by their identifiers: title, comment, copyright, software."""
    judgement = ledger.judgement
    lines = [f"{judgement.verdict}: {judgement.reason}.", *judgement.attribution[:_MOST_CREDITS]]
    if len(judgement.attribution) > _MOST_CREDITS:
        lines.append(f"{len(judgement.attribution) - _MOST_CREDITS} more lines are in the ledger.")
    licences = dict.fromkeys(
        plain(each) for each in (ledger.model_licence, *(c.licence for c in ledger.influences))
    )
    version = distribution_version("rc-audioldm")
    return {
        "INAM": plain(ledger.prompt),
        "ICMT": " ".join(lines),
        "ICOP": "; ".join(licences),
        "ISFT": f"rc-audioldm {version or ''}".strip(),
    }
