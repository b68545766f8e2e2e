"""Who may reach the browser demo: this machine, or others with a login."""

from __future__ import annotations

import ipaddress

from pentatonic.errors import UsageError


def check_login(host: str, user: str | None, password: str | None) -> None:
    """Refuse to be reached from other machines without a login.

    Raises:
        UsageError: ``host`` is not of this machine and there is no login, or a login has only one part.
    """
    if bool(user) != bool(password):
        raise UsageError("--user and --password go together")
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not own and not user:
        raise UsageError(
            f"--host {host} can be reached from other machines, which needs --user and --password (or the variable "
            "NOTAGEN_PASSWORD); without them: 127.0.0.1"
        )
