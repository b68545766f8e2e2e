"""The model card of an exported model: its properties, and the training run it comes from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from notagen.codec import PATCH_SIZE
from notagen.model import NotaGen
from notagen.prompts import Prompt
from pentatonic.model_card import Training
from pentatonic.model_card import model_card as write_card

_MOST_PROMPTS = 10


def model_card(
    model: NotaGen,
    training: Training,
    *,
    name: str,
    prompts: Sequence[Prompt],
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write the card of a model; see :func:`pentatonic.model_card.model_card`.

    Args:
        model: The model.
        training: How it was trained.
        name: Name of the model.
        prompts: Prompts that it was trained on; empty where they are not known.
        dtype: Floating type of the stored weights.

    Returns:
        Markdown with a YAML head.
    """
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return write_card(
        name,
        package="notagen",
        task="text-generation",
        tags=("music", "sheet-music", "abc-notation"),
        about="Sheet music in ABC notation, generated patch by patch (NotaGen, arXiv 2502.18008).",
        example=f"""
from notagen import Request, from_pretrained, generate

model = from_pretrained("{name}")
for piece in generate(model, [Request({prompts[0].text if prompts else ""!r}, seed=0)], constrained=True):
    print(piece.text)
""",
        facts={
            "patch decoder": f"{config.patch_layers} layers",
            "character decoder": f"{config.char_layers} layers",
            "width / heads": f"{config.width} / {config.heads}",
            "context": f"{config.patch_length} patches of {PATCH_SIZE} characters",
            "parameters": f"{parameters:,}",
            "weights": str(dtype).removeprefix("torch."),
            "prompts": _listed(prompts),
        },
        training=training,
        quality="""
Not measured by the export: `notagen evaluate` compares a model with a bigram model, an untrained network
and human-written music.
""",
    )


def _listed(prompts: Sequence[Prompt]) -> str:
    names = [f"{each.period} / {each.composer} / {each.instrumentation}" for each in prompts[:_MOST_PROMPTS]]
    if not names:
        return "not stated (an export with `--index` states them)"
    more = len(prompts) - len(names)
    return "; ".join(names) + (f"; and {more} more" if more else "")
