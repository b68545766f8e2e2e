"""Prompts: period, composer and instrumentation for a fine-tuned model.

A model knows the combinations in its training data and gives poor results for others, such as a Romantic piece by Bach,
so other combinations are refused. The released models know the 112 combinations of ``prompts.json``; a model directory
may contain a file of that name with its own.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path

from pentatonic.checkpoint import model_directory
from pentatonic.errors import ConfigError, UsageError
from pentatonic.untrusted.files import local_path, read_json

PROMPTS_FILE = "prompts.json"
_MAX_TABLE_BYTES = 16 * 2**20

# These released models were trained without prompts: they continue a header, or start from nothing.
_WITHOUT_PROMPTS = ("notagen-small", "notagen-medium", "notagen-large")


@dataclass(frozen=True)
class Prompt:
    """One combination, in the spelling that the models know.

    Args:
        period: For the released models ``Baroque``, ``Classical`` or ``Romantic``.
        composer: Family name, comma, given names, in ASCII: ``Chopin, Frederic``.
        instrumentation: For the released models ``Art Song``, ``Chamber``, ``Choral``, ``Keyboard``, ``Orchestral`` or
            ``Vocal-Orchestral``.
    """

    period: str
    composer: str
    instrumentation: str

    @property
    def text(self) -> str:
        """The prompt as three comment lines, for the start of a tune."""
        return f"%{self.period}\n%{self.composer}\n%{self.instrumentation}\n"


@cache
def prompts() -> tuple[Prompt, ...]:
    """Return the combinations that the released models were trained on, by period, composer and instrumentation."""
    return _combinations(json.loads(files("notagen").joinpath(PROMPTS_FILE).read_text(encoding="utf-8")))


def model_prompts(model: str | Path) -> tuple[Prompt, ...]:
    """Return the combinations that a model was trained on, without loading or downloading the model.

    Args:
        model: Bundled name, model directory or file, folder of a training run, or any other name of a model.

    Returns:
        The combinations of ``prompts.json`` in the model's directory; without such a file those of the released models,
        or none for the released pre-trained models.

    Raises:
        CheckpointError: It is the folder of a run without an intact checkpoint.
        ConfigError: ``prompts.json`` cannot be read, or is not a table of periods, composers and instrumentations.
    """
    path = local_path(Path(str(files("notagen"))) / "checkpoints" / model) or local_path(model)
    folder = None if path is None else path.parent if path.is_file() else model_directory(path)
    if folder is not None and (table := folder / PROMPTS_FILE).is_file():
        try:
            return _combinations(read_json(table, max_bytes=_MAX_TABLE_BYTES))
        except (TypeError, AttributeError) as error:
            raise ConfigError(
                f"{table}: not an object of periods, each an object of composers, each a list of instrumentations"
            ) from error
    return () if str(model) in _WITHOUT_PROMPTS else prompts()


def find_prompt(
    period: str | None = None,
    composer: str | None = None,
    instrumentation: str | None = None,
    *,
    known: Sequence[Prompt] | None = None,
) -> Prompt:
    """Return the one combination that has the given names.

    Args:
        period: A period, or a part of its name that no other one has, in any case; None: any.
        composer: A composer, likewise: ``Bach`` where there is only one of that name; None: any.
        instrumentation: An instrumentation, likewise; None: any.
        known: Combinations to choose from, see :func:`model_prompts`; None: those of the released models.

    Returns:
        The combination, in the spelling that the models know.

    Raises:
        UsageError: A name is unknown or a part of several (the message names the closest ones), no combination has all
            the names, or several have them (the message names the allowed combinations).
    """
    known = prompts() if known is None else known
    if not known:
        raise UsageError("this model knows no prompts; allowed: header lines, or music to continue")
    names = {"period": period, "composer": composer, "instrumentation": instrumentation}
    wanted = {
        kind: _known(kind, name, [getattr(prompt, kind) for prompt in known])
        for kind, name in names.items()
        if name is not None
    }
    fitting = [prompt for prompt in known if _has(prompt, wanted)]
    if len(fitting) == 1:
        return fitting[0]
    said = ", ".join(wanted.values())
    if fitting:
        raise UsageError(f"{said or 'no name'} is not enough for a prompt; allowed: {_listing(fitting)}")
    near = "composer" if "composer" in wanted else "period"
    allowed = [prompt for prompt in known if _has(prompt, {near: wanted[near]})]
    whole = _listing(allowed, kinds=tuple(names), separator=" / ")
    raise UsageError(f"{said} is not a prompt of this model; allowed with this {near}: {whole}")


def prompt_table(known: Iterable[Prompt]) -> dict[str, dict[str, list[str]]]:
    """Return the content of ``prompts.json``: period, then composer, then the instrumentations."""
    table: dict[str, dict[str, list[str]]] = {}
    for period, composer, instrumentation in map(astuple, known):
        table.setdefault(period, {}).setdefault(composer, []).append(instrumentation)
    return table


def _combinations(table: dict[str, dict[str, list[str]]]) -> tuple[Prompt, ...]:
    found = tuple(
        Prompt(period, composer, instrumentation)
        for period, composers in table.items()
        for composer, instrumentations in composers.items()
        for instrumentation in instrumentations
    )
    lists = [names for composers in table.values() for names in composers.values()]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise TypeError("instrumentations must be a list of texts")
    return found


def _has(prompt: Prompt, names: dict[str, str]) -> bool:
    return all(getattr(prompt, kind) == name for kind, name in names.items())


def _listing(
    allowed: Sequence[Prompt], *, kinds: Sequence[str] = (), separator: str = ", ", most: int = 20
) -> str:
    """List combinations by the given kinds of names; if none are given, by the kinds in which they differ."""
    kinds = kinds or [
        kind.name for kind in fields(Prompt) if len({getattr(each, kind.name) for each in allowed}) > 1
    ]
    lines = [separator.join(getattr(each, kind) for kind in kinds) for each in allowed]
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more


def _known(kind: str, name: str, names: Sequence[str]) -> str:
    known = {each.lower(): each for each in names}
    wanted = name.strip().lower()
    if wanted in known:
        return known[wanted]
    # Whole words of a name come before other parts of it.
    words = [key for key in known if wanted in key.replace(",", "").split()]
    parts = words or [key for key in known if len(wanted) > 2 and wanted in key]
    if len(parts) == 1:
        return known[parts[0]]
    if parts:
        names = " or ".join(repr(known[key]) for key in sorted(parts))
        raise UsageError(f"{kind} {name!r} is a part of several names; did you mean {names}?")
    close = difflib.get_close_matches(wanted[:100], known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(known[key]) for key in close)}?" if close else ""
    raise UsageError(f"unknown {kind} {name!r}; {hint or 'known: ' + '; '.join(known.values())}")
