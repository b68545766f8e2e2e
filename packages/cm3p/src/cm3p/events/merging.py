"""Merging of lists of events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter

from cm3p.events.groups import Group

_time = attrgetter("time")


def merge_groups(first: Sequence[Group], second: Sequence[Group]) -> list[Group]:
    """Merge two lists by time; at equal times events of ``first`` come first.

    The lists need not be sorted, and keep their order. As in the original, an event at 0 ms is compared by the time of
    the event before it in its list, or as the earliest of all if it is the first; this shows among negative times only.
    """
    if not first or not second:
        return [*first, *second]
    if _is_sorted(first) and _is_sorted(second):
        return sorted([*first, *second], key=_time)  # stable, and fast where two runs are sorted
    merged: list[Group] = []
    one = other = 0
    one_time = other_time = -math.inf
    while one < len(first) and other < len(second):
        one_time = first[one].time or one_time
        other_time = second[other].time or other_time
        if one_time <= other_time:
            merged.append(first[one])
            one += 1
        else:
            merged.append(second[other])
            other += 1
    merged.extend(first[one:])
    merged.extend(second[other:])
    return merged


def _is_sorted(groups: Sequence[Group]) -> bool:
    """Whether the times rise from 0 or more, where the merge of the original is the ordinary one."""
    times = [group.time for group in groups]
    return times[0] >= 0 and all(one <= other for one, other in pairwise(times))
