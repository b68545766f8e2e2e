"""The style of a request: a reference, or neighbours of the prompt or of the reference, with weights and licences."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pentatonic.checkpoint.manifest import file_sha256
from pentatonic.errors import AudioError, FormatError, IncompatibleVectors, UsageError
from rc_audioldm.bank.style_bank import StyleBank, write_bank
from rc_audioldm.clap import ClapEncoder
from rc_audioldm.generation.loading import load_clap
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.settings import Retrieval
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.style.vectors import nearest_styles


def test_the_neighbours_of_a_prompt(clap: ClapEncoder, bank: StyleBank, clips: Path) -> None:
    style = StyleFinder(clap, bank, retrieval=Retrieval(3, 0.1)).find(Request("a solo piano"))
    assert style is not None
    expected = nearest_styles(clap.embed_text(["a solo piano"]), bank.vectors, 3, temperature=0.1)
    torch.testing.assert_close(style.vector, expected.vectors[0])
    assert [each.row for each in style.influences] == expected.rows[0].tolist()
    assert [each.weight for each in style.influences] == pytest.approx(expected.weights[0].tolist())
    first = style.influences[0]
    assert (first.bank, first.role, first.clip) == ("bank", "retrieved", bank.clips[first.row or 0].path)
    assert first.licence == bank.clips[first.row or 0].licence and first.sha256
    assert style.files[0] is not None and style.files[0].resolve() == (clips / first.clip).resolve()
    assert style.labels[0].labels == bank.clips[first.row or 0].tags


def test_a_reference_alone_and_with_a_bank(clap: ClapEncoder, bank: StyleBank, clips: Path) -> None:
    request = Request("drum", reference=clips / "flute.wav", reference_licence="CC BY 4.0")
    alone = StyleFinder(clap).find(request)
    assert alone is not None and alone.files == (clips / "flute.wav",)
    own = alone.influences[0]
    assert (own.clip, own.licence, own.weight, own.role) == ("flute.wav", "CC BY 4.0", 1.0, "reference")
    assert own.sha256 == file_sha256(clips / "flute.wav") and own.similarity is None
    row = [clip.path for clip in bank.clips].index("flute.wav")
    torch.testing.assert_close(alone.vector, torch.from_numpy(bank.rows([row])[0]))
    near = StyleFinder(clap, bank, retrieval=Retrieval(2)).find(request)
    assert near is not None and near.influences[0].row == row and len(near.influences) == 2
    assert near.influences[0].similarity == pytest.approx(1, abs=1e-5)
    assert StyleFinder(clap).find(Request("drum")) is None


@pytest.mark.parametrize("terms", ["known", "commercial", "free"])
def test_only_clips_of_allowed_licences(clap: ClapEncoder, bank: StyleBank, terms: Any) -> None:
    allowed = {
        "known": {"piano.wav", "violin.wav", "drums.wav"},
        "commercial": {"piano.wav", "violin.wav"},
        "free": {"piano.wav"},
    }
    # Also in the auxiliary bank, which is always used here.
    retrieval = Retrieval(4, terms=terms, fallback_below=2.0)
    for auxiliary in (None, bank):
        style = StyleFinder(clap, bank, auxiliary, retrieval).find(Request("drum"))
        assert style is not None and {each.clip for each in style.influences} == allowed[terms]


def test_no_clip_is_allowed(clap: ClapEncoder, bank: StyleBank, tmp_path: Path) -> None:
    assert bank.header is not None
    row = [clip.path for clip in bank.clips].index("drums.wav")
    only = write_bank(tmp_path / "only", bank.rows([row]), [bank.clips[row]], bank.header, root=None)
    with pytest.raises(UsageError, match="no row of the bank is allowed"):
        StyleFinder(clap, only, retrieval=Retrieval(terms="commercial")).find(Request("drum"))
    # An auxiliary bank without an allowed clip is not used.
    retrieval = Retrieval(4, terms="free", fallback_below=2.0)
    style = StyleFinder(clap, bank, only, retrieval).find(Request("drum"))
    assert style is not None and {each.bank for each in style.influences} == {"bank"}
    assert StyleFinder(clap, only).find(Request("drum")).files == (None,)  # type: ignore[union-attr]


def test_banks_of_other_models_are_refused(clap: ClapEncoder, bank: StyleBank, tmp_path: Path) -> None:
    assert bank.header is not None
    from dataclasses import replace

    other = replace(bank.header, weights="another")
    written = write_bank(tmp_path / "other", bank.rows(range(4)), bank.clips, other, root=None)
    with pytest.raises(IncompatibleVectors, match="weights"):
        StyleFinder(clap, written)
    with pytest.raises(IncompatibleVectors, match="weights"):
        StyleFinder(clap, bank, written)
    narrow = np.eye(4, 8, dtype=np.float32)
    written = write_bank(
        tmp_path / "narrow", narrow, bank.clips, replace(bank.header, dimension=8), root=None
    )
    with pytest.raises(IncompatibleVectors, match="have 8 dimensions; allowed: 16"):
        StyleFinder(clap, written)
    with pytest.raises(FormatError, match="does not say what made"):
        StyleFinder(clap, StyleBank(bank.vectors, bank.clips))
    with pytest.raises(UsageError, match="needs a first one"):
        StyleFinder(clap, None, bank)


def test_a_missing_reference_is_named(clap: ClapEncoder, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"none\.wav"):
        StyleFinder(clap).find(Request("drum", reference=tmp_path / "none.wav"))


def test_a_projector_maps_styles(clap: ClapEncoder, bank: StyleBank) -> None:
    turned = StyleFinder(clap, bank, projector=torch.nn.Flatten()).find(Request("drum"))
    plain = StyleFinder(clap, bank).find(Request("drum"))
    mapped = StyleFinder(clap, bank, projector=torch.nn.Linear(16, 16, bias=False)).find(Request("drum"))
    assert turned is not None and plain is not None and mapped is not None
    torch.testing.assert_close(turned.vector, plain.vector)
    assert not torch.allclose(mapped.vector, plain.vector)
    assert float(mapped.vector.norm()) == pytest.approx(1)


def test_the_clap_model_gets_the_windows_of_the_bank(
    clap_folder: Path, bank_folder: Path, bank: StyleBank, tmp_path: Path
) -> None:
    from dataclasses import replace

    from rc_audioldm.clap.windows import WINDOWS

    assert load_clap(str(clap_folder), None, bank_folder, "cpu", random_weights=True).header == bank.header
    assert bank.header is not None
    header = replace(bank.header, windows=WINDOWS["clapback-embed"].describe(1.0))
    shutil.copytree(bank_folder, tmp_path / "copy")
    write_bank(tmp_path / "copy", bank.rows(range(4)), bank.clips, header, root=None)
    encoder = load_clap(str(clap_folder), None, tmp_path / "copy", "cpu", random_weights=True)
    assert encoder.header == header


def test_without_a_bank_a_model_is_heard_by_the_clap_model_in_its_folder(
    clap_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "rc_audioldm.generation.loading.from_pretrained", lambda name, *_, **__: asked.append(name)
    )
    shutil.copytree(clap_folder, tmp_path / "model" / "clap")
    for model in ("rc-audioldm-tiny", str(tmp_path / "model"), "cvssp/audioldm", str(clap_folder)):
        load_clap(None, None, None, "cpu", model=model)
    assert asked == ["rc-audioldm-tiny", str(tmp_path / "model"), *["laion/clap-htsat-unfused"] * 2]


def test_options_out_of_range() -> None:
    with pytest.raises(UsageError, match="neighbours is 0"):
        Retrieval(0)
    with pytest.raises(UsageError, match="terms is 'all'"):
        Retrieval(terms="all")  # type: ignore[arg-type]
    encoder: Any = SimpleNamespace(dimension=16)
    with pytest.raises(UsageError, match="needs a bank"):
        StyleFinder(encoder).of_rows([0])
