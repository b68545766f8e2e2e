"""The teacher of adapters to states: the language model of AudioLDM 2 itself.

Shapes: N clips of width D, S states of width H.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import normalize

from pentatonic.cli import progress
from pentatonic.errors import UsageError
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.encoder import PromptEncoder


def teacher_states(
    model: AudioLDM, vectors: np.ndarray, captions: Sequence[str], *, caption_text: bool = True
) -> np.ndarray:
    """Return the states that the language model writes for clips.

    Each clip's CLAP vector stands where the prompt's would, so the states are those of a prompt that sounds like it.

    Args:
        model: AudioLDM 2, whose CLAP made the vectors.
        vectors: ``(N, D)`` of any norm but 0.
        captions: N texts, which T5 reads.
        caption_text: Let T5 read the captions; otherwise the empty text, and the states follow from the vector alone.

    Returns:
        ``(N, S, H)`` float32.

    Raises:
        UsageError: The model has no language model, or the widths or numbers differ.
    """
    if model.language_model is None:
        raise UsageError("the model is AudioLDM 1, which has no language model; needed: AudioLDM 2")
    if vectors.shape != (len(captions), model.clap_width):
        raise UsageError(
            f"the vectors have the shape {vectors.shape}; needed: ({len(captions)}, {model.clap_width})"
        )
    encoder = PromptEncoder(model)
    states = []
    with progress(len(captions), "states") as bar:
        for vector, caption in zip(vectors, captions, strict=True):
            clap = normalize(torch.from_numpy(np.array(vector, np.float32)), dim=-1)
            condition = encoder.encode(caption if caption_text else "", clap)
            assert condition.states is not None
            states.append(condition.states.numpy())
            bar.advance()
    return np.stack(states)
