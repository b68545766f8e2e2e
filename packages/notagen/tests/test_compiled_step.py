"""The compiled character step against the plain one. The tests marked gpu need a CUDA device."""

import copy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from notagen.generation import decoding as generation
from notagen.generation.compiled_step import CharStep
from notagen.generation.decoding import Limits, Request, generate, stream
from notagen.generation.grammar import Grammar
from notagen.generation.patch_drawing import sample_patches
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen, NotaGenConfig
from notagen.quantize import quantize
from notagen.weights import from_pretrained, load_file
from pentatonic.errors import BackendUnavailable

WEIGHTS = Path(__file__).parent / "goldens" / "generation_e2e" / "weights.safetensors"
HEADER = "%%score 1 2\nL:1/8\nM:4/4\nK:C\nV:1\nV:2\n"
WILD = Sampling(top_k=0, top_p=0.98, temperature=1.5)


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch.compiler.reset()


@pytest.fixture(scope="module")
def trained():
    return load_file(WEIGHTS)


@pytest.fixture(scope="module")
def two_layers():
    torch.manual_seed(0)
    config = NotaGenConfig(patch_layers=1, char_layers=2, width=64, heads=2, patch_length=64)
    return NotaGen(config).eval()


@pytest.fixture
def only_traced(monkeypatch):
    """Trace the step, which fails at whatever would break its graph, but run it as it is: takes a second."""
    monkeypatch.setattr(generation, "CharStep", partial(CharStep, backend="aot_eager"))


@pytest.fixture
def steps(monkeypatch):
    """Rows of each call of a compiled step."""
    calls, inner = [], CharStep.__call__

    def call(self, inputs, *arguments):
        calls.append(len(inputs))
        return inner(self, inputs, *arguments)

    monkeypatch.setattr(CharStep, "__call__", call)
    return calls


def texts(model, batch_size, compiled, *, constrained, sampling=WILD, patches=30):
    prompts = [HEADER, HEADER + "[r:0/1][V:1]CDEF", "%a\n", HEADER, "", HEADER, HEADER, "%b\n"]
    bars = [seed % 3 + 1 if constrained else None for seed in range(8)]
    requests = [Request(prompts[seed], seed, bars[seed]) for seed in range(8)]
    options = {"sampling": sampling, "limits": Limits(patches=patches), "constrained": constrained}
    return generate(model, requests, batch_size=batch_size, compiled=compiled, **options)


def check_patches(model, vectors, step):
    """Compare the patches that follow some vectors with those of the plain path."""

    def patches(**options):
        rngs = [np.random.RandomState(seed) for seed in range(len(vectors))]
        return sample_patches(model, vectors, [[]] * len(vectors), rngs, WILD, **options)

    assert patches(step=step) == patches()


@pytest.mark.parametrize("constrained", [False, True])
def test_pieces_are_the_same_in_one_graph(trained, only_traced, steps, constrained):
    plain = texts(trained, 8, False, constrained=constrained)
    assert steps == []
    assert texts(trained, 8, True, constrained=constrained) == plain
    assert len(set(steps)) > 1  # as pieces end, rows are filled up
    assert len({piece.text for piece in plain}) == len(plain)


def test_eight_bit_weights_in_one_graph(trained, only_traced, steps):
    requests = [Request(HEADER, seed=seed) for seed in range(2)]
    pieces = generate(quantize(trained), requests, limits=Limits(patches=6), compiled=True)
    assert steps
    assert all(len(piece.text) > len(HEADER) + 6 for piece in pieces)


def test_the_originals_sampling_is_the_same(trained, only_traced):
    sampling = Sampling(0, 1.0, 2.0, compat=True)
    plain = texts(trained, 2, False, constrained=False, sampling=sampling, patches=4)
    assert texts(trained, 2, True, constrained=False, sampling=sampling, patches=4) == plain


def test_a_patch_does_not_depend_on_those_before_it(two_layers):
    step = CharStep(two_layers, 3, WILD, backend="eager")
    vectors = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    check_patches(two_layers, torch.full_like(vectors, torch.nan), step)
    check_patches(two_layers, vectors, step)
    check_patches(two_layers, vectors[:2], step)


@torch._dynamo.config.patch(recompile_limit=1)  # which is for others than this function
def test_one_compilation_for_all_places_and_numbers_of_pieces(trained):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def write(sampling, rows, most=4):
        step = CharStep(trained, most, sampling, backend=backend)
        vectors = torch.zeros(rows, trained.config.width)
        rngs = [np.random.RandomState(seed) for seed in range(rows)]
        for grammars in ([], [Grammar(HEADER)] * rows):
            sample_patches(trained, vectors, [[]] * rows, rngs, sampling, grammars[:1], step=step)
        return len(graphs)

    assert [write(WILD, rows) for rows in (4, 3, 1)] == [1, 1, 1]
    assert [write(Sampling(top_k=k), 2) for k in (1, 2)] == [2, 3]
    assert write(WILD, 1, most=1) == 4
    code = "".join(graph.code for graph in graphs)
    assert "index_copy_" in code
    assert not any(wait in code for wait in (".item()", ".tolist()", ".cpu()", "nonzero"))


def test_failure_is_reported(trained, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler\nfound")

    with pytest.raises(BackendUnavailable, match="cannot be compiled for cpu") as caught:
        CharStep(trained, 1, WILD, backend=broken)
    assert "\n" not in str(caught.value) and "no compiler" in str(caught.value)

    monkeypatch.setattr(generation, "CharStep", partial(CharStep, backend=broken))
    with pytest.raises(BackendUnavailable):
        next(stream(trained, [Request(HEADER)], compiled=True))


def test_nothing_is_compiled_unasked(trained, steps):
    generate(trained, [Request(HEADER)], limits=Limits(patches=1))
    assert steps == []


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 8])
def test_machine_code_writes_the_same_pieces(trained, steps, batch_size):
    tiny = from_pretrained("notagen-tiny")
    for model, sampling in ((trained, WILD), (tiny, Sampling())):
        for constrained in (False, True):
            plain = texts(model, batch_size, False, constrained=constrained, sampling=sampling)
            steps.clear()
            assert texts(model, batch_size, True, constrained=constrained, sampling=sampling) == plain
            assert steps


@pytest.mark.slow
def test_without_a_compiler(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with (
        torch._inductor.config.patch({"cpp.cxx": (str(tmp_path / "missing"),)}),
        pytest.raises(BackendUnavailable, match="compiler"),
    ):
        CharStep(trained, 1, WILD)


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("constrained", [False, True])
def test_cuda_graph_writes_the_same_pieces(steps, constrained, batch_size):
    model = load_file(WEIGHTS).cuda()
    plain = texts(model, batch_size, False, constrained=constrained, patches=40)
    assert steps == []
    assert texts(model, batch_size, True, constrained=constrained, patches=40) == plain
    assert steps


@pytest.mark.gpu
def test_cuda_graph_in_half_precision():
    # Drawn without chance and from a model that is sure of itself: its roundings differ from the plain ones.
    model = load_file(WEIGHTS).to("cuda", torch.bfloat16)
    request, options = Request("%%score 1\n"), {"sampling": Sampling(top_k=1)}
    [plain] = generate(model, [request], compiled=False, **options)
    assert generate(model, [request] * 3, compiled=True, **options) == [plain] * 3


@pytest.mark.gpu
def test_cuda_graph_holds_no_old_results(two_layers):
    model = copy.deepcopy(two_layers).cuda()
    step = CharStep(model, 2, WILD)
    for seed in range(5):
        check_patches(model, torch.randn(2, 64, generator=torch.Generator().manual_seed(seed)).cuda(), step)


def test_apple_gpus_are_refused_with_a_reason():
    """There is none to try it on: the refusal comes before anything is computed."""
    model = SimpleNamespace(device=torch.device("mps"))
    with pytest.raises(BackendUnavailable, match=r"not compiled for Apple GPUs.*without compilation"):
        CharStep(model, 1, WILD)
