"""``rc-audioldm train``: a small AudioLDM 1 from captioned clips, in three stages.

    rc-audioldm train experiment=tiny data.manifest=data/phrases/manifest.jsonl

CLAP, the VAE and the UNet are trained one after the other, each in a folder of the run: ``clap``, ``vae``, ``unet``. A
run that was stopped, at any moment, goes on from its newest complete checkpoint when the same command is given. In the
end ``model`` of the run folder is a whole model; its folder ``clap`` is the CLAP model that banks are made with.
"""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import nn

from pentatonic.checkpoint import MANIFEST, atomic_directory, file_sha256, model_directory
from pentatonic.cli import make_output_folder
from pentatonic.errors import ConfigError
from pentatonic.mel import PRESETS
from pentatonic.optim import adamw
from pentatonic.training import (
    OptimConfig,
    ScheduleConfig,
    Trainer,
    TrainerConfig,
    TrainResult,
    compose_config,
    config_yaml,
    report_run,
)
from rc_audioldm.clap.encoder import CAPTIONS
from rc_audioldm.clap.frontend import read_frontend
from rc_audioldm.components import COMPONENTS, load_component, save_component
from rc_audioldm.griffin_lim import GriffinLimConfig, GriffinLimVocoder
from rc_audioldm.model import AudioLDM
from rc_audioldm.training import clap_stage, unet_stage, vae_stage
from rc_audioldm.training.architecture import (
    ClapModelConfig,
    UnetModelConfig,
    VaeModelConfig,
    make_clap,
    make_extractor,
    make_scheduler,
    make_tokenizer,
    make_unet,
    make_vae,
)
from rc_audioldm.training.clips import HELDOUT, TRAIN, ClipSet, joined, read_clips
from rc_audioldm.weights import save_pretrained

STAGES = ("clap", "vae", "unet")
MODEL = "model"
CLAP = "clap"
_PARTS = COMPONENTS["audioldm"]
# Loaders test a tokenizer and a text tower with these, which training does not hear.
_FURTHER_TEXTS = (*CAPTIONS, "hello world") * 2


@dataclass
class DataConfig:
    """What to train from.

    Args:
        manifest: Captioned clips; see :mod:`rc_audioldm.training.clips`.
        root: Folder that the paths of ``manifest`` are relative to; None: its own.
        clap_manifests: Further ones, which CLAP alone learns from.
        seconds: Length of the clips.
        mel: Preset of :mod:`pentatonic.mel` for the VAE; it gives the sample rate, too.
    """

    manifest: str = MISSING
    root: str | None = None
    clap_manifests: list[str] = field(default_factory=list)
    seconds: float = 1.28
    mel: str = "audioldm"

    def __post_init__(self) -> None:
        if self.mel not in PRESETS:
            raise ConfigError(f"data.mel is {self.mel!r}; allowed: {', '.join(PRESETS)}")

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return PRESETS[self.mel].sample_rate


@dataclass
class StageConfig:
    """How a stage is trained.

    Args:
        batch_size: Clips per process and step.
        optim: AdamW.
        schedule: Learning rate.
        trainer: The loop.
    """

    batch_size: int = 16
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_steps=1000, max_grad_norm=1.0))


@dataclass
class ClapStageConfig(StageConfig):
    """The first stage: CLAP."""

    model: ClapModelConfig = field(default_factory=ClapModelConfig)
    augmentation: clap_stage.ClapAugmentation = field(default_factory=clap_stage.ClapAugmentation)


@dataclass
class VaeStageConfig(StageConfig):
    """The second stage: the VAE."""

    model: VaeModelConfig = field(default_factory=VaeModelConfig)
    objective: vae_stage.VaeObjective = field(default_factory=vae_stage.VaeObjective)


@dataclass
class UnetStageConfig(StageConfig):
    """The third stage: the UNet."""

    model: UnetModelConfig = field(default_factory=UnetModelConfig)
    objective: unet_stage.UnetObjective = field(default_factory=unet_stage.UnetObjective)


@dataclass
class SmallModelConfig:
    """Everything that decides a run.

    Args:
        data: Captioned clips.
        clap: The first stage.
        vae: The second stage.
        unet: The third stage.
        griffin_lim_iterations: Of the vocoder that the model gets.
        stages: Which are trained now. CLAP and the VAE do not depend on each other, and the UNet needs both; stages
            that are trained one by one end as those of one run.
        run_dir: Folder of the run.
    """

    data: DataConfig = field(default_factory=DataConfig)
    clap: ClapStageConfig = field(default_factory=ClapStageConfig)
    vae: VaeStageConfig = field(default_factory=VaeStageConfig)
    unet: UnetStageConfig = field(default_factory=UnetStageConfig)
    griffin_lim_iterations: int = 60
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    run_dir: str = MISSING


def train(config: SmallModelConfig) -> TrainResult:
    """Train, or go on training, in ``config.run_dir``.

    Returns:
        Where the last stage that was trained ended.

    Raises:
        ConfigError: The options contradict each other or the data.
        InputError, FormatError, AudioError: The clips cannot be used.
        CheckpointError: A checkpoint cannot be read.
    """
    if not config.stages or not set(config.stages) <= set(STAGES):
        raise ConfigError(f"stages is {config.stages}; allowed: {', '.join(STAGES)}")
    clips = {split: _clips(config, split) for split in (TRAIN, HELDOUT)}
    result = None
    for name in STAGES:
        if name in config.stages:
            result = _TRAINED_BY[name](config, clips)
            if result.interrupted:
                return result
    assert result is not None  # there is a stage
    if "unet" in config.stages and os.environ.get("RANK", "0") == "0":
        finished = stage_model(config, "unet")
        with atomic_directory(Path(config.run_dir) / MODEL) as target:
            shutil.copytree(finished, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    return result


def stage_model(config: SmallModelConfig, stage: str) -> Path:
    """Return what the newest checkpoint of a stage holds of the model."""
    return model_directory(Path(config.run_dir) / stage) / MODEL


def _clips(config: SmallModelConfig, split: str) -> ClipSet:
    data = config.data
    return read_clips(
        data.manifest, split, seconds=data.seconds, sample_rate=data.sample_rate, root=data.root
    )


def _train_clap(config: SmallModelConfig, clips: dict[str, ClipSet]) -> TrainResult:
    stage, data = config.clap, config.data
    further = [
        read_clips(each, TRAIN, seconds=data.seconds, sample_rate=data.sample_rate)
        for each in data.clap_manifests
    ]
    whole = joined([clips[TRAIN], *further])
    tokenizer = make_tokenizer(
        [*whole.texts(), *_FURTHER_TEXTS], stage.model.vocabulary, stage.model.text_positions
    )
    extractor = make_extractor(stage.model, data.seconds, data.sample_rate)
    torch.manual_seed(stage.trainer.seed)  # the fresh weights
    module = clap_stage.ContrastiveTraining(make_clap(stage.model, tokenizer))

    def save(folder: Path, trained: nn.Module) -> None:
        target = folder / MODEL
        trained.clap.save_pretrained(target)  # type: ignore[union-attr, operator]
        tokenizer.save_pretrained(target)
        extractor.save_pretrained(target)

    with atomic_directory(Path(config.run_dir) / "frontend") as folder:
        extractor.save_pretrained(folder)
    frontend = read_frontend(Path(config.run_dir) / "frontend")
    seed = stage.trainer.seed
    pairs = clap_stage.CaptionPairs(whole, frontend, tokenizer, stage.augmentation, seed)
    heldout = clap_stage.CaptionPairs(clips[HELDOUT], frontend, tokenizer, None, seed)
    return _fit(config, "clap", stage, module, pairs, heldout, pairs.collate, save)


def _train_vae(config: SmallModelConfig, clips: dict[str, ClipSet]) -> TrainResult:
    stage, data = config.vae, config.data
    torch.manual_seed(stage.trainer.seed)
    vae = make_vae(stage.model)
    factor = 2 ** (len(stage.model.channels) - 1)
    mels = {split: vae_stage.MelClips(each, data.mel, factor) for split, each in clips.items()}
    values = mels[TRAIN].mels
    module = vae_stage.VaeTraining(vae, stage.objective, float(values.mean()), float(values.std()))

    def save(folder: Path, trained: nn.Module) -> None:
        save_component(_PARTS["vae"], trained.vae, folder / MODEL)

    return _fit(config, "vae", stage, module, mels[TRAIN], mels[HELDOUT], vae_stage.MelClips.collate, save)


def _train_unet(config: SmallModelConfig, clips: dict[str, ClipSet]) -> TrainResult:
    stage = config.unet
    clap, tokenizer, extractor = _load_clap(stage_model(config, "clap"))
    vae = load_component(_PARTS["vae"], stage_model(config, "vae"))
    inputs = {split: _conditioned(config, split, each, clap, tokenizer, vae) for split, each in clips.items()}
    scale = vae_stage.ChannelScale.of(inputs[TRAIN].latents)
    inputs = {split: replace(each, latents=scale.apply(each.latents)) for split, each in inputs.items()}
    vae_stage.standardise(vae, scale)
    torch.manual_seed(stage.trainer.seed)
    unet = make_unet(stage.model, config.vae.model.latent_channels, config.clap.model.width)
    scheduler = make_scheduler()
    empty = clap_stage.text_vectors(clap, tokenizer, [""])[0]
    module = unet_stage.VelocityTraining(unet, scheduler, empty, stage.objective)

    def save(folder: Path, trained: nn.Module) -> None:
        model = AudioLDM(
            unet=_half(trained.unet),
            vae=_half(vae),  # type: ignore[arg-type]
            scheduler=scheduler,
            vocoder=GriffinLimVocoder(
                GriffinLimConfig(mel=config.data.mel, iterations=config.griffin_lim_iterations)
            ),
            text_encoder=_half(_text_tower(clap)),
            tokenizer=tokenizer,
            clip_seconds=config.data.seconds,
        )
        save_pretrained(model, folder / MODEL)
        _half(clap).save_pretrained(folder / MODEL / CLAP)
        tokenizer.save_pretrained(folder / MODEL / CLAP)
        extractor.save_pretrained(folder / MODEL / CLAP)

    return _fit(config, "unet", stage, module, inputs[TRAIN], inputs[HELDOUT], None, save)


def _conditioned(
    config: SmallModelConfig, split: str, clips: ClipSet, clap: Any, tokenizer: Any, vae: Any
) -> unet_stage.Conditioned:
    """Latents and vectors of clips; they are computed once, for the same clips and models."""
    texts = clips.texts()
    places = {text: place for place, text in enumerate(texts)}
    captions = [[places[caption.text] for caption in each] for each in clips.captions]
    file = Path(config.run_dir) / "unet-inputs" / f"{split}-{_made_from(config)}.safetensors"
    if file.is_file():
        return unet_stage.Conditioned.load(file, captions)
    factor = 2 ** (len(config.vae.model.channels) - 1)
    frontend = read_frontend(stage_model(config, "clap"))
    made = unet_stage.Conditioned(
        latents=vae_stage.encode(vae, vae_stage.MelClips(clips, config.data.mel, factor).mels),
        audio=clap_stage.audio_vectors(clap, clap_stage.spectrograms(clips, frontend)),
        texts=clap_stage.text_vectors(clap, tokenizer, texts),
        captions=captions,
    )
    file.parent.mkdir(exist_ok=True)
    made.save(file)
    return made


def _made_from(config: SmallModelConfig) -> str:
    """Short hash of the clips' manifest and the weights of the first two stages."""
    files = [Path(config.data.manifest)]
    files += [
        file for stage in ("clap", "vae") for file in sorted(stage_model(config, stage).glob("*.safetensors"))
    ]
    return hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()[:16]


def _load_clap(folder: Path) -> tuple[Any, Any, Any]:
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    clap: Any = ClapModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return clap.eval(), tokenizer, ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)


def _text_tower(clap: Any) -> Any:
    from transformers import ClapTextModelWithProjection

    tower = ClapTextModelWithProjection(clap.config.text_config)
    own = tower.state_dict()
    tower.load_state_dict({name: value for name, value in clap.state_dict().items() if name in own})
    return tower.eval()


def _half(module: Any) -> Any:
    """A copy in float16, as small models are stored."""
    return copy.deepcopy(module).half()


def _fit(
    config: SmallModelConfig,
    name: str,
    stage: StageConfig,
    module: nn.Module,
    training: Any,
    heldout: Any,
    collate: Any,
    save: Callable[[Path, nn.Module], None],
) -> TrainResult:
    return Trainer(
        module,
        optimizer=adamw(module, lr=stage.optim.lr, weight_decay=stage.optim.weight_decay),
        schedule=stage.schedule.schedule(stage.optim.lr, stage.trainer.max_steps),
        train_dataset=training,
        val_dataset=heldout,
        batch_size=stage.batch_size,
        collate=collate,
        config=stage.trainer,
        run_dir=Path(config.run_dir) / name,
        resolved_config=config_yaml(config),
        on_save=save,
    ).fit()


_TRAINED_BY: Mapping[str, Callable[[SmallModelConfig, dict[str, ClipSet]], TrainResult]] = {
    "clap": _train_clap,
    "vae": _train_vae,
    "unet": _train_unet,
}


def main(overrides: Sequence[str]) -> TrainResult:
    """Run with Hydra overrides, such as ``experiment=debug data.manifest=clips/manifest.jsonl``."""
    config = compose_config("rc_audioldm.conf", overrides, SmallModelConfig)
    make_output_folder(Path(config.run_dir), "run_dir=")
    return report_run(train(config), config.run_dir)
