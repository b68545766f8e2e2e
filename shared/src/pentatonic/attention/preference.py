"""Which back ends a caller, or the environment, forces or forbids.

``"triton"`` forces a back end and ``"-triton"`` forbids it, in the argument ``backend`` of a call as in the
environment variable ``PENTATONIC_ATTENTION``, which is read at import and can forbid several: ``-triton,-flash``.
An argument that forces a back end overrules a variable that forces another, but not one that forbids it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from pentatonic.errors import BackendUnavailable, UsageError

VARIABLE = "PENTATONIC_ATTENTION"
BACKENDS = ("reference", "chunked", "banded", "sdpa", "triton", "flash")
ENVIRONMENT: tuple[str, ...] = tuple(word for word in os.environ.get(VARIABLE, "").split(",") if word)


class Preference(NamedTuple):
    """What is wanted of the choice of a back end.

    Attributes:
        forced: The only back end that may compute the call, or ``None``.
        forbidden: Those that may not.
    """

    forced: str | None
    forbidden: tuple[str, ...]


def preference(argument: str, known: tuple[str, ...]) -> Preference:
    """Join the argument of a call with the environment.

    Args:
        argument: ``"auto"``, ``"NAME"`` or ``"-NAME"``.
        known: Back ends that exist for this kind of call. Others that the environment names do not concern it.

    Raises:
        UsageError: A word names no back end.
        BackendUnavailable: The argument forces a back end that the environment forbids.
    """
    if argument == "auto" and not ENVIRONMENT:
        return _NONE
    if argument != "auto" and argument.removeprefix("-") not in known:
        raise UsageError(
            f"unknown backend {argument!r}; allowed: auto, {', '.join(known)}, or -NAME to forbid one"
        )
    forced, forbidden = None, []
    for word in ENVIRONMENT:
        name = word.removeprefix("-")
        if name not in BACKENDS:
            raise UsageError(
                f"{VARIABLE}: unknown backend {word!r}; allowed: {', '.join(BACKENDS)}, or -NAME to forbid one"
            )
        if word != name:
            forbidden.append(name)
        elif name in known:
            if forced is not None:
                raise UsageError(f"{VARIABLE} forces both {forced} and {name}; allowed: one")
            forced = name
    if argument.startswith("-"):
        forbidden.append(argument[1:])
    elif argument != "auto":
        forced = argument
    if forced in forbidden:
        raise BackendUnavailable(
            f"{forced} is both asked for and forbidden ({VARIABLE}={','.join(ENVIRONMENT)})"
        )
    return Preference(forced, tuple(forbidden))


_NONE = Preference(None, ())
