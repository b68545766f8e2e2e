"""``cm3p convert``: a model of the original, or of ours, as a directory of our own in another number type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cm3p.processor import CM3PProcessor
from cm3p.publishing.describe import RELEASED_LICENCE
from cm3p.weights import ARCHITECTURES, RELEASED, find_directory, load_directory, save_pretrained
from pentatonic.errors import UsageError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MODEL_CLASSES = {
    "cm3p": "CM3PModel",
    "metadata": "CM3PMetadataModel",
    "metadata_with_projection": "CM3PMetadataModelWithProjection",
    "beatmap": "CM3PBeatmapModel",
    "beatmap_with_projection": "CM3PBeatmapModelWithProjection",
    "classification": "CM3PForBeatmapClassification",
    "masked_lm": "CM3PForMaskedLM",
}
"""Names that the original gives to the classes of models, and ours."""


def convert(
    source: str | Path,
    out: Path,
    *,
    dtype: str = "fp32",
    model_class: str | None = None,
    revision: str | None = None,
    with_processor: bool = True,
) -> Path:
    """Write a model as a directory, and load it again as a check. No code of the source is executed.

    Args:
        source: A directory, a file in one, or a hub id.
        out: Directory to write; replaced as a whole.
        dtype: Number type of the weights: ``fp32``, ``fp16`` or ``bf16``.
        model_class: A key of :data:`MODEL_CLASSES` that the model must have; None: any.
        revision: Branch, tag or commit of the hub.
        with_processor: Also write the processor, if there is one.

    Returns:
        ``out``.

    Raises:
        UsageError: The model is of another class, or ``out`` is the source.
        HubError, ConfigError, CheckpointError, WeightsError: There is no usable model, or it cannot be written.
    """
    directory = find_directory(source, revision)
    if directory.resolve() == out.resolve():
        raise UsageError(f"--out is {out}, which is the source itself; allowed: another folder")
    model: Any = load_directory(directory)
    name = type(model).__name__
    if model_class is not None and ARCHITECTURES[MODEL_CLASSES[model_class]] is not type(model):
        found = next(key for key, value in MODEL_CLASSES.items() if value == name)
        raise UsageError(f"--model-class is {model_class}, but {directory} holds a {name}; allowed: {found}")
    processor = None
    if with_processor and (directory / "processor_config.json").is_file():
        processor = CM3PProcessor.from_pretrained(directory)
    card = _card(out.name, name, source, dtype)
    save_pretrained(model.to(dtype=DTYPES[dtype]), out, processor=processor, card=card)
    load_directory(out)
    return out


def _card(title: str, kind: str, source: str | Path, dtype: str) -> str:
    licence = RELEASED_LICENCE if str(source) in RELEASED else "that of the model it was converted from"
    return f"""---
library_name: cm3p
tags: [osu, beatmaps, embeddings]
---

# {title}

A `{kind}` of CM3P, converted by `cm3p convert` to safetensors ({dtype}) from `{Path(str(source)).name}`.
Its quality was not measured by the conversion. Licence of the weights: {licence}.

```python
import cm3p

model = cm3p.from_pretrained("{title}")
```
"""
