"""Drawing a piece bar by bar: freely where that gives a valid bar, character by character only where it does not.

Removing at each character those that the grammar forbids pushes a model into bars that it would never write, because
it does not know that what it has begun will not fit (arXiv 2405.21047). So a unit of the codec, which is a line of the
header or the bar of one voice, is drawn without the grammar first, and taken if the grammar accepts it as a whole. If
not, the caches of the decoders go back to the start of the unit, and it is drawn again with fresh random numbers. Each
unit therefore has the model's own distribution (with its ``Sampling``), given the text before it and that the unit is
valid there: this is rejection sampling. Characters without an alternative, such as those of a countdown tag, are given.

The whole piece does not have the distribution of the model given that the whole piece is valid: that would also weigh
each unit by the probability that the model goes on validly after it, for which sequential Monte Carlo (arXiv
2306.03081, 2504.13139) or rejection of whole pieces would be needed. Where a model writes most bars validly, these
weights are nearly equal.

The grammar does not write all that it could read: nested tuplets, overlays ``&``, whole-bar rests ``Z``, spacers
``y``, and fields between notes. A free draw with one of these goes on to the end of its line, which is held to the same
rules as other lines (:meth:`notagen.generation.grammar.body.BodyRules.judge`): length and barlines that are right
whatever comes next, slurs, changes in all voices, words of the vocabulary.

After :data:`FREE_TRIES` failures a unit is drawn with the grammar at each character, :data:`FORCED_TRIES` times at
most. That distribution is the locally constrained one (arXiv 2305.13971), not the model's; so its share is reported. A
unit whose mean log-probability per character is far below that of the model's free units counts as failed, too, which
cuts off the tail of the distribution; of the constrained ones the likeliest is taken in the end.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from notagen.codec import BOS, EOS, Patch, bar_units, cut, decode, padded
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling
from notagen.notation.lines import InterleavedReader
from notagen.vocabulary import words_of
from pentatonic.errors import FormatError

#: Most free draws of a unit.
FREE_TRIES = 8
#: Most constrained draws of a unit after that.
FORCED_TRIES = 4
#: Most patches of a free draw; a longer one counts as failed.
MOST_PATCHES = 64

# A unit is implausible if its mean log-probability per character is this many standard deviations, and at least this
# many nats, below the mean of the free units of the piece; before there are enough of these, below a fixed limit.
_DEVIATIONS, _LEAST_GAP, _ENOUGH_UNITS, _FIRST_LIMIT = 4.0, 1.0, 8, -2.5

# Notation that the grammar refuses although it may be valid; a field may lie across the end of a patch.
_OTHER_NOTATION = re.compile(r"[&ZXy]|\[(?!V)[A-Z](?::|$)|\(\d[^()]*\(\d")
_NEWLINE = ord("\n")
_MOST_UNREAD = 8  # patches of a bar that has such notation


@dataclass(frozen=True)
class Draws:
    """How the bars of a piece came about; the bar of each voice counts.

    Attributes:
        free: Drawn freely, and valid at once.
        redrawn: Drawn freely, and valid after failures.
        forced: Drawn with the grammar at each character.
    """

    free: int = 0
    redrawn: int = 0
    forced: int = 0

    def __add__(self, other: Draws) -> Draws:
        """Return the counts of both together."""
        return Draws(self.free + other.free, self.redrawn + other.redrawn, self.forced + other.forced)


@dataclass
class Score:
    """How likely the characters are that a model has drawn; given ones, such as those of a prompt, do not count.

    Attributes:
        total: Natural logarithm of their probability by the model itself, without filters and temperature.
        characters: Their number.
    """

    total: float = 0.0
    characters: int = 0

    @property
    def mean(self) -> float:
        """Mean log-probability of a character; 0 without characters."""
        return self.total / max(self.characters, 1)

    def add(self, total: float, characters: int) -> None:
        """Add further characters."""
        self.total, self.characters = self.total + total, self.characters + characters


@dataclass(frozen=True)
class _Draft:
    """A complete constrained draw: its patches, the grammar after it, and how likely it is."""

    patches: list[Patch]
    grammar: Grammar
    score: Score


class BarDrawer:
    """Draws the units of one piece one after another.

    Args:
        grammar: Has followed the prompt.
        sampling: How characters are chosen; if that is the likeliest one, a unit is drawn freely only once.

    Attributes:
        grammar: Has followed the text that is accepted.
        free: Draws of the bars so far that were valid at once, and likewise the next two.
        redrawn: As in :class:`Draws`.
        forced: As in :class:`Draws`.
        score: Of the accepted units.
        pending: Patches of the current draw.
        text: Accepted text of the piece, from its prompt on, without characters of an open patch.
    """

    def __init__(self, grammar: Grammar, sampling: Sampling) -> None:
        self.grammar = grammar
        self.free = self.redrawn = self.forced = 0
        self.score = Score()
        self.pending: list[Patch] = []
        self.text = ""
        self._trial: Grammar | None = None
        self._unread = (
            False  # whether the draw is judged as a whole line, because the grammar could not follow it
        )
        self._free_tries = 1 if sampling.top_k == 1 else FREE_TRIES
        self._failures = 0
        self._drawn = Score()  # of the current draw
        self._best: _Draft | None = None
        self._units, self._mean, self._squares = 0, 0.0, 0.0  # of the mean log-probabilities of free units

    @property
    def draws(self) -> Draws:
        """The counts so far."""
        return Draws(self.free, self.redrawn, self.forced)

    @property
    def mask(self) -> Grammar | None:
        """The grammar that must follow the next characters one by one; None where they are drawn freely."""
        return self._trial if self._is_forced else None

    @property
    def _is_forced(self) -> bool:
        return self._failures >= self._free_tries

    def begin_patch(self) -> list[int]:
        """Begin the next patch, and return its first ids where they have no alternative."""
        if self._trial is None:
            self._trial = self.grammar.fork()
        return [] if self._unread else self._trial.determined()

    def take(self, patch: Patch, given: int, log_probability: float) -> list[Patch] | None:
        """Take the next patch.

        Args:
            patch: Its ids, up to its first end character.
            given: Number of its first ids that were not drawn.
            log_probability: Natural logarithm of the probability of the others.

        Returns:
            The patches of the unit if it is accepted; an empty list if the draw goes on; None if it has failed.
        """
        trial = self._trial
        assert trial is not None, "a patch begins with begin_patch"
        refused = not (self._is_forced or self._unread or _follow(trial, patch[given:]))
        self.pending.append(patch)
        self._drawn.add(log_probability, len(patch) - given)
        if refused:
            self._unread = trial.reads_lines and bool(_OTHER_NOTATION.search(decode(self.pending)))
            if not self._unread:
                return self._fail()
        if self._unread:
            if _NEWLINE not in patch and not _is_lost(self.text, self.pending):
                return []
            trial = _after_line(self.grammar, self.text, self.pending)
            if trial is None:
                return self._fail()
        elif not (trial.ended or trial.begins_line or EOS in patch):
            return self._fail() if not self._is_forced and len(self.pending) >= MOST_PATCHES else []
        draft = _Draft(self.pending, trial, self._drawn)
        if self._is_forced and (self._best is None or draft.score.mean > self._best.score.mean):
            self._best = draft
        if self._is_implausible(draft.score.mean):
            return self._fail()
        return self._accept(draft)

    def give_up(self) -> bool:
        """Count the current draw as failed if the grammar does not follow it; return whether that is so."""
        if not self._unread:
            return False
        self._fail()
        return True

    def _fail(self) -> list[Patch] | None:
        self._failures += 1
        if self._best is not None and self._failures >= self._free_tries + FORCED_TRIES:
            return self._accept(self._best)
        self._trial, self.pending, self._drawn, self._unread = None, [], Score(), False
        return None

    def _accept(self, draft: _Draft) -> list[Patch]:
        drawn = draft.score.characters > 0
        if drawn and draft.grammar.in_music and draft.patches[-1][:2] != [BOS, EOS]:
            bars = max(1, decode(draft.patches).count("[V:")) if self._unread else 1
            if self._is_forced:
                self.forced += bars
            elif self._failures:
                self.redrawn += bars
            else:
                self.free += bars
        if not self._is_forced and drawn:
            self._learn(draft.score.mean)
        self.score.add(draft.score.total, draft.score.characters)
        self.text += decode(draft.patches)
        self.grammar, self._best, self._unread = draft.grammar, None, False
        self._trial, self.pending, self._drawn, self._failures = None, [], Score(), 0
        return draft.patches

    def _learn(self, plausibility: float) -> None:
        """Add a free unit to mean and variance, by Welford's method."""
        self._units += 1
        step = plausibility - self._mean
        self._mean += step / self._units
        self._squares += step * (plausibility - self._mean)

    def _is_implausible(self, plausibility: float) -> bool:
        if self._units < _ENOUGH_UNITS:
            return plausibility < _FIRST_LIMIT
        deviation = math.sqrt(self._squares / (self._units - 1))
        return plausibility < self._mean - max(_DEVIATIONS * deviation, _LEAST_GAP)


def _follow(grammar: Grammar, ids: Patch) -> bool:
    """Feed ids to a grammar; return whether all are allowed."""
    for each in ids:
        if not grammar.allowed >> each & 1:
            return False
        grammar.feed(each)
    return True


def _is_lost(before: str, patches: list[Patch]) -> bool:
    """Whether an unfinished line that the grammar cannot follow need not go on: its newest bar is too long or no ABC.

    Args:
        before: The text before the patches.
        patches: Patches of the line so far.
    """
    if BOS in patches[-1] or not any(EOS in patch for patch in patches[-_MOST_UNREAD:]):
        return BOS in patches[-1] or len(patches) >= _MOST_UNREAD
    line = (before + decode(patches)).rpartition("\n")[2]
    return EOS in patches[-1] and any(voice.bar is None for voice in InterleavedReader().read(line))


def _after_line(grammar: Grammar, before: str, patches: list[Patch]) -> Grammar | None:
    """Return the grammar after a line that it cannot follow.

    Args:
        grammar: Before the patches.
        before: The text before them.
        patches: Patches up to the end of the line.

    Returns:
        None where this line cannot follow, it has words that the vocabulary lacks, or the codec would not cut it into
        these patches.
    """
    text = before + decode(patches)
    line = text[text.rfind("\n", 0, -1) + 1 :]
    expected = [padded(patch) for unit in bar_units(line) for patch in cut(unit)]
    if not text.endswith("\n") or expected[-len(patches) :] != [padded(patch) for patch in patches]:
        return None
    for kind, word in words_of(line):
        known = getattr(grammar.vocabulary, kind)
        if known is not None and word not in known:
            return None
    try:
        after = grammar.after_line(line.removesuffix("\n"))
    except FormatError:
        return None
    if EOS in patches[-1]:  # the last patch of a prompt is open, this one is not
        after.feed(EOS)
    return after
