"""What shaped an output: the clips with their weights and licences, the model, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rc_audioldm.licences import Terms, strictest

Role = Literal["retrieved", "reference", "start", "words"]
"""How a clip shaped an output: as a part of its style, as the single reference, as the audio it starts from, or by the
words that its labels added to the prompt."""

Verdict = Literal["publishable", "non-commercial", "unknown"]

_VERDICTS: dict[Terms, Verdict] = {
    "free": "publishable",
    "attribution": "publishable",
    "share-alike": "publishable",
    "restricted": "non-commercial",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Influence:
    """A clip that shaped an output.

    Args:
        clip: Path of the clip, as its bank names it, or the file name of a reference.
        licence: Its licence; ``unknown``, never empty.
        weight: Its share in the style, 0 to 1; the weights of an output add up to 1.
        similarity: Cosine of CLAP to what it was found for; None for a reference that nobody searched.
        role: How it shaped the output.
        source: Where the clip comes from, as its bank says; may be empty.
        sha256: Of the clip's file; empty if nobody says.
        bank: Folder name of the bank; empty for a reference.
        row: Row of the bank; None for a reference.
    """

    clip: str
    licence: str
    weight: float
    similarity: float | None = None
    role: Role = "retrieved"
    source: str = ""
    sha256: str = ""
    bank: str = ""
    row: int | None = None


@dataclass(frozen=True)
class Ledger:
    """What shaped one output.

    Args:
        prompt: As it was given.
        prompt_used: As the model heard it.
        mode: Name of the generation mode.
        strength: Of the style, 0 to 1.
        seed: Of the noise.
        model: Name of the model.
        revision: Of the model; empty if nobody says.
        model_licence: Licence of the model's weights.
        influences: The clips; empty without retrieval.
    """

    prompt: str
    prompt_used: str
    mode: str
    strength: float
    seed: int
    model: str
    revision: str
    model_licence: str
    influences: Sequence[Influence] = ()

    @property
    def terms(self) -> Terms:
        """What the strictest licence among the clips and the model's weights asks."""
        return strictest([self.model_licence, *(each.licence for each in self.influences)])

    @property
    def verdict(self) -> Verdict:
        """What may be done with the output, as far as these licences say; no legal advice."""
        return _VERDICTS[self.terms]
