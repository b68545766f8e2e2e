"""Connections that wait too long for their request are closed: the server has a limited number of them."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_WAIT_S = 10.0
"""Longest wait for the head of a request, and then for its body."""

SHUTDOWN_WAIT_S = 5
"""Longest wait for answers that are still being made when the server is to end."""


class TimedProtocol(H11Protocol):
    """HTTP/1.1 with a limit on the time in which the head of a request arrives, however slowly it is sent.

    uvicorn itself closes only connections over which nothing at all comes after an answer.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """End the waiting when the head of a request is whole."""
        super().data_received(data)
        if self._answering:
            self._stop_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has come already."""
        super().on_response_complete()
        if not self._answering:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waiting."""
        self._stop_timer()
        super().connection_lost(exc)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(REQUEST_WAIT_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
