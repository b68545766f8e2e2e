"""Configurations that a stranger may have written: dataclasses whose fields declare their types and ranges.

A configuration declares beside each field what is allowed::

    @dataclass(frozen=True)
    class Net:
        depth: Annotated[int, Range(1, 256)] = 12
        dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
        mode: Literal["windows", "tokens"] = "windows"
        levels: Annotated[tuple[Annotated[int, Range(2, 64)], ...], Length(1, 16)] = (6, 6)

        def __post_init__(self) -> None:
            check_fields(self, "net")

:func:`read_fields` builds it from JSON types, and :func:`check_fields` holds values from Python code to the same
ranges. Numbers must be finite. Written here, because the libraries that do this are compiled dependencies that no model
needs otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pentatonic.errors import ConfigError
from pentatonic.untrusted.files import shortened

T = TypeVar("T")
_MISFIT = object()
_WORDS = {int: "whole numbers", float: "numbers", bool: "true or false", str: "text", NoneType: "None"}


@dataclass(frozen=True)
class Range:
    """Allowed values of a number.

    Args:
        low: Least value.
        high: Greatest value.
        above: ``low`` itself is not allowed.
        below: ``high`` itself is not allowed.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value is allowed."""
        is_low_enough = value < self.high if self.below else value <= self.high
        return is_low_enough and (value > self.low if self.above else value >= self.low)

    def __str__(self) -> str:
        end = "and below" if self.below else "up to"
        return f"{'above' if self.above else 'from'} {self.low:,} {end} {self.high:,}"


@dataclass(frozen=True)
class Length:
    """Allowed number of characters of a text, or of items of a tuple."""

    low: int
    high: int

    def holds(self, value: str | tuple[Any, ...]) -> bool:
        """Whether a value is allowed."""
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        return f"of length {self.low:,} to {self.high:,}"


def read_fields(kind: type[T], values: object, where: str) -> T:
    """Build a dataclass from plain values, such as JSON gives.

    Lists become tuples and whole numbers floats where the fields are of these types.

    Args:
        kind: Dataclass whose fields are annotated with ``bool``, ``int``, ``float``, ``str``, ``None``, ``Literal``,
            tuples and unions of these, and with :class:`Range` and :class:`Length`.
        values: Mapping of field names to values.
        where: Name of the section, for messages; may be empty.

    Returns:
        An instance of ``kind``.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of another type or out of its range; the message
            names the key and what is allowed.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where or 'the configuration'} is {shortened(values)}; allowed: a section (a mapping of keys)"
        )
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ConfigError(f"unknown key {_key(where, key)}; allowed: {', '.join(fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{_key(where, name)} is missing; needed: {', '.join(fields)}")
    return kind(**{name: _checked(kind, name, value, where) for name, value in values.items()})


def check_fields(config: Any, where: str) -> None:
    """Hold the values of a dataclass to the types and ranges of its fields; for its ``__post_init__``.

    Args:
        config: Instance of a dataclass, annotated as for :func:`read_fields`.
        where: Name of the section, for messages; may be empty.

    Raises:
        ConfigError: A value is of another type or out of its range; the message names it and what is allowed.
    """
    for field in dataclasses.fields(config):
        _checked(type(config), field.name, getattr(config, field.name), where)


def _checked(kind: type, name: str, value: object, where: str) -> Any:
    hint = _hints(kind)[name]
    converted = _converted(value, hint)
    if converted is _MISFIT:
        raise ConfigError(f"{_key(where, name)} is {shortened(value)}; allowed: {_described(hint)}")
    return converted


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _key(where: str, name: object) -> str:
    key = name if isinstance(name, str) and len(name) <= 80 else shortened(name)
    return f"{where}.{key}" if where else str(key)


def _converted(value: Any, hint: Any) -> Any:
    """The value in the type that a field has, or ``_MISFIT``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner = _converted(value, parts[0])
        return inner if inner is not _MISFIT and all(limit.holds(inner) for limit in parts[1:]) else _MISFIT
    if origin in (Union, UnionType):
        options = (_converted(value, part) for part in parts)
        return next((option for option in options if option is not _MISFIT), _MISFIT)
    if origin is Literal:
        return next((part for part in parts if type(part) is type(value) and part == value), _MISFIT)
    if origin is tuple:
        return _converted_tuple(value, parts)
    if hint is float:
        return _finite(value)
    if hint is int and isinstance(value, bool):
        return _MISFIT
    return value if isinstance(value, hint) else _MISFIT


def _converted_tuple(value: Any, parts: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _MISFIT
    if parts[-1] is ...:
        parts = parts[:1] * len(value)
    if len(value) != len(parts):
        return _MISFIT
    items = tuple(_converted(item, part) for item, part in zip(value, parts, strict=True))
    return _MISFIT if any(item is _MISFIT for item in items) else items


def _finite(value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return _MISFIT
    try:
        number = float(value)
    except OverflowError:
        return _MISFIT
    return number if math.isfinite(number) else _MISFIT


def _described(hint: Any) -> str:
    """What a field allows, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([_described(parts[0]), *map(str, parts[1:])])
    if origin in (Union, UnionType):
        return ", or ".join(_described(part) for part in parts)
    if origin is Literal:
        return ", ".join(str(part) for part in parts)
    if origin is tuple:
        count = "a list of" if parts[-1] is ... else f"a list of {len(parts)}"
        return f"{count} {_described(parts[0])}"
    return _WORDS[hint]
