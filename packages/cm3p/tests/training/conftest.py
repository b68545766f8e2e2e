"""The data set of the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from cm3p.training.example_data import write_example_data_set


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sets of two maps in Mapperator's format. Not to be changed."""
    return write_example_data_set(tmp_path_factory.mktemp("data_set"))
