"""What a scorer is trained on, and the weights that it starts from."""

import pytest
import torch

from notagen.clamp2.config import ClampConfig, EncoderConfig
from notagen.clamp2.model import M3Encoder
from notagen.clamp2.patches import decode
from notagen.clamp2.training.initial import DISTANCES, initialise_for_form
from notagen.notation.keys import MAJOR_KEYS, fifths
from notagen.notation.transposed_text import Interval, transpose_text
from notagen.training.index import Entry, Index, write_index

pytest.importorskip("accelerate")
from notagen.clamp2.training.objective import ScorerTraining
from notagen.clamp2.training.views import ViewDataset, collate_views
from pentatonic.training import ItemKey

HEADER = '%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble nm="Violin"\n'
BARS = ["CDEF GABc", "c2B2 A2G2", "FEDC EFGA", "C4 c4", "cBAG FEDC", "E2G2 c4", "G2E2 C4", "B2A2 G4"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory) -> Index:
    """Three tunes in all keys, with the bars in different order; the last one has one bar only, eight times."""
    folder = tmp_path_factory.mktemp("pieces")
    entries = []
    for number in range(3):
        bars = BARS[number:] + BARS[:number] if number < 2 else BARS[:1] * 8
        text = HEADER + "".join(f"[V:1]{bar}|\n" for bar in bars)
        entry = Entry(f"set/{number}", "C", ("Folk" if number else "Baroque", "Anon", "Violin"))
        for key in MAJOR_KEYS:
            semitones = (7 * fifths(key) + 5) % 12 - 5
            path = folder / entry.file(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(transpose_text(text, Interval(semitones=semitones)))
        entries.append(entry)
    write_index(folder / "index.jsonl", entries)
    return Index(folder / "index.jsonl")


def test_views_differ_in_the_order_of_bars_and_in_nothing_else(pieces):
    data = ViewDataset(pieces, patch_length=64)
    whole = halves = 0
    for epoch in range(24):
        views = data[ItemKey(epoch, epoch % 2)]
        ordered, shuffled = decode(views.positive.numpy()), decode(views.shuffled.numpy())
        bars = [
            [line for line in text.split("\n") if line.startswith("[V:1]")] for text in (ordered, shuffled)
        ]
        assert sorted(bars[0]) == sorted(bars[1]) and bars[0] != bars[1]
        assert views.positive.shape == views.shuffled.shape
        assert len(bars[0]) in (4, 8)
        whole += len(bars[0]) == 8
        halves += len(bars[0]) == 4
        if len(bars[0]) == 8:
            assert "K:" in ordered and "K:" in decode(views.anchor.numpy())
        assert "%Folk" not in ordered
    assert whole > 4 and halves > 4


def test_views_of_an_epoch_are_always_the_same(pieces):
    first, second = (ViewDataset(pieces, patch_length=64)[ItemKey(3, 1)] for _ in range(2))
    for kind in ("anchor", "positive", "shuffled"):
        assert torch.equal(getattr(first, kind), getattr(second, kind))


def test_a_batch_knows_what_was_displaced_and_which_pieces_are_alike(pieces):
    data = ViewDataset(pieces, patch_length=64)
    views = [data[ItemKey(0, number)] for number in range(3)]
    batch = collate_views(views)
    assert batch.displaced.any(1).tolist() == [True, True, False]
    assert batch.styles[1] == batch.styles[2] != batch.styles[0]
    joined = [
        piece[:length]
        for group, lengths in batch.groups
        for piece, length in zip(group, lengths, strict=True)
    ]
    wanted = [getattr(each, kind) for kind in ("anchor", "positive", "shuffled") for each in views]
    for place, view in zip(batch.order, wanted, strict=True):
        assert torch.equal(joined[place], view)


def test_the_loss_counts_no_piece_without_another_order(pieces):
    torch.manual_seed(0)
    music = EncoderConfig(layers=1, width=16, heads=2, mlp_width=32, length=64, dropout=0.0)
    module = ScorerTraining(ClampConfig(family="clamp2", projection=8, music=music))
    data = ViewDataset(pieces, patch_length=64)
    alone = module(collate_views([data[ItemKey(0, 2)], data[ItemKey(1, 2)]]))
    assert torch.isfinite(alone["loss"]) and alone["order"] == alone["placed"] == alone["judged"] == 0
    losses = module(collate_views([data[ItemKey(0, number)] for number in range(3)]))
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert module.music.embed.weight.grad.abs().sum() > 0


def test_heads_begin_with_looking_at_their_distances():
    torch.manual_seed(0)
    encoder = M3Encoder(EncoderConfig(layers=2, width=128, heads=4, mlp_width=128, length=128, dropout=0.0))
    torch.nn.init.normal_(encoder.embed.weight, std=0.02)
    initialise_for_form(encoder)
    trunk = encoder.trunk
    patches = torch.randint(4, 128, (1, 48, 64))
    patches[..., 16:] = 0
    states = trunk.norm(encoder.embedded(patches) + trunk.positions.weight[:48])
    found = []
    for layer in trunk.layers:
        query, key = (
            project(states).unflatten(-1, (4, -1)).transpose(1, 2) for project in (layer.query, layer.key)
        )
        found += ((query @ key.transpose(-1, -2))[0, :, 20].argmax(-1) - 20).tolist()
        states = layer(states, None)
    assert tuple(found) == DISTANCES[:8]
