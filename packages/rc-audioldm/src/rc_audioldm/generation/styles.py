"""The style of a request: a reference clip, or the nearest clips of a bank, as a vector of CLAP.

Shapes: D dimensions, K clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pentatonic import audio as audio_files
from pentatonic.checkpoint.manifest import file_sha256
from pentatonic.errors import ConfigError, FormatError, IncompatibleVectors, UsageError
from rc_audioldm.bank.asking import allowed_rows
from rc_audioldm.bank.neighbours import QueryNeighbours, find_neighbours, styles_of
from rc_audioldm.bank.style_bank import MAPPING, VECTORS, StyleBank
from rc_audioldm.clap.encoder import ClapEncoder
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.settings import Retrieval
from rc_audioldm.ledger.ledger import Influence
from rc_audioldm.licences import UNKNOWN
from rc_audioldm.prompts.augmentation import LabelledNeighbour
from rc_audioldm.style.vectors import style_from


@dataclass(frozen=True, eq=False)
class RequestStyle:
    """The style of a request.

    Args:
        vector: ``(D,)`` float32 of norm 1, in the space of the CLAP that made it.
        influences: The clips with their weights, the nearest first; at least one.
        labels: Labels of each of them.
        files: Their files; None where a bank does not say where its clips are.
        bank: That they are from; None for a reference.
    """

    vector: Tensor
    influences: tuple[Influence, ...]
    labels: tuple[LabelledNeighbour, ...]
    files: tuple[Path | None, ...]
    bank: StyleBank | None = None


class StyleFinder:
    """Finds the style of each request.

    A request with a reference has the reference as its style, or its neighbours where there is a bank; other requests
    have the neighbours of their prompt.

    Args:
        encoder: The CLAP that made the bank.
        bank: Where to look; None: only references.
        auxiliary: Where to look for what has nothing near in the bank.
        retrieval: How.
        projector: Maps style vectors ``(B, D)``, such as :class:`rc_audioldm.adapters.Projector`; None: nothing does.

    Raises:
        IncompatibleVectors: Another CLAP made a bank.
        FormatError: A bank does not say what made it.
    """

    def __init__(
        self,
        encoder: ClapEncoder,
        bank: StyleBank | None = None,
        auxiliary: StyleBank | None = None,
        retrieval: Retrieval | None = None,
        projector: torch.nn.Module | None = None,
    ) -> None:
        if auxiliary is not None and bank is None:
            raise UsageError("an auxiliary bank needs a first one")
        for each in (bank, auxiliary):
            if each is not None:
                _require(each, encoder)
        self.encoder, self.bank, self.auxiliary = encoder, bank, auxiliary
        self.retrieval = retrieval or Retrieval()
        self._projector = projector
        terms = self.retrieval.terms
        self._allowed = None if bank is None else allowed_rows(bank, terms)
        self._allowed_auxiliary = None if auxiliary is None else allowed_rows(auxiliary, terms)
        self._references: dict[Path, tuple[Tensor, str]] = {}

    @property
    def dimension(self) -> int:
        """D."""
        return self.encoder.dimension

    @property
    def has_projector(self) -> bool:
        """Whether style vectors are mapped."""
        return self._projector is not None

    def identity(self) -> list[dict[str, str]]:
        """Return the hashes of the banks' files, which decide what is found."""
        names = (VECTORS, MAPPING)
        return [
            {name: file_sha256(Path(bank.where) / name) for name in names}
            for bank in (self.bank, self.auxiliary)
            if bank is not None
        ]

    def find(self, request: Request) -> RequestStyle | None:
        """Return the style of a request; None for one without a reference where there is no bank.

        Raises:
            AudioError: The reference cannot be read.
            UsageError: No clip of the bank has an allowed licence.
        """
        if request.reference is None and self.bank is None:
            return None
        if request.reference is not None:
            query, sha256 = self._reference(request.reference)
            if self.bank is None:
                return self._of_reference(request, query, sha256)
            name = request.reference.name
        else:
            query, name = self.encoder.embed_text([request.prompt])[0], request.prompt
        assert self.bank is not None
        found = find_neighbours(
            *(query[None].numpy(), [name], self.bank, self.auxiliary),
            top_k=self.retrieval.neighbours,
            fallback_below=self.retrieval.fallback_below,
            allowed=self._allowed,
            allowed_auxiliary=self._allowed_auxiliary,
        )
        styles = styles_of(
            *(found, self.bank, self.auxiliary),
            style_of=self.retrieval.neighbours,
            temperature=self.retrieval.temperature,
        )
        bank = self.bank if found[0].bank == "primary" else self.auxiliary
        assert bank is not None
        return self._of_neighbours(bank, found[0], styles.weights[0], torch.from_numpy(styles.vectors[0]))

    def of_rows(
        self, rows: Sequence[int], weights: Sequence[float] | None = None, bank: StyleBank | None = None
    ) -> RequestStyle:
        """Return the style of given rows of a bank, whatever was asked for.

        Args:
            rows: At least one.
            weights: Of the rows, adding up to 1; the same for all by default.
            bank: The first bank by default.

        Raises:
            UsageError: There is no bank.
        """
        bank = bank or self.bank
        if bank is None:
            raise UsageError("this mode needs a bank")
        shares = (1 / len(rows),) * len(rows) if weights is None else tuple(weights)
        vector = style_from(torch.from_numpy(bank.rows(rows)), torch.tensor(shares))
        return self._style(vector, bank, rows, shares, (None,) * len(rows))

    def _reference(self, path: Path) -> tuple[Tensor, str]:
        if path not in self._references:
            samples = audio_files.load(path, sample_rate=self.encoder.sample_rate).samples[0]
            vector = self.encoder.embed_audio(samples, self.encoder.sample_rate)[0]
            self._references[path] = vector, file_sha256(path)
        return self._references[path]

    def _of_reference(self, request: Request, vector: Tensor, sha256: str) -> RequestStyle:
        assert request.reference is not None
        licence = request.reference_licence
        own = Influence(request.reference.name, licence or UNKNOWN, 1.0, role="reference", sha256=sha256)
        return RequestStyle(
            self._projected(vector), (own,), (LabelledNeighbour((), 1.0),), (request.reference,)
        )

    def _of_neighbours(
        self, bank: StyleBank, found: QueryNeighbours, weights: Sequence[float], vector: Tensor
    ) -> RequestStyle:
        near = found.neighbours[: len(weights)]
        similarities = tuple(each.similarity for each in near)
        return self._style(vector, bank, [each.row for each in near], weights, similarities)

    def _style(
        self,
        vector: Tensor,
        bank: StyleBank,
        rows: Sequence[int],
        weights: Sequence[float],
        similarities: Sequence[float | None],
    ) -> RequestStyle:
        clips = [bank.clips[row] for row in rows]
        influences = tuple(
            Influence(
                *(clip.path, clip.licence, weight, similarity),
                source=clip.source,
                sha256=clip.sha256,
                bank=Path(bank.where).name,
                row=int(row),
            )
            for clip, row, weight, similarity in zip(clips, rows, weights, similarities, strict=True)
        )
        labels = (LabelledNeighbour(clip.tags, weight) for clip, weight in zip(clips, weights, strict=True))
        files = tuple(_file(bank, row) for row in rows)
        return RequestStyle(self._projected(vector), influences, tuple(labels), files, bank)

    def _projected(self, vector: Tensor) -> Tensor:
        if self._projector is None:
            return vector
        with torch.no_grad():
            return torch.nn.functional.normalize(self._projector(vector[None])[0], dim=0)


def _file(bank: StyleBank, row: int) -> Path | None:
    try:
        return bank.audio_path(row)
    except (UsageError, ConfigError):
        return None


def _require(bank: StyleBank, encoder: ClapEncoder) -> None:
    if bank.header is None:
        raise FormatError("does not say what made its vectors; build it again", path=bank.where)
    if bank.dimension != encoder.dimension:
        raise IncompatibleVectors(
            f"{bank.where}: its vectors have {bank.dimension} dimensions; allowed: {encoder.dimension}, as the CLAP "
            "model has"
        )
    bank.header.require(encoder.header, bank.where)
