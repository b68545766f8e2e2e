"""URLs of files that a page may play."""

from __future__ import annotations

import re

_FILE_URL = re.compile("file:///[A-Za-z0-9/._~!$&'()*+,;=:@%-]+")


def is_file_url(url: str) -> bool:
    """Whether this is the ``file:`` URL of a file of this machine, with no sign that a URL does not have."""
    return _FILE_URL.fullmatch(url) is not None
