"""Attention as operators of PyTorch: one node for ``torch.compile``, fake tensors and activation checkpointing.

Shapes: B batch, H heads, Nq queries, Nk keys, D and Dv head dimensions, M weights of the bias. Packed batches come
as ``(1, H, total, D)`` views. The arguments from ``axes`` on are the same in both operators; see
:class:`pentatonic.attention.problem.Problem` and :func:`pentatonic.attention.problem.lower_bias`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pentatonic.attention.chunked import chunked_backward, chunked_forward
from pentatonic.attention.descriptors import Bias, Visibility
from pentatonic.attention.intervals import GROUP, key_intervals
from pentatonic.attention.prepared import PreparedBias
from pentatonic.attention.problem import Distances, Problem, lower_bias
from pentatonic.errors import UsageError

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor | None,
    key_bias: Tensor | None,
    tolerance: float | None,
    splits: int | None,
    axes: Tensor | None,
    kv_len: Tensor | None,
    cu_q: Tensor | None,
    cu_k: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    laid_out: Tensor | None,
    seed: Tensor | None,
    per_axis: bool,
    signed: bool,
    directional: bool,
    cls_tokens: int,
    table: int,
    left: int | None,
    right: int | None,
    aligned: bool,
    interleaved: bool,
    scale: float,
    dropout_p: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """``(o, lse, intervals)`` of a lowered problem; ``intervals`` is empty where everything was visited.

    Differentiable once, in q, k, v, weights and key_bias.
    """
    distances = Distances(axes, per_axis, signed, directional, cls_tokens, table)
    rope = None if cos is None or sin is None else (cos, sin, interleaved)
    problem = Problem(distances, scale, left, right, kv_len, aligned, cu_q, cu_k, rope, laid_out=laid_out)
    if tolerance is not None:
        problem = problem.within(_intervals(q, k, weights, problem, tolerance, backend))
    if backend == "triton":
        from pentatonic.attention.kernels import launch

        with torch.cuda.device_of(q):  # Triton launches on the current device
            o, lse = launch.forward(q, k, v, weights, key_bias, problem, splits=splits)
    else:
        o, lse = chunked_forward(q, k, v, weights, key_bias, **_tiled(problem, dropout_p, seed))
    return o, lse, _empty(q) if problem.intervals is None else problem.intervals


def _attention_backward(
    grad_o: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    intervals: Tensor,
    weights: Tensor | None,
    key_bias: Tensor | None,
    needs_weights: bool,
    needs_key_bias: bool,
    axes: Tensor | None,
    kv_len: Tensor | None,
    cu_q: Tensor | None,
    cu_k: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    laid_out: Tensor | None,
    seed: Tensor | None,
    per_axis: bool,
    signed: bool,
    directional: bool,
    cls_tokens: int,
    table: int,
    left: int | None,
    right: int | None,
    aligned: bool,
    interleaved: bool,
    scale: float,
    dropout_p: float,
    backend: str,
) -> Gradients:
    """Gradients of q, k, v, weights and key_bias; the last two are empty where not needed."""
    distances = Distances(axes, per_axis, signed, directional, cls_tokens, table)
    rope = None if cos is None or sin is None else (cos, sin, interleaved)
    problem = Problem(distances, scale, left, right, kv_len, aligned, cu_q, cu_k, rope, laid_out=laid_out)
    if intervals.numel():
        problem = problem.within(intervals)
    tensors = (grad_o, grad_lse, q, k, v, o, lse, weights, key_bias)
    if backend == "triton":
        from pentatonic.attention.kernels import launch

        with torch.cuda.device_of(q):
            dq, dk, dv, dw, dkey = launch.backward(*tensors, problem, needs_weights=needs_weights)
    else:
        tiled = _tiled(problem, dropout_p, seed)
        dq, dk, dv, dw, dkey = chunked_backward(
            *tensors, **tiled, needs_weights=needs_weights, needs_key_bias=needs_key_bias
        )
    dw = dw if needs_weights and dw is not None else lse.new_empty(0)
    dkey = dkey.contiguous() if needs_key_bias and dkey is not None else lse.new_empty(0)
    return dq, dk, dv, dw, dkey


def _fake(
    q: Tensor, k: Tensor, v: Tensor, weights: Any, key_bias: Any, tolerance: float | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    lse = q.new_empty(q.shape[:-1], dtype=torch.promote_types(q.dtype, torch.float32))
    batch, heads, n_q, _ = q.shape
    intervals = _empty(q) if tolerance is None else _empty(q, batch, heads, -(-n_q // GROUP), 2)
    return like(q, v.shape[-1]), lse, intervals


def _fake_backward(
    grad_o: Any,
    grad_lse: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Any,
    lse: Tensor,
    intervals: Any,
    weights: Tensor,
    key_bias: Tensor,
    needs_weights: bool,
    needs_key_bias: bool,
    *rest: Any,
) -> Gradients:
    dw = weights.new_empty(weights.shape) if needs_weights else lse.new_empty(0)
    dkey = key_bias.new_empty(key_bias.shape) if needs_key_bias else lse.new_empty(0)
    dq, dk, dv = (like(x, x.shape[-1]) for x in (q, k, v))
    return dq, dk, dv, dw, dkey


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, weights, key_bias, _, _, *rest = inputs
    tensors, ctx.numbers = rest[:8], rest[8:]
    ctx.save_for_backward(q, k, v, *output, weights, key_bias, *tensors)
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_o: Tensor | None, grad_lse: Tensor | None, _: Any) -> tuple[Any, ...]:
    q, k, v, o, lse, intervals, weights, key_bias, *tensors = ctx.saved_tensors
    needs_weights, needs_key_bias = ctx.needs_input_grad[3:5]
    grad_o = torch.zeros_like(o) if grad_o is None else grad_o
    dq, dk, dv, dw, dkey = attention_backward_op(
        grad_o,
        grad_lse,
        q,
        k,
        v,
        o,
        lse,
        intervals,
        weights,
        key_bias,
        needs_weights,
        needs_key_bias,
        *tensors,
        *ctx.numbers,
    )
    nothing = (None,) * (2 + len(tensors) + len(ctx.numbers))
    return dq, dk, dv, dw if needs_weights else None, dkey if needs_key_bias else None, *nothing


def _refuse(ctx: Any, *grads: Any) -> Any:
    raise UsageError("attention in tiles is differentiable once; use backend='reference' or 'sdpa'")


# Defined by schema rather than by `torch.library.custom_op`, whose first call imports torch._dynamo: seconds that a
# program which compiles nothing should not wait.
_LIBRARY = torch.library.Library("pentatonic", "FRAGMENT")


def _register(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    schema = torch.library.infer_schema(function, mutates_args=())
    _LIBRARY.define(name + schema, tags=(torch.Tag.needs_exact_strides,))
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, function, device)
    torch.library.register_fake(f"pentatonic::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.pentatonic, name).default


attention_op = _register("attention", _attention, _fake)
attention_backward_op = _register("attention_backward", _attention_backward, _fake_backward)
torch.library.register_autograd(
    "pentatonic::attention", _differentiate, setup_context=_remember, lib=_LIBRARY
)
torch.library.register_autograd("pentatonic::attention_backward", _refuse, lib=_LIBRARY)


def _intervals(
    q: Tensor, k: Tensor, weights: Tensor | None, problem: Problem, tolerance: float, backend: str
) -> Tensor:
    if backend == "triton" and weights is not None:
        from pentatonic.attention.kernels import launch

        with torch.cuda.device_of(q):
            return launch.key_intervals(q, k, weights, problem, tolerance)
    return key_intervals(
        q,
        k,
        distances=problem.distances,
        weights=weights,
        visibility=problem.visibility,
        scale=problem.scale,
        tolerance=tolerance,
    )


def _tiled(problem: Problem, dropout_p: float, seed: Tensor | None) -> dict[str, Any]:
    """A problem as keyword arguments of the chunked back end."""
    return {
        "distances": problem.distances,
        "visibility": problem.visibility,
        "scale": problem.scale,
        "dropout_p": dropout_p,
        "seed": 0 if seed is None else int(seed),
        "intervals": problem.intervals,
    }


def like(x: Tensor, last: int) -> Tensor:
    """An empty tensor in the memory order of ``x (B, H, N, D)``, with another last axis."""
    if x.shape[-1] == last:
        return torch.empty_like(x)
    batch, heads, n, _ = x.shape
    return x.new_empty(batch, heads, n, last)


def _empty(q: Tensor, *shape: int) -> Tensor:
    return q.new_empty(shape or (0,), dtype=torch.int32)


def lowered_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Bias | PreparedBias | None,
    visibility: Visibility,
    scale: float,
    backend: str,
    rope: tuple[Tensor, Tensor, bool] | None = None,
    dropout_p: float = 0.0,
    tolerance: float | None = None,
    packed: tuple[Tensor, Tensor] | None = None,
    aligned: bool = False,
    splits: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower the descriptors of a checked call and run it in tiles.

    Args:
        q: ``(B, H, Nq, D)``, any strides; packed batches are ``(1, H, total, D)`` views.
        k: ``(B, H, Nk, D)``.
        v: ``(B, H, Nk, Dv)``.
        bias: Added to the scaled scores.
        visibility: Which keys a query sees.
        scale: Factor on ``q . k``.
        backend: ``"chunked"`` or ``"triton"``.
        rope: ``(cos, sin, interleaved)`` for the ``"triton"`` back end; others want rotated inputs.
        dropout_p: ``"chunked"`` only.
        tolerance: Probability per row that may be neglected, for biases that decay with distance.
        packed: int32 running lengths of queries and keys.
        aligned: Queries are the last of the ``kv_len`` tokens; inference only.
        splits: Ranges of keys computed apart, for few queries; ``None`` chooses.

    Returns:
        ``(o, lse)``: ``(B, H, Nq, Dv)`` in the dtype of q, and ``(B, H, Nq)``.
    """
    if backend == "triton":
        # The kernels read whole rows. Copied here, inputs and results have the strides that fake tensors have.
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    dtype = torch.promote_types(q.dtype, torch.float32)
    laid_out = None
    if isinstance(bias, PreparedBias):
        distances, weights, key_bias, laid_out = bias.distances, bias.weights, bias.key_bias, bias.laid_out
    else:
        distances, weights, key_bias = lower_bias(bias, q.shape[0], q.shape[1], k.shape[2], dtype)
    cos, sin, interleaved = (None, None, False) if rope is None else rope
    # All dropout masks follow from one seed, drawn from the global CPU generator.
    seed = torch.randint(2**62, ()) if dropout_p else None
    o, lse, _ = attention_op(
        q,
        k,
        v,
        weights,
        key_bias,
        tolerance if distances.per_axis else None,
        splits,
        distances.axes,
        visibility.kv_len,
        *(packed or (None, None)),
        cos,
        sin,
        laid_out,
        seed,
        distances.per_axis,
        distances.signed,
        distances.directional,
        distances.cls_tokens,
        distances.table,
        visibility.left,
        visibility.right,
        aligned,
        interleaved,
        scale,
        dropout_p,
        backend,
    )
    return o, lse
