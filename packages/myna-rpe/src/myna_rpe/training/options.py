"""Options of the objective, as plain dataclasses for the configuration files."""

from __future__ import annotations

from dataclasses import dataclass, field

from pentatonic.errors import ConfigError

LOSSES = ("info_nce", "nt_xent", "sogclr", "isogclr")
LEARN_A_TEMPERATURE = ("info_nce", "nt_xent")
PATCHOUT_KINDS = ("uniform", "columns")
HULL_PROJECTIONS = ("exact", "attention")


@dataclass
class ContrastConfig:
    """The loss that tells tracks apart.

    Args:
        name: ``info_nce``, ``nt_xent``, ``sogclr`` or ``isogclr``.
        temperature: Divides the cosines; of ``isogclr`` the first temperature of each track.
        learned_temperature: Of ``info_nce`` and ``nt_xent``: learn it, from ``temperature`` on.
        lowest_temperature: It stays at this or above.
        highest_temperature: It stays at this or below.
        symmetric: Of ``info_nce``: both directions; Myna-RPE trained with one.
        gather: Compare with the tracks of all processes. SogCLR and NT-Xent always do.
        gamma: Of SogCLR: weight of a batch in a track's moving average.
        gamma_schedule: ``constant`` or ``cosine``.
        gamma_epochs: Length of the cosine, in epochs.
    """

    name: str = "info_nce"
    temperature: float = 0.1
    learned_temperature: bool = False
    lowest_temperature: float = 0.01
    highest_temperature: float = 0.5
    symmetric: bool = True
    gather: bool = True
    gamma: float = 0.9
    gamma_schedule: str = "constant"
    gamma_epochs: int = 1

    def __post_init__(self) -> None:
        _require(self.name in LOSSES, "contrast.name", self.name, ", ".join(LOSSES))
        _require(self.temperature > 0, "contrast.temperature", self.temperature, "above 0")
        if self.learned_temperature:
            allowed = ", ".join(LEARN_A_TEMPERATURE)
            _require(
                self.name in LEARN_A_TEMPERATURE,
                "contrast.name",
                self.name,
                f"{allowed}, where contrast.learned_temperature is given",
            )
            _require(
                0 < self.lowest_temperature <= self.temperature <= self.highest_temperature,
                "contrast.temperature",
                self.temperature,
                f"from {self.lowest_temperature} (lowest_temperature, above 0) to {self.highest_temperature} "
                "(highest_temperature)",
            )
        schedules = ("constant", "cosine")
        _require(
            self.gamma_schedule in schedules,
            "contrast.gamma_schedule",
            self.gamma_schedule,
            ", ".join(schedules),
        )


@dataclass
class PatchoutConfig:
    """How many tokens are left out of each crop in training, at random.

    Args:
        ratio: Share of the tokens, or columns; ``int(ratio * N)`` of N are left out.
        kept: Tokens that stay, whatever the length of the crop, in place of ``ratio``; with ``columns`` as many columns
            as that makes, one at least.
        kind: ``uniform``: each token by itself; ``columns``: whole columns, so that of a moment all frequencies stay or
            none.
    """

    ratio: float = 0.9
    kept: int | None = None
    kind: str = "uniform"

    def __post_init__(self) -> None:
        kinds = ", ".join(PATCHOUT_KINDS)
        _require(self.kind in PATCHOUT_KINDS, "patchout.kind", self.kind, kinds)
        _require(0 <= self.ratio < 1, "patchout.ratio", self.ratio, "from 0 and below 1")
        _require(self.kept is None or self.kept >= 1, "patchout.kept", self.kept, "1 or more")

    def n_kept(self, n_tokens: int, rows: int = 1) -> int:
        """Tokens that stay of so many, which lie in so many rows."""
        size = rows if self.kind == "columns" else 1
        n = n_tokens // size
        n_kept = n - int(self.ratio * n) if self.kept is None else min(max(1, self.kept // size), n)
        return n_kept * size


@dataclass
class ExtraLoss:
    """A further loss, which comes in slowly.

    Args:
        weight: Its weight in the end; 0: it is not computed.
        start_step: Until this step its weight is 0.
        ramp_steps: Steps from there on in which the weight rises to its end.
    """

    weight: float = 0.0
    start_step: int = 0
    ramp_steps: int = 1000

    def __post_init__(self) -> None:
        _require(self.weight >= 0, f"{type(self).__name__}.weight", self.weight, "0 or more")
        least = min(self.start_step, self.ramp_steps)
        _require(least >= 0, f"{type(self).__name__}.start_step and ramp_steps", least, "0 or more")

    def weight_at(self, step: int) -> float:
        """The weight in the step after so many."""
        if step >= self.start_step + self.ramp_steps:
            return self.weight
        return self.weight * max(0, step - self.start_step) / self.ramp_steps


@dataclass
class KMeansConfig(ExtraLoss):
    """Embeddings are drawn to centroids; see :class:`myna_rpe.losses.KMeans`.

    Args:
        clusters: Their number.
        temperature: Of the soft assignment; ``None``: hard.
        momentum: Of the centroids.
        queue: Embeddings that the first centroids are chosen from.
        balanced: Give every cluster the same number of embeddings.
    """

    clusters: int = 64
    temperature: float | None = 0.1
    momentum: float = 0.95
    queue: int = 1024
    balanced: bool = True


@dataclass
class HullConfig(ExtraLoss):
    """The first view of a track lies near the convex hull of its other views; needs three views or more.

    Args:
        projection: What it is compared with: ``exact``, the nearest point of the hull; ``attention``, a mean by
            likeness, with the mean squared error of the original.
        temperature: Of the attention.
    """

    projection: str = "exact"
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            self.projection in HULL_PROJECTIONS,
            "hull.projection",
            self.projection,
            ", ".join(HULL_PROJECTIONS),
        )


@dataclass
class WidthConfig(ExtraLoss):
    """Clusters stay wide; with k-means those of its centroids, otherwise the batch is one cluster.

    Args:
        directions: Random directions of a step.
        softness: Of the greatest and the least value along a direction.
        target: Width that is enough; ``None``: the wider the better.
    """

    directions: int = 64
    softness: float = 0.05
    target: float | None = None


@dataclass
class DistillationConfig(ExtraLoss):
    """The encoder's pooled output also predicts what a teacher gives; see :mod:`pentatonic.training.distillation`.

    Args:
        teacher: Name of the teacher whose targets are in the data folder.
        cosine_weight: Of the cosine with the teacher's vector.
        mse_weight: Of the squared error.
        tags_weight: Of the teacher's tags; 0 leaves them out.
    """

    teacher: str = ""
    cosine_weight: float = 1.0
    mse_weight: float = 1.0
    tags_weight: float = 1.0


@dataclass
class ObjectiveConfig:
    """Everything that the objective adds to the encoder.

    Args:
        contrast: The loss that tells tracks apart.
        patchout: Tokens that are left out.
        k_means: Clusters.
        hull: Hulls of views.
        width: Width of clusters.
        distillation: A teacher.
        sub_batch: Crops that go through the encoder at a time, where a batch does not fit into memory; ``None``: all.
    """

    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    patchout: PatchoutConfig = field(default_factory=PatchoutConfig)
    k_means: KMeansConfig = field(default_factory=KMeansConfig)
    hull: HullConfig = field(default_factory=HullConfig)
    width: WidthConfig = field(default_factory=WidthConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    sub_batch: int | None = None

    def __post_init__(self) -> None:
        _require(
            self.sub_batch is None or self.sub_batch >= 1, "sub_batch", self.sub_batch, "1 or more, or none"
        )
        wanted = self.distillation.weight > 0
        _require(
            not wanted or bool(self.distillation.teacher),
            "distillation.teacher",
            self.distillation.teacher,
            "the name of a teacher, where distillation.weight is above 0",
        )


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"objective.{name} is {value!r}; allowed: {allowed}")
