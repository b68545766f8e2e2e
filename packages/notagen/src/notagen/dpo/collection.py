"""The music that generated pieces are compared with: references, those held out, another style, and what is known."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from notagen.clamp2.reading import MUSIC_SUFFIXES, read_music
from notagen.dpo.config import CollectionConfig
from notagen.dpo.judge import judged_text
from notagen.evaluation.novelty import KnownMusic
from notagen.training.index import Index
from pentatonic.errors import ConfigError, InputError
from pentatonic.folder_run import find_files

#: Fewest references of each half.
FEWEST_REFERENCES = 2
#: Music that comes with the package, by its name in place of a path.
BUNDLED: Mapping[str, Path] = {
    f"notagen:{path.stem}": path for path in sorted((Path(__file__).parents[1] / "references").glob("*.abc"))
}


@dataclass(frozen=True)
class ReferencePiece:
    """One piece.

    Args:
        name: Its file, with its number in a tune book.
        text: As it is judged.
        prompt: Prompt of an index as comment lines; empty for files.
    """

    name: str
    text: str
    prompt: str = ""


@dataclass(frozen=True)
class Collection:
    """The music of a run.

    Args:
        references: Pieces that the score compares with.
        held_out: Pieces of the same style that nothing is trained on.
        others: Pieces of another style.
        known: Music that chosen pieces must not copy.
    """

    references: tuple[ReferencePiece, ...]
    held_out: tuple[ReferencePiece, ...]
    others: tuple[ReferencePiece, ...]
    known: KnownMusic

    def prompts(self) -> tuple[str, ...]:
        """Return the different prompts of the references, in the order of their texts."""
        return tuple(sorted({piece.prompt for piece in self.references if piece.prompt}))


def read_collection(config: CollectionConfig, *, seed: int = 0) -> Collection:
    """Read the music of a run.

    Args:
        config: Where it is.
        seed: Of the division of the references.

    Raises:
        InputError: A source cannot be read, or has too few pieces.
        ConfigError: ``style`` is given for a folder.
    """
    pieces = read_pieces(config.references)
    rest: list[ReferencePiece] = []
    if config.style is not None:
        if not any(piece.prompt for piece in pieces):
            raise ConfigError("data.style needs an index with prompts as data.references")
        line = f"%{config.style}"
        rest = [piece for piece in pieces if line not in piece.prompt.split("\n")]
        pieces = [piece for piece in pieces if line in piece.prompt.split("\n")]
    if config.other_style is not None:
        rest = read_pieces(config.other_style)
    rng = random.Random(seed)
    known = [piece.text for piece in pieces]
    pieces, rest = (_drawn(each, config.most, rng) for each in (pieces, rest))
    count = round(config.held_out * len(pieces))
    if min(count, len(pieces) - count) < FEWEST_REFERENCES:
        raise InputError(
            f"{config.references} has {len(pieces)} references, of which {count} would be held out; both parts need at "
            f"least {FEWEST_REFERENCES}"
        )
    if config.known is not None:
        known += [piece.text for piece in read_pieces(config.known)]
    return Collection(tuple(pieces[count:]), tuple(pieces[:count]), tuple(rest), KnownMusic(known))


def read_pieces(source: str | Path) -> list[ReferencePiece]:
    """Read the pieces of a folder, a file, or an index (``.jsonl``), those of an index in their own keys.

    Args:
        source: Its path, or a name of :data:`BUNDLED`.

    Raises:
        InputError: The source is missing or has no pieces, or a file cannot be read.
        FormatError: A file is not music.
    """
    path = BUNDLED.get(str(source), Path(source))
    if path.suffix == ".jsonl":
        index = Index(path)
        return [
            ReferencePiece(entry.path, judged_text(index.read(number)), entry.prompt_text)
            for number, entry in enumerate(index.entries)
        ]
    files = find_files([path], MUSIC_SUFFIXES)
    pieces = [piece for file in files for piece in _read_file(file)]
    if not pieces:
        raise InputError(f"{path} has no music; allowed: {', '.join(MUSIC_SUFFIXES)}, or an index (.jsonl)")
    return pieces


def _read_file(path: Path) -> Iterable[ReferencePiece]:
    for piece in read_music(path, preparation="notagen"):
        if piece.error is not None:
            raise piece.error
        name = f"{path.name}:{piece.name}" if piece.name else path.name
        yield ReferencePiece(name, judged_text(piece.text))


def _drawn(pieces: list[ReferencePiece], most: int | None, rng: random.Random) -> list[ReferencePiece]:
    """Return the pieces in an order of the seed, at most so many."""
    ordered = sorted(pieces, key=lambda piece: (piece.name, piece.text))
    rng.shuffle(ordered)
    return ordered[:most]
