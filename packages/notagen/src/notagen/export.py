"""``notagen export``: write the model of a training run, or any other model, as a directory that loads anywhere.

Two formats: ours (``config.json`` and ``model.safetensors``) and the original's (``model.pth`` with the original's
tensor names). Both get a model card, and ``prompts.json`` where the model knows other prompts than the released models.
With the index of the training pieces both also get ``vocabulary.json``, to which constrained generation keeps; and
``generation_config.json`` where characters are to be chosen otherwise than usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from notagen.card import model_card
from notagen.prompts import PROMPTS_FILE, model_prompts, prompt_table, prompts
from notagen.training.index import Index, index_prompts, index_texts
from notagen.vocabulary import collect_vocabulary
from notagen.weights import from_pretrained, generation_notes, save_pretrained, to_upstream, write_notes
from pentatonic.checkpoint import atomic_directory
from pentatonic.errors import UsageError
from pentatonic.model_card import read_training

MODEL_FORMATS = ("safetensors", "upstream")
HEAD_WIDTH = 64
"""Width of an attention head in the original, whose loader divides the width of a model by it."""


def export(
    source: str | Path,
    out: str | Path,
    *,
    index: str | Path | None = None,
    sampling: Mapping[str, Any] = MappingProxyType({}),
    format: str = "safetensors",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a model directory with a model card, and load it again as a check.

    Args:
        source: Whatever :func:`notagen.from_pretrained` loads: a run folder (its newest checkpoint is taken), its
            ``best``, a checkpoint, or any other model.
        out: Directory to write; replaced as a whole.
        index: Training pieces; their prompts of three lines become the prompts of the model, and what they consist of
            its vocabulary. ``None``: prompts and vocabulary of ``source``.
        sampling: Fields of :class:`notagen.generation.sampling.Sampling`: how the model is to choose characters where
            nothing else is asked for. The others stay as in ``source``.
        format: ``safetensors`` or ``upstream``.
        dtype: Floating type of the stored tensors.

    Returns:
        ``out``.

    Raises:
        UsageError: Unknown format, a value of ``sampling`` out of its range, or a model that the original cannot
            represent.
        InputError: The index cannot be read.
        HubError, ConfigError, CheckpointError, WeightsError: There is no usable model at ``source``.
    """
    if format not in MODEL_FORMATS:
        raise UsageError(f"format is {format!r}; allowed: {', '.join(MODEL_FORMATS)}")
    out = Path(out)
    known = model_prompts(source) if index is None else index_prompts(Index(index))
    notes: dict[str, Any] = {} if known == prompts() else {PROMPTS_FILE: prompt_table(known)}
    model = from_pretrained(source)
    if index is not None:
        model.vocabulary = collect_vocabulary(index_texts(Index(index)))
    model.sampling = replace(model.sampling, **sampling)
    card = model_card(
        model, read_training(source), name=out.name, prompts=known if notes else (), dtype=dtype
    )
    if format == "safetensors":
        save_pretrained(model, out, dtype=dtype, notes=notes, card=card)
    else:
        if model.config.width != HEAD_WIDTH * model.config.heads:
            raise UsageError(
                f"the original's format needs heads that are {HEAD_WIDTH} wide; this model has width "
                f"{model.config.width} and {model.config.heads} heads"
            )
        with atomic_directory(out) as folder:
            torch.save({"model": to_upstream(model.to(dtype))}, folder / "model.pth")
            write_notes({**generation_notes(model), **notes}, folder)
            (folder / "README.md").write_text(card, encoding="utf-8")
    from_pretrained(out.resolve())  # not by its name, which a bundled model may have
    return out
