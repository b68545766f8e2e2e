"""Which files share a pass of the model."""

from __future__ import annotations

import math

import pytest

from omar_rq.files.batches import batch_share, passes


@pytest.mark.parametrize(
    ("lengths_s", "batch", "device", "expected"),
    [
        ([], 8, "cpu", []),
        ([2.0, 1.0, 2.1, 1.1], 8, "cpu", [[1, 3, 0, 2]]),
        ([1.0] * 5, 2, "cpu", [[0, 1], [2, 3], [4]]),
        ([5.0, 0.1, 5.0, 0.2], 8, "cpu", [[1, 3], [0, 2]]),  # more padding than another pass costs
        ([10.0, 10.0, 10.0], 8, "cpu", [[0, 1], [2]]),  # 20 seconds keep a processor busy
        ([10.0, 10.0, 10.0], 8, "cuda", [[0, 1, 2]]),
        ([20.0, 20.0], 8, "cpu", [[0], [1]]),
        ([math.inf, 1.0, math.inf, 1.0], 8, "cpu", [[1, 3], [0], [2]]),
    ],
)
def test_files_of_similar_length_share_a_pass(lengths_s, batch, device, expected):
    assert list(passes(lengths_s, batch=batch, device=device)) == expected


def test_a_batch_has_several_passes_at_most():
    assert batch_share(20.0, batch=32, device="cpu") == 1 / 8
    assert batch_share(0.1, batch=32, device="cpu") == 1 / 256
    assert batch_share(0.1, batch=1, device="cpu") == 1 / 8
    assert batch_share(150.0, batch=32, device="cuda") == 0.5
