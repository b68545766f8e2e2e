"""Building a style bank: what overlapping of decoding and model saves, with a CLAP model of the published size.

    python benchmarks/rc_audioldm_bank.py --clips 48

The weights are random; time does not depend on them. The clips are 10 s of stereo FLAC at 44.1 kHz. Three times are
measured in one process with one thread for each stage: reading alone (hashes, decoding, resampling, spectrograms,
tags), the audio tower alone, and the whole build. The goal is a build of at most 1.15 times the slower of the two.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from machine import markdown_table, write_results
from transformers import ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig

from pentatonic.audio import DecodingProcess
from pentatonic.checkpoint import file_sha256
from pentatonic.mel import PRESETS
from rc_audioldm.bank.build import build_bank
from rc_audioldm.bank.file_tags import TagReader
from rc_audioldm.bank.sources import find_clips
from rc_audioldm.clap import ClapEncoder
from rc_audioldm.clap.frontend import ClapFrontend


def published_size() -> ClapEncoder:
    """A random model of the size of laion/clap-htsat-unfused; its text tower, which is not used, is small."""
    torch.manual_seed(0)
    text = ClapTextConfig(num_hidden_layers=1, vocab_size=100)
    config = ClapConfig(text_config=text.to_dict(), audio_config=ClapAudioConfig().to_dict())
    mel = replace(PRESETS["clap"], clip_samples=None, double=True)
    return ClapEncoder(ClapModel(config).eval(), None, ClapFrontend(mel, 10.0), name="random, published size")


def write_clips(folder: Path, count: int) -> None:
    """Write clips of decaying tones."""
    time_s = np.arange(441_000) / 44100
    for i in range(count):
        rng = np.random.default_rng(i)
        tones = sum(
            np.sin(2 * np.pi * f * time_s) * np.exp(-(time_s % d))
            for f, d in rng.uniform(1, 3, (6, 2)) * [300, 1]
        )
        sound = np.stack([tones, np.roll(tones, 50)], axis=1) * 0.05 + rng.normal(size=(441_000, 2)) * 0.001
        soundfile.write(folder / f"{i:04d}.flac", sound, 44100)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=48)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = published_size()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clips"
        folder.mkdir()
        write_clips(folder, arguments.clips)
        clips = find_clips(folder)
        encoder.embed_audio(torch.zeros(480_000), 48000)
        _ = encoder.header
        with DecodingProcess() as decoder, TagReader() as tags:
            list(decoder.stream(clips.clips[0].path, sample_rate=48000))
            tags.read(clips.clips[0].path)
            start, spectrograms = time.perf_counter(), []
            for clip in clips.clips:
                file_sha256(clip.path)
                blocks = decoder.stream(clip.path, sample_rate=48000)
                spectrograms.append(list(encoder.spectrograms(blocks)))
                tags.read(clip.path)
            reading = time.perf_counter() - start
        start = time.perf_counter()
        for each in spectrograms:
            encoder.embed_windows(each)
        model = time.perf_counter() - start
        start = time.perf_counter()
        build_bank(encoder, clips, Path(temporary) / "bank")
        whole = time.perf_counter() - start
    row = {
        "clips": arguments.clips,
        "reading alone (s)": round(reading, 2),
        "model alone (s)": round(model, 2),
        "one after the other (s)": round(reading + model, 2),
        "build (s)": round(whole, 2),
        "build / slower of the two": round(whole / max(reading, model), 3),
    }
    print(markdown_table([row]))
    write_results(
        "rc_audioldm_bank", [row], command=f"python benchmarks/rc_audioldm_bank.py --clips {arguments.clips}"
    )


if __name__ == "__main__":
    main()
