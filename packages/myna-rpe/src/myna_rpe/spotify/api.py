"""Calls of Spotify's Web API: retried where that is safe, and with typed errors.

Endpoints for audio features, audio analysis, recommendations and previews are not used: applications registered since
November 2024 have no access to them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from requests.exceptions import RequestException
from spotipy.exceptions import SpotifyException, SpotifyOauthError

from pentatonic.errors import InputError, PentatonicError
from pentatonic.progress import one_line

T = TypeVar("T")

_TEMPORARY = (500, 502, 503, 504)
_PAGE = 50
_RESULTS = 10


class SpotifyError(PentatonicError):
    """Spotify refused a call, or cannot be reached."""


class LoginFailed(SpotifyError):
    """The login was refused, has ended, or does not allow the call."""


class RateLimited(SpotifyError):
    """Spotify asks to wait for longer than a command should.

    Args:
        wait_s: Seconds to wait.
    """

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(
            f"Spotify accepts no calls for {wait_s:.0f} seconds; run the command again after that"
        )


class EndpointGone(SpotifyError):
    """Spotify no longer offers an endpoint, or not to this application.

    Args:
        endpoint: What was called.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        super().__init__(
            f"Spotify no longer offers {endpoint!r} to this application; see its dashboard for what is allowed, "
            "or install a newer myna-rpe"
        )


class Unclear(SpotifyError):
    """A call that changes something ended without an answer: whether it took effect has to be looked up."""


class Client(Protocol):
    """The methods of ``spotipy.Spotify`` that are used."""

    def playlist_items(self, playlist_id: str, *, limit: int, offset: int) -> Any:
        """A page of the items of a playlist."""
        ...

    def current_user_saved_tracks(self, *, limit: int, offset: int) -> Any:
        """A page of the songs that the user likes."""
        ...

    def current_user_playlist_create(self, name: str, *, public: bool, description: str) -> Any:
        """Make a playlist."""
        ...

    def playlist_add_items(self, playlist_id: str, items: list[str]) -> Any:
        """Add up to 100 items to the end of a playlist."""
        ...

    def search(self, q: str, *, limit: int, type: str) -> Any:
        """Search the catalogue."""
        ...


@dataclass(frozen=True)
class Patience:
    """How long calls are repeated.

    Args:
        attempts: Calls at most, the first included.
        first_s: Bound of the first wait, in seconds; it doubles each time.
        longest_s: Bound of every wait.
        longest_asked_s: Longest wait that Spotify may ask for; beyond it the command ends.
    """

    attempts: int = 6
    first_s: float = 1.0
    longest_s: float = 30.0
    longest_asked_s: float = 120.0


class Api:
    """Calls a client with back-off.

    Args:
        client: ``spotipy.Spotify`` without retries of its own, or a stand-in.
        patience: How long calls are repeated.
        sleep: Waits for seconds.
        jitter: Gives a number between two bounds.
    """

    def __init__(
        self,
        client: Client,
        patience: Patience | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.client, self.patience = client, patience or Patience()
        self._sleep, self._jitter = sleep, jitter

    def playlist_items(self, playlist_id: str) -> Iterator[dict[str, Any]]:
        """All items of a playlist in order; each has the track in ``item`` or, in older answers, ``track``.

        Raises:
            InputError: There is no such playlist, or it is not shown to this application.
            SpotifyError: As for all calls.
        """

        def page(offset: int) -> Any:
            return self.client.playlist_items(playlist_id, limit=_PAGE, offset=offset)

        return self._pages(f"playlist {playlist_id}", page, may_be_missing=True)

    def saved_tracks(self) -> Iterator[dict[str, Any]]:
        """All songs that the user likes, newest first."""
        return self._pages(
            "saved tracks", lambda offset: self.client.current_user_saved_tracks(limit=_PAGE, offset=offset)
        )

    def search_tracks(self, query: str) -> list[dict[str, Any]]:
        """The first tracks that a search finds."""
        found = self._call("search", lambda: self.client.search(query, limit=_RESULTS, type="track"))
        return [track for track in found["tracks"]["items"] if track]

    def create_playlist(self, name: str, description: str, *, public: bool) -> str:
        """Make an empty playlist.

        Returns:
            Its id.

        Raises:
            Unclear: There was no answer; the playlist may exist.
        """

        def create() -> Any:
            return self.client.current_user_playlist_create(name, public=public, description=description)

        return self._call("create playlist", create, changes=True)["id"]

    def add(self, playlist_id: str, ids: list[str]) -> None:
        """Add up to 100 tracks to the end of a playlist.

        Raises:
            Unclear: There was no answer; the tracks may have been added.
            InputError: There is no such playlist.
        """
        self._call(
            f"playlist {playlist_id}",
            lambda: self.client.playlist_add_items(playlist_id, [f"spotify:track:{id}" for id in ids]),
            changes=True,
            may_be_missing=True,
        )

    def wait(self, failures: int) -> None:
        """Wait after a failure: a random time, whose bound doubles each time.

        Args:
            failures: Failures so far, at least one.
        """
        bound_s = min(self.patience.first_s * 2.0 ** (failures - 1), self.patience.longest_s)
        self._sleep(self._jitter(bound_s / 2, bound_s))

    def _pages(
        self, endpoint: str, page: Callable[[int], Any], *, may_be_missing: bool = False
    ) -> Iterator[dict[str, Any]]:
        offset, more = 0, True
        while more:
            answer = self._call(endpoint, lambda at=offset: page(at), may_be_missing=may_be_missing)
            yield from answer["items"]
            offset += len(answer["items"])
            more = bool(answer["next"] and answer["items"])

    def _call(
        self,
        endpoint: str,
        call: Callable[[], T],
        *,
        changes: bool = False,
        may_be_missing: bool = False,
    ) -> T:
        """Call until there is an answer.

        Args:
            endpoint: What is called, for messages.
            call: The call.
            changes: It changes something, so that it is repeated only where it surely had no effect.
            may_be_missing: It names something that need not exist.
        """
        reason = ""
        for failures in range(1, self.patience.attempts + 1):
            last = failures == self.patience.attempts
            try:
                return call()
            except SpotifyOauthError as error:
                raise LoginFailed(
                    f"Spotify refused the login ({error.error or 'no reason given'})"
                ) from error
            except SpotifyException as error:
                status = error.http_status
                if status == 429:  # refused before it took effect
                    self._wait_as_asked(error, failures, last=last)
                    continue
                if status not in _TEMPORARY:
                    raise _refusal(endpoint, error, may_be_missing=may_be_missing) from error
                reason = f"status {status}"
            except RequestException as error:
                reason = type(error).__name__
            if changes:
                raise Unclear(f"{endpoint}: Spotify gave no answer ({reason}); the change may have been made")
            if not last:
                self.wait(failures)
        raise SpotifyError(
            f"{endpoint}: Spotify gave no answer in {self.patience.attempts} attempts ({reason})"
        )

    def _wait_as_asked(self, error: SpotifyException, failures: int, *, last: bool) -> None:
        asked = str({**(error.headers or {})}.get("Retry-After", ""))
        wait_s = float(asked) if asked.isdecimal() else 0.0
        if last or wait_s > self.patience.longest_asked_s:
            raise RateLimited(max(wait_s, self.patience.longest_s)) from error
        if wait_s:
            self._sleep(wait_s + self._jitter(0.0, self.patience.first_s))
        else:
            self.wait(failures)


def _refusal(endpoint: str, error: SpotifyException, *, may_be_missing: bool) -> PentatonicError:
    """The error for a call that Spotify refuses; the message of spotipy holds the address, which is left out."""
    status = error.http_status
    said = one_line(str(error.msg).rpartition("\n")[2].strip())[:200]
    if status == 401 or (status == 403 and "scope" in said.lower()):
        return LoginFailed(
            f"{endpoint}: the login does not allow this ({said}); run the command again to log in anew"
        )
    if status == 410 or (status in (403, 404) and not may_be_missing):
        return EndpointGone(endpoint)
    if status in (400, 403, 404):
        return InputError(
            f"{endpoint}: not found, or not for you ({said}); allowed: a playlist of yours or one that you follow, "
            "not one that Spotify itself made"
        )
    return SpotifyError(f"{endpoint}: Spotify refused the call with status {status} ({said})")
