"""Configuration of an encoder as plain dataclasses, without torch. ``config.json`` of a saved model holds it.

The range of each value is declared beside it, because configurations come from strangers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pentatonic.errors import ConfigError
from pentatonic.untrusted.config import Range, check_fields, read_fields
from pentatonic.untrusted.files import shortened

N_MELS = 128
"""Mel bands of every front end of the family."""
MAX_PARAMETERS = 2**32
"""Most parameters of a model, so that a configuration alone cannot fill the memory; released ones have 2**25."""

Absolute = Literal["none", "sincos2d", "sin_raster", "sin_xy", "sin_x", "sin_y", "learned_xy"]
Rotation = Literal["none", "time", "freq", "sum", "axial"]
BiasKind = Literal["none", "alibi", "alibi_split", "distance", "signed"]
Axes = Literal["both", "time", "freq"]
FrontendName = Literal["myna", "myna-rpe", "myna-rpe-demo"]
ClampKind = Literal["tanh", "log", "rational", "hard", "normalize"]
PatchName = Literal["first", "second"]


@dataclass(frozen=True)
class ClampConfig:
    """How far a distance counts (:mod:`myna_rpe.positions.clamp`).

    With distance d in patches, cap c and softness s:

    - ``tanh``: ``c * tanh(d * s / c)``;
    - ``log``: ``c * log1p(d / (c * s)) / log1p(1 / s)``, which grows on, but slowly;
    - ``rational``: ``d * c / (d + c / s)``;
    - ``hard``: d up to c, and c from there on;
    - ``normalize``: d divided by the mean of all distances above 0 in the batch, without cap; as one class of the
      original does, whose embeddings so depend on what else is kept of the track.

    Args:
        kind: Which of them.
        cap: c, in patches.
        softness: s.
        learned: Train c, and s where the kind has one.
        squared: What is learned is a factor on the cap, which begins at the cap; the form of the original of April
            2026, with its small terms in divisions. For its checkpoints.
    """

    kind: ClampKind = "tanh"
    cap: Annotated[float, Range(0, 1e6, above=True)] = 10.0
    softness: Annotated[float, Range(0, 1e6, above=True)] = 1.0
    learned: bool = False
    squared: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "positions.clamp")
        if self.squared and not self.learned:
            raise ConfigError("positions.clamp.squared needs positions.clamp.learned")
        if self.kind in ("hard", "normalize") and self.squared:
            raise ConfigError(
                f"positions.clamp.squared is given with {self.kind}; allowed: tanh, log, rational"
            )
        if self.kind == "normalize" and self.learned:
            raise ConfigError("positions.clamp.learned is given with normalize, which has nothing to learn")

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return (1 if self.kind == "hard" else 2) * self.learned


@dataclass(frozen=True)
class PositionConfig:
    """Where a token stands: a sum of at most one absolute code, a table of rows, a rotation and a bias.

    A token has a column (time) and a row (frequency, 0 the lowest), both counted in patches; the class token has none.

    Args:
        absolute: Code that is added to the tokens (:mod:`myna_rpe.positions.absolute`).
        row_table: Also add a learned vector for each row.
        rotation: Which coordinate rotates queries and keys: ``sum`` is row plus column; ``axial`` rotates one half of
            the head by the row and the other by the column.
        rope_base: Base of the frequencies of the rotation; with ``axial``, of the row.
        rope_time_base: Base for the column with ``axial``; ``None``: ``rope_base``.
        rope_halves: The original's rotation moves the entries of the other tokens into halves of the head, but not
            those of the class token, so the two meet in another order. For its checkpoints.
        bias: What is added to the scores (:mod:`myna_rpe.positions.bias`). ``alibi`` falls with distance, steeper in
            some heads than in others; ``alibi_split`` does so with time in one half of the heads and with frequency in
            the other; ``distance`` and ``signed`` are what the original adds: the plain distance, as a reward, and the
            difference with its sign.
        bias_axes: Along which axes the distance is measured.
        slope_rule: Slopes of ``alibi``: ``press`` as in the ALiBi paper, ``halving`` as in the original.
        time_scale: Factor on distances in time, of ``alibi``.
        freq_scale: Factor on distances in frequency, of ``alibi``.
        learned_slopes: Train the slopes: of ``alibi`` one for each head and axis; of ``distance`` and ``signed`` a
            factor for each head before, and one after the query in the order of the sequence.
        clamp: How far a distance counts, before slopes act: of ``alibi`` on each axis, of ``distance`` and ``signed``
            the sum over both; ``None``: as it is.
    """

    absolute: Absolute = "none"
    row_table: bool = False
    rotation: Rotation = "none"
    rope_base: Annotated[float, Range(1, 1e9, above=True)] = 10000.0
    rope_time_base: Annotated[float, Range(1, 1e9, above=True)] | None = None
    rope_halves: bool = False
    bias: BiasKind = "none"
    bias_axes: Axes = "both"
    slope_rule: Literal["press", "halving"] = "halving"
    time_scale: Annotated[float, Range(0, 1e6)] = 1.0
    freq_scale: Annotated[float, Range(0, 1e6)] = 1.0
    learned_slopes: bool = False
    clamp: ClampConfig | None = None

    def __post_init__(self) -> None:
        check_fields(self, "positions")
        if self.learned_slopes and self.bias == "none":
            raise ConfigError("positions.learned_slopes needs a bias; positions.bias is none")
        if self.bias == "alibi_split" and self.bias_axes != "both":
            raise ConfigError(f"positions.bias_axes is {self.bias_axes} with alibi_split; allowed: both")
        if self.clamp is not None and self.bias == "none":
            raise ConfigError("positions.clamp needs a bias; positions.bias is none")
        if self.clamp is not None and self.clamp.kind == "normalize" and self.bias.startswith("alibi"):
            raise ConfigError(
                f"positions.clamp.kind is normalize with the bias {self.bias}; allowed: with distance, signed"
            )


@dataclass(frozen=True)
class PatchConfig:
    """A patch of the spectrogram: mel bands by frames."""

    bands: Annotated[int, Range(1, N_MELS)] = 16
    frames: Annotated[int, Range(1, 4096)] = 16

    def __post_init__(self) -> None:
        check_fields(self, "patch")
        if N_MELS % self.bands:
            raise ConfigError(f"patch.bands is {self.bands}; allowed: divisors of {N_MELS}")

    @property
    def rows(self) -> int:
        """Patches along the frequency axis."""
        return N_MELS // self.bands

    @property
    def values(self) -> int:
        """Values in a patch."""
        return self.bands * self.frames


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder of the family.

    Args:
        dim: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        dim_head: Width of a head.
        mlp_dim: Width inside the feed-forward part.
        out_dim: Outputs of the head, a linear layer; 0: there is none.
        class_token: Whether a class token is put before the others; the output is then taken there, else it is the mean
            of all tokens.
        frontend: How audio becomes a spectrogram (:mod:`myna_rpe.frontend`).
        train_frames: Frames of the crops of training, of which absolute codes in time are made.
        chunk_frames: Frames of a chunk where a track is embedded in chunks.
        patch: The patches.
        second_patch: Second kind of patches, with an embedding of its own (Myna-Hybrid), or ``None``.
        positions: Where tokens stand.
    """

    dim: Annotated[int, Range(4, 8192)] = 384
    depth: Annotated[int, Range(1, 256)] = 12
    heads: Annotated[int, Range(1, 256)] = 6
    dim_head: Annotated[int, Range(2, 512)] = 64
    mlp_dim: Annotated[int, Range(1, 65536)] = 1536
    out_dim: Annotated[int, Range(0, 65536)] = 128
    class_token: bool = True
    frontend: FrontendName = "myna-rpe"
    train_frames: Annotated[int, Range(1, 1_000_000)] = 256
    chunk_frames: Annotated[int, Range(1, 1_000_000)] = 256
    patch: PatchConfig = field(default_factory=PatchConfig)
    second_patch: PatchConfig | None = None
    positions: PositionConfig = field(default_factory=PositionConfig)

    def __post_init__(self) -> None:
        check_fields(self, "")
        if self.positions.absolute.startswith("sin") and (self.dim % 4 or self.dim < 8):
            raise ConfigError(
                f"dim is {self.dim} with {self.positions.absolute} positions; allowed: multiples of 4 from 8 on"
            )
        divisor = {"none": 1, "axial": 4}.get(self.positions.rotation, 2)
        if self.dim_head % divisor:
            raise ConfigError(
                f"dim_head is {self.dim_head} with the rotation {self.positions.rotation}; "
                f"allowed: multiples of {divisor}"
            )
        if self.second_patch is not None and (
            self.positions.row_table or self.positions.absolute == "learned_xy"
        ):
            raise ConfigError(
                "second_patch is given with learned tables of positions, which are those of one grid"
            )
        if self.parameters > MAX_PARAMETERS:
            raise ConfigError(
                f"the configuration describes {self.parameters:,} parameters; allowed: at most {MAX_PARAMETERS:,}"
            )

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        inner, dim = self.heads * self.dim_head, self.dim
        block = 2 * dim + 4 * inner * dim + 2 * dim + 2 * dim * self.mlp_dim + self.mlp_dim + dim
        total = self.depth * block + 2 * dim + (self.out_dim and self.out_dim * (dim + 1))
        for patch in self.patches.values():
            total += 2 * patch.values + (patch.values + 1) * dim + 2 * dim
        positions = self.positions
        total += dim * (self.class_token + positions.row_table * self.patch.rows)
        total += 2 * self.heads * positions.learned_slopes
        total += 0 if positions.clamp is None else positions.clamp.parameters
        if positions.absolute == "learned_xy":
            total += dim * (self.patch.rows + self.columns())
        return total

    @property
    def patches(self) -> dict[PatchName, PatchConfig]:
        """The kinds of patches by name."""
        patches: dict[PatchName, PatchConfig] = {"first": self.patch}
        if self.second_patch is not None:
            patches["second"] = self.second_patch
        return patches

    def columns(self) -> int:
        """Patch columns of the crops of training."""
        return self.train_frames // self.patch.frames

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as :meth:`from_dict` reads them."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: object) -> EncoderConfig:
        """Build a configuration from plain values, such as JSON gives.

        Raises:
            ConfigError: A key is unknown, or a value is of another type or out of its range.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"the configuration is {shortened(values)}; allowed: a mapping of keys")
        sections: dict[str, Any] = {}
        positions = values.get("positions")
        if isinstance(positions, Mapping) and positions.get("clamp") is not None:
            clamp = read_fields(ClampConfig, positions["clamp"], "positions.clamp")
            values = {**values, "positions": {**positions, "clamp": clamp}}
        for name, kind in (
            ("patch", PatchConfig),
            ("second_patch", PatchConfig),
            ("positions", PositionConfig),
        ):
            if values.get(name) is not None:
                sections[name] = read_fields(kind, values[name], name)
        plain = {
            key: value for key, value in values.items() if key not in ("patch", "second_patch", "positions")
        }
        return read_fields(EncoderConfig, {**plain, **sections}, "")
