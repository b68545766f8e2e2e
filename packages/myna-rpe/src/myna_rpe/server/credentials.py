"""Who may use the server: a user with a password, holders of API keys, or every program of this machine.

The protocol sends md5(password + salt), so the server has to know the password itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from myna_rpe.server.envelope import API_VERSION, SubsonicError
from myna_rpe.server.parameters import Parameters
from pentatonic.errors import UsageError
from pentatonic.server import is_loopback
from pentatonic.untrusted.files import read_text

USER_VARIABLE, PASSWORD_VARIABLE, API_KEY_VARIABLE = "MYNA_RPE_USER", "MYNA_RPE_PASSWORD", "MYNA_RPE_API_KEY"

_MAX_SECRET_BYTES = 64 * 1024
_VERSION = re.compile(r"(\d{1,9})\.\d{1,9}(\.\d{1,9})?", re.ASCII)
_LOGIN_PARAMETERS = ("u", "p", "t", "s")


@dataclass(frozen=True, repr=False)  # never shown
class Credentials:
    """What a request must know. Without a password and keys, any user name and password will do.

    Args:
        user: Name of the user.
        password: Password of the user; None: there is none.
        api_keys: Keys that do in place of both.
    """

    user: str = "myna"
    password: str | None = None
    api_keys: frozenset[str] = frozenset()

    @property
    def open(self) -> bool:
        """Whether every login is accepted."""
        return self.password is None and not self.api_keys

    def check_address(self, host: str) -> None:
        """Refuse to listen for other machines when every login is accepted.

        Raises:
            UsageError: ``host`` is not a loopback address, and there is neither a password nor a key.
        """
        if self.open and not is_loopback(host):
            raise UsageError(
                f"--host {host} can be reached from other machines, which needs a password ({PASSWORD_VARIABLE} or "
                f"--password-file) or an API key ({API_KEY_VARIABLE} or --api-keys-file); without them: 127.0.0.1"
            )

    def identify(self, parameters: Parameters) -> str:
        """Check the login of a request.

        Args:
            parameters: Those of the request.

        Returns:
            Name of the user.

        Raises:
            SubsonicError: With the code that the specification gives.
        """
        if (key := parameters.get("apiKey")) is not None:
            return self._by_key(key, parameters)
        name = parameters.require("u")
        token, salt, password = (parameters.get(each) for each in "tsp")
        if password is not None and (token or salt):
            raise SubsonicError(
                SubsonicError.CONFLICTING, "p is given together with t and s; allowed: one of both"
            )
        if password is None and (token is None or salt is None):
            raise SubsonicError(SubsonicError.MISSING, "the parameters t and s, or p, are missing")
        if self.open:
            return name
        if self.password is None:
            code = SubsonicError.NOT_SUPPORTED if token is None else SubsonicError.NO_TOKENS
            raise SubsonicError(code, "this server has no password; allowed: apiKey")
        known = _same(name, self.user)  # both are compared, so that the time does not tell a known name
        if token is not None and salt is not None:
            right = _same(token.lower(), _token(self.password, salt))
        else:
            right = _same(_clear(password or ""), self.password)
        if not (known and right):
            raise SubsonicError(SubsonicError.WRONG_LOGIN, "wrong user name or password")
        return name

    def _by_key(self, key: str, parameters: Parameters) -> str:
        if given := [each for each in _LOGIN_PARAMETERS if parameters.get(each)]:
            raise SubsonicError(
                SubsonicError.CONFLICTING,
                f"apiKey is given together with {', '.join(given)}; allowed: apiKey alone",
            )
        if not self.api_keys:
            raise SubsonicError(
                SubsonicError.NOT_SUPPORTED, "this server has no API keys; allowed: u with p or t and s"
            )
        if not any([_same(key, each) for each in self.api_keys]):  # all are compared
            raise SubsonicError(SubsonicError.WRONG_KEY, "unknown API key")
        return self.user


def check_client(parameters: Parameters) -> None:
    """Refuse a client that speaks another major version, or does not say which.

    Raises:
        SubsonicError: ``v`` or ``c`` is missing, or ``v`` does not fit.
    """
    parameters.require("c")
    match = _VERSION.fullmatch(parameters.require("v"))
    if match is None:
        raise SubsonicError(SubsonicError.GENERIC, f"v is not a version; allowed: one such as {API_VERSION}")
    own, theirs = int(API_VERSION.partition(".")[0]), int(match[1])
    if theirs != own:
        code = SubsonicError.CLIENT_TOO_OLD if theirs < own else SubsonicError.SERVER_TOO_OLD
        raise SubsonicError(code, f"v is {match[0]}; this server speaks {API_VERSION}")


def read_credentials(
    user: str,
    password: str | None,
    api_key: str | None,
    *,
    password_file: Path | None = None,
    api_keys_file: Path | None = None,
) -> Credentials:
    """Collect the secrets from the environment and from files.

    Args:
        user: Name of the user.
        password: From the environment.
        api_key: From the environment.
        password_file: Text file whose only line is the password.
        api_keys_file: Text file with one key a line.

    Raises:
        UsageError: A password is given twice, a file cannot be read or is empty, or a secret is not UTF-8.
    """
    if password_file is not None:
        if password:
            raise UsageError(
                f"the password is given by {PASSWORD_VARIABLE} and --password-file; allowed: one of both"
            )
        lines = _lines(password_file)
        if len(lines) != 1:
            raise UsageError(f"{password_file} has {len(lines)} lines; allowed: one, the password")
        password = lines[0]
    keys = [api_key] if api_key else []
    if api_keys_file is not None:
        keys += [line.strip() for line in _lines(api_keys_file)]
    _check_encoding([user, password or "", *keys])
    return Credentials(user, password or None, frozenset(keys))


def _lines(path: Path) -> list[str]:
    text = read_text(path, max_bytes=_MAX_SECRET_BYTES, error=UsageError)
    if lines := [line for line in text.splitlines() if line.strip()]:
        return lines
    raise UsageError(f"{path} is empty; allowed: a text file with a secret in it")


def _check_encoding(texts: Iterable[str]) -> None:
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the user name, the password or an API key is not UTF-8") from error


def _clear(password: str) -> str:
    """The password itself; one in broken hexadecimal becomes a text that fits none."""
    if not password.startswith("enc:"):
        return password
    try:
        return bytes.fromhex(password[4:]).decode()
    except ValueError:
        return ""


def _token(password: str, salt: str) -> str:
    return hashlib.md5((password + salt).encode(), usedforsecurity=False).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
