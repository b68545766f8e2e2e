"""Patches of M3 against recorded ones, and their rules."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.clamp2.masking import mask_patches
from notagen.clamp2.patches import (
    EOS,
    MASK,
    PATCH_SIZE,
    decode,
    encode,
    is_mtf,
    patch_texts,
    split_bars,
    without_instrument_names,
)
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2"


def recorded(name):
    return json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))


def cases(name, key="cases"):
    listed = recorded(name)[key]
    return [pytest.param(case, id=f"{i}-{case.get('name', '')}") for i, case in enumerate(listed)]


def trimmed(patches):
    return [np.trim_zeros(patch, "b").tolist() for patch in patches]


def digest(patches):
    return hashlib.sha256(patches.astype("<i4").tobytes()).hexdigest()


@pytest.mark.parametrize("case", cases("m3_patchilizer/cases", "encode"))
def test_encode_as_recorded(case):
    special = case["options"].get("add_special_patches", False)
    if "raises" in case:
        with pytest.raises(FormatError, match=r"the text is empty|one barline and nothing else"):
            encode(case["text"], special=special)
        return
    patches = encode(case["text"], special=special)
    assert patches.shape == (case["n_patches"], PATCH_SIZE)
    assert trimmed(patches) == case["patches_trimmed"]
    assert decode(patches) == case["decoded"]


@pytest.mark.parametrize("case", cases("m3_patchilizer/cases", "split_bars"))
def test_split_bars_as_recorded(case):
    if "raises" in case:
        with pytest.raises(FormatError, match="one barline and nothing else"):
            split_bars(case["line"])
    else:
        assert split_bars(case["line"]) == case["bars"]


@pytest.mark.parametrize("case", cases("m3_patchilizer/cases", "remove_instrument_info"))
def test_instrument_names_removed_as_recorded(case):
    assert without_instrument_names(case["text"]) == case["cleaned"]


@pytest.mark.parametrize("case", cases("m3_patchilizer/truncate"))
def test_truncation_as_recorded(case):
    random.seed(case["python_random_seed"])
    patches = encode(
        recorded("m3_patchilizer/truncate")["texts"][case["name"]],
        special=True,
        truncation="random" if case["random_truncate"] else "head",
    )
    assert random.random() == case["next_random_after"]
    assert len(patches) == case["n_patches"]
    assert (decode(patches[:1]), decode(patches[-1:])) == (case["first"], case["last"])
    assert digest(patches) == case["digest"]


@pytest.mark.parametrize("case", cases("m3_patchilizer/reading"))
def test_text_of_files_as_recorded(case):
    variants = dict(case["variants"])
    for name, variant in variants.items():
        if isinstance(variant, str):
            variants[name] = variants[variant.removeprefix("same as ")]
    for name, variant in variants.items():
        if "text_before_patchilizer" not in variant:  # refused, or read for the text tower
            assert case["suffix"] == ".txt" or "raises" in variant
            continue
        patches = encode(variant["text_before_patchilizer"], special=True, drop_unit_length=name == "clamp3")
        assert [decode([patch]) for patch in patches] == variant["patch_texts"]
        assert digest(patches) == variant["digest"]


@pytest.mark.parametrize("case", cases("m3_masking/cases"))
def test_masking_as_recorded(case):
    texts = recorded("m3_masking/cases")["texts"]
    patches = encode(texts[case["text_index"]], special=True)
    before = patches.copy()
    random.seed(case["python_random_seed"])
    masked = mask_patches(patches)
    assert (patches == before).all()
    assert len(patches) == case["n"]
    assert masked.selected.tolist() == case["selected"]
    assert masked.mode == case["kind"].replace("original", "unchanged")
    changed = np.flatnonzero((masked.patches != patches).any(axis=1))
    assert changed.tolist() == case["changed"]
    if masked.mode == "mask":
        assert (masked.patches[changed] == MASK).all()
    for index, row in case["rows"].items():
        assert masked.patches[int(index)].tolist() == row


def test_evaluation_masks_nothing():
    patches = encode("K:C\nA|B|\n", special=True)
    masked = mask_patches(patches, training=False, rng=random.Random(1))
    assert masked.mode == "unchanged"
    assert len(masked.selected) == 3  # of 5
    assert (masked.patches == patches).all()


def test_errors_have_the_line():
    with pytest.raises(FormatError, match=r"^3: .*one barline"):
        encode("K:C\nA|\n|")
    with pytest.raises(FormatError, match="the text is empty"):
        encode("♪")


def test_seeds_are_independent_of_the_global_ones():
    text = "K:C\n" + "A|" * 40
    state = random.getstate()
    first = encode(text, truncation="random", patch_length=8, rng=random.Random(3))
    assert random.getstate() == state
    assert len(first) == 8
    assert (encode(text, truncation="random", patch_length=8, rng=random.Random(3)) == first).all()


@given(st.text(st.sampled_from('[]|:V12abc"% \n'), max_size=60))
def test_bars_are_the_start_of_their_line(line):
    try:
        bars = split_bars(line)
    except FormatError:
        assert line in ("|:", "::", ":|", "[|", "||", "|]", "|")
    else:
        assert line.startswith("".join(bars))


@given(st.text(st.characters(codec="utf-8"), max_size=80), st.booleans())
def test_any_text_becomes_patches_or_an_error(text, mtf):
    text = f"ticks_per_beat 96\n{text}" if mtf else text
    try:
        texts = patch_texts(text)
    except FormatError:
        return
    patches = encode(text, special=True)
    assert patches.shape == (len(texts) + 2, PATCH_SIZE)
    assert patches.max() < 128
    assert (patches[0] == 1).all() and (patches[-1, 1:] == EOS).all()
    if is_mtf(text) and "\t" not in text:
        assert all(len(patch) <= PATCH_SIZE - 2 for patch in texts if "\t" in patch)
