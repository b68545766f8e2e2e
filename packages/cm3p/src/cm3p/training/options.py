"""The configuration of a training run, under the names of the original where it has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from cm3p.training.processor_options import ProcessorOptions
from pentatonic.errors import ConfigError

MODEL_CLASSES = ("CM3PModel", "CM3PForMaskedLM", "CM3PForBeatmapClassification")
LABELS = ("none", "masked_lm", "ranked_classification")
FORMATS = ("auto", "mapperator", "maps")
PADDINGS = ("longest", "max_length")
OPTIMIZERS = ("adamw", "muon")
LOSS_WEIGHTS = ("original", "mean")


@dataclass
class DatasetConfig:
    """Where the maps are, which of them count, and how they become batches.

    Attributes:
        train_dataset_paths: Data sets in Mapperator's format, or folders, ``.osu`` and ``.osz`` files.
        test_dataset_paths: The same for evaluation; empty: the paths of training.
        example_sets: Where no path of training is given: number of sets of made-up maps, which are written into the run
            folder and taken; 0: a path must be given.
        format: ``mapperator``, ``maps``, or ``auto``: the first where there is a ``metadata.parquet``.
        train_dataset_start: First set of training, counted over all sets in the order of their ids; negative: from
            the end.
        train_dataset_end: Set before which training ends; 0 or None: after the last one.
        test_dataset_start: As for training.
        test_dataset_end: As for training.
        subset_ids: Ids of the sets that count; None: all.
        gamemodes: Modes that count.
        min_year: First year of submission.
        max_year: Last year of submission.
        min_difficulty: Least stars.
        max_difficulty: Most stars.
        tags_file: JSON list of tags with ``id``, ``name``, ``ruleset_id``, ``description``; None: ``tags.json`` of a
            data set, if there is one.
        cycle_length: Sets that are mixed: windows of them come in turn.
        buffer_cycles: The buffer in which windows are sorted by length holds ``cycle_length`` times as many sets.
        bucket_by_length: Put windows of like length into a batch.
        drop_last: Leave out windows that do not fill a batch; without it the last batch of a buffer may be smaller.
        padding: ``longest`` pads to the longest window of a batch; ``max_length``, as the original, to the limit.
        audio_dropout_prob: Probability with which a map is without its song in training, so that maps embed alone, too.
        metadata_dropout_prob: Probability with which a known field of metadata is unknown in training.
        dt_augment_prob: Probability with which a set is sped up in training.
        dt_augment_range: Least and greatest speed.
        dt_augment_sqrt: Draw more of the high speeds.
        sampling_rate: Of the audio, in Hz.
        train_metadata_variations: Variants of metadata in training, the true one included.
        test_metadata_variations: The same in evaluation.
        labels: ``none``; ``masked_lm``; ``ranked_classification``: 1 for ranked maps with their own audio.
        include_metadata: Whether windows have metadata.
        include_audio: Whether windows have audio.
        include_beatmap: Whether windows have the events of the map.
        include_source_metadata: Whether batches have ``beatmap_id``, which the models do not take.
        masked_lm_prob: Probability with which a token is predicted.
        masked_lm_split: Shares of those that are masked, random and unchanged.
        masked_lm_random_special_tokens: As in the original, random tokens may be special ones.
        beatmap_mismatch_prob: Probability with which a map is replaced by another one, whose audio it is not.
        reproduce_original: As in the original, the song length is always 0 in training, and beats at the end are
            missing when a map is sped up.
    """

    train_dataset_paths: list[str] = MISSING
    test_dataset_paths: list[str] = field(default_factory=list)
    example_sets: int = 0
    format: str = "auto"
    train_dataset_start: int | None = 0
    train_dataset_end: int | None = 78689
    test_dataset_start: int | None = 78689
    test_dataset_end: int | None = 79389
    subset_ids: list[int] | None = None
    gamemodes: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    min_year: int | None = 2000
    max_year: int | None = 2023
    min_difficulty: float | None = 0.0
    max_difficulty: float | None = 14.0
    tags_file: str | None = None
    cycle_length: int = 8
    buffer_cycles: int = 4
    bucket_by_length: bool = True
    drop_last: bool = True
    padding: str = "longest"
    audio_dropout_prob: float = 0.0
    metadata_dropout_prob: float = 0.2
    dt_augment_prob: float = 0.5
    dt_augment_range: list[float] = field(default_factory=lambda: [1.25, 1.5])
    dt_augment_sqrt: bool = False
    sampling_rate: int = 16000
    train_metadata_variations: int = 1
    test_metadata_variations: int = 1000
    labels: str = "none"
    include_metadata: bool = True
    include_audio: bool = True
    include_beatmap: bool = True
    include_source_metadata: bool = False
    masked_lm_prob: float = 0.25
    masked_lm_split: list[float] = field(default_factory=lambda: [0.8, 0.1, 0.1])
    masked_lm_random_special_tokens: bool = True
    beatmap_mismatch_prob: float = 0.0
    reproduce_original: bool = False

    def __post_init__(self) -> None:
        _require(
            "dataset.train_dataset_paths",
            self.train_dataset_paths,
            bool(self.train_dataset_paths) or self.example_sets >= 1,
            "at least one data set, folder, .osu or .osz file",
        )
        _one_of("dataset.format", self.format, FORMATS)
        _one_of("dataset.labels", self.labels, LABELS)
        _one_of("dataset.padding", self.padding, PADDINGS)
        for name in (
            "cycle_length",
            "buffer_cycles",
            "train_metadata_variations",
            "test_metadata_variations",
        ):
            _require(f"dataset.{name}", getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in (
            "audio_dropout_prob",
            "metadata_dropout_prob",
            "dt_augment_prob",
            "masked_lm_prob",
            "beatmap_mismatch_prob",
        ):
            _require(f"dataset.{name}", getattr(self, name), 0 <= getattr(self, name) <= 1, "0 to 1")
        speeds = self.dt_augment_range
        ordered = len(speeds) == 2 and 0.1 <= speeds[0] <= speeds[1] <= 10
        _require("dataset.dt_augment_range", speeds, ordered, "least and greatest speed, from 0.1 to 10")
        _require(
            "dataset.include_beatmap",
            self.include_beatmap,
            self.include_beatmap or (self.include_audio and self.labels != "masked_lm"),
            "true, or false with audio and without masked_lm",
        )


@dataclass
class TrainingConfig:
    """The arguments of the Trainer of transformers that matter here, with the original's defaults.

    Attributes:
        overwrite_output_dir: Begin anew, and remove the checkpoints of the run folder.
        resume_from_checkpoint: Checkpoint to go on from; None: the newest of the run folder, if there is one.
        average_tokens_across_devices: Count the labels of all processes for the masked-token loss.
        arguments: Further ones, by their names in ``transformers.TrainingArguments``.
    """

    use_cpu: bool = False
    bf16: bool = True
    do_train: bool = True
    do_eval: bool = True
    overwrite_output_dir: bool = False
    resume_from_checkpoint: str | None = None
    seed: int = 42
    learning_rate: float = 1e-4
    lr_scheduler_type: str = "linear"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.0
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 8
    average_tokens_across_devices: bool = True
    max_steps: int = 30000
    eval_strategy: str = "steps"
    eval_steps: int = 1000
    log_level: str = "info"
    logging_strategy: str = "steps"
    logging_steps: int = 10
    save_strategy: str = "steps"
    save_steps: int = 1000
    save_total_limit: int | None = 3
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "eval_loss"
    greater_is_better: bool | None = False
    push_to_hub: bool = False
    hub_model_id: str | None = None
    hub_private_repo: bool | None = None
    dataloader_drop_last: bool = True
    dataloader_num_workers: int = 4
    torch_empty_cache_steps: int | None = 1
    eval_accumulation_steps: int | None = 1
    include_for_metrics: list[str] = field(default_factory=list)
    batch_eval_metrics: bool = True
    torch_compile: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "max_steps",
            "gradient_accumulation_steps",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
        ):
            _require(f"training.{name}", getattr(self, name), getattr(self, name) >= 1, "1 or more")
        _require(
            "training.save_total_limit",
            self.save_total_limit,
            self.save_total_limit is None or self.save_total_limit >= 1,
            "1 or more, or none",
        )


@dataclass
class OptimizerConfig:
    """The optimiser; its learning rate and weight decay are those of ``training``.

    Attributes:
        name: ``adamw``; ``muon`` for matrices with AdamW for the rest.
        momentum: Of Muon.
        steps: Of Muon: iterations of the orthogonalisation.
        adamw_lr_ratio: Learning rate of Muon's AdamW parameters, as a share of ``training.learning_rate``.
        reproduce_full_lr: As in the original, that share applies to the weight decay alone.
    """

    name: str = "adamw"
    momentum: float = 0.95
    steps: int = 6
    adamw_lr_ratio: float = 0.25
    reproduce_full_lr: bool = True

    def __post_init__(self) -> None:
        _one_of("optim.name", self.name, OPTIMIZERS)


@dataclass
class LossConfig:
    """Weights of the losses of the full model.

    Attributes:
        weights: ``mean``: contrastive and masked-token loss are means over the accumulated batches, 1 to 0.5.
            ``original``: the contrastive one is summed over them where there are labels, as the original has it.
        contrastive_weight: Factor on the contrastive loss, in place of 1.
        mlm_weight: Factor on the masked-token loss, in place of 0.5.
        gather: Take the maps of all processes as negatives.
        mask_padding: Leave out empty metadata, which fills up variations, as negatives.
    """

    weights: str = "mean"
    contrastive_weight: float | None = None
    mlm_weight: float | None = None
    gather: bool = True
    mask_padding: bool = False

    def __post_init__(self) -> None:
        _one_of("loss.weights", self.weights, LOSS_WEIGHTS)


@dataclass
class TrainConfig:
    """Everything that decides a run.

    Attributes:
        model_cls: ``CM3PModel``, ``CM3PForMaskedLM`` or ``CM3PForBeatmapClassification``.
        from_pretrained: Run folder, model directory or hub id whose weights training begins with.
        processor_from_pretrained: The same for a processor, in place of a new vocabulary.
        freeze_beatmap_model: Leave the beatmap tower as it is.
        freeze_metadata_model: Leave the metadata tower as it is.
        unfreeze_beatmap_model_at_step: Train a frozen beatmap tower after so many steps.
        attn_implementation: Accepted and written into the configuration; the models choose their own kernels.
        wandb_project: Project on Weights & Biases.
        wandb_entity: Its owner.
        wandb_mode: ``disabled``; ``online`` or ``offline`` log there.
        model: Keys of :class:`cm3p.configuration.CM3PConfig`.
        run_dir: The run folder; the same command continues a run that was stopped.
    """

    model_cls: str = "CM3PModel"
    from_pretrained: str | None = None
    processor_from_pretrained: str | None = None
    freeze_beatmap_model: bool = False
    freeze_metadata_model: bool = False
    unfreeze_beatmap_model_at_step: int | None = None
    attn_implementation: str = "flash_attention_2"
    wandb_project: str = "CM3P"
    wandb_entity: str | None = None
    wandb_mode: str = "disabled"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optim: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    processor: ProcessorOptions = field(default_factory=ProcessorOptions)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: dict[str, Any] = field(default_factory=dict)
    run_dir: str = MISSING

    def __post_init__(self) -> None:
        _one_of("model_cls", self.model_cls, MODEL_CLASSES)
        _one_of("wandb_mode", self.wandb_mode, ("disabled", "online", "offline"))
        labels, model = self.dataset.labels, self.model_cls
        fitting = {
            "CM3PModel": labels != "ranked_classification" and self.dataset.include_metadata,
            "CM3PForMaskedLM": labels == "masked_lm" and not self.dataset.include_metadata,
            "CM3PForBeatmapClassification": labels == "ranked_classification"
            and not self.dataset.include_metadata,
        }
        _require(
            "dataset.labels",
            f"{labels} with include_metadata {self.dataset.include_metadata}",
            fitting[model],
            {
                "CM3PModel": "none or masked_lm, with metadata, for CM3PModel",
                "CM3PForMaskedLM": "masked_lm without metadata for CM3PForMaskedLM",
                "CM3PForBeatmapClassification": "ranked_classification without metadata for "
                "CM3PForBeatmapClassification",
            }[model],
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(name, value, value in allowed, ", ".join(allowed))


def _require(name: str, value: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r}; allowed: {allowed}")
