from __future__ import annotations

import json
import math
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pentatonic.checkpoint import (
    flatten_state,
    load_tensors,
    rng_state,
    save_tensors,
    set_rng_state,
    unflatten_state,
)
from pentatonic.errors import CheckpointError


def through_files(state: Any, directory: Path) -> Any:
    tensors, skeleton = flatten_state(state)
    save_tensors(directory / "state.safetensors", tensors)
    text = json.dumps(skeleton, allow_nan=False)
    return unflatten_state(load_tensors(directory / "state.safetensors"), json.loads(text))


def assert_same(actual: Any, expected: Any) -> None:
    """Equal values of equal types; dicts in equal order."""
    assert type(actual) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)
    elif isinstance(expected, dict):
        assert [(type(key), key) for key in actual] == [(type(key), key) for key in expected]
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(actual)
    elif isinstance(expected, float):
        assert (actual, math.copysign(1, actual)) == (expected, math.copysign(1, expected))
    else:
        assert actual == expected


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.integers(0, 9).map(torch.tensor)
)
keys = (
    st.text() | st.integers() | st.sampled_from(["tensor", "dict", "tuple", "float", "0", 0, "a.b", "a", "b"])
)
states = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(state=states)
def test_any_state_comes_back_through_json(state: Any) -> None:
    tensors, skeleton = flatten_state(state)
    assert_same(unflatten_state(tensors, json.loads(json.dumps(skeleton, allow_nan=False))), state)


def test_an_optimizer_state_comes_back_exactly_and_goes_on_equally(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        groups = [{"params": [model.weight], "lr": 1e-3}, {"params": [model.bias], "weight_decay": 0.0}]
        return model, torch.optim.AdamW(groups, lr=1 / 3, betas=(0.9, 0.95), amsgrad=True)

    def step(model: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()

    model, optimizer = make()
    for _ in range(3):
        step(model, optimizer)
    restored = through_files(optimizer.state_dict(), tmp_path)
    assert_same(restored, optimizer.state_dict())
    assert restored["state"][0]["step"].dtype == torch.float32
    assert restored["param_groups"][0]["betas"] == (0.9, 0.95)

    other_model, other_optimizer = make()
    other_model.load_state_dict(model.state_dict())
    other_optimizer.load_state_dict(restored)
    step(model, optimizer)
    step(other_model, other_optimizer)
    assert torch.equal(model.weight, other_model.weight)
    assert torch.equal(model.bias, other_model.bias)


def test_names_tell_the_place_and_never_collide(tmp_path: Path) -> None:
    state = {
        "state": {0: {"exp_avg": torch.tensor(1)}, "0": {"exp_avg": torch.tensor(2)}},
        "a.b": torch.tensor(3),
        "a": {"b": torch.tensor(4)},
        "__metadata__": torch.tensor(5),
    }
    tensors, _ = flatten_state(state)
    assert list(tensors) == ["state.0.exp_avg", "state.0.exp_avg_", "a.b", "a.b_", "__metadata___"]
    assert_same(through_files(state, tmp_path), state)
    assert_same(through_files(torch.tensor(6), tmp_path), torch.tensor(6))


def test_other_mappings_become_dicts_and_gradients_are_left_out() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    tensors, skeleton = flatten_state(OrderedDict(w=parameter))
    state = unflatten_state(tensors, skeleton)
    assert type(state) is dict
    assert not state["w"].requires_grad
    assert state["w"].data_ptr() == parameter.data_ptr()


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": [1, {2, 3}]}, r"state\.a\.1 is of type set; allowed"),
        ({"a": np.float64(1.0)}, r"state\.a is of type float64"),
        ({"a": {(1, 2): 0}}, r"state\.a has a key of type tuple; allowed"),
        ({True: 0}, "state has a key of type bool"),
        (torch.Size([1]), "state is of type Size"),
        (b"bytes", "state is of type bytes"),
    ],
)
def test_values_that_would_change_are_refused(state: Any, where: str) -> None:
    with pytest.raises(CheckpointError, match=where):
        flatten_state(state)


@pytest.mark.parametrize(
    "skeleton",
    [
        {"tensor": "other"},
        {"tensor": 3},
        {"tensor": "w", "more": 1},
        [{"tensor": "w"}, {"tensor": "w"}],
        {"tuple": 1},
        {"dict": [["a"]]},
        {"dict": [["a", 1], ["a", 2]]},
        {"dict": [[1.5, 2]]},
        {"dict": {"a": 1}},
        {"float": "1e3"},
        {"pickle": "gASV"},
        {},
        b"bytes",
    ],
)
def test_malformed_skeletons_are_refused(skeleton: Any) -> None:
    with pytest.raises(CheckpointError, match="malformed, or a tensor is missing"):
        unflatten_state({"w": torch.zeros(1)}, skeleton)


def test_tensors_without_a_place_and_endless_nesting_are_refused() -> None:
    with pytest.raises(CheckpointError, match="does not name the tensor 'w'"):
        unflatten_state({"w": torch.zeros(1)}, None)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(CheckpointError, match="nested too deeply"):
        unflatten_state({}, nested)


# --- random generators


def draw() -> list[Any]:
    drawn = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()]
    if torch.cuda.is_available():
        drawn.append(torch.rand(3, device="cuda").tolist())
    return drawn


def test_all_generators_go_on_where_they_were(tmp_path: Path) -> None:
    draw()  # leaves the second halves of two pairs of normal numbers in the states
    before = rng_state()
    saved = through_files(before, tmp_path)
    expected = [draw() for _ in range(3)]
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    assert draw() != expected[0]
    set_rng_state(saved)
    assert [draw() for _ in range(3)] == expected
    set_rng_state(before)
    assert draw() == expected[0]


def test_every_device_has_its_state_and_absent_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.full((16,), device, dtype=torch.uint8) for device in range(3)]
    restored = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.update({device: state}))
    set_rng_state(rng_state())
    assert_same(restored, {0: states[0], 1: states[1]})


@pytest.mark.gpu
def test_cuda_generators_go_on_where_they_were(tmp_path: Path) -> None:
    torch.rand(5, device="cuda")
    saved = through_files(rng_state(), tmp_path)
    expected = torch.rand(1000, device="cuda")
    set_rng_state(saved)
    assert torch.equal(torch.rand(1000, device="cuda"), expected)


@pytest.mark.parametrize(
    "damage",
    [
        {"python": {"version": 3, "words": torch.zeros(4), "gauss": None}},
        {"python": {}},
        {"numpy": {"words": torch.zeros(3, dtype=torch.int64), "position": 0, "has_gauss": 0, "gauss": 0.0}},
        {"numpy": None},
        {"torch": torch.zeros(7, dtype=torch.uint8)},
        {"torch": "x"},
    ],
)
def test_malformed_generator_states_are_refused(damage: dict[str, Any]) -> None:
    state = rng_state()
    try:
        with pytest.raises(CheckpointError, match="random generators is malformed"):
            set_rng_state(state | damage)
    finally:
        set_rng_state(state)


def test_a_replaced_numpy_generator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "get_state", lambda legacy: {"bit_generator": "PCG64"})
    with pytest.raises(CheckpointError, match="PCG64 cannot be saved; allowed: MT19937"):
        rng_state()
