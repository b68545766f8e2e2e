"""Kernels earn trust: compared with the reference at their first use, remembered, and replaced where they fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Causal,
    Directional,
    KeyBias,
    KeyLengths,
    Raw,
    Rope,
    SlidingWindow,
    attention,
    decode_attention,
    dispatch,
    explain,
    preference,
    varlen_attention,
)
from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.trust import check, small_problem
from pentatonic.attention.trust.record import Record
from pentatonic.attention.trust.variant import Variant, variant_of
from pentatonic.errors import BackendUnavailable, UsageError

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("Triton's interpreter is off: the kernels run on a GPU", allow_module_level=True)
pytest.importorskip("triton")

from pentatonic.attention.kernels import launch
from pentatonic.attention.kernels.configs import Config, forced

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

CPU = torch.device("cpu")
SLOPES = torch.tensor([0.3, 0.1])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The CPU as a device whose kernels are the default and are checked, with a cache of its own.

    Problems are smaller than on a GPU, as are the tiles: there are as many of them.
    """
    monkeypatch.setattr(small_problem, "TOKENS", 150)
    monkeypatch.setattr(small_problem, "CACHED_TOKENS", 150)
    monkeypatch.setattr(small_problem, "PACKED_LENGTHS", (90, 0, 70, 1))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(check, "CHECKED_DEVICES", ["cpu"])
    monkeypatch.setattr(dispatch, "CHECKED_DEVICES", ["cpu"])
    monkeypatch.setattr(dispatch, "KERNEL_DEVICE", "cpu")
    monkeypatch.setattr(preference, "ENVIRONMENT", ())
    check.clear_cache()
    with forced(Config(64, 64, 4, 1)):
        yield tmp_path / "pentatonic" / "attention"
    check.clear_cache()


@pytest.fixture
def compared() -> Iterator[list[Variant]]:
    """The variants that have been compared with the reference."""
    seen: list[Variant] = []
    original = check._compare

    def record(variant: Variant, device: torch.device) -> str | None:
        seen.append(variant)
        return original(variant, device)

    with mock.patch.object(check, "_compare", record):
        yield seen


@pytest.fixture
def launched() -> Iterator[list[str]]:
    """Names of the passes that the kernels computed."""
    seen: list[str] = []

    def counted(name: str) -> Any:
        original = getattr(launch, name)

        def run(*args: Any, **options: Any) -> Any:
            seen.append(name)
            return original(*args, **options)

        return mock.patch.object(launch, name, run)

    with counted("forward"), counted("backward"):
        yield seen


def qkv(n: int = 40, requires_grad: bool = False) -> list[Tensor]:
    g = torch.Generator().manual_seed(n)
    return [torch.randn(1, 2, n, 16, generator=g).requires_grad_(requires_grad) for _ in range(3)]


def wrong(*args: Any, **options: Any) -> Any:
    """A kernel whose output is off by two percent."""
    o, lse = RIGHT(*args, **options)
    return 1.02 * o, lse


def wrong_backward(*args: Any, **options: Any) -> Any:
    dq, *rest = RIGHT_BACKWARD(*args, **options)
    return 1.02 * dq, *rest


def uncompilable(*args: Any, **options: Any) -> Any:
    raise RuntimeError("PassManager::run failed\nand a long dump")


RIGHT, RIGHT_BACKWARD = launch.forward, launch.backward


def truth(*tensors: Tensor, **options: Any) -> Tensor:
    return attention(*tensors, backend="reference", **options)


def test_a_right_kernel_is_compared_once_and_used(compared, launched, cache):
    q, k, v = qkv()
    window = SlidingWindow(3, 5)
    for _ in range(3):
        torch.testing.assert_close(attention(q, k, v, mask=window), truth(q, k, v, mask=window))
    assert compared == [Variant(torch.float32, 16, left=True, right=True)]
    assert launched == ["forward"] * 4  # one of them for the check
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["agreed"] == ["float32 head_dim=16 left=True right=True"]
    assert explain(q, k, v, mask=window).backend == "triton"


@pytest.mark.parametrize("broken", [wrong, uncompilable])
def test_a_wrong_kernel_and_a_compiler_error_are_warned_of_once_and_replaced(broken, cache):
    q, k, v = qkv(150)  # too many scores for an explicit matrix
    bias = Alibi1D(SLOPES)
    with mock.patch.object(launch, "forward", broken):
        with pytest.warns(RuntimeWarning, match="another back end computes such calls") as warned:
            o = attention(q, k, v, bias=bias)
        assert sum(warning.category is RuntimeWarning for warning in warned) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            again = attention(q, k, v, bias=bias)
        choice = explain(q, k, v, bias=bias)
    torch.testing.assert_close(o, truth(q, k, v, bias=bias))
    assert again.equal(o)
    assert choice.backend == "chunked"
    assert (
        "the output is 0.02" if broken is wrong else "RuntimeError: PassManager::run failed"
    ) in choice.reason
    assert not cache.exists()  # another process checks again


@pytest.mark.parametrize("broken", [wrong, uncompilable])
def test_a_forced_kernel_that_fails_raises(broken):
    q, k, v = qkv()
    packed = [x[0].transpose(0, 1) for x in (q, k, v)]
    calls: list[Callable[[], Any]] = [
        lambda: attention(q, k, v, backend="triton"),
        lambda: explain(q, k, v, backend="triton"),
        lambda: varlen_attention(*packed, torch.tensor([0, 40]), max_seqlen_q=40, backend="triton"),
        lambda: decode_attention(q[:, :, :1], k, v, 40, backend="triton"),
    ]
    with mock.patch.object(launch, "forward", broken), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for call in calls:
            with pytest.raises(
                BackendUnavailable, match=r"triton: the check of the kernels \(.*\) failed on cpu"
            ):
                call()


@pytest.mark.filterwarnings("ignore:the check of the kernels:RuntimeWarning")
def test_packed_batches_and_decoding_fall_back(launched):
    q, k, v = qkv()
    packed = [x[0].transpose(0, 1) for x in (q, k, v)]
    cu = torch.tensor([0, 17, 40])
    with mock.patch.object(launch, "forward", wrong):
        with pytest.warns(RuntimeWarning, match="packed=same"):
            o = varlen_attention(*packed, cu, max_seqlen_q=23, bias=KeyBias(torch.randn(40)))
        with (
            mock.patch.object(dispatch, "_leaves_processors_idle", lambda q, k: True),
            pytest.warns(RuntimeWarning, match="few_queries"),
        ):
            step = decode_attention(q[:, :, :1], k, v, 40)
    assert o.shape == packed[0].shape
    torch.testing.assert_close(step, truth(q[:, :, :1], k, v))


def test_the_backward_pass_is_compared_only_where_gradients_are_asked_for(compared, launched):
    q, k, v = qkv(150)
    bias = Alibi1D(SLOPES)
    with mock.patch.object(launch, "backward", wrong_backward):
        attention(q, k, v, bias=bias)
        leaves = qkv(150, requires_grad=True)
        with torch.no_grad():
            attention(*leaves, bias=bias)
        assert [variant.gradients for variant in compared] == [""]
        with pytest.warns(RuntimeWarning, match="the gradient of q is 0.0"):
            o = attention(*leaves, bias=bias)
        assert [variant.gradients for variant in compared] == ["", "inputs"]
        (grad,) = torch.autograd.grad(o.sum(), leaves[0])
        assert "chunked" not in explain(q, k, v, bias=bias).backend  # forward alone is as good as before
    (expected,) = torch.autograd.grad(truth(*leaves, bias=bias).sum(), leaves[0])
    torch.testing.assert_close(grad, expected, atol=1e-5, rtol=1e-4)


def test_a_forbidden_back_end_is_never_called(monkeypatch, compared, launched):
    q, k, v = qkv(150)
    bias, window = Alibi1D(SLOPES), SlidingWindow(3, 5)
    packed = [x[0].transpose(0, 1) for x in (q, k, v)]
    assert explain(q, k, v, bias=bias, backend="-triton").backend == "chunked"
    monkeypatch.setattr(preference, "ENVIRONMENT", ("-triton", "-flash"))
    torch.testing.assert_close(attention(q, k, v, bias=bias), truth(q, k, v, bias=bias))
    varlen_attention(*packed, torch.tensor([0, 150]), max_seqlen_q=150, mask=window)
    decode_attention(q[:, :, :1], k, v, torch.tensor([150]))
    with pytest.raises(BackendUnavailable, match="triton is both asked for and forbidden"):
        attention(q, k, v, backend="triton")
    assert not compared
    assert not launched
    monkeypatch.setattr(preference, "ENVIRONMENT", ("-triton", "-chunked"))
    assert explain(q, k, v, bias=bias).backend == "sdpa"
    assert explain(q, k, v, bias=bias, return_lse=True).backend == "reference"
    monkeypatch.setattr(preference, "ENVIRONMENT", ("-triton", "-chunked", "-reference"))
    with pytest.raises(
        BackendUnavailable, match="chunked is forbidden; sdpa does not return the log-sum-exp"
    ):
        attention(q, k, v, bias=bias, return_lse=True)


def test_the_environment_forces_a_back_end_unless_the_call_names_another(monkeypatch):
    q, k, v = qkv()
    monkeypatch.setattr(preference, "ENVIRONMENT", ("chunked",))
    assert explain(q, k, v) == dispatch.Choice("chunked", "asked for")
    assert explain(q, k, v, backend="reference").backend == "reference"
    # There are no tiles for decoding, and "flash" is for packed batches.
    torch.testing.assert_close(decode_attention(q[:, :, :1], k, v, 40), truth(q[:, :, :1], k, v))
    monkeypatch.setattr(preference, "ENVIRONMENT", ("flash",))
    assert explain(q, k, v).backend == "sdpa"
    monkeypatch.setattr(preference, "ENVIRONMENT", ("-sdpa",))
    with pytest.raises(UsageError, match="unknown backend '-flash'; allowed: auto, reference"):
        attention(q, k, v, backend="-flash")  # type: ignore[arg-type]
    monkeypatch.setattr(preference, "ENVIRONMENT", ("tritn",))
    with pytest.raises(UsageError, match="PENTATONIC_ATTENTION: unknown backend 'tritn'; allowed: reference"):
        attention(q, k, v)
    monkeypatch.setattr(preference, "ENVIRONMENT", ("sdpa", "chunked"))
    with pytest.raises(UsageError, match="PENTATONIC_ATTENTION forces both sdpa and chunked"):
        attention(q, k, v)


def test_the_environment_variable_is_read_at_import():
    script = "from pentatonic.attention import preference; print(preference.ENVIRONMENT)"
    child = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=os.environ | {"PENTATONIC_ATTENTION": "-triton,-flash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout == "('-triton', '-flash')\n"


SECOND_PROCESS = """
import torch
from pentatonic.attention.trust import check, small_problem
from pentatonic.attention.trust.variant import Variant

check.CHECKED_DEVICES.append("cpu")
check._compare = lambda variant, device: "not in the file"
print(check.why_untrusted(Variant(torch.float32, 16, {options}), torch.device("cpu")))
"""


def second_process(options: str) -> str:
    words = [sys.executable, "-P", "-W", "ignore", "-c", SECOND_PROCESS.format(options=options)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_second_process_reads_what_the_first_has_compared(cache):
    assert check.why_untrusted(Variant(torch.float32, 16), CPU) is None
    assert second_process("") == "None\n"
    assert "not in the file" in second_process("right=True")
    (file,) = cache.iterdir()
    file.write_text(file.read_text()[:-20])  # damaged
    assert "not in the file" in second_process("")


def test_a_record_belongs_to_one_machine_and_survives_what_cannot_be_written(tmp_path):
    path = tmp_path / "folder" / "record.json"
    record = Record(path, {"device": "a", "driver": "1"})
    record.add("x")
    record.add("y")
    assert record.read() == {"x", "y"}
    assert Record(path, {"device": "a", "driver": "2"}).read() == set()
    path.write_text('{"machine": 3}')
    assert record.read() == set()
    record.add("z")
    assert record.read() == {"z"}
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    unwritable = Record(in_the_way / "record.json", {})
    unwritable.add("x")
    assert unwritable.read() == set()
    nowhere = Record(None, {})
    nowhere.add("x")
    assert nowhere.read() == set()


def test_a_lack_of_memory_condemns_no_kernel(compared):
    q, k, v = qkv(150)
    bias = Alibi1D(SLOPES)

    def full(*args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    with mock.patch.object(launch, "forward", full):
        assert "no memory was left" in explain(q, k, v, bias=bias).reason
    assert explain(q, k, v, bias=bias).backend == "triton"
    assert len(compared) == 2


def test_a_graph_is_not_captured_with_an_unchecked_kernel(monkeypatch, compared):
    monkeypatch.setattr(check, "CHECKED_DEVICES", ["cuda"])
    with mock.patch.object(torch.cuda, "is_current_stream_capturing", lambda: True):
        reason = check.why_untrusted(Variant(torch.float32, 16), torch.device("cuda", 0))
    assert "cannot be checked while a CUDA graph is captured" in str(reason)
    assert not compared


def test_the_check_has_none_of_the_modes_of_the_call(compared):
    q, k, v = qkv(150, requires_grad=True)
    bias = Alibi1D(SLOPES)
    with torch.autocast("cpu", torch.bfloat16):
        assert explain(q, k, v, bias=bias).backend == "triton"
    with torch.inference_mode():
        assert explain(q, k, v, bias=bias).backend == "triton"
    assert [variant.gradients for variant in compared] == ["inputs", ""]


def test_compiled_code_checks_while_it_is_traced(compared, cache):
    q, k, v = qkv(150)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, bias=Alibi1D(SLOPES))

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(q, k, v), truth(q, k, v, bias=Alibi1D(SLOPES)))
    assert len(compared) == 1
    check.clear_cache()
    shutil.rmtree(cache)
    torch._dynamo.reset()
    with mock.patch.object(launch, "forward", wrong), pytest.warns(RuntimeWarning, match="another back end"):
        torch.testing.assert_close(compiled(q, k, v), truth(q, k, v, bias=Alibi1D(SLOPES)))


W = {"bias": "Alibi2D", "cls_tokens": 1}
VARIANTS = [
    {},
    {"right": True},
    {"left": True, "right": True, "lengths": True, "gradients": "inputs", "lse": True},
    {**W, "gradients": "all"},
    {**W, "tolerance": True, "gradients": "inputs"},
    {"bias": "Alibi1D", "negative_scale": True},
    {"bias": "Directional signed", "packed": "same", "gradients": "all"},
    {"bias": "Directional", "cls_tokens": 1, "right": True, "gradients": "all"},
    {"bias": "Raw signed", "cls_tokens": 1},
    {"bias": "KeyBias", "packed": "apart", "lengths": True, "gradients": "inputs"},
    {"rope": "half", "rotary_dim": 16, "packed": "same", "left": True, "right": True, "gradients": "inputs"},
    {"rope": "interleaved", "rotary_dim": 8, "packed": "apart", "gradients": "inputs"},
    {"few_queries": True, "right": True},
    {"few_queries": True, "right": True, "lengths": True, "aligned": True, "rope": "half", "rotary_dim": 16},
]


# Full attention, packed sequences with a bias and all gradients, and decoding; the rest takes a minute.
IN_EVERY_RUN = (VARIANTS[0], VARIANTS[6], VARIANTS[12])


@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, marks=[] if options in IN_EVERY_RUN else pytest.mark.slow, id=str(options))
        for options in VARIANTS
    ],
)
def test_right_kernels_agree_with_a_margin_and_wrong_ones_do_not(options: dict[str, Any], half: bool):
    variant = Variant(torch.float16 if half else torch.float32, 16, **options)
    margin = {dtype: x / 3 for dtype, x in check.TOLERANCES.items()}
    with mock.patch.object(check, "TOLERANCES", margin):
        assert check._compare(variant, CPU) is None
    with mock.patch.object(launch, "forward", wrong):
        assert "output" in str(check._compare(variant, CPU))
    if variant.gradients and not half:
        with mock.patch.object(launch, "backward", wrong_backward):
            assert "the gradient of q" in str(check._compare(variant, CPU))


def test_variants_tell_apart_what_is_compiled_apart():
    q, k, v = qkv()
    coords = torch.zeros(40, 2)
    learned = SLOPES.clone().requires_grad_()
    few = [q[:, :, :5], k, v]
    lengths = KeyLengths(torch.tensor([3]))
    calls: list[tuple[list[Tensor], dict[str, Any]]] = [
        ([q, k, v], {}),
        (few, {}),
        ([x.half() for x in (q, k, v)], {}),
        ([q, k, v], {"scale": -1.0}),
        ([q, k, v], {"bias": Alibi1D(SLOPES)}),
        ([q, k, v], {"bias": Alibi1D(SLOPES), "tolerance": 0.1}),
        ([q, k, v], {"bias": Alibi1D(SLOPES, cls_tokens=1)}),
        ([q, k, v], {"bias": Alibi1D(learned)}),
        ([q, k, v], {"bias": Alibi2D(coords, SLOPES, SLOPES)}),
        ([q, k, v], {"bias": Raw(coords, signed=True)}),
        ([q, k, v], {"bias": Raw(coords, signed=False)}),
        ([q, k, v], {"bias": Directional(coords, SLOPES, SLOPES, signed=False)}),
        ([q, k, v], {"bias": KeyBias(torch.zeros(40))}),
        ([q, k, v], {"rope": Rope(10.0)}),
        ([q, k, v], {"rope": Rope(10.0, rotary_dim=8)}),
        ([q, k, v], {"rope": Rope(10.0, style="interleaved")}),
        ([q, k, v], {"packed": "same"}),
        ([q, k, v], {"packed": "apart"}),
        (qkv(requires_grad=True), {}),
        (qkv(requires_grad=True), {"return_lse": True}),
    ]
    masks = [None, Causal(), SlidingWindow(3, 9), SlidingWindow(3, 99), lengths]
    found = [
        variant_of(*x, **({"bias": None, "visibility": Visibility.of(mask, 40, 40)} | options))
        for x, options in calls
        for mask in masks
    ]
    assert len({str(variant) for variant in found}) == len(found) == len(set(found))
