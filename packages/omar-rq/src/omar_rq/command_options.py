"""Options that several commands share, and how their words are read. No torch is imported before a model is loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from pentatonic.cli import BatchReport, emit_json, pick_device
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from omar_rq.model import OmarRQ

DEFAULT_MODEL = "omar-rq-tiny"
_MOST_LAYERS = 1000  # of a range; no model has as many

ModelOption = Annotated[str, typer.Option("--model", help="Bundled name, directory, run folder or hub id.")]
EncodecOption = Annotated[
    str | None,
    typer.Option(
        "--encodec",
        metavar="DIR_OR_ID",
        help="EnCodec model in place of the one that the model names: a directory, or owner/name@revision.",
    ),
]
LayersOption = Annotated[
    str,
    typer.Option(
        "--layers", help="Block indices and ranges such as 3,5 or 1-3, negative ones from the end, or all."
    ),
]
ContextOption = Annotated[
    str, typer.Option("--context", help="Seconds that attention looks back, or none: all.")
]


def load_model(
    name: str, device: str, dtype: str, *, encodec: str | None = None, quantization_targets: bool = False
) -> OmarRQ:
    """Load the model of a command.

    Args:
        name: Of ``--model``.
        device: Of ``--device``.
        dtype: Of ``--dtype``.
        encodec: Of ``--encodec``.
        quantization_targets: Also attach its tokenizer.

    Raises:
        UsageError: There is no usable GPU of the kind that ``device`` names.
        HubError, ConfigError, CheckpointError, WeightsError: As :func:`omar_rq.weights.from_pretrained`.
    """
    import torch

    from omar_rq.weights import from_pretrained
    from pentatonic.precision import resolve_precision

    place = pick_device("cpu" if dtype == "int8" and device == "auto" else device)
    if dtype == "int8":
        from omar_rq.quantize import quantize

        return quantize(from_pretrained(name, device=place, encodec=encodec))
    number_type = {"fp32": torch.float32, "bf16": torch.bfloat16}[resolve_precision(dtype, place)]
    return from_pretrained(
        name, device=place, dtype=number_type, encodec=encodec, quantization_targets=quantization_targets
    )


def layer_numbers(text: str) -> list[int] | None:
    """Read ``--layers``: block indices in the order given; None for ``all``.

    Raises:
        UsageError: It is neither ``all`` nor whole numbers and ranges.
    """
    if text == "all":
        return None
    numbers: list[int] = []
    for word in text.split(","):
        found = re.fullmatch(r"\s*(-?\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", word)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not first <= last < first + _MOST_LAYERS:
            raise UsageError(
                f"--layers is {text!r}; allowed: whole numbers and ranges such as 3,5 or 1-3 or -1, or all"
            )
        numbers += range(first, last + 1)
    return numbers


def context_seconds(text: str) -> float | None:
    """Read ``--context``: seconds; None for ``none``.

    Raises:
        UsageError: It is neither ``none`` nor positive seconds.
    """
    if text == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise UsageError(f"--context is {text!r}; allowed: positive seconds, or none")
    return seconds


def finish(report: BatchReport, as_json: bool) -> None:
    """Show what became of the files, and end with status 3 if one failed.

    Raises:
        PartialFailure: A file failed.
    """
    report.print_summary()
    if as_json:
        emit_json(report.document())
    report.raise_for_failures()
