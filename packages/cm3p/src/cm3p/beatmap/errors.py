"""What can be wrong with a map."""

from __future__ import annotations

from pentatonic.errors import FormatError, InputError

__all__ = ["FormatError", "LimitExceeded", "NotABeatmap"]


class NotABeatmap(FormatError):
    """The content is not an ``.osu`` file: a web page, an archive, a picture, a storyboard, nothing at all."""


class LimitExceeded(InputError):
    """A map asks for more work than a limit allows, such as millions of slider ticks."""
