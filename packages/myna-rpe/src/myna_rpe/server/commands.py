"""The command ``myna-rpe serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pentatonic.errors import MissingExtra


def serve_command(
    index: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the index, in place of --library.")
    ] = None,
    library: Annotated[str, typer.Option(help="Name of the library, in the user's data folder.")] = "default",
    host: Annotated[
        str,
        typer.Option(help="Address to listen at; others than this machine need a password or an API key."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 4040,
    user: Annotated[str, typer.Option(envvar="MYNA_RPE_USER", help="Name to log in with.")] = "myna",
    password_file: Annotated[
        Path | None,
        typer.Option(help="Text file with the password; or the variable MYNA_RPE_PASSWORD."),
    ] = None,
    api_keys_file: Annotated[
        Path | None,
        typer.Option(help="Text file with one API key a line; or the variable MYNA_RPE_API_KEY for one."),
    ] = None,
) -> None:
    """Answer OpenSubsonic clients: similar tracks and paths by sound (extension sonicSimilarity).

    A service for scripts and bridges: it plays nothing. Without a password and keys, every program of this machine may
    ask, with any user name and password.
    """
    import os

    from myna_rpe.server.credentials import API_KEY_VARIABLE, PASSWORD_VARIABLE, read_credentials

    credentials = read_credentials(
        user,
        os.environ.get(PASSWORD_VARIABLE),
        os.environ.get(API_KEY_VARIABLE),
        password_file=password_file,
        api_keys_file=api_keys_file,
    )
    credentials.check_address(host)  # fail fast
    try:
        from myna_rpe.server.app import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise MissingExtra("The server", "myna-rpe[serve]") from error
    from myna_rpe.library.commands import open_library

    serve(open_library(index, library), credentials, host=host, port=port)
