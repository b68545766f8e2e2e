"""The model card of an exported model: its properties, and the training run it comes from."""

from __future__ import annotations

import torch

from omar_rq.config import ConformerConfig, TransformerConfig
from omar_rq.describe import describe
from omar_rq.model import OmarRQ
from pentatonic.model_card import Training
from pentatonic.model_card import model_card as write_card


def model_card(
    model: OmarRQ,
    training: Training,
    *,
    name: str,
    dtype: torch.dtype = torch.float32,
    example: str | None = None,
) -> str:
    """Write the card of a model; see :func:`pentatonic.model_card.model_card`.

    Args:
        model: The model.
        training: How it was trained.
        name: Name of the model.
        dtype: Floating type of the stored weights.
        example: Python code that uses the model; by default with this package.

    Returns:
        Markdown with a YAML head.
    """
    about = describe(model.config)
    net = model.config.net
    codebooks = about["codebooks"]
    return write_card(
        name,
        package="omar-rq",
        task="feature-extraction",
        tags=("music", "audio", "embeddings"),
        about="Music audio embeddings by masked token prediction (OMAR-RQ, arXiv 2507.03482).",
        example=example
        or f"""
from omar_rq import from_pretrained

model = from_pretrained("{name}")
embeddings = model.extract_embeddings(audio, sample_rate={about["sample_rate"]})
print(embeddings.shape)  # (layers, batch, tokens, {net.embed_dim})
""",
        facts={
            "input": f"{about['input']}, mono, {about['sample_rate']} Hz",
            "embeddings per second": f"{about['embedding_rate_hz']:.6g}",
            "layers / width / heads": f"{net.depth} / {net.embed_dim} / {net.num_heads}",
            "trunk": f"{net.name}, {'causal' if net.causal else 'bidirectional'}",
            "DeepNorm alpha / beta": f"{net.alpha_deepnorm} / {net.beta_deepnorm}"
            if _deepnorm(net)
            else "off",
            "parameters": f"{about['parameters']:,}",
            "weights": str(dtype).removeprefix("torch."),
            "targets": ", ".join(about["targets"]) or "none",
            "codebooks per target": f"{len(codebooks)} x {codebooks[0]}" if codebooks else "none",
        },
        training=training,
        quality="""
Not measured by the export. A loss says how well hidden tokens are predicted, not what the embeddings
are good for: probe them on your task beside an untrained network and plain log-mel.
""",
    )


def _deepnorm(net: ConformerConfig | TransformerConfig) -> bool:
    return net.use_deepnorm if isinstance(net, ConformerConfig) else net.do_deepnorm
