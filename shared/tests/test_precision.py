"""Which number type a device computes in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pentatonic.errors import UsageError
from pentatonic.precision import has_bfloat16, number_type_name, resolve_precision

CPUINFO = Path("/proc/cpuinfo")


def test_names_stand_for_number_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("pentatonic.precision.has_bfloat16", lambda device, found=available: found)
        assert resolve_precision("auto", "cpu") == expected
        assert [resolve_precision(name, "cpu") for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    with pytest.raises(UsageError, match="'fp8'; allowed: 'auto', 'fp32', 'bf16'"):
        resolve_precision("fp8", "cpu")
    names = [number_type_name(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float64)]
    assert names == ["fp32", "bf16", "float64"]


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True}, False),
    ],
)
def test_only_instructions_for_bfloat16_count(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16("cpu") is expected
    assert not has_bfloat16("meta")


@pytest.mark.skipif(not CPUINFO.exists(), reason="flags of the processor are read from /proc")
def test_the_processor_is_asked() -> None:
    flags = next(
        (line for line in CPUINFO.read_text().splitlines() if line.startswith(("flags", "Features"))), ""
    )
    assert has_bfloat16("cpu") == any(flag.endswith("bf16") for flag in flags.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_has_no_bfloat16() -> None:
    assert not has_bfloat16("cuda")
