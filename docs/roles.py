"""Docstrings name other objects with roles, which the site would print: show the name alone."""

from __future__ import annotations

import re

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(<code[^>]*>)(?:~[\w.]*\.)?")


def on_page_content(html: str, **_: object) -> str:
    """Remove the roles from a rendered page.

    Args:
        html: The page.

    Returns:
        The page with each role replaced by the name it marks, without the module where a tilde asks for that.
    """
    return _ROLE.sub(r"\1", html)
