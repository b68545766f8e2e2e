"""Serving the page to browsers of this machine."""

from __future__ import annotations

from cm3p.explore.page import policy
from pentatonic.errors import MissingExtra
from pentatonic.server import App, Guard, Receive, Scope, Send, listening_socket

HOST = "127.0.0.1"


def build_app(page: bytes, port: int) -> App:
    """Return the ASGI application that answers ``/`` with a page, behind the check of Host and Origin.

    Args:
        page: The HTML.
        port: Port that the server listens at.
    """
    common = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", f"{policy()}; frame-ancestors 'none'".encode()),
        (b"referrer-policy", b"no-referrer"),
    ]
    plain = [(b"content-type", b"text/plain")]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        known = scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
        status, kind, body = (200, headers, page) if known else (404, plain, b"only / is served here\n")
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": kind + common + length})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return Guard(app, host=HOST, port=port)


def check_server() -> None:
    """Fail fast where no page can be served.

    Raises:
        MissingExtra: uvicorn is not installed.
    """
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra("Serving a page", "cm3p[serve]") from error


def serve(page: str, port: int) -> None:
    """Serve a page at a loopback address until the program is interrupted, and print the address.

    Args:
        page: The HTML.
        port: Port to listen at; 0: any free one.

    Raises:
        MissingExtra: uvicorn is not installed.
        UsageError: The port is taken or not allowed.
    """
    check_server()
    import uvicorn

    with listening_socket(HOST, port) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            build_app(page.encode(), port),
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        print(f"The map is at http://{HOST}:{port} (press Ctrl-C to stop)", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
