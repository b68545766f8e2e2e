from __future__ import annotations

import copy
import inspect

import pytest

from pentatonic import errors


def test_every_error_has_the_common_base() -> None:
    classes = [
        item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__
    ]
    assert len(classes) > 15
    assert all(issubclass(item, errors.PentatonicError) and item.__doc__ for item in classes)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.UsageError, ValueError),
        (errors.ConfigError, ValueError),
        (errors.InputError, ValueError),
        (errors.WeightsError, ValueError),
        (errors.BackendUnavailable, RuntimeError),
        (errors.MissingExtra, ImportError),
    ],
)
def test_errors_can_be_caught_without_knowing_this_package(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)


def test_format_errors_say_where() -> None:
    error = errors.FormatError("the bar is too long", path="a.abc", line=3, column=14)
    assert str(error) == "a.abc:3:14: the bar is too long"
    assert (error.reason, error.path, error.line, error.column) == ("the bar is too long", "a.abc", 3, 14)
    assert str(errors.FormatError("no header", line=1)) == "1: no header"
    assert str(errors.FormatError("empty")) == "empty"


def test_audio_errors_name_the_file() -> None:
    error = errors.TruncatedAudio("a.wav", "ends early", samples_decoded=480)
    assert str(error) == "a.wav: ends early"
    assert (error.path, error.reason, error.samples_decoded) == ("a.wav", "ends early", 480)
    assert isinstance(error, errors.CorruptAudio)


def test_a_missing_extra_says_what_to_install() -> None:
    error = errors.MissingExtra("Training", "omar-rq[train]")
    assert str(error) == "Training needs the extra 'omar-rq[train]': pip install 'omar-rq[train]'"
    assert error.extra == "omar-rq[train]"


@pytest.mark.parametrize(
    "error",
    [
        errors.CorruptAudio("a.wav", "lost sync", samples_decoded=7),
        errors.FormatError("bad", path="a.abc", line=2),
        errors.MissingExtra("Training", "omar-rq[train]"),
        errors.PentatonicError("plain"),
    ],
)
def test_errors_survive_the_way_back_from_a_worker_process(error: errors.PentatonicError) -> None:
    again = copy.copy(error)  # by the protocol that worker processes use
    assert type(again) is type(error)
    assert (str(again), again.__dict__) == (str(error), error.__dict__)
