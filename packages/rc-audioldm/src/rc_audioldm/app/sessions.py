"""What the server keeps for each session of the page: the reference clip, and whether its work shall stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from rc_audioldm.app.reference import ReferenceClip

MOST_SESSIONS = 100
"""With more of them the one that was not used for the longest time is ended."""


class StoppedByUser(Exception):
    """The user wants no more of this clip."""


@dataclass
class Session:
    """A session.

    Attributes:
        reference: The clip that it sent, or None.
        stop: Set when its work shall end.
    """

    reference: ReferenceClip | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise :class:`StoppedByUser` if the work shall end."""
        if self.stop.is_set():
            raise StoppedByUser


class Sessions:
    """All sessions, by the random name that each browser tab has."""

    def __init__(self) -> None:
        self._known: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: str | None) -> Session | None:
        """Return a session; None where the name is not known, such as after the page was closed."""
        with self._lock:
            return self._known.get(str(name))

    def open(self, name: str | None) -> Session:
        """Return a session, a new one where the name is not known, as the one that was used last."""
        with self._lock:
            session = self._known[str(name)] = self._known.pop(str(name), Session())
            while len(self._known) > MOST_SESSIONS:
                self._close(next(iter(self._known)))
            return session

    def close(self, name: str | None) -> None:
        """End the work of a session and forget it."""
        with self._lock:
            self._close(str(name))

    def _close(self, name: str) -> None:
        if (session := self._known.pop(name, None)) is not None:
            session.stop.set()
