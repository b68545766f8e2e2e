"""Access to the browser demo: from this machine, or from others with a login."""

from __future__ import annotations

import ipaddress
import socket

from pentatonic.errors import UsageError


def check_login(host: str, user: str | None, password: str | None) -> None:
    """Refuse to listen for other machines without a login.

    Raises:
        UsageError: ``host`` is not a loopback address and there is no login, or only one of ``user`` and ``password``
            is given.
    """
    if bool(user) != bool(password):
        raise UsageError("--user and --password must be given together")
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not own and not user:
        raise UsageError(
            f"--host {host} can be reached from other machines, which needs --user and --password (or the variable "
            "NOTAGEN_PASSWORD); without them: 127.0.0.1"
        )


def bindable_port(host: str, port: int) -> int:
    """Return a port on which a server can listen; on an unusable port the web server would hang.

    Args:
        host: Name or address of this machine.
        port: The port; 0: a free one.

    Raises:
        UsageError: ``host`` is not an address of this machine, or the port is taken or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return probe.getsockname()[1]
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise UsageError(
            f"cannot listen at {host}, port {port} ({reason}); allowed: an address of this machine and a free port"
        ) from error
