"""What every local page and server shares: who may reach it, and what a stranger's web page or script cannot do.

A server that listens on this machine can be reached by every web page that the user has open: a page can send requests
to ``http://127.0.0.1``, and a host name of its own can be made to resolve to it. :class:`Guard` therefore refuses
requests from another origin and, on a loopback address, for another host; it bounds what uploads may hold on disk, and
slows failed logins (:class:`LoginQueue`, which other kinds of login can use). It is plain ASGI, so that any framework
can use it. Loading this module imports no framework.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pentatonic.errors import UsageError
from pentatonic.processes.leftovers import owner, remove_leftovers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOAD_QUOTA_BYTES = 64 * 2**20
UPLOAD_QUOTA_FILES = 200
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_MOST_DRAINED_BYTES = 8 * 2**20
_FIRST_DELAY_S, _LONGEST_DELAY_S, _MOST_WAITING_S = 0.5, 30.0, 60.0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at this address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_login(host: str, user: str | None, password: str | None, *, variable: str) -> None:
    """Refuse to listen for other machines without a login.

    Args:
        host: Address to listen at.
        user: Value of ``--user``.
        password: Value of ``--password``.
        variable: Environment variable that can hold the password.

    Raises:
        UsageError: ``host`` is not a loopback address and there is no login, or only one of ``user`` and ``password``
            is given.
    """
    if bool(user) != bool(password):
        raise UsageError("--user and --password must be given together")
    if not is_loopback(host) and not user:
        raise UsageError(
            f"--host {host} can be reached from other machines, which needs --user and --password (or the variable "
            f"{variable}); without them: 127.0.0.1"
        )


def bindable_port(host: str, port: int) -> int:
    """Return a port on which a server can listen; on an unusable port a web server may hang.

    Args:
        host: Name or address of this machine.
        port: The port; 0: a free one.

    Raises:
        UsageError: ``host`` is not an address of this machine, or the port is taken or not allowed.
    """
    with listening_socket(host, port) as probe:
        return probe.getsockname()[1]


def listening_socket(host: str, port: int) -> socket.socket:
    """Listen on a port, for a server that takes an open socket: the address that is printed is then surely its own.

    Args:
        host: Name or address of this machine.
        port: The port; 0: a free one.

    Raises:
        UsageError: As :func:`bindable_port`.
    """
    listener: socket.socket | None = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        return listener
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise UsageError(
            f"cannot listen at {host}, port {port} ({reason}); allowed: an address of this machine and a free port"
        ) from error


def finite(name: str, value: object, low: float, high: float) -> float:
    """Return a number that came over the network, limited to a range.

    A script can send what no slider of a page gives: NaN makes every comparison false, so that a time limit of NaN
    seconds is never reached.

    Args:
        name: What the number is, for the message.
        value: What was sent.
        low: Least allowed; smaller numbers are raised to it.
        high: Most allowed; larger ones are lowered to it.

    Raises:
        UsageError: It is not a number, or is NaN.
    """
    is_nan = isinstance(value, float) and math.isnan(value)  # a whole number may be too large for isnan
    if isinstance(value, int | float) and not isinstance(value, bool) and not is_nan:
        return float(min(max(value, low), high))
    raise UsageError(f"{name} is {value!r}; allowed: a number from {low:g} to {high:g}")


@contextmanager
def serving(prefix: str) -> Iterator[Path]:
    """Give a server a folder for uploads, which is removed however the server ends, also by SIGTERM.

    That of a server that was killed is removed by the next one.

    Within the block SIGTERM is a ``KeyboardInterrupt``, as Ctrl-C is: the program ends with status 130.

    Args:
        prefix: Start of the name of the folder.
    """

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if in_main else None
    try:
        remove_leftovers(Path(tempfile.gettempdir()), re.escape(prefix))
        name = f"{prefix}{owner()}-"
        with tempfile.TemporaryDirectory(prefix=name, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


class LoginQueue:
    """Slows failed logins: after one the next waits, twice as long each time up to half a minute.

    All logins wait in one queue, as the processes of this machine cannot be told apart. A login that succeeds ends the
    waiting of those that come later.
    """

    def __init__(self) -> None:
        self._failures, self._next_s = 0, 0.0

    async def enter(self) -> bool:
        """Wait until a login may be tried; False: more than a minute of waiting has piled up, so it must be refused."""
        wait_s = self._next_s - time.monotonic()
        if wait_s > _MOST_WAITING_S:
            return False
        if self._failures:  # each attempt takes its place in the queue before it waits
            delay_s = min(_FIRST_DELAY_S * 2 ** (self._failures - 1), _LONGEST_DELAY_S)
            self._next_s = max(self._next_s, time.monotonic()) + delay_s
            await asyncio.sleep(max(wait_s, 0.0))
        return True

    def leave(self, *, failed: bool) -> None:
        """Tell how the login ended."""
        if failed and not self._failures:
            self._next_s = time.monotonic() + _FIRST_DELAY_S
        self._failures = min(self._failures + 1, 16) if failed else 0


class Guard:
    """ASGI middleware: refuses what does not come from the server's own page, and bounds what strangers can cost.

    - A request whose ``Origin`` is not the host it is sent to is answered with 403; so is, at a loopback address, one
      whose ``Host`` is not this server. So is what a page of another site embeds, such as a script or a picture,
      which has no ``Origin`` but a ``Sec-Fetch-Site``; links are followed.
    - Uploads are answered with 413 when the folder would hold more than its quota of bytes or files.
    - Failed logins are slowed by a :class:`LoginQueue`; when it is full, logins are answered with 429.
    - What is not answered when the server ends is answered with 503.

    Args:
        app: The application.
        host: Address that the server listens at.
        port: Its port.
        uploads: Folder that uploads are written to; None: no uploads are expected, and none are counted.
        upload_path: End of the path that takes uploads.
        login_path: End of the path that takes logins; an answer of 400 or above is a failure.
        quota_bytes: Most bytes in ``uploads``.
        quota_files: Most files in ``uploads``.
    """

    def __init__(
        self,
        app: App,
        *,
        host: str,
        port: int,
        uploads: Path | None = None,
        upload_path: str = "/upload",
        login_path: str = "/login",
        quota_bytes: int = UPLOAD_QUOTA_BYTES,
        quota_files: int = UPLOAD_QUOTA_FILES,
    ) -> None:
        self.app, self.port, self.uploads = app, port, uploads
        self.names = {*_LOOPBACK_NAMES, host} if is_loopback(host) else None
        self.upload_path, self.login_path = upload_path, login_path
        self.quota_bytes, self.quota_files = quota_bytes, quota_files
        self._logins = LoginQueue()
        self._arriving = 0  # bytes of uploads that are still on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if (reason := self._foreign(scope)) is not None:
            await _refuse(scope, send, 403, reason)
            return
        answered = False

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._answer(scope, receive, watched)
        except asyncio.CancelledError:  # the server ends, which is not a fault for its log
            if not answered:
                await _refuse(scope, send, 503, "the server is being stopped")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "")).rstrip("/")
        posted = scope.get("method") == "POST"
        if posted and path.endswith(self.login_path):
            await self._login(scope, receive, send)
        elif posted and self.uploads is not None and path.endswith(self.upload_path):
            await self._upload(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _foreign(self, scope: Scope) -> str | None:
        """Why a request does not come from the page of this server, or None if it may."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if self.names is not None:
            name, port = _split_host(host or "")
            if name not in self.names or (80 if port is None else port) != self.port:
                return f"this server is not {host or 'without a Host header'}"
        if origin is not None and origin.partition("://")[2].lower() != (host or "").lower():
            return f"a page of {origin} may not use this server"
        site, mode = _header(scope, b"sec-fetch-site"), _header(scope, b"sec-fetch-mode")
        if site in ("cross-site", "same-site") and mode != "navigate":
            return "a page of another site may not use this server"
        return None

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self._logins.enter():
            await _refuse(scope, send, 429, "too many failed logins; wait a minute")
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._logins.leave(failed=message["status"] >= 400)
            await send(message)

        await self.app(scope, receive, watched)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.uploads is not None
        held, files = _held(self.uploads)
        announced = _header(scope, b"content-length")
        size = int(announced) if announced is not None and announced.isdecimal() else 0
        if files >= self.quota_files or held + self._arriving + size > self.quota_bytes:
            await _drain(receive)
            await _refuse(scope, send, 413, "the server holds as many uploads as it may; try again later")
            return
        received, answered = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            count = len(message.get("body", b""))
            if held + self._arriving + count > self.quota_bytes:
                return {"type": "http.disconnect"}  # longer than it said; nobody waits for an answer
            received += count
            self._arriving += count
            return message

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except Exception:
            if answered:
                raise
            await _refuse(scope, send, 413, "the upload did not arrive whole, or is larger than allowed")
        finally:
            self._arriving -= received


def _held(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files in a folder."""
    sizes = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                sizes.append(path.stat().st_size)
        except OSError:  # deleted meanwhile
            continue
    return sum(sizes), len(sizes)


def _header(scope: Scope, name: bytes) -> str | None:
    """The value of a header; of several, an empty one, which fits nothing."""
    values = [value for key, value in scope.get("headers", ()) if key.lower() == name]
    if not values:
        return None
    return values[0].decode("latin-1").strip() if len(values) == 1 else ""


def _split_host(host: str) -> tuple[str, int | None]:
    """Name and port of a Host header; the port -1 where it is not a number."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname or "", parts.port
    except ValueError:
        return "", -1


async def _drain(receive: Receive) -> None:
    """Read a body that is refused, up to a limit: a browser that cannot send it all does not show the answer."""
    read, more = 0, True
    while more and read < _MOST_DRAINED_BYTES:
        message = await receive()
        read += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)


async def _refuse(scope: Scope, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason[:100]})
        return
    body = f"{reason}\n".encode("ascii", "replace")
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
