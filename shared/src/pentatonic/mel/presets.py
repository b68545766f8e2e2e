"""Presets: the mel frontends that models were trained with, by name.

To add one, edit two files:

1. Here, add an entry to :data:`PRESETS`: a name (the model, then what tells it from the model's other frontends) and
   a :class:`~pentatonic.mel.config.MelConfig`. ``sample_rate``, ``n_fft``, ``win_length``, ``hop_length``,
   ``n_mels``, ``f_min`` and ``f_max`` are required. The defaults of the other fields: ``power=2``, no logarithm
   (``log=None``), ``mel_scale="slaney"``, filters of equal area (``norm="slaney"``), ``pad_mode="reflect"``, no mean
   and deviation, the whole signal. Describe it in the docstring of ``PRESETS``, right below the entries, in a line that
   starts with the name in double backquotes: the documentation shows it.
2. In ``shared/tests/test_mel_goldens.py``, say what its numbers must be. Either add the name to ``CASES``, with a
   folder in ``shared/tests/goldens`` that holds an output of the original program (``meta.json``: its configuration and
   the tolerance; ``io.safetensors``: ``in.audio_int16`` and ``out.mel``); or add it to ``WITHOUT_GOLDEN``, with the
   call of another library, such as torchaudio, that computes the same.

Nothing else has to be changed: ``MelFrontend.preset(name)``, its error message, and the tests that compare every preset
with a float64 transform, in one piece, in blocks and in batches, read ``PRESETS``.

A logarithm that :class:`~pentatonic.mel.config.MelConfig` does not have yet goes into
:mod:`pentatonic.mel.compression`, which says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pentatonic.mel.config import MelConfig

_OMAR_RQ_16K = MelConfig(
    sample_rate=16000,
    n_fft=512,
    win_length=512,
    hop_length=256,
    n_mels=96,
    f_min=0.0,
    f_max=8000.0,
    log="log10_1p",
    mean=2.06755686098554,
    std=1.268292820667291,
)
_OMAR_RQ_24K = replace(_OMAR_RQ_16K, sample_rate=24000, hop_length=320, f_max=12000.0)
_CLAP = MelConfig(
    sample_rate=48000,
    n_fft=1024,
    win_length=1024,
    hop_length=480,
    n_mels=64,
    f_min=50.0,
    f_max=14000.0,
    log="db",
    clip_samples=480000,
    clip_fill="repeat",
)

PRESETS: Mapping[str, MelConfig] = MappingProxyType(
    {
        "omar-rq-16k": _OMAR_RQ_16K,
        "omar-rq-24k": _OMAR_RQ_24K,
        "omar-rq-24k-newnorm": replace(_OMAR_RQ_24K, mean=1.860820794608335, std=1.2249547514586288),
        "myna": MelConfig(
            sample_rate=16000,
            n_fft=2048,
            win_length=2048,
            hop_length=512,
            n_mels=128,
            f_min=0.0,
            f_max=8000.0,
        ),
        "myna-rpe": MelConfig(
            sample_rate=44100,
            n_fft=2048,
            win_length=1102,  # 25 ms are 1102.5 samples; rounded half to even
            hop_length=441,
            n_mels=128,
            f_min=0.0,
            f_max=22050.0,
            pad_mode="constant",
            log="db_below_peak",
        ),
        "cm3p": MelConfig(
            sample_rate=16000,
            n_fft=400,
            win_length=400,
            hop_length=160,
            n_mels=80,
            f_min=0.0,
            f_max=8000.0,
            log="whisper",
            clip_samples=480000,
            drop_last_frame=True,
        ),
        "clap": _CLAP,
        "clap-default": replace(_CLAP, f_min=0.0),
        "audioldm": MelConfig(
            sample_rate=16000,
            n_fft=1024,
            win_length=1024,
            hop_length=160,
            n_mels=64,
            f_min=0.0,
            f_max=8000.0,
            power=1.0,
            log="ln",
        ),
    }
)
"""Frontends by name.

- ``omar-rq-16k``: OMAR-RQ base and multicodebook: the input, and what the training targets are made of. 62.5 frames
  per second.
- ``omar-rq-24k``: OMAR-RQ: training targets of the older multi-feature configurations. 75 frames per second.
- ``omar-rq-24k-newnorm``: OMAR-RQ: training targets of all released multi-feature models. 75 frames per second.
- ``myna``: Myna, power without a logarithm. 31.25 frames per second.
- ``myna-rpe``: Myna-RPE as trained and evaluated: ``20 log10`` of the power, which is twice the decibels, relative to
  the maximum of the track. 100 frames per second.
- ``cm3p``: CM3P, Whisper's log-mel in clips of 30 s. 100 frames per second.
- ``clap``: CLAP as published with ``laion/clap-htsat-unfused``, one clip of 10 s. 1001 frames.
- ``clap-default``: the same with the default of the feature extractor's class: bands start at 0 instead of 50 Hz.
- ``audioldm``: AudioLDM 1 and 2: what the VAE encodes and the vocoder takes, magnitudes. 100 frames per second.

A variant needs no preset: ``MelFrontend(dataclasses.replace(PRESETS["cm3p"], clip_samples=256000))``.
"""
