"""Options of the training objectives. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field

from pentatonic.errors import ConfigError

OBJECTIVES = ("masked", "simclr", "text_audio")
POOLS = ("mean", "last", "class_token")


@dataclass
class SimclrConfig:
    """Two windows of a recording find each other among those of other recordings.

    Args:
        temperature: Of the softmax over similarities.
        mixup_alpha: Of the Beta distribution of mixtures with another recording of the batch; 0: no mixup.
        pool: How tokens become one vector: ``mean``; the ``last``, which has attended to all others in a causal trunk;
            or ``class_token`` of a Transformer that attends in both directions.
        projection: Width of the output of a head of two layers, which is used in training only; 0: none.
    """

    temperature: float = 0.1
    mixup_alpha: float = 0.3
    pool: str = "mean"
    projection: int = 128

    def check(self) -> None:
        """Raise a ConfigError for a value that is not allowed."""
        if self.pool not in POOLS:
            raise ConfigError(f"objective.simclr.pool is {self.pool!r}; allowed: {', '.join(POOLS)}")
        if not (self.temperature > 0 and self.mixup_alpha >= 0 and self.projection >= 0):
            raise ConfigError(
                "objective.simclr needs a temperature above 0, and mixup_alpha and projection of 0 or more"
            )


@dataclass
class TextAudioConfig:
    """A recording and a text about it find each other among those of a batch.

    Args:
        text_model: Text encoder with its tokenizer, in the format of transformers: a directory or a hub id. It is
            frozen; a text is the mean over its tokens.
        max_tokens: Longer texts are cut.
        youtube: JSONL with ``id`` and the fields below; by default ``youtube.jsonl`` in ``data.root``.
        discogs: JSONL with ``id`` and the fields below; by default ``discogs.jsonl``.
        id_map: JSONL of objects that map an id of the first to ids of the second; by default ``id_map.jsonl``.
        youtube_fields: Which fields become text, in this order.
        discogs_fields: Likewise.
        metadata_dropout: Probability that one of the two blocks of a text is left out, in training.
        projection: Width of the shared space.
        pool_heads: Heads of the attention that pools the tokens of the audio.
        temperature: To begin with; it is learned, between 0.01 and 1.
        freeze_audio: Train only what follows the audio encoder.
    """

    text_model: str = ""
    max_tokens: int = 384
    youtube: str | None = None
    discogs: str | None = None
    id_map: str | None = None
    youtube_fields: list[str] = field(
        default_factory=lambda: ["title", "description", "categories", "tags", "view_count"]
    )
    discogs_fields: list[str] = field(
        default_factory=lambda: ["labels", "genres", "styles", "country", "released"]
    )
    metadata_dropout: float = 0.3
    projection: int = 512
    pool_heads: int = 8
    temperature: float = 0.1
    freeze_audio: bool = False

    def check(self) -> None:
        """Raise a ConfigError for a value that is missing or not allowed."""
        if not self.text_model:
            raise ConfigError("objective.text_audio.text_model has no value; give a directory or a hub id")
        if not 0 <= self.metadata_dropout <= 1 or not 0.01 <= self.temperature <= 1:
            raise ConfigError(
                "objective.text_audio needs a metadata_dropout from 0 to 1 and a temperature from 0.01 to 1"
            )
        if min(self.max_tokens, self.projection, self.pool_heads) < 1:
            raise ConfigError("objective.text_audio needs max_tokens, projection and pool_heads of 1 or more")


@dataclass
class ObjectiveConfig:
    """What is learned.

    Args:
        name: ``masked`` token prediction, ``simclr`` or ``text_audio``.
        encoder: Model to go on from: bundled name, directory, run folder or hub id; its configuration then replaces
            ``model``. None: a new one. Not for ``masked``.
        simclr: Options of ``simclr``.
        text_audio: Options of ``text_audio``.
    """

    name: str = "masked"
    encoder: str | None = None
    simclr: SimclrConfig = field(default_factory=SimclrConfig)
    text_audio: TextAudioConfig = field(default_factory=TextAudioConfig)

    def check(self) -> None:
        """Raise a ConfigError for a value that is not allowed."""
        if self.name not in OBJECTIVES:
            raise ConfigError(f"objective.name is {self.name!r}; allowed: {', '.join(OBJECTIVES)}")
        if self.name == "masked" and self.encoder is not None:
            raise ConfigError("objective.encoder is for simclr and text_audio, not for masked prediction")
        if self.name == "simclr":
            self.simclr.check()
        if self.name == "text_audio":
            self.text_audio.check()
