"""The small model that comes with the package."""

import torch

from notagen.codec import encode_train
from notagen.generation.decoding import Limits, Request, generate
from notagen.notation.validation import validate
from notagen.prompts import model_prompts
from notagen.training.bundle import prompt_table
from notagen.training.index import Entry, Index, write_index
from notagen.weights import BUNDLED, from_pretrained

REEL = """%Folk
%O'Neill, Francis
%Fiddle
%%score 1
L:1/8
M:4/4
K:D
V:1 treble
[V:1]A2 FA DAFA|
[V:1]A2 FA BAFB|
[V:1]A2 FA DAFA|
[V:1]BdAF E2 D2|]
"""


def test_prompts_of_three_lines_make_the_table(tmp_path):
    lines = [("Folk", "B", "Flute"), ("Folk", "B", "Fiddle"), ("Folk", "A", "Flute"), ("Jazz",), ()]
    write_index(tmp_path / "index.jsonl", [Entry("a/b", "C", line) for line in lines * 2])
    assert prompt_table(Index(tmp_path / "index.jsonl")) == {
        "Folk": {"A": ["Flute"], "B": ["Fiddle", "Flute"]}
    }


def test_the_bundled_model_has_learnt_what_a_tune_is():
    model = from_pretrained("notagen-tiny")
    assert sum(file.stat().st_size for file in BUNDLED["notagen-tiny"].iterdir()) < 10e6
    patches = torch.tensor([encode_train(REEL, model.config.patch_length)])
    with torch.inference_mode():
        nats = float(model.loss(patches, torch.ones(patches.shape[:2])))
        scrambled = REEL.replace("A2 FA", "2A AF").replace("BdAF", "^^B,d'A'''F")
        worse = torch.tensor([encode_train(scrambled, model.config.patch_length)])
        assert nats < 0.9 < float(model.loss(worse, torch.ones(worse.shape[:2])))


def test_the_bundled_model_writes_well_formed_tunes_for_its_prompts():
    model, prompts = from_pretrained("notagen-tiny"), model_prompts("notagen-tiny")
    assert {prompt.composer for prompt in prompts} >= {"Bach, Johann Sebastian", "O'Neill, Francis"}
    requests = [Request(prompt.text, seed=1, bars=8) for prompt in prompts]
    for piece in generate(model, requests, constrained=True, limits=Limits(patches=150)):
        report = validate(piece.text)
        assert report.valid, report.issues
        assert report.bars >= 2
