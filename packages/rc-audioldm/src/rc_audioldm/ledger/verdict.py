"""What may be done with an output, which licence decides it, and the lines that give credit. No legal advice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rc_audioldm.licences import STRICTNESS, UNKNOWN, Terms, licence_name, plain, terms_of

Verdict = Literal["publishable", "non-commercial", "unknown"]
"""What may be done with an output.

- ``publishable``: it may be published and sold, under what the notes ask.
- ``non-commercial``: a licence forbids commercial use.
- ``unknown``: a licence is not known, or it is not clear what it allows.
"""

_CC = re.compile(r"CC ((?:BY|NC|ND|SA)(?:-(?:NC|ND|SA))*)(?: (\d\.\d))?")
_URLS = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "Public Domain Mark 1.0": "https://creativecommons.org/publicdomain/mark/1.0/",
}


@dataclass(frozen=True)
class Source:
    """Something with a licence that went into an output.

    Args:
        kind: The model's weights, or a clip.
        name: Of the model or the clip.
        licence: As its source names it.
        author: Who made it or where it is from; may be empty or ``unknown``.
    """

    kind: Literal["model", "clip"]
    name: str
    licence: str
    author: str = ""

    def __str__(self) -> str:
        return f"{'model' if self.kind == 'model' else 'clip'} {plain(self.name)}"


@dataclass(frozen=True)
class Judgement:
    """What the licences of all sources allow together.

    Args:
        verdict: What may be done.
        terms: What the strictest licence asks.
        decided_by: The licences that decide, with what has them.
        reason: Why, in one sentence.
        notes: What has to be observed besides.
        attribution: One line of credit for each source that asks for it, ready to paste.
    """

    verdict: Verdict
    terms: Terms
    decided_by: tuple[str, ...]
    reason: str
    notes: tuple[str, ...]
    attribution: tuple[str, ...]


def judge(sources: Sequence[Source]) -> Judgement:
    """Judge what may be done with an output.

    Args:
        sources: The model first, then the clips. A clip of weight 0 counts: it was part of the mix.
    """
    terms: dict[Source, Terms] = {each: terms_of(each.licence) for each in sources}
    strictest = STRICTNESS[max(map(STRICTNESS.index, terms.values()), default=0)]
    deciding = [each for each in sources if terms[each] == strictest]
    verdict, reason = _MEANING[strictest]
    if strictest == "restricted":
        # Whether an output is a changed version of a clip is for no program to say.
        unchanged = [each for each in deciding if _forbids_changes(each.licence)]
        unpaid = [each for each in deciding if _is_non_commercial(each.licence)]
        if unchanged:
            deciding, verdict, reason = (
                unchanged,
                "unknown",
                "forbids changed versions, and an output may be one",
            )
        elif unpaid:
            deciding = unpaid
        else:
            verdict, reason = "unknown", "has restrictions of its own: read it"
    names = _by_licence(deciding)
    sentence = f"{'; '.join(names) or 'no licence'}: {reason}"
    return Judgement(verdict, strictest, names, sentence, _notes(sources, terms), _credits(sources))


_MEANING: dict[Terms, tuple[Verdict, str]] = {
    "free": ("publishable", "asks for nothing"),
    "attribution": ("publishable", "asks for credit only"),
    "share-alike": ("publishable", "asks for credit and for the same licence"),
    "restricted": ("non-commercial", "forbids commercial use"),
    "unknown": ("unknown", "nobody says what is allowed"),
}


def _by_licence(sources: Sequence[Source]) -> tuple[str, ...]:
    """Each licence with what has it, such as ``CC BY 4.0 of 3 clips``."""
    groups: dict[str, list[Source]] = {}
    for each in sources:
        groups.setdefault(licence_name(each.licence), []).append(each)
    return tuple(
        f"{'unknown licence' if licence == UNKNOWN else plain(licence)} of {_few([str(each) for each in members])}"
        for licence, members in groups.items()
    )


def _few(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")


def _notes(sources: Sequence[Source], terms: dict[Source, Terms]) -> tuple[str, ...]:
    notes = []
    if any(terms[each] == "unknown" for each in sources):
        unknown = [str(each) for each in sources if terms[each] == "unknown"]
        notes.append(f"ask for the licence of {_few(unknown)}, or leave it out of the bank")
    if any(_credit_needed(each) for each in sources):
        notes.append("name the sources: the lines of attribution can be pasted")
    alike = sorted({licence_name(each.licence) for each in sources if _shares_alike(each.licence)})
    if alike:
        notes.append(f"publish under the same licence: {', '.join(alike)}")
    if len({_kind(each) for each in alike}) > 1:
        notes.append(
            "these licences ask for different ones of the output, and cannot all be met: leave clips out"
        )
    return tuple(notes)


def _credits(sources: Sequence[Source]) -> tuple[str, ...]:
    lines = []
    for each in sources:
        if not _credit_needed(each):
            continue
        name, author, licence = plain(each.name), plain(each.author), plain(licence_name(each.licence))
        by = f" by {author}" if author and author.casefold() != UNKNOWN else ""
        url = _url(licence)
        licensed = f"{licence} ({url})" if url else licence
        made, end = ("Made with the model", "") if each.kind == "model" else ("Uses the sound", "; changed")
        lines.append(f'{made} "{name}"{by}, licensed under {licensed}{end}.')
    return tuple(dict.fromkeys(lines))


def _credit_needed(source: Source) -> bool:
    """Every licence but a free one asks for credit, or may."""
    return terms_of(source.licence) in ("attribution", "share-alike", "restricted")


def _parts(licence: str) -> set[str]:
    found = _CC.fullmatch(licence_name(licence))
    return set(found[1].split("-")) if found else set()


def _is_non_commercial(licence: str) -> bool:
    return "NC" in _parts(licence) or licence_name(licence).startswith("CC NC-Sampling")


def _forbids_changes(licence: str) -> bool:
    return "ND" in _parts(licence)


def _shares_alike(licence: str) -> bool:
    return "SA" in _parts(licence) or terms_of(licence) == "share-alike"


def _kind(licence: str) -> str:
    """A licence without its version: later versions of a share-alike licence are allowed in place of an earlier one."""
    return re.sub(r"\s*v?\d[\d.]*(?:\+| or later)?$", "", licence_name(licence), flags=re.IGNORECASE)


def _url(licence: str) -> str:
    if licence in _URLS:
        return _URLS[licence]
    found = _CC.fullmatch(licence)
    return (
        f"https://creativecommons.org/licenses/{found[1].lower()}/{found[2]}/" if found and found[2] else ""
    )
