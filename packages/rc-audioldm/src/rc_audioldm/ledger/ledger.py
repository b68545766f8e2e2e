"""What shaped an output: the clips with their weights and licences, the model, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, Self

from pentatonic.errors import ConfigError, FormatError
from pentatonic.untrusted.config import Length, Range, read_fields
from pentatonic.untrusted.files import shortened
from rc_audioldm.ledger.verdict import Judgement, Source, Verdict, judge
from rc_audioldm.licences import Terms

__all__ = ["Influence", "Ledger", "Role", "Verdict"]

FORMAT, VERSION = "rc-audioldm ledger", 1
MOST_INFLUENCES = 4096

Role = Literal["retrieved", "reference", "start", "words"]
"""How a clip shaped an output: as a part of its style, as the single reference, as the audio it starts from, or by the
words that its labels added to the prompt."""

# Weights and cosines are rounded numbers.
_Share = Annotated[float, Range(0, 1.001)]
_Cosine = Annotated[float, Range(-1.001, 1.001)]
_Name = Annotated[str, Length(0, 4096)]
_Prompt = Annotated[str, Length(0, 100_000)]


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
        effect: Its share, 0 to 1, in what the output changes when each clip is left out in turn; None if that was not
            measured.
        effect_rank: Place by that effect, from 1; None if it was not measured.
    """

    clip: Annotated[str, Length(1, 4096)]
    licence: Annotated[str, Length(1, 4096)]
    weight: _Share
    similarity: _Cosine | None = None
    role: Role = "retrieved"
    source: _Name = ""
    sha256: _Name = ""
    bank: _Name = ""
    row: Annotated[int, Range(0, 1 << 40)] | None = None
    effect: _Share | None = None
    effect_rank: Annotated[int, Range(1, MOST_INFLUENCES)] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object, where: str = "influence") -> Self:
        """Read what :meth:`as_dict` returns, as a stranger may have changed it.

        Raises:
            ConfigError: A field is unknown, missing, or out of its range; the message names it.
        """
        return read_fields(cls, values, where)


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

    prompt: _Prompt
    prompt_used: _Prompt
    mode: _Name
    strength: _Share
    seed: Annotated[int, Range(-(1 << 63), 1 << 64)]
    model: _Name
    revision: _Name
    model_licence: Annotated[str, Length(1, 4096)]
    influences: Sequence[Influence] = ()

    @property
    def judgement(self) -> Judgement:
        """What the licences allow, which one decides, and why."""
        clips = [Source("clip", each.clip, each.licence, each.source) for each in self.influences]
        return judge([Source("model", self.model, self.model_licence), *clips])

    @property
    def terms(self) -> Terms:
        """What the strictest licence among the clips and the model's weights asks."""
        return self.judgement.terms

    @property
    def verdict(self) -> Verdict:
        """What may be done with the output, as far as these licences say; no legal advice."""
        return self.judgement.verdict

    def with_effects(self, shares: Sequence[float], ranks: Sequence[int]) -> Ledger:
        """Return the ledger with the measured effect of each clip, in the order of ``influences``.

        Args:
            shares: As :attr:`Influence.effect`.
            ranks: As :attr:`Influence.effect_rank`.
        """
        measured = zip(self.influences, shares, ranks, strict=True)
        known = [replace(each, effect=share, effect_rank=rank) for each, share, rank in measured]
        return replace(self, influences=tuple(known))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; verdict, reason and attribution are there for readers of the file."""
        judgement = self.judgement
        return {
            "format": FORMAT,
            "version": VERSION,
            **asdict(self),
            "influences": [each.as_dict() for each in self.influences],
            "verdict": judgement.verdict,
            "decided_by": list(judgement.decided_by),
            "reason": judgement.reason,
            "notes": list(judgement.notes),
            "attribution": list(judgement.attribution),
        }

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Read what :meth:`as_dict` returns, as a stranger may have changed it.

        The verdict and what belongs to it are not read, but follow from the licences.

        Raises:
            FormatError: It is not a ledger of this version, or a field is unknown, missing, or out of its range.
        """
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise FormatError(f"is {shortened(values)}; allowed: an object with the format {FORMAT!r}")
        if values.get("version") != VERSION:
            raise FormatError(f"has the version {shortened(values.get('version'))}; allowed: {VERSION}")
        clips = values.get("influences", [])
        if not isinstance(clips, list | tuple) or len(clips) > MOST_INFLUENCES:
            raise FormatError(
                f"influences is {shortened(clips)}; allowed: a list of at most {MOST_INFLUENCES} clips"
            )
        fields = {key: value for key, value in values.items() if key not in _NOT_FIELDS}
        try:
            influences = tuple(
                Influence.from_dict(each, f"influences[{place}]") for place, each in enumerate(clips)
            )
            return replace(read_fields(cls, fields, ""), influences=influences)
        except ConfigError as error:
            raise FormatError(str(error)) from error


_NOT_FIELDS = {
    *("format", "version", "influences"),
    *("verdict", "decided_by", "reason", "notes", "attribution"),
}
