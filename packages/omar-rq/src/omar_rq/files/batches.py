"""Which files are computed together: those of similar length share a pass of the model.

What is grouped depends on the lengths alone, so that a run gives the same numbers whenever it is made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

# Most files that share a pass of the model.
DEFAULT_BATCH = 32
# Longest file that is embedded in one pass, in seconds; memory grows with it.
ONE_PASS_S = 300.0
# Seconds of audio in a pass over several files, padding included. More at once keep a GPU busy, but no processor.
_SHARED_PASS_S = {"cpu": 20.0, "cuda": 300.0}
# Most padding in such a pass, in seconds: computing it costs less than another pass.
_PADDING_S = 2.5
# A batch has several passes: among more files there are more of similar length.
_PASSES = 8


def shared_pass_s(device: str) -> float:
    """Return how many seconds of audio go through the model together on a kind of device, such as ``cpu``."""
    return _SHARED_PASS_S.get(device, _SHARED_PASS_S["cpu"])


def batch_share(length_s: float, *, batch: int, device: str) -> float:
    """Return which part of a batch a file takes; see :func:`pentatonic.folder_run.run_files`.

    Args:
        length_s: Its length.
        batch: Most files that share a pass.
        device: Kind of device.
    """
    batch_s = max(_PASSES * _SHARED_PASS_S["cpu"], shared_pass_s(device))
    return max(length_s / batch_s, 1 / (_PASSES * batch))


def passes(lengths_s: Sequence[float], *, batch: int, device: str) -> Iterator[list[int]]:
    """Group files by length.

    Args:
        lengths_s: Length of each file; infinity: it is computed alone.
        batch: Most files in a group.
        device: Kind of device.

    Yields:
        Indices of the files that share a pass, ascending in length.
    """
    group: list[int] = []
    for i in sorted(range(len(lengths_s)), key=lengths_s.__getitem__):
        padded_s = (len(group) + 1) * lengths_s[i]
        fits = (
            len(group) < batch
            and padded_s <= shared_pass_s(device)
            and padded_s - math.fsum(lengths_s[j] for j in (*group, i)) <= _PADDING_S
        )
        if group and not fits:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
