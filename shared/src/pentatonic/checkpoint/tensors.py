"""Dictionaries of tensors in files: safetensors for what we write, and guarded reading of pickled state dicts.

Source: the safetensors format (github.com/huggingface/safetensors): the header's size as 8 bytes, little-endian; a JSON
header with type, shape and place of each tensor; the data without gaps.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pentatonic.checkpoint.atomic import atomic_file
from pentatonic.errors import CheckpointError, CorruptCheckpoint
from pentatonic.processes.interrupts import delayed_interrupts
from pentatonic.untrusted.files import regular_file_size, shortened

MAX_TENSORS = 10_000
"""Most tensors of a file that is read or written."""
MAX_HEADER_BYTES = 4 * 2**20
"""Largest header of a safetensors file that is read or written: some 400 bytes for each of the most tensors."""

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_METADATA = "__metadata__"
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL (\S+)")


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as a safetensors file; equal input gives equal bytes, and an error leaves no partial file.

    Args:
        path: The file; its folder must exist.
        tensors: Name to dense tensor, of any shape, on any device and of a real or boolean dtype. Tensors that share
            memory are written once each.
        metadata: Texts for the header.

    Raises:
        CheckpointError: The file cannot be written, there are too many tensors to read again, or this format cannot
            store a tensor; the message names it.
    """
    for name, tensor in tensors.items():
        _check_writable(path, name, tensor)
    # Not written by the library, which orders metadata at random, ignores the umask and hides errors of the disk.
    # As in the library, tensors of wide types come first, so that every tensor is aligned.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(tensors) > MAX_TENSORS or len(text) > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"cannot write {path}: {len(tensors)} tensors with a header of {len(text)} bytes; allowed: at most "
            f"{MAX_TENSORS} tensors and {MAX_HEADER_BYTES} bytes"
        )
    with atomic_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def load_tensors(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Read a safetensors file.

    On the CPU, the tensors are views of the memory-mapped file; writing to them does not change the file.

    Args:
        path: The file.
        device: Device of the tensors.

    Returns:
        Name to tensor.

    Raises:
        CorruptCheckpoint: The file is missing, not a regular file, truncated, or not a well-formed safetensors file; a
            name that occurs twice in the header counts as malformed, and so do too many names.
    """
    path = Path(path)
    regular_file_size(path, error=CorruptCheckpoint)
    try:
        _check_header(path)
        with delayed_interrupts():
            tensors = load_file(path)
    except OSError as error:
        raise CorruptCheckpoint(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # parsers raise errors of any kind for malformed bytes
        raise CorruptCheckpoint(f"{path}: not a whole safetensors file: {_one_line(error)}") from error
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def read_legacy(
    path: str | Path, *, key: str = "state_dict", max_bytes: int = 8 * 2**30
) -> dict[str, Tensor]:
    """Read a state dict that another project saved with ``torch.save``, without executing code from the file.

    Args:
        path: A ``.pth``, ``.pt``, ``.ckpt`` or ``.bin`` file that holds tensors by name, either directly or under
            ``key``.
        key: Entry of a training state that holds the tensors; other entries are ignored.
        max_bytes: Largest file that is read.

    Returns:
        Name to tensor, on the CPU; views of the file where its format allows.

    Raises:
        CheckpointError: The file is missing, too large, damaged, or holds Python objects other than tensors and
            plain values.
    """
    path = Path(path)
    try:
        is_zip = _check_container(path, max_bytes)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # parsers raise errors of any kind for malformed bytes
        raise CheckpointError(f"{path}: {_refusal(error)}") from error
    wrapped = isinstance(content, dict) and isinstance(content.get(key), dict)
    return _named_tensors(path, content[key] if wrapped else content)


def _check_writable(path: str | Path, name: str, tensor: Tensor) -> None:
    if name == _METADATA:
        raise CheckpointError(f"cannot write {path}: the name {name!r} is reserved")
    if tensor.dtype not in _DTYPES:
        allowed = ", ".join(str(dtype) for dtype in _DTYPES)
        raise CheckpointError(f"cannot write {path}: {name!r} is of {tensor.dtype}; allowed: {allowed}")
    if tensor.is_meta or tensor.layout is not torch.strided:
        kind = "on the meta device" if tensor.is_meta else f"of layout {tensor.layout}"
        raise CheckpointError(
            f"cannot write {path}: {name!r} is {kind}; only dense tensors with data are allowed"
        )


def _check_header(path: Path) -> None:
    """Reject a name that occurs twice in the header and too many names, which the library does not check."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"the header has {size} bytes, at most {MAX_HEADER_BYTES} are allowed")
        header = json.loads(file.read(size).decode(), object_pairs_hook=_unique)
    tensors = len(header) - (_METADATA in header)
    if tensors > MAX_TENSORS:
        raise ValueError(f"the header has {tensors} tensors, at most {MAX_TENSORS} are allowed")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for name, value in pairs:
        if name in mapping:
            raise ValueError(f"the header gives {shortened(name)} twice")
        mapping[name] = value
    return mapping


def _check_container(path: Path, max_bytes: int) -> bool:
    """Check size and packing before torch reads the file; True where it is a zip archive, which torch can map."""
    if not path.is_file():
        raise CheckpointError(f"{path}: is missing, or is not a regular file")
    if (size := path.stat().st_size) > max_bytes:
        raise CheckpointError(f"{path}: has {size} bytes, more than the limit of {max_bytes}")
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    # torch stores without compression; a compressed member could unpack to any size, and cannot be memory-mapped.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError(f"{path}: is a compressed archive, not a file of torch.save")
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise CheckpointError(f"{path}: is a TorchScript program; only state dicts are read")
    return True


def _refusal(error: Exception) -> str:
    # torch's own message is left out, because it recommends loading the file unsafely.
    if found := _FORBIDDEN_GLOBAL.search(str(error)):
        return (
            f"refused, because it holds the Python object {found[1]}; only tensors and plain values are read"
        )
    return "is not a whole file of torch.save with tensors and plain values only"


def _named_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    if len(content) > MAX_TENSORS:
        raise CheckpointError(f"{path}: holds {len(content)} values; allowed: at most {MAX_TENSORS} tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not _is_dense(value):
            raise CheckpointError(
                f"{path}: {shortened(name)} is a {type(value).__name__}; allowed: dense tensors by name, or these "
                "under the key 'state_dict'"
            )
    return {name: value.detach() for name, value in content.items()}


def _is_dense(value: Any) -> bool:
    """Whether a value is an ordinary tensor, not larger than the data that the file holds for it."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    if value.is_nested or value.is_quantized or value.is_meta:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
