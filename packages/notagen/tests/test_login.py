"""Who may reach the browser demo."""

from __future__ import annotations

import socket

import pytest

from notagen.app.login import bindable_port, check_login
from pentatonic.errors import UsageError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_needs_no_login(host: str) -> None:
    check_login(host, None, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "example.org", ""])
def test_others_need_one(host: str) -> None:
    with pytest.raises(UsageError, match="needs --user and --password"):
        check_login(host, None, None)
    check_login(host, "me", "secret")


@pytest.mark.parametrize(("user", "password"), [("me", None), (None, "secret"), ("me", "")])
def test_half_a_login_is_refused(user: str | None, password: str | None) -> None:
    with pytest.raises(UsageError, match="must be given together"):
        check_login("127.0.0.1", user, password)


def test_a_free_port_of_the_system() -> None:
    port = bindable_port("127.0.0.1", 0)
    assert port > 0 and bindable_port("127.0.0.1", port) == port


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"cannot listen at 127\.0\.0\.1, port {port} \(Address already"
        ):
            bindable_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "a" * 70])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="allowed: an address of this machine and a free port"):
        bindable_port(host, 0)
