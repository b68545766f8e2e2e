"""The web application around the endpoints, and the server that runs it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from myna_rpe.server import connections
from myna_rpe.server.credentials import Credentials, check_client
from myna_rpe.server.endpoints import ENDPOINTS, Request, extensions
from myna_rpe.server.envelope import Format, SubsonicError, envelope, error_envelope, is_callback, render
from myna_rpe.server.parameters import MAX_BODY_BYTES, Parameters, parse_form
from myna_rpe.server.sonic_library import SonicLibrary
from pentatonic.errors import PentatonicError
from pentatonic.server import Guard, LoginQueue, listening_socket

_FORM = "application/x-www-form-urlencoded"
_MAX_HEAD_BYTES = 32 * 1024  # request line, with the query, and headers
_MAX_CONNECTIONS = 100
_log = logging.getLogger(__name__)


def serve(
    library: SonicLibrary, credentials: Credentials, *, host: str = "127.0.0.1", port: int = 4040
) -> None:
    """Answer requests until the server is interrupted, and print its address.

    Nothing of a request is logged: its query string holds the login.

    Args:
        library: What is served.
        credentials: Who may use it.
        host: Address to listen at.
        port: Port to listen on; 0: any free one.

    Raises:
        UsageError: As :meth:`Credentials.check_address` and :func:`pentatonic.server.listening_socket`.
    """
    credentials.check_address(host)
    with listening_socket(host, port) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            build_app(library, credentials, host=host, port=port),
            http=connections.TimedProtocol,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=connections.SHUTDOWN_WAIT_S,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
        )
        name = f"[{host}]" if ":" in host else host
        print(f"The library answers at http://{name}:{port} (press Ctrl-C to stop)", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def build_app(library: SonicLibrary, credentials: Credentials, *, host: str, port: int) -> Starlette:
    """Build the application.

    Args:
        library: What is served.
        credentials: Who may use it.
        host: Address that it listens at.
        port: Its port.
    """
    answers = _Answers(library, credentials)
    return Starlette(
        routes=[Route("/{path:path}", answers.answer, methods=["GET", "POST"])],
        middleware=[Middleware(cast(Any, Guard), host=host, port=port)],
    )


class _Answers:
    """Turns a request into an answer, also where it is wrong."""

    def __init__(self, library: SonicLibrary, credentials: Credentials) -> None:
        self.library, self.credentials = library, credentials
        self.logins, self.one_at_a_time = LoginQueue(), asyncio.Lock()

    async def answer(self, request: HttpRequest) -> Response:
        format: Format = "xml"
        callback = ""
        try:
            parameters = await _parameters(request)
            format, callback = self._format(parameters)
            body = envelope(await self._payload(request.path_params["path"], parameters))
        except SubsonicError as error:
            body = error_envelope(error)
        except PentatonicError as error:
            body = error_envelope(SubsonicError(SubsonicError.GENERIC, str(error)))
        content_type, content = render(body, format, callback)
        headers = {
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "content-type": content_type,
        }
        return Response(content, headers=headers)

    def _format(self, parameters: Parameters) -> tuple[Format, str]:
        format, callback = parameters.get("f") or "xml", parameters.get("callback") or ""
        if format == "jsonp":
            if self.credentials.open:  # any page could read the library through a script element
                raise SubsonicError(
                    SubsonicError.GENERIC, "f=jsonp needs a server with a password; allowed: json, xml"
                )
            if not is_callback(parameters.require("callback")):
                raise SubsonicError(
                    SubsonicError.GENERIC, "callback is not the name of a JavaScript function"
                )
        elif format not in ("xml", "json"):
            raise SubsonicError(SubsonicError.GENERIC, "unknown f; allowed: xml, json, jsonp")
        return cast(Format, format), callback

    async def _payload(self, path: str, parameters: Parameters) -> Any:
        folder, _, name = path.rpartition("/")
        name = name.removesuffix(".view")
        if folder == "rest" and name == "getOpenSubsonicExtensions":
            return extensions(api_keys=bool(self.credentials.api_keys))
        if folder != "rest" or name not in ENDPOINTS:
            allowed = ", ".join(["getOpenSubsonicExtensions", *ENDPOINTS])
            raise SubsonicError(SubsonicError.GENERIC, f"not served here; allowed below /rest: {allowed}")
        user = await self._login(parameters)
        check_client(parameters)
        async with self.one_at_a_time:
            return await run_in_threadpool(_run, name, Request(self.library, parameters, user))

    async def _login(self, parameters: Parameters) -> str:
        if self.credentials.open:
            return self.credentials.identify(parameters)
        if not await self.logins.enter():
            raise SubsonicError(SubsonicError.WRONG_LOGIN, "too many failed logins; wait a minute")
        try:
            user = self.credentials.identify(parameters)
        except SubsonicError as error:
            if error.code in (SubsonicError.WRONG_LOGIN, SubsonicError.WRONG_KEY):
                self.logins.leave(failed=True)
            raise  # a request without a login must not end the waiting
        self.logins.leave(failed=False)
        return user


def _run(name: str, request: Request) -> Any:
    try:
        return ENDPOINTS[name](request)
    except PentatonicError:
        raise
    except Exception as error:
        # Not the message, which may quote the request.
        _log.error("%s failed inside: %s", name, type(error).__name__)
        raise SubsonicError(
            SubsonicError.GENERIC, "internal fault; the server's log names the error"
        ) from error


async def _parameters(request: HttpRequest) -> Parameters:
    query = parse_form(request.scope["query_string"], "query")
    body = await _body(request) if request.method == "POST" else b""
    return Parameters({**(parse_form(body, "body") if body else {}), **query})


async def _body(request: HttpRequest) -> bytes:
    content = b""
    try:
        async with asyncio.timeout(connections.REQUEST_WAIT_S):
            async for part in request.stream():
                content += part
                if len(content) > MAX_BODY_BYTES:
                    message = f"the form is longer than {MAX_BODY_BYTES} bytes"
                    raise SubsonicError(SubsonicError.GENERIC, message)
    except (ClientDisconnect, TimeoutError) as error:
        raise SubsonicError(SubsonicError.GENERIC, "the form did not arrive whole in time") from error
    if content and request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise SubsonicError(SubsonicError.GENERIC, f"the body is not a form; allowed: {_FORM}")
    return content
