from __future__ import annotations

import sys
from types import ModuleType

import pytest

from pentatonic.lazy import lazy_names


@pytest.fixture
def package(monkeypatch) -> ModuleType:
    module = ModuleType("lazy_example")
    module.__getattr__, module.__dir__ = lazy_names("lazy_example", {"Fraction": "fractions"})
    monkeypatch.setitem(sys.modules, "lazy_example", module)
    return module


def test_a_name_is_loaded_from_its_module(package: ModuleType) -> None:
    import fractions

    assert package.Fraction is fractions.Fraction
    assert "Fraction" in dir(package)
    assert "__name__" in dir(package)


def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=r"module 'lazy_example' has no attribute 'Decimal'"):
        _ = package.Decimal
