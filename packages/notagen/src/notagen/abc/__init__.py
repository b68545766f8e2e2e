"""ABC notation: text to syntax tree and back, and exact durations.

The dialect is that of the data the models were trained on: plain ABC 2.1 tunes, and *interleaved* ABC, in which
one line of text holds one bar of every voice (``[V:1]…|[V:2]…|``), optionally after a countdown tag ``[r:0/7]``.
"""

from notagen.abc.duration import (
    Key,
    Meter,
    bar_duration,
    default_unit_length,
    durations,
    parse_key,
    parse_meter,
    parse_unit_length,
    total_duration,
)
from notagen.abc.parser import parse_bar, parse_tune
from notagen.abc.printer import print_bar, print_elements, print_tune

__all__ = [
    "Key",
    "Meter",
    "bar_duration",
    "default_unit_length",
    "durations",
    "parse_bar",
    "parse_key",
    "parse_meter",
    "parse_tune",
    "parse_unit_length",
    "print_bar",
    "print_elements",
    "print_tune",
    "total_duration",
]
