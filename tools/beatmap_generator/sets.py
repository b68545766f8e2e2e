"""Which maps a data set has: mapsets of a piece, with mapper, date, status and difficulties."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from beatmap_generator.music import Piece
from beatmap_generator.personas import PERSONAS, Persona
from beatmap_generator.style import FIRST_YEAR, LAST_YEAR, STARS, STATUSES, Style, make_style
from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO

_MODES = {OSU: 0.4, TAIKO: 0.2, CATCH: 0.2, MANIA: 0.2}
_STATUS_WEIGHTS = {"ranked": 0.6, "loved": 0.15, "graveyard": 0.25}
_MIXED_SETS = 0.1  # share of sets with maps of several rulesets
_GUEST_MAPS = 0.12
_MAPS_OF_A_SET = 4
_FIRST_ID = 1_000_000  # ids of data sets of different seeds do not meet


@dataclass(frozen=True)
class MapPlan:
    """A map to make.

    Args:
        id: Of the map.
        version: Name of the difficulty, unique in the set.
        style: Everything else.
    """

    id: int
    version: str
    style: Style


@dataclass(frozen=True)
class SetPlan:
    """A mapset to make.

    Args:
        id: Of the set.
        piece: The music.
        split: ``train`` or ``test``.
        host: Who uploaded it.
        submitted: When.
        status: Of all its maps.
        maps: Its difficulties, easy ones first.
    """

    id: int
    piece: Piece
    split: str
    host: Persona
    submitted: datetime
    status: str
    maps: Sequence[MapPlan]


def plan_sets(
    pieces: Sequence[Piece], maps: int, seed: int, *, only_ranked: bool = False
) -> Iterator[SetPlan]:
    """Yield the sets of a data set; ids rise, and those of held-out pieces come last.

    Args:
        pieces: The music. Every piece has the same number of sets, each by another mapper, of about four maps.
        maps: How many maps there are in all.
        seed: Decides everything.
        only_ranked: No other status.
    """
    from render_scores import split_of

    rng = random.Random(f"sets/{seed}")
    sets_of_a_piece = max(1, round(maps / len(pieces) / _MAPS_OF_A_SET))
    ordered = sorted(pieces, key=lambda piece: split_of(piece.name) == "heldout")
    jobs = [(piece, index) for piece in ordered for index in range(sets_of_a_piece)]
    set_id = map_id = (seed + 1) * _FIRST_ID
    hosts: list[Persona] = []
    for number, (piece, index) in enumerate(jobs):
        count = maps * (number + 1) // len(jobs) - maps * number // len(jobs)
        if index == 0:
            hosts = rng.sample(PERSONAS, len(PERSONAS))
        if count == 0:
            continue
        host, year = hosts[index % len(hosts)], rng.randint(FIRST_YEAR, LAST_YEAR)
        status = (
            "ranked" if only_ranked else rng.choices(list(_STATUS_WEIGHTS), list(_STATUS_WEIGHTS.values()))[0]
        )
        styles = _styles(piece, host, year, status, count, f"{seed}/{set_id}", rng)
        yield SetPlan(
            id=set_id,
            piece=piece,
            split="test" if split_of(piece.name) == "heldout" else "train",
            host=host,
            submitted=datetime(year, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(364 * 86400)),
            status=status,
            maps=_named(styles, host, map_id),
        )
        set_id, map_id = set_id + 1, map_id + count


def status_id(status: str) -> int:
    """Return the number of a status, as in the column ``Ranked``."""
    return next(number for number, name in STATUSES.items() if name == status)


def _styles(
    piece: Piece, host: Persona, year: int, status: str, count: int, seed: str, rng: random.Random
) -> list[Style]:
    """Difficulties spread over the range of the ruleset."""
    modes = (
        rng.choices(list(_MODES), list(_MODES.values()), k=count if rng.random() < _MIXED_SETS else 1) * count
    )
    styles = []
    for index, mode in enumerate(modes[:count]):
        low, high = STARS[mode]
        stars = low + (high - low) * (index + rng.random()) / count
        persona = rng.choice(PERSONAS) if rng.random() < _GUEST_MAPS else host
        styles.append(make_style(mode, stars, persona, year, status, f"{seed}/{index}", piece.step_ms))
    return styles


def _named(styles: Sequence[Style], host: Persona, first_id: int) -> list[MapPlan]:
    plans: list[MapPlan] = []
    for offset, style in enumerate(styles):
        keys = f"[{style.keys}K] " if style.mode == MANIA else ""
        name = f"{keys}{'' if style.persona == host else f'{style.persona.name}s '}{style.level_name}"
        taken = {plan.version for plan in plans}
        version = next(text for text in (name, *(f"{name} {n}" for n in range(2, 99))) if text not in taken)
        plans.append(MapPlan(first_id + offset, version, style))
    return plans
