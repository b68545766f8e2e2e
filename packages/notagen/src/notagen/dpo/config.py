"""Settings of ``notagen dpo``."""

from __future__ import annotations

from dataclasses import dataclass, field

from notagen.dpo.training import PolicyTrainingConfig
from pentatonic.errors import ConfigError


@dataclass
class CollectionConfig:
    """The music that generated pieces are compared with.

    Args:
        references: Pieces to resemble: a folder of ABC, MusicXML or MIDI files, an index of ``notagen preprocess``, or
            music that comes with the package, ``notagen:chorales`` or ``notagen:fiddle-tunes``.
        style: Of an index, take the pieces that have this line in their prompt, such as ``Choral``; the others are
            music of another style.
        other_style: Music of another style, as ``references``, to test the judge with; None: what ``style`` leaves.
        known: Music that the policy was trained on, which chosen pieces must not copy; None: only the references.
        held_out: Share of the references that nothing is optimised by, and that reports compare with.
        most: Most references, and most pieces of another style, drawn by the seed; None: all.
    """

    references: str = "???"
    style: str | None = None
    other_style: str | None = None
    known: str | None = None
    held_out: float = 0.5
    most: int | None = 256


@dataclass
class WritingConfig:
    """How pieces are written.

    Args:
        prompts: What to write in turn: lines of a prompt joined by `` / ``; empty: those of the references of an index,
            or else those of the model.
        top_k: As in :class:`notagen.generation.sampling.Sampling`; None: as the model says.
        top_p: As there.
        temperature: As there.
        constrained: Write well-formed pieces only.
        max_patches: Most patches of a piece.
        batch_size: Pieces at a time.
    """

    prompts: list[str] = field(default_factory=list)
    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    constrained: bool = True
    max_patches: int | None = 512
    batch_size: int = 16


@dataclass
class SelectionConfig:
    """Which pieces are chosen and rejected; see :func:`notagen.dpo.preferences.select`.

    Args:
        portion: Share that is chosen, and share that is rejected.
        nearest: Score a piece by its cosines with so many references that are nearest to it, not by that with the mean
            of all, which is like none of them where they are of several kinds. Reports and the judge's tests do too.
        by_prompt: Whether pieces are compared with those of the same prompt only.
        length_ratio: Greatest ratio of the lengths of a pair; None: any.
        strict_alignment: As in :class:`notagen.dpo.rules.RuleSettings`.
        similarity: As there.
        copied_notes: As there.
        different_bars: As there.
    """

    portion: float = 0.1
    nearest: int | None = None
    by_prompt: bool = False
    length_ratio: float | None = None
    strict_alignment: bool = False
    similarity: float = 0.95
    copied_notes: int = 24
    different_bars: float = 0.3


@dataclass
class FloorsConfig:
    """Where training has gone astray: limits of an iteration, most of them as shares of what iteration 0 had.

    Args:
        diversity: Smallest diversity, as a share.
        shortest: Smallest mean length, as a share.
        longest: Greatest mean length, as a multiple.
        validity: Smallest share of valid pieces, as a share.
        repeated_bars: By how much the share of repeated bars may grow.
    """

    diversity: float = 0.5
    shortest: float = 0.5
    longest: float = 2.0
    validity: float = 0.9
    repeated_bars: float = 0.2


@dataclass
class DpoConfig:
    """Everything that decides a run.

    Args:
        init: Policy to start from: whatever :func:`notagen.from_pretrained` loads.
        scorer: Judge that is optimised: ``ngrams``, or whatever :func:`notagen.clamp2.weights.from_pretrained` loads;
            ``notagen-scorer`` comes with the package.
        judge: Judge of another kind that is not optimised, and reported beside it.
        data: Music to compare with.
        ratings: Pairs of pieces with the better one, see :mod:`notagen.dpo.ratings`, to learn from in place of scores,
            in one iteration; the judges then only report.
        iterations: How often to write, choose and train.
        samples: Pieces of an iteration.
        writing: How they are written.
        selection: Which of them are chosen.
        training: How the policy learns from them.
        floors: Where to stop.
        on_floor: ``stop``, or ``warn`` and go on.
        force: Also train on a judge that is blind.
        seed: Of everything that is drawn.
        device: Where pieces are written and judged; training chooses for itself.
        run_dir: Where the run is written.
    """

    init: str = "notagen-tiny"
    scorer: str = "notagen-scorer"
    judge: str = "ngrams"
    data: CollectionConfig = field(default_factory=CollectionConfig)
    ratings: str | None = None
    iterations: int = 3
    samples: int = 1000
    writing: WritingConfig = field(default_factory=WritingConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    training: PolicyTrainingConfig = field(default_factory=PolicyTrainingConfig)
    floors: FloorsConfig = field(default_factory=FloorsConfig)
    on_floor: str = "stop"
    force: bool = False
    seed: int = 0
    device: str = "cpu"
    run_dir: str = "???"

    def __post_init__(self) -> None:
        for name, value, holds, allowed in (
            ("iterations", self.iterations, self.iterations >= 1, "at least 1"),
            ("samples", self.samples, self.samples >= 2, "at least 2"),
            ("on_floor", self.on_floor, self.on_floor in ("stop", "warn"), "'stop' or 'warn'"),
            (
                "iterations",
                self.iterations,
                self.ratings is None or self.iterations == 1,
                "1 where there are ratings",
            ),
            (
                "selection.nearest",
                self.selection.nearest,
                self.selection.nearest is None or self.selection.nearest >= 1,
                "at least 1, or null",
            ),
            ("data.held_out", self.data.held_out, 0 < self.data.held_out < 1, "above 0 and below 1"),
        ):
            if not holds:
                raise ConfigError(f"{name} is {value!r}, but must be {allowed}")
