"""The reader of dataclasses from values that a stranger wrote."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pentatonic.errors import ConfigError
from pentatonic.untrusted.config import Length, Range, check_fields, read_fields


@dataclass(frozen=True)
class Net:
    depth: Annotated[int, Range(1, 256)]
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    ratio: Annotated[float, Range(0, 64, above=True)] | None = None
    causal: bool = True
    mode: Literal["windows", "tokens"] = "windows"
    path: Annotated[str, Length(1, 10)] | None = None
    patch: tuple[Annotated[int, Range(1, 9)], Annotated[int, Range(1, 99)]] = (1, 2)
    scale: float = 1.0
    levels: Annotated[tuple[Annotated[int, Range(2, 9)], ...], Length(1, 3)] = (6,)

    def __post_init__(self) -> None:
        check_fields(self, "net")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def test_plain_values_become_those_of_the_fields():
    values = {"depth": 3, "dropout": 0, "ratio": 4, "mode": "tokens", "patch": [2, 3], "levels": [2, 3, 4]}
    net = read_fields(Net, values, "net")
    assert net == Net(3, 0.0, 4.0, mode="tokens", patch=(2, 3), levels=(2, 3, 4))
    assert (type(net.dropout), type(net.ratio), type(net.patch)) == (float, float, tuple)
    assert read_fields(Net, json.loads(json.dumps(dataclasses.asdict(net))), "net") == net


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (None, "net is None; allowed: a section"),
        ([1], "a section"),
        ({}, "net.depth is missing; needed: depth, dropout"),
        ({"depth": 1, "dept": 2}, "unknown key net.dept; allowed: depth"),
        ({"depth": 1, 7: 2}, "unknown key net.7"),
        ({"depth": 1, "x" * 10**6: 2}, "unknown key net.'xxx"),
        ({"depth": 0}, "net.depth is 0; allowed: whole numbers from 1 up to 256"),
        ({"depth": 10**9}, "net.depth is 1000000000; allowed"),
        ({"depth": 10**5000}, "net.depth is a whole number of 16610 bits"),
        ({"depth": True}, "net.depth is True"),
        ({"depth": 1.0}, "net.depth is 1.0"),
        ({"depth": "1"}, "net.depth is '1'"),
        ({"depth": []}, "net.depth is []"),
        ({"depth": 1, "dropout": 7}, "net.dropout is 7; allowed: numbers from 0 and below 1"),
        ({"depth": 1, "dropout": 1}, "net.dropout is 1"),
        ({"depth": 1, "dropout": False}, "net.dropout is False"),
        ({"depth": 1, "dropout": float("nan")}, "net.dropout is nan"),
        ({"depth": 1, "ratio": -1}, "net.ratio is -1; allowed: numbers above 0 up to 64, or None"),
        ({"depth": 1, "ratio": 0}, "net.ratio is 0"),
        ({"depth": 1, "ratio": float("inf")}, "net.ratio is inf"),
        ({"depth": 1, "ratio": 10**400}, "net.ratio is a whole number of 1329 bits"),
        ({"depth": 1, "scale": float("inf")}, "net.scale is inf; allowed: numbers"),
        ({"depth": 1, "scale": float("nan")}, "net.scale is nan"),
        ({"depth": 1, "causal": 1}, "net.causal is 1; allowed: true or false"),
        ({"depth": 1, "mode": []}, "net.mode is []; allowed: windows, tokens"),
        ({"depth": 1, "mode": "all"}, "net.mode is 'all'"),
        ({"depth": 1, "path": ""}, "net.path is ''; allowed: text of length 1 to 10, or None"),
        ({"depth": 1, "path": "x" * 10**6}, "net.path is 'xxx"),
        ({"depth": 1, "patch": [1]}, "net.patch is [1]; allowed: a list of 2 whole numbers from 1 up to 9"),
        ({"depth": 1, "patch": "ab"}, "net.patch is 'ab'"),
        ({"depth": 1, "patch": [1, [2]]}, "net.patch is [1, [2]]"),
        ({"depth": 1, "levels": []}, "net.levels is []"),
        ({"depth": 1, "levels": [2] * 10**5}, "net.levels is [2, 2,"),
        ({"depth": 1, "levels": [10**5000]}, "net.levels is [a whole number of"),
    ],
)
def test_other_values_are_refused_by_name_and_in_a_short_message(values, says):
    with pytest.raises(ConfigError) as error:
        read_fields(Net, values, "net")
    assert says in str(error.value)
    assert len(str(error.value)) < 500


def test_values_from_python_code_are_held_to_the_same_ranges():
    with pytest.raises(ConfigError, match=r"net\.dropout is 7; allowed: numbers from 0 and below 1"):
        Net(depth=1, dropout=7)
    with pytest.raises(ConfigError, match=r"net\.depth is 0"):
        dataclasses.replace(Net(depth=1), depth=0)


def test_a_section_may_be_without_name():
    with pytest.raises(ConfigError, match=r"^depth is 0; allowed"):
        read_fields(Net, {"depth": 0}, "")


@settings(max_examples=200, deadline=None)
@given(values=st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Net)]), JSON) | JSON)
def test_any_values_are_read_or_refused(values: Any):
    try:
        net = read_fields(Net, values, "net")
    except ConfigError:
        return
    assert read_fields(Net, dataclasses.asdict(net), "net") == net
