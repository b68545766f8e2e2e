"""Model, optimiser and arguments of the Trainer, from the configuration."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import TrainingArguments
from transformers.trainer_pt_utils import get_parameter_names

from cm3p import model as models
from cm3p.configuration import (
    AudioFields,
    BeatmapFields,
    CM3PBeatmapConfig,
    CM3PConfig,
    CM3PMetadataConfig,
    FullFields,
    MetadataFields,
)
from cm3p.losses import LossOptions, named_weights
from cm3p.processor import CM3PProcessor
from cm3p.training.options import TrainConfig
from cm3p.weights import find_directory
from pentatonic.errors import ConfigError, WeightsError
from pentatonic.optim import adamw, muon

_CLASSIFIER_KEYS = ("problem_type", "id2label", "label2id")


def model_config(config: TrainConfig, processor: CM3PProcessor) -> CM3PConfig:
    """Return the configuration of the full model, with the vocabularies and ids of a processor.

    Raises:
        ConfigError: A key is unknown, or a value is out of range.
    """
    values = {
        key: value for key, value in config.model.items() if key not in ("beatmap_config", "metadata_config")
    }
    beatmap = dict(config.model.get("beatmap_config") or {})
    metadata = dict(config.model.get("metadata_config") or {})
    audio = dict(beatmap.pop("audio_config", None) or {})
    for where, given, spec, others in (
        ("model", values, FullFields, ()),
        ("model.beatmap_config", beatmap, BeatmapFields, _CLASSIFIER_KEYS),
        ("model.metadata_config", metadata, MetadataFields, ()),
        ("model.beatmap_config.audio_config", audio, AudioFields, ()),
    ):
        allowed = {field.name for field in fields(spec)} | set(others)
        if unknown := [key for key in given if key not in allowed]:
            raise ConfigError(f"unknown key {where}.{unknown[0]}; allowed: {', '.join(sorted(allowed))}")
    tokens, words = processor.beatmap_tokenizer, processor.metadata_tokenizer
    beatmap |= {
        "vocab_size": tokens.vocab_size,
        "pad_token_id": tokens.pad_token_id,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
        "audio_sos_token_id": None,  # as in the original, whose tokenizer calls it otherwise
        "audio_eos_token_id": tokens.audio_eos_token_id,
        "audio_token_id": tokens.audio_token_id,
    }
    metadata |= {
        "vocab_size": words.vocab_size,
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }
    if labels := beatmap.get("id2label"):
        beatmap["id2label"] = {int(key): value for key, value in labels.items()}
    return CM3PConfig(
        **values,
        beatmap_config=CM3PBeatmapConfig(**beatmap, audio_config=audio),
        metadata_config=CM3PMetadataConfig(**metadata),
        attn_implementation=config.attn_implementation,  # type: ignore[call-arg]  # of the base class's **kwargs
    )


def build_model(config: TrainConfig, processor: CM3PProcessor) -> models.CM3PPreTrainedModel:
    """Return the model: fresh, or with the weights that ``from_pretrained`` names.

    Raises:
        ConfigError: A key is unknown, or a value is out of range.
        HubError: There is no such model.
        WeightsError: Its weights do not fit.
    """
    full = model_config(config, processor)
    kind: Any = getattr(models, config.model_cls)
    own: Any = full if kind is models.CM3PModel else full.beatmap_config
    if config.dataset.labels == "masked_lm" and kind is models.CM3PModel and not full.has_decoder_head:
        raise ConfigError("dataset.labels is masked_lm, which needs model.has_decoder_head=true")
    if config.from_pretrained is None:
        model = kind(own)
    else:
        directory = find_directory(config.from_pretrained)
        try:
            model = kind.from_pretrained(directory, config=own, dtype=torch.float32)
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"from_pretrained={config.from_pretrained}: {error}") from error
    if config.freeze_metadata_model and hasattr(model, "metadata_model"):
        model.metadata_model.requires_grad_(False)
    if config.freeze_beatmap_model and config.unfreeze_beatmap_model_at_step is None:
        model.beatmap_model.requires_grad_(False)
    return model


def loss_options(config: TrainConfig) -> tuple[LossOptions, LossOptions]:
    """Return the options of the full model's loss in training and in evaluation."""
    labelled = config.dataset.labels != "none"
    # Without labels the Trainer divides the whole loss by the accumulated batches.
    steps = config.training.gradient_accumulation_steps if labelled else 1
    given = config.loss.contrastive_weight, config.loss.mlm_weight

    def options(name: Any, steps: int, training: bool) -> LossOptions:
        contrastive, mlm = named_weights(name, steps)
        return LossOptions(
            contrastive if given[0] is None else contrastive * given[0],
            mlm if given[1] is None else given[1],
            gather=training and config.loss.gather,
            mask_padding=config.loss.mask_padding,
            labelled_logits_only=training,
        )

    return options(config.loss.weights, steps, True), options("mean", 1, False)


def build_optimizer(config: TrainConfig, model: nn.Module) -> Optimizer:
    """Return the optimiser over all parameters that are trained, now or once they are unfrozen.

    AdamW decays neither biases nor norms, as that of the Trainer.
    """
    training = config.training
    betas, eps = (training.adam_beta1, training.adam_beta2), training.adam_epsilon
    if config.optim.name == "muon":
        options = {key: value for key, value in asdict(config.optim).items() if key != "name"}
        return muon(model, training.learning_rate, training.weight_decay, betas=betas, eps=eps, **options)
    decayed = set(get_parameter_names(model, [nn.LayerNorm], ["bias", r"(?:^|[._])norm"]))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [each for name, each in named if name in decayed]},
        {"params": [each for name, each in named if name not in decayed], "weight_decay": 0.0},
    ]
    return adamw(model, training.learning_rate, training.weight_decay, betas=betas, eps=eps, groups=groups)


def training_arguments(config: TrainConfig, *, interactive: bool) -> TrainingArguments:
    """Return the arguments of the Trainer.

    Args:
        config: The configuration.
        interactive: Whether somebody watches a progress bar.

    Raises:
        ConfigError: An argument is unknown, or a value is refused.
    """
    values = asdict(config.training)
    further = values.pop("arguments")
    for ours in ("overwrite_output_dir", "resume_from_checkpoint"):
        values.pop(ours)
    values["push_to_hub"] = False  # the Trainer would push the whole run folder
    if not config.training.do_eval:
        values |= {"eval_strategy": "no", "load_best_model_at_end": False}
    allowed = {field.name for field in fields(TrainingArguments)}
    if unknown := [key for key in further if key not in allowed or key in values]:
        raise ConfigError(
            f"training.arguments.{unknown[0]} is not an argument of transformers.TrainingArguments, or has a key of "
            "its own in training"
        )
    defaults = {
        "output_dir": config.run_dir,
        "report_to": [] if config.wandb_mode == "disabled" else ["wandb"],
        "run_name": config.run_dir,
        "remove_unused_columns": False,
        "ignore_data_skip": True,  # the loader's own state says what comes next
        "logging_nan_inf_filter": False,
        "disable_tqdm": not interactive,
        "ddp_find_unused_parameters": _has_unused_parameters(config),
        "save_total_limit": None,
        "use_cache": False,
    }
    try:
        arguments = TrainingArguments(**{**values, **defaults, **further})
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"training: {' '.join(str(error).split())}") from error
    if arguments.n_gpu > 1:
        # One process for several GPUs copies the model at every step; the launcher starts one for each.
        arguments._n_gpu = 1
    return arguments


def _has_unused_parameters(config: TrainConfig) -> bool:
    """Return whether parameters that are to be trained have no gradients in some steps."""
    unfrozen_later = config.freeze_beatmap_model and config.unfreeze_beatmap_model_at_step is not None
    idle_head = bool(config.model.get("has_decoder_head")) and config.dataset.labels == "none"
    return unfrozen_later or idle_head or not config.dataset.include_audio
