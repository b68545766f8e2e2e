"""Logging in to Spotify: settings from the environment, tokens in a file that only the user can read.

The login is by authorization code with PKCE, which needs no secret. Searching the catalogue is possible without a user
where there is a client secret in the environment. Tokens are never printed or logged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import spotipy
from spotipy.cache_handler import CacheHandler, MemoryCacheHandler
from spotipy.exceptions import SpotifyOauthError
from spotipy.oauth2 import SpotifyClientCredentials, SpotifyPKCE

from myna_rpe.spotify.api import Api, LoginFailed
from pentatonic.errors import ConfigError, UsageError
from pentatonic.server import is_loopback
from pentatonic.untrusted.files import read_json

CLIENT_ID, REDIRECT_URI, CLIENT_SECRET = "SPOTIPY_CLIENT_ID", "SPOTIPY_REDIRECT_URI", "SPOTIPY_CLIENT_SECRET"

READ_PLAYLISTS = ("playlist-read-private",)
READ_LIKED = ("user-library-read",)
CREATE_PLAYLISTS = ("playlist-modify-private", "playlist-read-private")
"""Adding to a private playlist, and reading back what it holds."""
CREATE_PUBLIC_PLAYLISTS = ("playlist-modify-public", "playlist-read-private")
SEARCH = ()

_TIMEOUT_S = 20


@dataclass(frozen=True)
class Settings:
    """The application that the user has registered with Spotify.

    Args:
        client_id: Its id.
        redirect_uri: Where the browser brings the code of a login: a port of this machine.
        client_secret: Its secret; only for searching without a user.
    """

    client_id: str
    redirect_uri: str
    client_secret: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        Raises:
            UsageError: The id is missing, or the redirect address is not a port at a loopback address.
        """
        if not (client_id := environment.get(CLIENT_ID)):
            raise UsageError(
                f"the variable {CLIENT_ID} is not set; allowed: the client id of an application that you have "
                "registered at developer.spotify.com"
            )
        uri = environment.get(REDIRECT_URI, "")
        secret = environment.get(CLIENT_SECRET) or None
        if not _is_loopback_port(uri):
            raise UsageError(
                f"the variable {REDIRECT_URI} is {uri!r}; allowed: http://127.0.0.1:PORT/PATH as registered for the "
                "application (Spotify accepts no 'localhost')"
            )
        return cls(client_id, uri, secret)


def connect(scopes: tuple[str, ...], settings: Settings | None = None) -> Api:
    """Log in.

    Args:
        scopes: What the command has to be allowed; with none, no user is needed where there is a client secret.
        settings: The application; from the environment by default.

    Raises:
        UsageError: As :meth:`Settings.from_environment`.
        LoginFailed: Spotify refused the login.
    """
    logging.getLogger("spotipy").setLevel(logging.CRITICAL)  # its messages hold tokens
    settings = settings or Settings.from_environment()
    manager = (
        _search_manager(settings)
        if settings.client_secret and not scopes
        else _user_manager(settings, scopes)
    )
    # A session of our own has none of spotipy's retries, which hide Retry-After and would repeat additions.
    session: Any = requests.Session()  # annotated as a bool there
    client = spotipy.Spotify(auth_manager=manager, requests_session=session, requests_timeout=_TIMEOUT_S)
    return Api(client)


def cache_file(client_id: str, scopes: tuple[str, ...]) -> Path:
    """Where the tokens of an application are kept: one file for each set of scopes, in the user's cache folder."""
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (root if root.is_absolute() else Path.home() / ".cache") / "myna-rpe"
    name = hashlib.sha256("\n".join([client_id, *sorted(scopes)]).encode()).hexdigest()[:16]
    return folder / f"spotify-{name}.json"


class TokenCache(CacheHandler):
    """Keeps tokens in a file that only the user can read, from the moment it is made.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_cached_token(self) -> Any:
        """The tokens; None: there are none that can be read, so that the user logs in again."""
        try:
            tokens = read_json(self.path)
        except ConfigError:
            return None
        return tokens if isinstance(tokens, dict) else None

    def save_token_to_cache(self, token_info: Any) -> None:
        """Replace the tokens."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(token_info, file)
            temporary.replace(self.path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _search_manager(settings: Settings) -> SpotifyClientCredentials:
    return SpotifyClientCredentials(
        settings.client_id, settings.client_secret, cache_handler=MemoryCacheHandler()
    )


def _user_manager(settings: Settings, scopes: tuple[str, ...]) -> SpotifyPKCE:
    cache = TokenCache(cache_file(settings.client_id, scopes))
    manager = SpotifyPKCE(
        client_id=settings.client_id,
        redirect_uri=settings.redirect_uri,
        scope=" ".join(scopes) or None,
        state=secrets.token_urlsafe(16),
        cache_handler=cache,
        requests_timeout=_TIMEOUT_S,
    )
    try:
        known = manager.validate_token(cache.get_cached_token())
    except (SpotifyOauthError, KeyError, TypeError):  # revoked, or not what this program has written
        cache.path.unlink(missing_ok=True)
        known = None
    if known is None:
        print(f"Log in to Spotify in the browser: {manager.get_authorize_url()}", file=sys.stderr, flush=True)
        try:
            manager.get_access_token(check_cache=False)
        except SpotifyOauthError as error:
            raise LoginFailed(f"Spotify refused the login ({error.error or 'no reason given'})") from error
    return manager


def _is_loopback_port(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and host != "localhost" and is_loopback(host) and port is not None
