"""The verbs for encoders through the real command line, with small encoders of random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from notagen import cli
from notagen.clamp2.config import ClampConfig, EncoderConfig, M3Config, PatchDecoderConfig, TextConfig
from notagen.clamp2.embedder import Embedder
from notagen.clamp2.feature_sets import read_features
from notagen.clamp2.model import M3, Clamp
from notagen.clamp2.patches import encode
from notagen.clamp2.reading import read_music
from notagen.clamp2.scores import clamp2_scores, cosines, group_score
from notagen.clamp2.weights import from_pretrained, m3_from_pretrained, save_pretrained
from notagen.dpo.judge import NgramJudge

MUSIC = EncoderConfig(layers=1, width=16, heads=2, mlp_width=16, length=8)
TEXT = TextConfig(300, layers=1, width=16, heads=2, mlp_width=16, positions=12, length=10)
TUNE = "X:1\nT:Tune in {key}\nL:1/8\nM:4/4\nK:{key}\nCDEF GABc|c8|GABc d4|{key}8|]\n"
KEYS = ("C", "D", "E", "F", "G", "A")


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(*arguments) -> (exit code, standard output, standard error)``."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["notagen", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return (exit.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """``music`` embeds music, ``both`` texts too, ``other`` is another one."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, text) in enumerate({"music": None, "other": None}.items()):
        torch.manual_seed(seed)
        save_pretrained(
            Clamp(ClampConfig(family="clamp2", projection=6, music=MUSIC, text=text)), folder / name
        )
    return folder


@pytest.fixture(scope="module")
def both(models) -> Path:
    pytest.importorskip("transformers")
    from notagen.clamp2.tokens import train_tokenizer

    torch.manual_seed(2)
    save_pretrained(
        Clamp(ClampConfig(family="clamp2", projection=6, music=MUSIC, text=TEXT)), models / "both"
    )
    train_tokenizer(["a slow waltz", "a quick march"], 270).save(str(models / "both" / "tokenizer.json"))
    return models / "both"


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scores")
    (folder / "more").mkdir()
    for number, key in enumerate(KEYS):
        (folder / ("more" if number % 2 else "") / f"{key}.abc").write_text(TUNE.format(key=key))
    return folder


@pytest.fixture(scope="module")
def index(models, scores, tmp_path_factory) -> Path:
    from notagen.clamp2.embedding import embed_parquet

    path = tmp_path_factory.mktemp("index") / "all.parquet"
    embed_parquet(Embedder(from_pretrained(models / "music")), [scores], path)
    return path


def test_embed_writes_a_tree_or_one_file(command, models, scores, tmp_path):
    model = models / "music"
    code, out, err = command("embed", scores, "--out", tmp_path / "tree", "--model", model)
    assert (code, out) == (0, f"{tmp_path / 'tree'}\n") and "6 done, 0 skipped, 0 failed" in err
    code, out, err = command("embed", scores, "--out", tmp_path / "tree", "--model", model, "--json")
    assert code == 0 and json.loads(out)["counts"] == {"done": 0, "skipped": 6, "failed": 0}
    assert command("embed", scores, "--out", tmp_path / "all.parquet", "--model", model)[0] == 0
    tree, stored = read_features(tmp_path / "tree"), read_features(tmp_path / "all.parquet")
    assert sorted(stored.names) == tree.names and stored.header == tree.header
    assert command("embed", scores, "--out", tmp_path / "f", "--model", model, "--frames")[0] == 0
    assert np.load(tmp_path / "f" / "C.npy").shape[2] == 16


def test_embed_names_bad_files_and_wrong_usage(command, models, tmp_path):
    model = models / "music"
    (tmp_path / "good.abc").write_text(TUNE.format(key="C"))
    (tmp_path / "bad.mid").write_bytes(b"no midi")
    code, _, err = command("embed", tmp_path, "--out", tmp_path / "out", "--model", model)
    assert code == 3 and "bad.mid" in err and "1 done, 0 skipped, 1 failed" in err
    code, _, err = command("embed", tmp_path, "--out", tmp_path / "x.parquet", "--model", model, "--frames")
    assert code == 2 and "--frames needs a folder" in err
    code, _, err = command(
        "embed", tmp_path, "--out", tmp_path / "out", "--model", model, "--preparation", "notagen"
    )
    assert code == 2 and "preparation clamp2, not notagen; choose another output" in err
    assert command("embed", tmp_path / "none", "--out", tmp_path / "out", "--model", model)[0] == 2
    code, out, err = command("embed", tmp_path / "bad.mid", "--out", tmp_path / "x.parquet", "--model", model)
    assert code == 3 and out.endswith("was not written: there is nothing to write\n")
    assert command("embed", tmp_path, "--out", tmp_path / "y", "--model", tmp_path)[0] == 1


def test_score_says_which_number_is_which(command, models, scores, index, tmp_path):
    model = models / "music"
    pieces = [scores / "C.abc", scores / "E.abc"]
    code, out, _ = command("score", *pieces, "--references", index, "--model", model, "--each")
    assert code == 0
    stored = read_features(index)
    chosen = stored.vectors[[stored.names.index("C"), stored.names.index("E")]]
    expected = clamp2_scores(chosen, stored.vectors)
    assert out.splitlines() == [
        f"{expected[0]:.4f}  C",
        f"{expected[1]:.4f}  E",
        f"average score {expected.mean():.4f}  (mean of the pieces' cosines with the mean reference; 2 pieces, "
        "6 references)",
        f"group score   {group_score(chosen, stored.vectors):.4f}  (cosine of the two means)",
    ]
    code, out, _ = command("score", scores, "--references", scores / "more", "--model", model, "--json")
    values = json.loads(out)
    assert code == 0 and (values["pieces"], values["references"]) == (6, 3)
    assert values["average_score"] == pytest.approx(np.mean([each["score"] for each in values["scores"]]))
    # Both sides stored: no model is needed.
    code, out, _ = command("score", index, "--references", index, "--model", "/none", "--json")
    assert code == 0 and json.loads(out)["group_score"] == pytest.approx(1)


def test_scores_by_the_nearest_references_and_a_page(command, models, scores, index, tmp_path):
    model, page = models / "music", tmp_path / "page.html"
    words = (
        "score",
        scores / "C.abc",
        scores / "E.abc",
        "--references",
        index,
        "--model",
        model,
        "--nearest",
        2,
    )
    code, out, _ = command(*words, "--json", "--page", page)
    found, stored = json.loads(out), read_features(index)
    chosen = stored.vectors[[stored.names.index("C"), stored.names.index("E")]]
    expected = np.sort(cosines(chosen, stored.vectors), axis=1)[:, -2:].mean(1)
    assert code == 0 and found["nearest"] == 2
    np.testing.assert_allclose([each["nearest_score"] for each in found["scores"]], expected, atol=1e-6)
    assert found["nearest_score"] == pytest.approx(expected.mean(), abs=1e-6)
    assert [each["nearest_reference"] for each in found["scores"]] == ["C", "E"]
    assert all(each["its_cosine"] == pytest.approx(1, abs=1e-6) for each in found["scores"])
    code, out, _ = command(*words)
    assert code == 0 and out.splitlines()[-1].startswith(f"nearest score {expected.mean():.4f}  (")
    shown = page.read_text()
    assert "average score" in shown and "nearest_reference" in shown and str(index) in shown
    (tmp_path / "own.html").write_text("<p>mine</p>")
    assert command(*words, "--page", tmp_path / "own.html")[0] == 1


def test_ngrams_need_no_model(command, scores, tmp_path):
    stored = tmp_path / "ngrams.parquet"
    assert command("embed", scores, "--out", stored, "--model", "ngrams")[0] == 0
    vectors = read_features(stored)
    text = next(iter(read_music(scores / "C.abc"))).text
    np.testing.assert_allclose(
        vectors.vectors[vectors.names.index("C")], NgramJudge().embed([text])[0], atol=1e-6
    )
    code, out, _ = command("search", scores / "C.abc", "--index", stored, "--model", "ngrams", "--count", 6)
    assert code == 0 and out.splitlines()[0] == "  1  +1.0000  C"
    assert all(
        float(line.split()[1]) > 0.9 for line in out.splitlines()
    )  # but for the last note, in another key
    code, out, _ = command("score", scores, "--references", stored, "--model", "ngrams", "--json")
    assert code == 0 and json.loads(out)["average_score"] > 0.95
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "one.abc").write_text("X:1\nL:1/8\nM:4/4\nK:C\nc8|]\n")
    (tmp_path / "mixed" / "midi.mtf").write_text("ticks_per_beat 480\nend_of_track 1\n")
    (tmp_path / "mixed" / "tune.abc").write_text(TUNE.format(key="C"))
    code, _, err = command("embed", tmp_path / "mixed", "--out", tmp_path / "tree", "--model", "ngrams")
    assert code == 3 and "no voice has two notes" in err and "MIDI has no steps in a scale" in err
    assert "1 done, 0 skipped, 2 failed" in err
    for words, reason in (
        (("--frames",), "ngrams has no frames of a piece, only features; leave --frames out"),
        (("--drop-unit-length",), "n-grams are of lengths"),
    ):
        code, _, err = command("embed", scores, "--out", tmp_path / "x", "--model", "ngrams", *words)
        assert code == 2 and reason in err and not (tmp_path / "x" / "run.json").exists()
    code, _, err = command("search", "--text", "waltz", "--index", stored, "--model", "ngrams")
    assert code == 2 and "no text encoder" in err


def test_frames_of_m3(command, scores, tmp_path):
    """Equal to the original's, from its own file and from ours."""
    goldens = Path(__file__).parents[1] / "goldens" / "clamp2" / "m3_tiny"
    tensors = load_file(goldens / "weights.safetensors")
    torch.save({"model": tensors, "epoch": 1}, tmp_path / "m3.pth")
    assert command("convert-weights", tmp_path / "m3.pth", "--out", tmp_path / "m3", "--heads", 2)[0] == 0
    words = ("--model", tmp_path / "m3", "--frames")
    assert command("embed", scores, "--out", tmp_path / "frames", *words)[0] == 0
    model = m3_from_pretrained(tmp_path / "m3")
    for name in ("C", "more/D"):
        text = next(iter(read_music(scores / f"{name}.abc"))).text
        patches = torch.from_numpy(encode(text, special=True)).long()
        expected = model.encoder(patches[None], torch.tensor([len(patches)]))
        found = np.load(tmp_path / "frames" / f"{name}.npy")
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=3e-5)
    code, _, err = command("embed", scores, "--out", tmp_path / "x", "--model", tmp_path / "m3")
    assert code == 2 and "m3 has no features of a piece, only frames; give --frames" in err
    assert not (tmp_path / "x" / "run.json").exists()
    code, _, err = command(
        "embed", scores, "--out", tmp_path / "frames", "--frames", "--model", tmp_path / "m3.pth"
    )
    assert code == 1 and "the number of heads must be given" in err


def test_score_refuses_features_of_other_models_and_goes_on_after_bad_files(
    command, models, scores, index, tmp_path
):
    code, _, err = command("score", scores, "--references", index, "--model", models / "other")
    assert code == 1 and "cannot be mixed" in err
    code, _, err = command(
        *("score", scores, "--references", index, "--model", models / "music", "--preparation", "notagen")
    )
    assert code == 1 and "notagen preparation" in err
    (tmp_path / "bad.abc").write_text("")
    (tmp_path / "good.abc").write_text(TUNE.format(key="C"))
    code, out, err = command("score", tmp_path, "--references", index, "--model", models / "music")
    assert code == 3 and "bad.abc" in err and "1 piece, 6 references" in out
    code, _, err = command("score", tmp_path / "bad.abc", "--references", index, "--model", models / "music")
    assert code == 1 and "no file of" in err
    rows = tmp_path / "rows"
    rows.mkdir()
    np.save(rows / "a.npy", np.ones((1, 6), np.float32))
    code, _, err = command("score", rows, "--references", index)
    assert code == 1 and "--assume-same-model" in err
    assert command("score", rows, "--references", index, "--assume-same-model")[0] == 0


def test_pieces_are_prepared_as_the_references_were(command, models, scores, tmp_path):
    model, references = models / "music", tmp_path / "references"
    assert command("embed", scores, "--out", references, "--model", model, "--preparation", "notagen")[0] == 0
    code, out, _ = command(
        "score", scores / "C.abc", "--references", references, "--model", model, "--json", "--each"
    )
    stored = read_features(references)
    expected = clamp2_scores(stored.vectors, stored.vectors)[stored.names.index("C")]
    assert code == 0 and json.loads(out)["average_score"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("method", ["exact", "faiss"])
def test_search_for_a_piece(command, models, scores, index, method):
    if method == "faiss":
        pytest.importorskip("faiss")
    words = ("--index", index, "--model", models / "music", "--method", method, "--count", 3)
    code, out, _ = command("search", scores / "C.abc", *words)
    assert code == 0 and out.splitlines()[0] == "  1  +1.0000  C" and len(out.splitlines()) == 3
    features = index.parent / f"tree-{method}"
    assert command("embed", scores, "--out", features, "--model", models / "music")[0] == 0
    code, stored, _ = command("search", features / "C.npy", *words)
    assert code == 0 and stored == out
    # A piece of the index needs no model, and is left out itself.
    code, out, _ = command(
        "search", "more/D", "--index", index, "--model", "/none", "--json", "--method", method
    )
    (result,) = json.loads(out)["queries"]
    assert code == 0 and len(result["found"]) == 5
    assert [hit["rank"] for hit in result["found"]] == [1, 2, 3, 4, 5]
    assert "more/D" not in [hit["name"] for hit in result["found"]]


def test_search_refuses_what_it_cannot_compare(command, models, scores, index):
    code, _, err = command("search", scores / "C.abc", "--index", index, "--model", models / "other")
    assert code == 1 and "cannot be mixed with those of this model" in err
    code, _, err = command("search", "--text", "waltz", "--index", index, "--model", models / "music")
    assert code == 2 and "no text encoder" in err
    for words in ((), ("C", "--text", "x"), ("C", "--by", "contour")):
        assert command("search", *words, "--index", index)[0] == 2
    assert command("search", "C")[0] == 2 and command("search", "none.abc", "--index", index)[0] == 2


def test_search_by_text_and_zero_shot_labels(command, both, scores, tmp_path):
    index = tmp_path / "all.parquet"
    assert command("embed", scores, "--out", index, "--model", both, "--music-only")[0] == 0
    code, out, err = command(
        "search", "--text", "a slow waltz", "--index", index, "--model", both, "--count", 2
    )
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["1", "2"]
    words = ("--labels", "waltz", "march", "hymn", "--model", both, "--template", "a {} in C")
    code, out, err = command("classify", scores / "C.abc", *words, "--json")
    assert code == 0, err
    (piece,) = json.loads(out)["pieces"]
    assert piece["name"] == "C" and set(piece["scores"]) == {"waltz", "march", "hymn"}
    assert piece["label"] == max(piece["scores"], key=piece["scores"].get)
    code, out, _ = command("classify", index, *words)  # stored features
    assert code == 0 and len(out.splitlines()) == 6 and out.startswith("C: ")
    assert command("classify", index, "--labels", "waltz", "--model", both)[0] == 2
    code, _, err = command("classify", index, "--labels", "a", "b", "--template", "x", "--model", both)
    assert code == 2 and "it needs {} where the label stands" in err


def test_retrieval_of_texts_and_stored_features(command, both, scores, tmp_path):
    for key in KEYS:
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{key}.txt").write_text(f"a piece in {key}")
    code, out, err = command("retrieval", tmp_path / "texts", scores, "--model", both, "--json")
    assert code == 0, err
    assert json.loads(out)["queries"] == 3  # more/D is another name than D
    assert command("embed", scores, "--out", tmp_path / "a", "--model", both, "--music-only")[0] == 0
    code, out, _ = command("retrieval", tmp_path / "a", tmp_path / "a")
    assert code == 0 and out.splitlines()[0].split() == ["mrr", "1.0"]


def test_the_page_of_a_melody(command, scores, tmp_path):
    page = tmp_path / "page.html"
    words = ("search", "--melody", "D E ^F G", "--index", scores, "--page", page)
    code, out, _ = command(*words)
    shown = page.read_text()
    assert code == 0 and out.splitlines()[-1] in shown
    assert "Tune in G" in shown and shown.count("<audio") == 1
    assert command(*words)[0] == 0 and page.read_text().count("<audio") == 1
    assert command("search", "C", "--index", scores, "--page", page)[0] == 2


def test_search_for_a_melody(command, scores, tmp_path):
    melodies = tmp_path / "melodies.safetensors"
    code, out, _ = command("index-melodies", scores, "--out", melodies)
    assert (code, out) == (0, f"{melodies}\n")
    for place in (melodies, scores):
        code, out, _ = command("search", "--melody", "G A B c d", "--index", place, "--same-key")
        assert code == 0 and out.splitlines()[-1].endswith("of 6 tunes")
        assert any(
            line.startswith("C.abc (Tune in C): voice 1, bar 3: G4 A4 B4 C5 D5") for line in out.splitlines()
        )
    code, out, _ = command(
        *("search", "--melody", "C D E F", "--index", melodies, "--by", "contour", "rhythm"),
        *("--starts-with", "--json"),
    )
    assert code == 0 and json.loads(out)["tunes_with_it"] == 6
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "good.abc").write_text(TUNE.format(key="C"))
    (tmp_path / "some" / "bad.mid").write_bytes(b"no midi")
    code, out, err = command("search", "--melody", "G A B c d", "--index", tmp_path / "some")
    assert code == 3 and "bad.mid" in err and out.splitlines()[-1] == "2 places in 1 of 1 tune"
    assert command("index-melodies", tmp_path / "some", "--out", tmp_path / "m")[0] == 3
    assert command("search", "--melody", "G", "--index", scores)[0] == 2


def released(folder: Path) -> Path:
    """A checkpoint in the layout of the original, with the state of its training."""
    goldens = Path(__file__).parents[1] / "goldens" / "clamp2"
    tensors = load_file(goldens / "clamp2_tiny" / "weights.safetensors")
    torch.save({"model": tensors, "optimizer": {"lr": 1e-4}, "epoch": 3}, folder / "old.pth")
    return folder / "old.pth"


def test_weights_are_converted_without_their_training(command, scores, tmp_path):
    old = released(tmp_path)
    code, _, err = command("convert-weights", old, "--out", tmp_path / "new", "--music-only")
    assert code == 1 and "the number of heads must be given" in err
    words = ("--out", tmp_path / "new", "--heads", 2)
    code, out, _ = command("convert-weights", old, *words, "--music-only")
    assert (code, out) == (0, f"{tmp_path / 'new'}\n")
    assert not [path for path in (tmp_path / "new").iterdir() if path.suffix not in (".json", ".safetensors")]
    assert from_pretrained(tmp_path / "new").config.text is None
    assert command("embed", scores, "--out", tmp_path / "features", "--model", tmp_path / "new")[0] == 0
    assert command("convert-weights", tmp_path / "new", "--out", tmp_path / "half", "--dtype", "fp16")[0] == 0
    assert load_file(tmp_path / "half" / "model.safetensors")["music.embed_bias"].dtype == torch.float16
    assert command("convert-weights", tmp_path / "new", *words)[0] == 2
    assert command("convert-weights", tmp_path / "none", *words)[0] == 2


def test_weights_of_m3_are_converted(command, tmp_path):
    tensors = load_file(Path(__file__).parents[1] / "goldens" / "clamp2" / "m3_tiny" / "weights.safetensors")
    torch.save({"model": tensors, "epoch": 1}, tmp_path / "m3.pth")
    words = ("convert-weights", tmp_path / "m3.pth", "--out", tmp_path / "m3", "--heads", 2)
    assert command(*words, "--music-only")[0] == 2
    assert command(*words)[0] == 0
    assert m3_from_pretrained(tmp_path / "m3").config.encoder.heads == 2
    sizes = M3Config(encoder=MUSIC, decoder=PatchDecoderConfig(layers=1, width=16, heads=2))
    save_pretrained(M3(sizes), tmp_path / "ours")
    assert command("convert-weights", tmp_path / "ours", "--out", tmp_path / "copy")[0] == 0
