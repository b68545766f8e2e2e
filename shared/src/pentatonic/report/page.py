"""A page of one or more sections: each written by one program, with its own command and versions.

A program can add its section to a page that another one wrote, or replace the one it wrote before. The page is
split at comments that cannot occur in its text, because all text is escaped, and assembled again. If the result
differs from the file, the file was not written by this module, and is not changed.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pentatonic.cli import json_text
from pentatonic.errors import FormatError, MissingExtra

if TYPE_CHECKING:
    import jinja2

_START, _END = "<!-- section: ", "<!-- end of section -->\n"
_SECTION = re.compile(f'{_START}([a-z0-9-]*) -->\n<section[^>]* aria-label="([^"]*)">')
_PLAYS_FILES = (' src="file:', ' data-plays="file:')
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Args:
        name: Unique on the page; lower-case letters, digits and ``-``, may be empty.
        title: Its title, not escaped.
        html: Its HTML, from its start comment to its end comment.
    """

    name: str
    title: str
    html: str


class PageTemplates:
    """The templates of a page and its sections.

    Raises:
        MissingExtra: jinja2 is not installed.
    """

    def __init__(self) -> None:
        self._section, self._page = (_template(f"{name}.html.j2") for name in ("section", "page"))

    def section(
        self,
        name: str,
        title: str,
        blocks: Sequence[Mapping[str, Any]],
        *,
        command: str,
        versions: Mapping[str, str],
        tables: Sequence[Mapping[str, Any]],
    ) -> Section:
        """Fill in one section; ``tables`` go into its JSON."""
        data = {"title": title, "command": command, "versions": versions, "tables": tables}
        blocks = [
            {**block, "data": _script_json(block["data"])} if "data" in block else block for block in blocks
        ]
        body = self._section.render(
            title=title,
            blocks=blocks,
            command=command,
            versions=versions,
            prefix=f"{name}-" if name else "",
            data=_script_json(data),
        )
        return Section(name, _printable(title), _printable(f"{_START}{name} -->\n{body}\n{_END}"))

    def page(self, sections: Sequence[Section]) -> str:
        """Return the HTML of a page."""
        style, script = _package_text("style.css"), _package_text("script.js")
        # All text is escaped, so only a player and a map have these with their quote.
        local = any(mark in section.html for section in sections for mark in _PLAYS_FILES)
        policy = (
            f"default-src 'none'; img-src data:; media-src data:{' file:' if local else ''}; base-uri 'none'; "
            "form-action 'none'; "
            f"style-src {source_hash(style)}; script-src {source_hash(script)}"
        )
        return self._page.render(sections=sections, policy=policy, style=style, script=script)

    def sections_of(self, path: Path) -> list[Section]:
        """Read the sections of a page.

        Raises:
            FormatError: The file was not written by this version of the package, or was edited.
        """
        page = path.read_bytes().decode(errors="replace")
        sections = []
        for start in (match.start() for match in re.finditer(_START, page)):
            head = _SECTION.match(page, start)
            end = page.find(_END, start) + len(_END)
            if head is None or end < start:
                break
            sections.append(Section(head[1], html.unescape(head[2]), page[start:end]))
        if self.page(sections) != page:
            reason = "is not a report of this version of the program, or was edited; remove it, or give another file"
            raise FormatError(reason, path=path)
        return sections


def _template(name: str) -> jinja2.Template:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("An HTML report", "pentatonic[report]") from error
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_package_text(name))


def _script_json(value: object) -> str:
    return json_text(value).replace("<", "\\u003c")  # only "<" can end a script element


def _package_text(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)


def source_hash(text: str) -> str:
    """Return the source of a content security policy that allows this style sheet or script, by its SHA-256."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
