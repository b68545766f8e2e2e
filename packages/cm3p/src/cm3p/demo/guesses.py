"""What a model reads out of a window: the most similar value of each field of metadata.

Shapes: W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cm3p.classification.run import Labeller, zero_shot_labeller
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import EncodedMap
from cm3p.metadata import CM3PMetadata
from cm3p.tokens.metadata import CM3PMetadataTokenizer

STARS = (1, 2, 3, 4, 5, 6, 7)
"""Star ratings that a model chooses from."""


@dataclass(frozen=True)
class Guess:
    """The value of a field that fits a window best.

    Args:
        field: Name of the field.
        value: The value, as text.
        probability: Its probability among the candidates.
        candidates: Number of values that it was chosen from.
        truth: What is known of the map; None: nothing.
    """

    field: str
    value: str
    probability: float
    candidates: int
    truth: str | None


class Guesser:
    """Zero-shot labels of all fields that have a table of names or a few values.

    Args:
        loaded: A full model.
        batch_size: Windows at a time.

    Raises:
        UsageError: The model has no space that maps and metadata share.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        self._labellers: dict[str, Labeller] = {}
        for field, values in _candidates(loaded.processor.metadata_tokenizer).items():
            if len(values) > 1:
                text = f"{field}={','.join(values)}"
                self._labellers[field] = zero_shot_labeller(loaded, text, batch_size)

    def scores(self, maps: Sequence[EncodedMap]) -> dict[str, list[Tensor]]:
        """For each field and map the (W, values) probabilities of its windows."""
        return {field: labeller.scores(maps) for field, labeller in self._labellers.items()}

    def guesses(self, scores: dict[str, Tensor], truth: dict[str, str]) -> list[Guess]:
        """Return the best value of each field.

        Args:
            scores: For each field the (values,) probabilities of a window.
            truth: What is known of the map.
        """
        found = []
        for field, row in scores.items():
            best = int(row.argmax())
            value = self._labellers[field].names[best].partition("=")[2]
            found.append(Guess(field, value, float(row[best]), len(row), truth.get(field)))
        return found


def known_values(tokenizer: CM3PMetadataTokenizer, metadata: CM3PMetadata) -> dict[str, str]:
    """Return the fields of a map's metadata that can be guessed, as text, with names in place of ids."""
    known: dict[str, str] = {}
    difficulty, year, mode = metadata.get("difficulty"), metadata.get("year"), metadata.get("mode")
    if difficulty is not None:
        known["difficulty"] = f"{difficulty:.1f}"
    if year is not None:
        known["year"] = str(year)
    if isinstance(mode, int) and mode in tokenizer.modes:
        known["mode"] = tokenizer.modes[mode]
    status, mapper = tokenizer.known_status(metadata), tokenizer.known_mapper(metadata)
    if status is not None:
        known["status"] = tokenizer.statuses[status]
    if mapper is not None:
        known["mapper"] = tokenizer.mappers[mapper]
    return known


def _candidates(tokenizer: CM3PMetadataTokenizer) -> dict[str, list[str]]:
    return {
        "mode": list(tokenizer.modes.values()),
        "difficulty": [str(stars) for stars in STARS],
        "mapper": list(tokenizer.mappers.values()),
        "year": [str(year) for year in range(tokenizer.min_year, tokenizer.max_year + 1)],
        "status": list(tokenizer.statuses.values()),
    }
