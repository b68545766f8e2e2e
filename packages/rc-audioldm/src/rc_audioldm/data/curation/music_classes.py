"""Which classes of FSD50K make a clip music, and which rule it out.

The default lists, ``music_classes.json`` beside this module, sort all 200 classes of the published vocabulary:

- ``pos``: *Music* and what is below *Musical instrument* in its ontology. A clip needs one of these.
- ``vocal``: singing, speech and other voices. A clip of music with one of these is *with vocals*; the class *Human
  voice* is here because every sung clip carries it.
- ``neg_strict``: every class that is neither music nor singing. Bells of bicycles, doors and churches are among them,
  although the ontology counts bells as instruments; so is *Speech*.
- ``neg_relaxed``: the same without voices, and without the sounds that players, rooms and audiences make beside music,
  such as applause, finger snapping, chimes or hiss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pentatonic.errors import ConfigError
from pentatonic.untrusted.config import Length, check_fields, read_fields
from pentatonic.untrusted.files import read_json

Vocals = Literal["instrumental", "with_vocals"]
Strictness = Literal["strict", "relaxed"]
VOCALS: tuple[Vocals, ...] = ("instrumental", "with_vocals")
STRICTNESS: tuple[Strictness, ...] = ("strict", "relaxed")
DEFAULT_FILE = Path(__file__).with_name("music_classes.json")

Names = Annotated[tuple[Annotated[str, Length(1, 200)], ...], Length(0, 10_000)]


@dataclass(frozen=True)
class MusicClasses:
    """Lists of class names in lower case.

    Args:
        pos: Music: one of these is needed.
        vocal: Voices: with one of these, music is *with vocals*.
        neg_strict: One of these rules a clip out of the strict choice.
        neg_relaxed: One of these rules a clip out of the relaxed choice.
        about: A note to the reader.

    Raises:
        ConfigError: A value is of another type, or ``pos`` is empty.
    """

    pos: Names
    vocal: Names
    neg_strict: Names
    neg_relaxed: Names
    about: Annotated[str, Length(0, 10_000)] = ""

    def __post_init__(self) -> None:
        check_fields(self, "classes")
        if not self.pos:
            raise ConfigError("classes.pos is empty; allowed: one class of music and more")
        for name in ("pos", "vocal", "neg_strict", "neg_relaxed"):
            object.__setattr__(self, name, tuple(each.strip().lower() for each in getattr(self, name)))

    def is_music(self, labels: tuple[str, ...], strictness: Strictness) -> bool:
        """Whether a clip with these labels, in lower case, is music."""
        negative = self.neg_strict if strictness == "strict" else self.neg_relaxed
        return not set(labels).isdisjoint(self.pos) and set(labels).isdisjoint(negative)

    def vocals(self, labels: tuple[str, ...]) -> Vocals:
        """Whether music with these labels has voices."""
        return "instrumental" if set(labels).isdisjoint(self.vocal) else "with_vocals"


def read_classes(path: str | Path | None = None) -> MusicClasses:
    """Read lists of classes from a JSON file with ``pos``, ``vocal``, ``neg_strict`` and ``neg_relaxed``.

    Args:
        path: The file; None: the default lists.

    Raises:
        ConfigError: There is no such file, it is not JSON, or a list is missing or of another kind.
    """
    return read_fields(MusicClasses, read_json(DEFAULT_FILE if path is None else path), "classes")
