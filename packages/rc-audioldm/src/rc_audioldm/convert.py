"""``rc-audioldm convert``: a model as a directory of safetensors, perhaps in another number type."""

from __future__ import annotations

from pathlib import Path

import torch

from pentatonic.errors import UsageError, WeightsError
from rc_audioldm.weights import find_directory, licence_of_weights, load_directory, save_pretrained

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def convert(source: str | Path, out: Path, *, dtype: str = "fp32", revision: str | None = None) -> Path:
    """Write a model as a directory, and load it again as a check. No code of the source is executed.

    Args:
        source: A directory in the layout of diffusers, with safetensors or pickled weights, or a hub id.
        out: Directory to write; replaced as a whole.
        dtype: Number type of the stored weights: ``fp32``, ``fp16`` or ``bf16``.
        revision: Branch, tag or commit of the hub.

    Returns:
        ``out``.

    Raises:
        UsageError: ``out`` is the source, or there is no such number type.
        WeightsError: A weight is too large for the number type.
        HubError, ConfigError, CheckpointError: There is no usable model, or it cannot be written.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
    directory = find_directory(source, revision)
    if directory.resolve() == out.resolve():
        raise UsageError(f"--out is {out}, which is the source itself; allowed: another folder")
    model = load_directory(directory)
    for name, module in model.modules().items():
        torch.nn.Module.to(module, DTYPES[dtype])
        for key, value in module.state_dict().items():
            if not value.isfinite().all():
                raise WeightsError(f"{directory / name}: {key} has values that {dtype} cannot hold")
    save_pretrained(model, out, card=_card(out.name, source, dtype, licence_of_weights(source, revision)))
    load_directory(out)
    return out


def _card(title: str, source: str | Path, dtype: str, licence: str) -> str:
    return f"""---
library_name: rc-audioldm
license: {licence}
tags: [music-generation, audioldm]
---

# {title}

An AudioLDM, converted by `rc-audioldm convert` to safetensors ({dtype}) from `{Path(str(source)).name}`.
Its quality was not measured by the conversion. Licence of the weights: {licence}.

```python
import rc_audioldm

model = rc_audioldm.from_pretrained("{title}")
```
"""
