"""The evaluation: losses against plain sums, rates of known texts, and the whole command."""

import json
from pathlib import Path

import pytest
import torch

from notagen.evaluation import evaluate as module
from notagen.evaluation.bigram import Bigram
from notagen.evaluation.evaluate import (
    EvaluateConfig,
    SamplingConfig,
    bigram_loss,
    evaluate,
    main,
    model_loss,
    rates,
    table,
)
from notagen.evaluation.novelty import KnownMusic
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen, NotaGenConfig
from notagen.training.data import PieceDataset
from notagen.training.index import Entry, Index, write_index
from notagen.weights import from_pretrained, save_pretrained
from pentatonic.errors import ConfigError
from pentatonic.training import ItemKey

CASES = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
VALID = "%%score 1\nL:1/8\nM:2/4\nK:C\nV:1 treble\n[r:0/1][V:1]c2 d2|\n[r:1/0][V:1]e4|]\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Index files of golden pieces and a random model."""
    folder = tmp_path_factory.mktemp("evaluate")
    for name in ("song", "single"):
        case = next(c for c in CASES if c["name"] == name)
        for key in case["augmented"]:
            (folder / "augmented" / key).mkdir(parents=True, exist_ok=True)
            (folder / "augmented" / key / f"{name}_{key}.abc").write_text(case["augmented"][key])
    prompt = ("Folk", "Anon", "Flute")
    write_index(folder / "train.jsonl", [Entry("augmented/song", "G", prompt)])
    write_index(
        folder / "eval.jsonl",
        [Entry(f"augmented/{n}", k, prompt) for n, k in (("song", "G"), ("single", "C"))],
    )
    torch.manual_seed(3)
    save_pretrained(NotaGen(NotaGenConfig(1, 1, 64, 1, 64)), folder / "model")
    return folder


def test_losses_are_means_over_all_characters(folder):
    torch.manual_seed(3)
    model = NotaGen(NotaGenConfig(1, 1, 64, 1, 64)).eval()
    data = PieceDataset(Index(folder / "eval.jsonl"), patch_length=64, random=False)
    items = [data[ItemKey(0, i)] for i in range(2)]
    count = sum(int((item[1:] != 0).sum()) for item in items)
    with torch.no_grad():
        parts = [
            model.loss(item[None], torch.ones(1, len(item))) * int((item[1:] != 0).sum()) for item in items
        ]
    loss = model_loss(model, data)
    assert (loss.characters, loss.nats) == (count, pytest.approx(float(sum(parts)) / count, rel=1e-5))
    assert loss.bits == pytest.approx(loss.nats / 0.6931472)
    assert model_loss(model, data, batch_size=1).nats == pytest.approx(loss.nats, rel=1e-5)
    bigram = bigram_loss(Bigram(items), data)
    assert bigram.characters == count and bigram.nats < loss.nats


def test_rates_of_known_texts():
    broken = VALID.replace("e4", "e3")
    two = (
        VALID.replace("V:1 treble\n", "V:1\nV:2\n")
        .replace("%%score 1", "%%score 1 2")
        .replace("e4|]", "e4|][V:2]e3|]")
    )
    found = rates([(VALID, True), (broken, True), (two, False), (VALID.replace("d2|", "]|"), False)])
    assert (found.pieces, found.finished) == (4, 0.5)
    assert found.valid == 0.5  # a last bar may be short
    assert found.unparsable_bars == 1 / 8 and found.misaligned_bars == 1 / 8
    assert (found.known, found.copies, found.longest_known) == (None, None, None)
    found = rates([(VALID, True), ("no tune", False)], KnownMusic([VALID], n=2))
    assert (found.known, found.copies, found.longest_known) == (1.0, 0.5, 1.5)


def config(folder, **options):
    config = EvaluateConfig(model=str(folder / "model"), pieces=3, max_patches=12)
    config.data.index, config.data.train = str(folder / "eval.jsonl"), str(folder / "train.jsonl")
    config.data.novelty_notes = 4
    for name, value in options.items():
        setattr(config, name, value)
    return config


def test_the_whole_evaluation(folder, tmp_path):
    first = evaluate(config(folder, out=str(tmp_path / "new" / "result.json")))
    again = evaluate(config(folder, batch_size=1))
    assert first["pieces"] == again["pieces"]
    assert list(first["loss"]) == ["model", "untrained", "bigram"]
    kinds = first["pieces"]
    assert list(kinds) == ["constrained", "free", "untrained", "bigram", "held-out"]
    assert kinds["constrained"]["valid"] == 1.0
    assert kinds["free"]["valid"] == 0.0 and kinds["free"]["pieces"] == 3
    assert kinds["held-out"]["pieces"] == 2 and kinds["held-out"]["copies"] == 0.5
    assert json.loads((tmp_path / "new" / "result.json").read_text())["pieces"] == kinds
    text = table(first)
    assert "| bigram |" in text and "| held-out | 2 | 100.0 % |" in text


def test_without_training_pieces_and_generation(folder):
    options = config(folder, pieces=0)
    options.data.train = None
    result = evaluate(options)
    assert list(result["loss"]) == ["model", "untrained"] and "pieces" not in result
    options.pieces = 2
    assert "bigram" not in evaluate(options)["pieces"]
    with pytest.raises(ConfigError, match="pieces"):
        evaluate(config(folder, pieces=-1))


def test_sampling_and_best_of(folder, monkeypatch):
    def pieces(**options):
        return evaluate(config(folder, **options))

    model = from_pretrained(folder / "model")
    model.sampling = Sampling(temperature=0.5)
    save_pretrained(model, folder / "cool")
    cool = pieces(model=str(folder / "cool"))
    assert cool["sampling"] == {"top_k": 9, "top_p": 0.9, "temperature": 0.5}
    assert cool["measures"] == pieces(sampling=SamplingConfig(temperature=0.5))["measures"]
    asked = []

    def best_pieces(model, requests, *, best_of, **options):
        asked.append((best_of, options["sampling"]))
        return inner(model, requests, best_of=best_of, **options)

    inner = module.best_pieces
    monkeypatch.setattr(module, "best_pieces", best_pieces)
    pieces(best_of=3, pieces=1)
    assert asked == [(3, Sampling()), (3, Sampling()), (1, Sampling())]
    with pytest.raises(ConfigError, match="best_of"):
        pieces(best_of=0)


def test_the_command(folder, capsys):
    pytest.importorskip("hydra")
    main([f"model={folder / 'model'}", f"data.index={folder / 'eval.jsonl'}", "pieces=0"])
    assert "| untrained |" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"data\.index"):
        main([f"model={folder / 'model'}"])
