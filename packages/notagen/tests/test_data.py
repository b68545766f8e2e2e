"""Pieces as training items: keys, cuts, prompts and batches."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from notagen.codec import END_PATCH, START_PATCH, decode, encode_train
from notagen.notation.keys import MAJOR_KEYS
from notagen.training.data import PieceDataset, collate
from notagen.training.index import Entry, Index, write_index
from pentatonic.errors import ConfigError, InputError
from pentatonic.training import ItemKey

CASE = next(
    c
    for c in json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
    if c["name"] == "quartet"
)


@pytest.fixture
def index(tmp_path):
    for key, text in CASE["augmented"].items():
        (tmp_path / "augmented" / key).mkdir(parents=True)
        (tmp_path / "augmented" / key / f"quartet_{key}.abc").write_text(text)
    entries = [Entry("augmented/quartet", CASE["ori_key"], ("Classical", "Haydn, Joseph", "Chamber"))] * 3
    write_index(tmp_path / "index.jsonl", [*entries, Entry("augmented/gone", "C")])
    return Index(tmp_path / "index.jsonl")


def key_of(item):
    return decode(item.tolist()).split("\nK:")[1].split("\n")[0]


def test_an_item_is_the_encoded_piece_with_its_prompt(index):
    item = PieceDataset(index, patch_length=512)[ItemKey(0, 0)]
    text = "%Classical\n%Haydn, Joseph\n%Chamber\n" + CASE["augmented"]["F"]
    assert item.tolist() == encode_train(text, 512)
    assert item.dtype == torch.int64
    assert (tuple(item[0].tolist()), tuple(item[-1].tolist())) == (START_PATCH, END_PATCH)


def test_keys_are_drawn_as_asked(index):
    def drawn(keys, **options):
        data = PieceDataset(index, patch_length=512, keys=keys, **options)
        return Counter(key_of(data[ItemKey(epoch, 0)]) for epoch in range(150))

    written = {text.split("\nK:")[1].split("\n")[0] for text in CASE["augmented"].values()}
    assert set(drawn("uniform")) == written
    near = drawn("near")
    assert near["Dmin"] > 20 and set(near) < written
    assert set(drawn("original")) == {"Dmin"}
    assert set(drawn("uniform", random=False)) == {"Dmin"}
    with pytest.raises(ConfigError, match="uniform, near, original"):
        drawn("all")


def test_an_item_depends_on_seed_epoch_and_index_alone(index):
    data = PieceDataset(index, patch_length=24, keys="uniform", seed=5)
    first = [data[ItemKey(epoch, i)] for epoch in range(6) for i in (0, 1, 2)]
    again = [data[ItemKey(epoch, i)] for epoch in range(6) for i in (0, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({decode(item.tolist()) for item in first}) > 9
    other = PieceDataset(index, patch_length=24, keys="uniform", seed=6)
    assert any(not torch.equal(other[ItemKey(e, 0)], data[ItemKey(e, 0)]) for e in range(6))


def test_evaluation_takes_the_head(index):
    data = PieceDataset(index, patch_length=24, random=False)
    items = [data[ItemKey(epoch, 0)] for epoch in range(5)]
    assert all(torch.equal(item, items[0]) for item in items)
    assert len(items[0]) == 24 and "[r:0/" in decode(items[0].tolist())


def test_a_missing_file_is_an_input_error_which_the_loader_counts(index):
    with pytest.raises(InputError, match="gone_C"):
        PieceDataset(index, patch_length=24)[ItemKey(0, 3)]
    assert len(PieceDataset(index, patch_length=24)) == 4 and len(MAJOR_KEYS) == 15


def test_groups_hold_every_piece_once_with_little_padding():
    generator = torch.Generator().manual_seed(0)
    lengths = [*torch.randint(1, 300, (40,), generator=generator).tolist(), 1, 2000]
    pieces = [torch.full((n, 16), 3 + i) for i, n in enumerate(lengths)]
    groups = collate(pieces)
    found = {}
    for patches, mask in groups:
        assert patches.shape[:2] == mask.shape and mask.dtype == torch.bool
        assert (patches[~mask] == 0).all()
        assert mask.float().mean() >= 0.8
        for row, real in zip(patches, mask, strict=True):
            assert real.sum() == real.long().cumprod(0).sum()  # padding on the right
            found[int(row[0, 0]) - 3] = int(real.sum())
    assert [found[i] for i in range(len(lengths))] == lengths
    assert 1 < len(groups) < 20
    ((patches, mask),) = collate(pieces[:1])
    assert patches.shape == (1, lengths[0], 16) and mask.all()
