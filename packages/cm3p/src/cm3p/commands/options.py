"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer
from typer.core import TyperCommand

from pentatonic.cli import pick_device

if TYPE_CHECKING:
    from cm3p.inference.loading import LoadedModel

DEFAULT_MODEL = "cm3p-tiny"
MAX_WINDOWS, BATCH_SIZE = 1000, 16  # as in cm3p.inference, which imports torch

Maps = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...", help="Maps (.osu), archives (.osz), folders such as the game's Songs folder."
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", help="Bundled name, directory, or hub id such as OliBomby/CM3P.")
]
Revision = Annotated[
    str | None, typer.Option(help="Commit, tag or branch of a model on the hub.", show_default="main")
]
WithAudio = Annotated[
    bool, typer.Option("--audio/--no-audio", help="Use the songs; maps without one fail then.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Windows at a time.")]
MaxWindows = Annotated[
    int, typer.Option("--max-windows", min=1, help="Refuse maps with more windows than this.")
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option("--dtype", help="Number type of the computation; auto: bf16 on a GPU that has it."),
]


class SeveralValues(TyperCommand):
    """A command whose options may have several values at once: ``--like A.osu B.osu``.

    Values go on up to the next option; those of :attr:`whole_numbers` up to what is not a whole number, so that
    arguments may follow.
    """

    several: ClassVar[frozenset[str]] = frozenset({"--like", "--unlike", "--metadata", "--gamemodes"})
    whole_numbers: ClassVar[frozenset[str]] = frozenset({"--gamemodes"})

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


def load_model(name: str, device: str, precision: str, revision: str | None = None) -> LoadedModel:
    """Load a model as the options say; errors as :func:`cm3p.inference.loading.load`."""
    from cm3p.inference.loading import load

    return load(name, device=pick_device(device), precision=precision, revision=revision)
