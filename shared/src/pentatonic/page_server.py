"""Serve a gradio page: on this machine only, or behind a login, without a share link, a CDN, or access to folders.

Import this module before gradio: it switches gradio's messages to its makers off. It imports gradio only where it needs
it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pentatonic.errors import UsageError
from pentatonic.server import Guard, bindable_port, check_login, serving

if TYPE_CHECKING:
    import gradio as gr

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

_SESSIONS = 100  # whose state is kept


def serve(
    build: Callable[[], gr.Blocks],
    *,
    name: str,
    prefix: str,
    host: str,
    port: int,
    user: str | None,
    password: str | None,
    variable: str,
    max_upload_bytes: int,
    style: str = "",
) -> None:
    """Run a page until it is interrupted, and print its address.

    Uploads are in a folder of their own, which is removed however the server ends.

    Args:
        build: Builds the page.
        name: Of the program, for the line with the address.
        prefix: Start of the name of the folder of uploads.
        host: Address to listen on.
        port: Port to listen on; 0: any free one.
        user: User name of the login; None: no login.
        password: Password of the login; None: no login.
        variable: Environment variable that can hold the password.
        max_upload_bytes: Largest upload.
        style: CSS of the page.

    Raises:
        UsageError: As :func:`pentatonic.server.check_login` and :func:`launch`.
    """
    check_login(host, user, password, variable=variable)
    login = (user, password) if user and password else None
    with serving(prefix) as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        page = build()
        address = launch(
            page,
            host=host,
            port=port,
            login=login,
            uploads=folder,
            max_upload_bytes=max_upload_bytes,
            style=style,
        )
        print(f"{name} is at {address} (press Ctrl-C to stop)", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def launch(
    page: gr.Blocks,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    login: tuple[str, str] | None = None,
    uploads: Path | None = None,
    max_upload_bytes: int,
    style: str = "",
) -> str:
    """Start the server of a page in the background, without a share link and without access to folders.

    Args:
        page: The page.
        host: Address to listen at.
        port: Port to listen on; 0: any free one.
        login: User name and password; None: no login.
        uploads: Folder of the uploads, whose size is limited; None: it is not.
        max_upload_bytes: Largest upload.
        style: CSS of the page.

    Returns:
        The address of the server.

    Raises:
        UsageError: As :func:`pentatonic.server.bindable_port`.
    """
    from gradio import themes
    from starlette.middleware import Middleware

    port = bindable_port(host, port)
    guard = Middleware(Guard, host=host, port=port, uploads=uploads)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            auth=login,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            footer_links=[],
            max_file_size=max_upload_bytes,
            state_session_capacity=_SESSIONS,
            css=style,
            app_kwargs={"middleware": [guard]},
            theme=themes.Default(primary_hue="slate", text_size="sm", spacing_size="sm"),
        )
    except OSError as error:
        # The port was taken in the meantime, or is taken at 127.0.0.1, which gradio checks too. The message of gradio
        # is about its own options.
        raise UsageError(f"cannot listen at {host}, port {port}; allowed: a free port") from error
    return address
