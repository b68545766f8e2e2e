"""Commands whose options may have several values at once, such as ``--labels waltz march hymn``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from typer.core import TyperCommand


class OptionsOfSeveralValues(TyperCommand):
    """A command with such options; a subclass names them, and the function declares each as a list.

    Values go on up to the next option; those of :attr:`whole_numbers` up to what is not a whole number, so that
    arguments may follow.

    Attributes:
        several: The options, such as ``--labels``.
        whole_numbers: Those of them whose values are whole numbers.
    """

    several: ClassVar[frozenset[str]] = frozenset()
    whole_numbers: ClassVar[frozenset[str]] = frozenset()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat such an option before each of its values, which is the form that the parser knows."""
        return super().parse_args(ctx, self.repeated(args))

    @classmethod
    def repeated(cls, args: Sequence[str]) -> list[str]:
        """Return the arguments with ``--like A --like B`` for ``--like A B``."""
        result: list[str] = []
        option, values = "", 0
        for at, arg in enumerate(args):
            if arg == "--":
                return [*result, *args[at:]]
            if arg.startswith("-") and arg != "-" and not (option and not values):
                option, values = arg if arg in cls.several else "", 0
            elif option and option in cls.whole_numbers and values and not arg.isdigit():
                option = ""
            elif option:
                values += 1
                if values > 1:
                    result.append(option)
            result.append(arg)
        return result
