"""A hook of MkDocs: removes the Sphinx roles of docstrings (``:class:``, ...), which the site would print as text."""

from __future__ import annotations

import re

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(<code[^>]*>)(?:~[\w.]*\.)?")


def on_page_content(html: str, **_: object) -> str:
    """Remove the roles from a rendered page.

    Args:
        html: The page.

    Returns:
        The page with each role replaced by the name of its object, without the module after a tilde.
    """
    return _ROLE.sub(r"\1", html)
