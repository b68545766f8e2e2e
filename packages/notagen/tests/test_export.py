"""Export of models, and the small model that comes with the package."""

import pytest
import torch
from safetensors.torch import load_file as load_tensors

from notagen.codec import encode_train
from notagen.export import export
from notagen.generation.decoding import Limits, Request, generate
from notagen.model import NotaGen, NotaGenConfig
from notagen.notation.validation import validate
from notagen.prompts import model_prompts, prompt_table
from notagen.training.index import Entry, Index, index_prompts, write_index
from notagen.weights import BUNDLED, from_pretrained, save_pretrained
from pentatonic.errors import ConfigError, UsageError

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
    known = index_prompts(Index(tmp_path / "index.jsonl"))
    assert prompt_table(known) == {"Folk": {"A": ["Flute"], "B": ["Fiddle", "Flute"]}}
    assert [prompt.composer for prompt in known] == ["A", "B", "B"]
    more = [Entry("a/b", "C", ("Folk", "B", "Flute"))]
    write_index(tmp_path / "more.jsonl", [Entry("a/b", "C", line) for line in lines] + more)
    assert index_prompts(Index(tmp_path / "more.jsonl"))[0].instrumentation == "Flute"
    assert index_prompts(Index(tmp_path / "more.jsonl"))[0].composer == "B"


@pytest.mark.parametrize("format", ["safetensors", "upstream"])
def test_an_export_has_the_tensors_prompts_and_card_of_the_model(tmp_path, format):
    out = export("notagen-tiny", tmp_path / "my-model", format=format)
    model, copy = from_pretrained("notagen-tiny"), from_pretrained(out)
    assert copy.config.patch_layers == model.config.patch_layers
    assert all(torch.equal(tensor, copy.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert model_prompts(out) == model_prompts("notagen-tiny") != ()
    assert (out / "model.pth").is_file() == (format == "upstream")
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: notagen\n") and "# my-model" in card
    assert "Baroque / Bach, Johann Sebastian / Choral" in card and "Nothing is known about it." in card
    assert f"| parameters | {sum(p.numel() for p in model.parameters()):,} |" in card


def test_export_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(UsageError, match="onnx"):
        export("notagen-tiny", tmp_path / "out", format="onnx")
    save_pretrained(NotaGen(NotaGenConfig(1, 1, 64, 2, 8)), tmp_path / "narrow")
    with pytest.raises(UsageError, match="width 64 and 2 heads"):
        export(tmp_path / "narrow", tmp_path / "out", format="upstream")
    (tmp_path / "narrow" / "prompts.json").write_text("[]")
    with pytest.raises(ConfigError, match="not an object of periods"):
        export(tmp_path / "narrow", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_without_known_prompts_gets_no_list_of_them(tmp_path):
    save_pretrained(NotaGen(NotaGenConfig(1, 1, 64, 1, 8)), tmp_path / "model")
    out = export(tmp_path / "model", tmp_path / "out", dtype=torch.float16)
    assert not (out / "prompts.json").exists() and "| prompts | not stated" in (out / "README.md").read_text()
    stored = load_tensors(out / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


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
