"""Every golden case through every back end that can compute it: values, lse and gradients."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Bias,
    Causal,
    Directional,
    KeyLengths,
    Mask,
    Rope,
    SlidingWindow,
    attention,
    varlen_attention,
)
from pentatonic.attention.kernels.configs import Config, forced

GOLDENS = Path(__file__).parent / "goldens"
CASES = sorted(path.name.removeprefix("attention_") for path in GOLDENS.glob("attention_*"))
Tensors = dict[str, Tensor]


def alibi_1d(t: Tensors) -> Bias:
    return Alibi1D(t["slope"])


def alibi_2d(cls_tokens: int) -> Callable[[Tensors], Bias]:
    def build(t: Tensors) -> Bias:
        coords = torch.stack((t["coord_t"], t["coord_f"]), dim=-1)
        return Alibi2D(coords, t["slope_t"], t["slope_f"], cls_tokens)

    return build


def directional(signed: bool) -> Callable[[Tensors], Bias]:
    def build(t: Tensors) -> Bias:
        coords = torch.stack((t["coord_t"], t["coord_f"]), dim=-1)
        # These two cases store no slot for the CLS token; its value must not matter.
        coords = torch.nn.functional.pad(coords, (0, 0, 1, 0), value=77)
        return Directional(coords, t["left_slope"], t["right_slope"], signed)

    return build


BIASES: dict[str, Callable[[Tensors], Bias]] = {
    "alibi_1d": alibi_1d,
    "alibi_2d": alibi_2d(0),
    "alibi_2d_cls": alibi_2d(1),
    "alibi_2d_patchout": alibi_2d(1),
    "alibi_2d_patchout_sorted": alibi_2d(1),
    "alibi_2d_long_steep": alibi_2d(1),
    "varlen_alibi_2d_cls": alibi_2d(1),
    "directional_absolute": directional(False),
    "directional_signed": directional(True),
}
MASKS: dict[str, Callable[[Tensors], Mask]] = {
    "causal": lambda t: Causal(),
    "causal_kv_cache": lambda t: Causal(),
    "varlen_causal": lambda t: Causal(),
    "decode_single_query": lambda t: KeyLengths(t["kv_len"]),
    "key_padding_dead_rows": lambda t: KeyLengths(t["kv_len"]),
    "varlen_window": lambda t: SlidingWindow(4, 4),
    "varlen_window_rope": lambda t: SlidingWindow(4, 4),
}


def load(case: str, dtype: torch.dtype) -> tuple[Tensors, Tensors, Tensors, dict[str, Any]]:
    stored = load_file(GOLDENS / f"attention_{case}" / "io.safetensors")
    meta = json.loads((GOLDENS / f"attention_{case}" / "meta.json").read_text())
    parts: dict[str, Tensors] = {"in": {}, "out": {}, "grad": {}}
    for key, tensor in stored.items():
        part, name = key.split(".")
        parts[part][name] = tensor
    inputs = {name: x.to(dtype) if x.is_floating_point() else x for name, x in parts["in"].items()}
    return inputs, parts["out"], parts["grad"], meta


def run(
    case: str, backend: Any, dtype: torch.dtype, with_lse: bool
) -> tuple[Tensors, Tensors, Tensors, dict]:
    inputs, out, grad, meta = load(case, dtype)
    leaves = {name: inputs[name].requires_grad_() for name in grad}
    options: dict[str, Any] = {
        "bias": BIASES[case](inputs) if case in BIASES else None,
        "mask": MASKS[case](inputs) if case in MASKS else None,
        "rope": Rope(meta["theta"], style=meta["rope"]) if "rope" in meta else None,
        "scale": meta["softmax_scale"],
        "return_lse": with_lse,
        "backend": backend,
    }
    q, k, v = leaves["q"], leaves["k"], leaves["v"]
    if "cu_seqlens" in inputs:
        packed = (x[0].transpose(0, 1) for x in (q, k, v))
        result = varlen_attention(*packed, inputs["cu_seqlens"], max_seqlen_q=30, **options)
        result = tuple(x.transpose(0, 1)[None] for x in result) if with_lse else result.transpose(0, 1)[None]
    else:
        result = attention(q, k, v, **options)
    got = {"o": result[0], "lse": result[1]} if with_lse else {"o": result}
    got["o"].backward(inputs["grad_out"])
    got |= {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
    expected = out | {f"grad.{name}": value for name, value in grad.items()}
    return got, expected, inputs, meta


def close(got: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    torch.testing.assert_close(
        got.double(), expected.double(), atol=tolerance, rtol=0.0, msg=lambda m: f"{name}: {m}"
    )


def test_all_cases_are_here():
    assert len(CASES) == 20
    assert set(CASES) >= set(BIASES) | set(MASKS)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("case", CASES)
def test_float64_matches_to_the_stored_precision(case, backend):
    got, expected, _, _ = run(case, backend, torch.float64, with_lse=True)
    for name, value in got.items():
        close(value, expected[name], 1e-10 if expected[name].dtype == torch.float64 else 1e-5, name)


@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
@pytest.mark.parametrize("backend", ["auto", "sdpa", "chunked", "reference", "triton"])
@pytest.mark.parametrize("case", CASES)
def test_float32_meets_the_tolerance_of_the_case(case, backend):
    if backend == "triton" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton's interpreter is off: the kernels run on a GPU")
    with_lse = backend in ("chunked", "reference", "triton")
    with forced(Config(64, 32, 4, 1)):  # few tiles: the interpreter is slow
        got, expected, _, meta = run(case, backend, torch.float32, with_lse=with_lse)
    tolerance = meta["tolerance"]["float32"]
    for name, value in got.items():
        close(value, expected[name], tolerance["grads" if name.startswith("grad") else "o"], name)
