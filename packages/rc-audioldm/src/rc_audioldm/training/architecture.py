"""Components of a small AudioLDM 1 from a few numbers, in the layout of the published one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rc_audioldm.library_versions import check_library_versions

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_ROLES = dict(
    zip(
        ("bos_token", "cls_token", "pad_token", "eos_token", "sep_token", "unk_token", "mask_token"),
        ("<s>", "<s>", "<pad>", "</s>", "</s>", "<unk>", "<mask>"),
        strict=True,
    )
)
RESERVED_POSITIONS = 2  # of RoBERTa: positions count from after the padding's


@dataclass
class ClapModelConfig:
    """A CLAP pair.

    Args:
        width: Of the vectors.
        vocabulary: Most tokens.
        text_width: Of the text tower.
        text_layers: Of the text tower.
        text_heads: Of the text tower.
        text_positions: Most tokens of a text.
        audio_width: Of the first stage of the audio tower; each further stage is twice as wide.
        audio_depths: Layers of each stage.
        audio_heads: Heads of each stage.
        image: Side of the square that the audio tower sees: bands, and frames after stretching.
        window: Patches of a window of attention.
        hop: Samples from a frame to the next.
        f_min: Lower edge of the lowest band, in Hz.
    """

    width: int = 64
    vocabulary: int = 600
    text_width: int = 64
    text_layers: int = 2
    text_heads: int = 4
    text_positions: int = 64
    audio_width: int = 32
    audio_depths: list[int] = field(default_factory=lambda: [2, 2, 2])
    audio_heads: list[int] = field(default_factory=lambda: [2, 4, 8])
    image: int = 64
    window: int = 4
    hop: int = 328
    f_min: float = 40.0


@dataclass
class VaeModelConfig:
    """A VAE of mel spectrograms.

    Args:
        channels: Of each level; every level but the last halves frames and bands.
        latent_channels: Of the latents.
    """

    channels: list[int] = field(default_factory=lambda: [16, 32, 64])
    latent_channels: int = 8


@dataclass
class UnetModelConfig:
    """A UNet that is told what to make by one CLAP vector.

    Args:
        channels: Of each level.
        attention: Which levels attend.
        layers: Of each level.
        head_width: Of attention.
    """

    channels: list[int] = field(default_factory=lambda: [32, 64, 64])
    attention: list[bool] = field(default_factory=lambda: [False, True, True])
    layers: int = 1
    head_width: int = 8


def make_tokenizer(texts: Iterable[str], vocabulary: int, positions: int) -> Any:
    """Return a byte-level tokenizer with the special tokens of RoBERTa, trained on texts; letters lose their case."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = Tokenizer(models.BPE(unk_token=_SPECIAL[3]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **_ROLES,
        model_max_length=positions,
    )


def make_clap(config: ClapModelConfig, tokenizer: Any) -> Any:
    """Return a ``ClapModel`` of transformers with random weights."""
    check_library_versions()
    from transformers import ClapConfig, ClapModel

    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "intermediate_size": 2 * config.text_width,
        "max_position_embeddings": config.text_positions + RESERVED_POSITIONS,
        "type_vocab_size": 1,
        "projection_dim": config.width,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    audio = {
        "spec_size": config.image,
        "num_mel_bins": config.image,
        "window_size": config.window,
        "depths": list(config.audio_depths),
        "num_attention_heads": list(config.audio_heads),
        "patch_embeds_hidden_size": config.audio_width,
        "hidden_size": config.audio_width * 2 ** (len(config.audio_depths) - 1),
        "projection_dim": config.width,
        "num_classes": 1,
        "enable_fusion": False,
    }
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=config.width))


def make_extractor(config: ClapModelConfig, seconds: float, sample_rate: int) -> Any:
    """Return the ``ClapFeatureExtractor`` with every setting of the audio tower's spectrograms."""
    check_library_versions()
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(
        feature_size=config.image,
        sampling_rate=sample_rate,
        hop_length=config.hop,
        max_length_s=seconds,  # type: ignore[arg-type]  # whole numbers are only the default
        fft_window_size=1024,
        padding_value=0.0,
        return_attention_mask=False,
        frequency_min=config.f_min,
        frequency_max=sample_rate / 2,
        top_db=None,
        truncation="rand_trunc",
        padding="repeatpad",
    )


def make_vae(config: VaeModelConfig) -> Any:
    """Return an ``AutoencoderKL`` of diffusers with random weights."""
    check_library_versions()
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(config.channels)
    kind: Any = AutoencoderKL  # its annotations know tuples of one only
    return kind(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.channels),
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=min(8, *config.channels),
        mid_block_add_attention=False,
    )


def make_unet(config: UnetModelConfig, latent_channels: int, condition: int) -> Any:
    """Return a ``UNet2DConditionModel`` of diffusers with random weights."""
    check_library_versions()
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attention))
    kind: Any = UNet2DConditionModel  # its annotations know tuples of one only
    return kind(
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=tuple(config.channels),
        layers_per_block=config.layers,
        norm_num_groups=min(8, *config.channels),
        attention_head_dim=config.head_width,
        cross_attention_dim=tuple(config.channels),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=condition,
        class_embeddings_concat=True,
    )


def make_scheduler() -> Any:
    """Return the scheduler of AudioLDM with the noise levels it was published with, for predicted velocities."""
    check_library_versions()
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
