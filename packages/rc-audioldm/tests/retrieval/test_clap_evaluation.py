"""CLAP as the embedder of an evaluation: its recordings have the vectors of banks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from pentatonic import audio
from pentatonic.cli import BatchReport
from rc_audioldm.clap import ClapEncoder, from_pretrained
from rc_audioldm.evaluation.embedded_set import embed_files
from rc_audioldm.evaluation.embedders import ClapEmbedder, TextEmbedder
from rc_audioldm.evaluation.signal import without_silent_ends
from rc_audioldm.evaluation.sounds import Preparation


def test_the_mean_of_the_windows_is_the_vector_of_a_bank(
    encoder: ClapEncoder, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "tone.wav"
    audio.save(path, tiny.tone(300, 3.3), encoder.sample_rate, subtype="FLOAT")
    embedder = ClapEmbedder(encoder)
    found = embed_files({"x": path}, embedder, Preparation(encoder.sample_rate, None), BatchReport())
    assert len(found.vectors) > 2
    heard = torch.from_numpy(without_silent_ends(audio.load(path).samples[0].numpy()))
    expected = encoder.embed_audio(heard, encoder.sample_rate)
    np.testing.assert_allclose(found.file_vectors[0], expected[0].numpy(), atol=1e-6)
    assert isinstance(embedder, TextEmbedder)
    np.testing.assert_array_equal(embedder.embed_texts(["piano"]), encoder.embed_text(["piano"]).numpy())


def test_the_same_model_has_one_header_under_any_name(
    encoder: ClapEncoder, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    same, other = (
        ClapEmbedder(from_pretrained(tiny.write_clap(tmp_path / str(seed), seed=seed), random_weights=True))
        for seed in (0, 1)
    )
    assert same.describe() == ClapEmbedder(encoder).describe() != other.describe()
    assert {field.name for field in dataclasses.fields(encoder.header)} - same.describe().keys() == {
        "model",
        "revision",
    }
