"""The operators in PyTorch's machinery: opcheck, compile, export, checkpoints, fake tensors, and dispatch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Causal,
    Directional,
    DistanceTable,
    KeyBias,
    KeyLengths,
    Raw,
    Rope,
    SlidingWindow,
    attention,
    decode_attention,
    dispatch,
    explain,
    kernels,
    ops,
    varlen_attention,
)
from pentatonic.errors import BackendUnavailable, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

INTERPRETED = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is off: the kernels run on a GPU"
)
BACKENDS = pytest.mark.parametrize("backend", ["chunked", pytest.param("triton", marks=INTERPRETED)])


def qkv(n_q: int = 9, n_k: int = 9, requires_grad: bool = True) -> list[Tensor]:
    """``(B, H, N, D)`` views of token-major memory."""
    g = torch.Generator().manual_seed(n_q)
    return [
        torch.randn(2, n, 2, 16, generator=g).transpose(1, 2).requires_grad_(requires_grad)
        for n in (n_q, n_k, n_k)
    ]


def slopes() -> list[Tensor]:
    return [torch.tensor([0.3, 0.1], requires_grad=True), torch.tensor([0.2, 0.5], requires_grad=True)]


XY = torch.randint(0, 5, (9, 2), generator=torch.Generator().manual_seed(0))
# Options of a call by name; every family of arguments that the operators know.
FAMILIES: dict[str, Any] = {
    "plain": lambda: {},
    "alibi_1d": lambda: {"bias": Alibi1D(slopes()[0], cls_tokens=1), "scale": -0.3},
    "alibi_2d": lambda: {"bias": Alibi2D(XY, *slopes())},
    "alibi_2d_fixed": lambda: {"bias": Alibi2D(XY, *(x.detach() for x in slopes())), "mask": Causal()},
    "directional": lambda: {"bias": Directional(XY, *slopes(), signed=True), "mask": SlidingWindow(3, 2)},
    "raw": lambda: {"bias": Raw(XY.expand(2, 9, 2), signed=False)},
    "key": lambda: {"bias": KeyBias(torch.randn(2, 9, requires_grad=True), cls_tokens=1)},
    "table": lambda: {"bias": DistanceTable(XY, torch.randn(2, 2, 6, requires_grad=True))},
    "lengths": lambda: {"mask": Causal() & KeyLengths(torch.tensor([0, 7]))},
    "rope": lambda: {"rope": Rope(100.0, style="interleaved", rotary_dim=8), "mask": SlidingWindow(3, 9)},
    "tolerance": lambda: {"bias": Alibi2D(XY, *slopes()), "tolerance": 1e-3},
}


def recorded(call: Any) -> list[tuple[Any, ...]]:
    """The arguments with which a call reaches the operator."""
    seen = []

    def record(*args: Any) -> Any:
        seen.append(args)
        return original(*args)

    original = ops.attention_op
    with mock.patch.object(ops, "attention_op", record):
        call()
    return seen


def detached(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments as leaves, in their memory order."""
    return tuple(x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in args)


ALL_CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


@BACKENDS
@pytest.mark.parametrize("checks", [ALL_CHECKS[:3], pytest.param(ALL_CHECKS[3:], marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_opcheck(family: str, checks: tuple[str, ...], backend: Any):
    if (family, backend) == ("table", "triton"):
        pytest.skip("the kernels take no table")
    (args,) = recorded(lambda: attention(*qkv(), **FAMILIES[family](), return_lse=True, backend=backend))
    torch.library.opcheck(ops.attention_op, detached(args), test_utils=checks)


def test_opcheck_with_dropout():
    (args,) = recorded(lambda: attention(*qkv(), dropout_p=0.4, return_lse=True, backend="chunked"))
    torch.library.opcheck(ops.attention_op, detached(args))


@INTERPRETED
def test_opcheck_packed_and_decoding():
    q, k, v = (x[0].transpose(0, 1) for x in qkv())
    cu = torch.tensor([0, 4, 4, 9])
    w = slopes()
    (args,) = recorded(
        lambda: varlen_attention(q, k, v, cu, max_seqlen_q=5, bias=Alibi2D(XY, *w), backend="triton")
    )
    torch.library.opcheck(ops.attention_op, detached(args))
    cache = [x.detach() for x in qkv(3)]
    (args,) = recorded(lambda: decode_attention(*cache, torch.tensor([5, 8]), num_splits=3, backend="triton"))
    torch.library.opcheck(ops.attention_op, args)


def layouts() -> dict[str, Tensor]:
    return {
        "plain": torch.randn(2, 3, 5, 16),
        "tokens_first": torch.randn(2, 5, 3, 16).transpose(1, 2),
        "fused": torch.randn(2, 5, 3, 3, 16)[:, :, 1].transpose(1, 2),
        "dim_outside": torch.randn(2, 3, 16, 5).transpose(2, 3),
        "expanded": torch.randn(2, 1, 5, 16).expand(2, 3, 5, 16),
        "every_second": torch.randn(2, 3, 5, 32)[..., ::2],
    }


@BACKENDS
@pytest.mark.parametrize("layout", list(layouts()))
def test_fake_tensors_have_the_shapes_and_strides_of_real_ones(layout: str, backend: Any):
    x = layouts()[layout]

    def forward_and_backward(x: Tensor) -> list[Tensor]:
        q, k, v = (x.detach().requires_grad_() for _ in range(3))
        (args,) = recorded(lambda: attention(q, k, v, return_lse=True, backend=backend))
        o, lse, live = ops.attention_op(*args)
        grads = ops.attention_backward_op(
            torch.ones_like(o), None, *args[:3], o, lse, live, None, None, False, False, *args[7:]
        )
        return [o, lse, live, *grads]

    real = forward_and_backward(x)
    with FakeTensorMode() as mode:
        fake = forward_and_backward(mode.from_tensor(x))
    for a, b in zip(real, fake, strict=True):
        assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)


# --- compile, export, checkpoint -----------------------------------------------------------------------------------


class Block(nn.Module):
    """A layer with a learned 2D ALiBi, as models have it."""

    def __init__(self, backend: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(32, 96)
        self.slope = nn.Parameter(torch.tensor([0.3, 0.1]))
        self.backend = backend

    def forward(self, x: Tensor, coords: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        bias = Alibi2D(coords, self.slope, self.slope)
        o = attention(q, k, v, bias=bias, mask=SlidingWindow(6, 6), backend=self.backend)
        return o.transpose(1, 2).flatten(2)


def tokens(n: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    return torch.randn(1, n, 32, generator=g), torch.randint(0, 5, (n, 2), generator=g)


def gradients(block: nn.Module, run: Any, n: int) -> dict[str, Tensor]:
    """Output and gradients of every parameter."""
    o = run(*tokens(n))
    block.zero_grad()
    o.square().sum().backward()
    found = {name: p.grad.clone() for name, p in block.named_parameters() if p.grad is not None}
    assert len(found) == 3
    return {"o": o.detach()} | found


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, x in expected.items():
        torch.testing.assert_close(
            got[name], x, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


@BACKENDS
@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_one_compiled_graph_serves_all_lengths(backend: Any, compiler: str):
    block = Block(backend)
    graphs = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._dynamo.lookup_backend(compiler)(graph, inputs)

    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=count)
    seen = set()
    for n in (11, 17, 23):
        assert_equal(gradients(block, compiled, n), gradients(block, block, n))
        seen.add(len(graphs))
    assert len(seen) == 1  # what the first length compiled
    assert any("pentatonic.attention" in str(node.target) for node in graphs[-1].graph.nodes)


@BACKENDS
def test_activation_checkpointing_changes_nothing(backend: Any):
    block = Block(backend)
    plain = gradients(block, block, 11)
    wrapped = gradients(block, lambda *x: checkpoint(block, *x, use_reentrant=False), 11)
    assert all(wrapped[name].equal(x) for name, x in plain.items())


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_runs_without_our_operators(strict):
    block = Block("auto").eval()
    x = tokens(200)  # more scores than an explicit matrix is for
    assert explain(*[torch.empty(1, 2, 200, 16)] * 3, bias=Alibi1D(block.slope)).backend == "chunked"
    program = torch.export.export(block, x, strict=strict)
    assert "pentatonic" not in str(program.graph)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*x), block(*x), atol=1e-5, rtol=0)


def test_compiled_code_takes_the_back_end_that_other_code_takes():
    block = Block("auto").eval()
    targets = []

    def record(graph: Any, inputs: Any) -> Any:
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    torch._dynamo.reset()
    x = tokens(200)
    with torch.no_grad():
        compiled = torch.compile(block, fullgraph=True, backend=record)(*x)
        torch.testing.assert_close(compiled, block(*x), atol=1e-5, rtol=0)
    assert "pentatonic.attention.default" in targets


# --- who computes what ---------------------------------------------------------------------------------------------


@INTERPRETED
def test_the_kernels_say_what_they_cannot_do():
    q = torch.zeros(1, 1, 4, 16)
    cases: dict[str, tuple[Tensor, Tensor]] = {
        "float16, bfloat16 and float32, not torch.float64": (q.double(), q.double()),
        "equal head dimensions of 1 to 128": (q.new_zeros(1, 1, 4, 200), q.new_zeros(1, 1, 4, 200)),
        "equal head dimensions": (q, q[..., :8]),
    }
    for why, (x, v) in cases.items():
        with pytest.raises(BackendUnavailable, match=f"triton: .*{why}"):
            attention(x, x, v, backend="triton")
        with pytest.raises(BackendUnavailable, match=f"triton: .*{why}"):
            explain(x, x, v, backend="triton")
        with pytest.raises(BackendUnavailable, match=f"triton: .*{why}"):
            decode_attention(x, x, v, 4, backend="triton")
        packed, packed_v = x[0].transpose(0, 1), v[0].transpose(0, 1)
        with pytest.raises(BackendUnavailable, match=f"triton: .*{why}"):
            varlen_attention(packed, packed, packed_v, torch.tensor([0, 4]), max_seqlen_q=4, backend="triton")
    with pytest.raises(BackendUnavailable, match="triton has no dropout"):
        attention(q, q, q, dropout_p=0.1, backend="triton")


SCRIPT = """
import sys, torch
from pentatonic.attention import attention
from pentatonic.errors import BackendUnavailable

q = torch.zeros(1, 1, 4, 16)
attention(q, q, q)
assert "triton" not in sys.modules
try:
    attention(q, q, q, backend="triton")
except BackendUnavailable as error:
    print(error)
"""


def test_without_a_gpu_and_without_the_interpreter_the_kernels_are_unavailable():
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment
    )
    assert child.stdout == "triton: the kernels need a CUDA device, the tensors are on cpu\n"


def test_without_triton_the_kernels_are_unavailable():
    q = torch.zeros(1, 1, 4, 16)
    with (
        mock.patch.object(kernels, "_INSTALLED", False),
        pytest.raises(BackendUnavailable, match="triton: Triton is not installed"),
    ):
        attention(q, q, q, backend="triton")


@pytest.fixture
def trusted() -> Iterator[None]:
    """Kernels that have agreed with the reference on the GPU that is not there."""
    with mock.patch.object(dispatch, "why_untrusted", lambda variant, device: None):
        yield


class OnGpu(Tensor):
    """Shapes, dtypes and the device of a GPU that is not there, and no memory."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)


def cuda(n: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.empty(1, 2, n, 16, dtype=dtype, device="meta").as_subclass(OnGpu)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("options", "gpu", "cpu", "reason"),
    [
        ({}, "sdpa", "sdpa", "full attention is fused"),
        ({"mask": Causal()}, "sdpa", "sdpa", "square causal attention is fused"),
        ({"mask": KeyLengths(torch.tensor([3]))}, "triton", "sdpa", "nothing but key lengths hides keys"),
        (
            {"mask": SlidingWindow(64, 64) & KeyLengths(torch.tensor([3]))},
            "triton",
            "chunked",
            "a window or a bottom-right causal bound skips tiles",
        ),
        ({"bias": Alibi1D(torch.ones(2))}, "triton", "chunked", "Alibi1D: no Nq x Nk matrix"),
        ({"return_lse": True}, "triton", "chunked", "SDPA does not return the log-sum-exp"),
    ],
)
def test_what_computes_which_situation_where(options, gpu, cpu, reason):
    def choice(x: Any) -> dispatch.Choice:
        return explain(x, x, x, **options)

    with mock.patch.object(dispatch, "why_not", lambda q, k, v: None):
        assert choice(cuda(600)) == dispatch.Choice(gpu, reason)
        assert choice(torch.empty(1, 2, 600, 16)) == dispatch.Choice(cpu, reason)
    with mock.patch.object(dispatch, "why_not", lambda q, k, v: "no"):
        assert choice(cuda(600)) == dispatch.Choice(cpu, reason)


@pytest.mark.usefixtures("trusted")
def test_narrow_windows_are_fused_where_there_is_no_kernel_and_weights_are_not_rounded():
    def backend(x: Tensor) -> str:
        return explain(x, x, x, mask=SlidingWindow(64, 64)).backend

    with mock.patch.object(dispatch, "why_not", lambda q, k, v: None):
        assert backend(cuda(600, torch.float32)) == backend(cuda(600)) == "triton"
    with mock.patch.object(dispatch, "why_not", lambda q, k, v: "no"):
        assert backend(cuda(600, torch.float32)) == "banded"
        assert backend(cuda(600)) == "chunked"
    assert backend(torch.empty(1, 2, 600, 16)) == "banded"
    assert backend(torch.empty(1, 2, 600, 16, dtype=torch.bfloat16)) == "chunked"


@pytest.mark.usefixtures("trusted")
def test_on_a_gpu_a_table_takes_the_tiles():
    bias = DistanceTable(torch.zeros(600, 2), torch.zeros(2, 5))
    with mock.patch.object(dispatch, "why_not", lambda q, k, v: None):
        x = cuda(600)
        choice = explain(x, x, x, bias=bias)
        assert choice.backend == "chunked" and "look up nothing in a DistanceTable" in choice.reason
        with pytest.raises(BackendUnavailable, match="DistanceTable"):
            explain(x, x, x, bias=bias, backend="triton")


@pytest.mark.usefixtures("trusted")
def test_on_a_gpu_dropout_and_nothing_to_do_go_elsewhere():
    bias = Alibi1D(torch.ones(2))
    with mock.patch.object(dispatch, "why_not", lambda q, k, v: None):
        x = cuda(600)
        assert explain(x, x, x, bias=bias, dropout_p=0.1).backend == "chunked"
        empty = cuda(0)
        assert explain(empty, empty, empty, bias=bias) == dispatch.Choice("chunked", "there are no scores")
        with mock.patch.object(dispatch, "_exporting", lambda: True):
            assert explain(x, x, x, bias=bias).backend == "sdpa"
            assert explain(x, x, x, return_lse=True).backend == "reference"


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("n_q", "n_k", "processors", "expected"),
    [(1, 4096, 132, "triton"), (16, 1025, 132, "triton"), (17, 4096, 132, "sdpa"), (1, 1024, 132, "sdpa"),
     (1, 4096, 2, "sdpa")],
)  # fmt: skip
def test_decoding_splits_the_keys_where_the_heads_leave_a_gpu_idle(n_q, n_k, processors, expected):
    properties = mock.Mock(multi_processor_count=processors)
    with (
        mock.patch.object(dispatch, "why_not", lambda q, k, v: None),
        mock.patch.object(torch.cuda, "get_device_properties", lambda device: properties),
    ):
        assert dispatch.choose_decode(cuda(n_q), cuda(n_k), cuda(n_k), "auto") == expected
        assert dispatch.choose_decode(torch.empty(1, 2, n_q, 16), cuda(n_k), cuda(n_k), "auto") == "sdpa"


def test_a_second_derivative_is_refused():
    q = torch.randn(1, 1, 300, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(
        attention(q, q, q, mask=Causal(), return_lse=True)[0].sum(), q, create_graph=True
    )
    with pytest.raises(UsageError, match="differentiable once"):
        grad.sum().backward()


def test_nothing_waits_for_the_compiler():
    """Importing torch._dynamo takes seconds, which programs that compile nothing should not spend."""
    script = """
import sys, torch
from pentatonic.attention import SlidingWindow, attention
q = torch.randn(1, 1, 300, 8, requires_grad=True)
attention(q, q, q, mask=SlidingWindow(2, 2)).sum().backward()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
