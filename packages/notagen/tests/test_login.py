"""Who may reach the browser demo."""

from __future__ import annotations

import pytest

from notagen.login import check_login
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
    with pytest.raises(UsageError, match="go together"):
        check_login("127.0.0.1", user, password)
