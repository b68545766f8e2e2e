"""The original's search spaces as text, and what they are as overrides of a Hydra sweep.

The grammar: ``name:[low,high]``, ``name:[low,high] log``, ``name:{a,b,c}``, separated by ``;``. As in the original,
entries without a colon and those whose right side opens no bracket are skipped, and of two equal names the last counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pentatonic.errors import UsageError

Choice = int | float | str

ALWAYS_SAMPLED = (
    "lr:[5e-5,5e-3] log; temp:[0.04,0.25]; warmup_ratio:[0.02,0.2]; clip_grad:[0.5,5]; min_lr:[1e-7,1e-5] log"
)
"""What the original samples in every search."""

KEYS = {
    "lr": "optim.lr",
    "weight_decay": "optim.weight_decay",
    "temp": "objective.temperature",
    "warmup_ratio": "schedule.warmup_ratio",
    "min_lr": "schedule.min_lr",
    "clip_grad": "trainer.max_grad_norm",
    "batch": "data.batch_size",
    "dropout": "+model.dropout",
    "hidden": "+model.hidden_width",
}
"""Name in a search space -> key of the configuration."""


@dataclass(frozen=True)
class Interval:
    """Numbers between two ends.

    Args:
        low: Least number.
        high: Greatest number.
        log: Draw their logarithms evenly.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choices:
    """Some values."""

    values: tuple[Choice, ...]


Space = dict[str, Interval | Choices]


def parse_space(text: str) -> Space:
    """Read a search space.

    Raises:
        UsageError: A range is malformed; the message names the entry.
    """
    space: Space = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, colon, right = (part.strip() for part in entry.partition(":"))
        if not colon or not right.startswith(("[", "{")):
            continue
        space[name] = _interval(entry, right) if right.startswith("[") else _choices(entry, right)
    return space


def sweep_overrides(space: Mapping[str, Interval | Choices]) -> list[str]:
    """Return the overrides of a Hydra sweep for a space.

    Raises:
        UsageError: A name is no parameter, an interval is empty or not finite, or there is nothing to choose from.
    """
    overrides = []
    for name, values in space.items():
        if name not in KEYS:
            raise UsageError(f"the search space names {name!r}; allowed: {', '.join(KEYS)}")
        if isinstance(values, Choices):
            if not values.values:
                raise UsageError(f"the search space has no choice for {name!r}")
            right = f"choice({','.join(map(str, values.values))})"
        else:
            low, high = values.low, values.high
            if not (
                math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not values.log)
            ):
                least = " and above 0" if values.log else ""
                raise UsageError(f"{name} is from {low} to {high}; allowed: from less to more{least}")
            right = f"interval({low!r},{high!r})"
            right = f"tag(log,{right})" if values.log else right
        overrides.append(f"{KEYS[name]}={right}")
    return overrides


def _interval(entry: str, right: str) -> Interval:
    body, log = (right.removesuffix(" log"), True) if right.endswith("] log") else (right, False)
    try:
        if not body.endswith("]"):
            raise ValueError("the bracket is not closed")
        low, high = map(float, body[1:-1].split(","))
    except ValueError as error:
        raise UsageError(
            f"the entry {entry!r} of the search space is malformed; allowed: name:[low,high] or name:[low,high] log, "
            "with two numbers and one space before log"
        ) from error
    return Interval(low, high, log)


def _choices(entry: str, right: str) -> Choices:
    if not right.endswith("}"):
        raise UsageError(f"the entry {entry!r} of the search space is malformed; allowed: name:{{a,b,c}}")
    texts = (part.strip() for part in right[1:-1].split(","))
    return Choices(tuple(_choice(text) for text in texts if text))


def _choice(text: str) -> Choice:
    """A float if it looks like one, otherwise a whole number, otherwise the text."""
    kinds = (float,) if any(mark in text for mark in ".eE") else (int,)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            pass
    return text
