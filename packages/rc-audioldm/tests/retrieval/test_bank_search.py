"""Neighbours, styles and what else is computed of a bank: the originals' numbers, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pentatonic.errors import (
    ConfigError,
    FormatError,
    IncompatibleVectors,
    InputError,
    MissingExtra,
    UsageError,
)
from rc_audioldm.bank import BankClip, StyleBank, find_neighbours, read_original
from rc_audioldm.bank.audit import audit_bank, write_audit, write_margins
from rc_audioldm.bank.index import build_index, choose_index, read_choice, write_choice
from rc_audioldm.bank.neighbours import Centring, read_neighbours, styles_of, write_neighbours
from rc_audioldm.bank.originals import read_raw
from rc_audioldm.bank.pair_cache import write_pairs
from rc_audioldm.bank.ranking import score_rankings
from rc_audioldm.bank.statistics import query_statistics, query_to_style, summary
from rc_audioldm.bank.style_bank import write_bank
from rc_audioldm.clap import ClapHeader
from rc_audioldm.licences import licence_name, strictest, terms_of
from rc_audioldm.style.vectors import nearest_styles

HEADER = ClapHeader("m", "", "hash", "bands", "windows", "mean", "fp32", 8)


def bank_of(vectors: np.ndarray, prefix: str = "p", **fields: Any) -> StyleBank:
    clips = [BankClip(f"{prefix}/{i:03d}.flac", **fields) for i in range(len(vectors))]
    return StyleBank(np.asarray(vectors, np.float32), clips, where=prefix)


def random_bank(rows: int = 30, seed: int = 0) -> StyleBank:
    return bank_of(np.random.default_rng(seed).standard_normal((rows, 8)))


def test_the_neighbours_of_the_original(golden: Any) -> None:
    case = golden("neighbors")
    runs = json.loads((case.folder / "io.json").read_text())
    tensors = {name: value.numpy() for name, value in case.tensors.items()}
    primary, aux = bank_of(tensors["primary_bank"]), bank_of(tensors["aux_bank"], "a")
    names = [f"q/{i}.wav" for i in range(4)]
    options = {
        "softmax": {"top_k": 5, "style_of": 3},
        "mean": {"top_k": 4, "style_of": 9, "weighting": "mean"},
        "aux": None,
    }
    checked = 0
    for run, expected in runs.items():
        if not isinstance(expected, dict) or "neighbors" not in expected:
            continue
        arguments = dict(zip(expected["args"][::2], expected["args"][1::2], strict=True))
        top_k, style_of = int(arguments["--topk"]), int(arguments["--style_top_m"])
        weighting: Any = arguments.get("--style_agg", "softmax")
        below = float(arguments.get("--fallback_threshold", 0.3))
        auxiliary = aux if any(each["used_index"] == "aux" for each in expected["neighbors"]) else None
        found = find_neighbours(
            tensors["queries"], names, primary, auxiliary, top_k=top_k, fallback_below=below
        )
        for number, (own, theirs) in enumerate(zip(found, expected["neighbors"], strict=True)):
            line = own.to_json(number)
            assert [n["idx"] for n in line["neighbors"]] == [n["idx"] for n in theirs["neighbors"]]
            assert [n["path"] for n in line["neighbors"]] == [n["path"] for n in theirs["neighbors"]]
            assert (line["q_idx"], line["q_path"], line["used_index"]) == (
                *(theirs["q_idx"], theirs["q_path"], theirs["used_index"]),
            )
            sims = [
                [n["sim"] for n in x["neighbors"]] + [x["mean_sim"], x["max_sim"]] for x in (line, theirs)
            ]
            np.testing.assert_allclose(sims[0], sims[1], atol=case.tolerance)
        styles = styles_of(found, primary, auxiliary, style_of=style_of, weighting=weighting)
        np.testing.assert_allclose(styles.vectors, tensors[f"agg_emb/{run}"], atol=case.tolerance)
        checked += 1
    assert checked == len(options) == 3


def test_the_pair_cache_of_the_original(golden: Any, tmp_path: Path) -> None:
    case = golden("neighbors")
    tensors = {name: value.numpy() for name, value in case.tensors.items()}
    primary = bank_of(tensors["primary_bank"])
    found = find_neighbours(tensors["queries"], list("abcd"), primary, top_k=5)
    write_pairs(tmp_path / "pairs", found, primary, style_of=4, save_rows=True)
    loaded = {path.stem: np.load(path) for path in (tmp_path / "pairs").glob("*.npy")}
    np.testing.assert_allclose(loaded["style_topM"], tensors["style_topM_raw_memmap"], atol=case.tolerance)
    np.testing.assert_allclose(loaded["neighbor_w_topM"], tensors["neighbor_w_topM"], atol=case.tolerance)
    np.testing.assert_array_equal(loaded["neighbor_idx_topM"], tensors["neighbor_idx_topM"])
    np.testing.assert_allclose(
        loaded["neighbor_emb_topM"][1, 2], primary.rows([loaded["neighbor_idx_topM"][1, 2]])[0]
    )
    assert len((tmp_path / "pairs" / "pairs_flat.jsonl").read_text().splitlines()) == 16
    tensors["style_topM_raw_memmap"].tofile(tmp_path / "raw.npy")
    np.testing.assert_array_equal(read_raw(tmp_path / "raw.npy", (4, 512)), tensors["style_topM_raw_memmap"])
    with pytest.raises(FormatError, match=r"has 8192 bytes, and \(5, 512\) float32 numbers have 10240"):
        read_raw(tmp_path / "raw.npy", (5, 512))
    with pytest.raises(UsageError, match="sizes from 1"):
        read_raw(tmp_path / "raw.npy", (0, 512))


def test_fewer_rows_than_a_style_wants_leave_gaps(tmp_path: Path) -> None:
    bank = random_bank(2)
    write_pairs(tmp_path / "p", find_neighbours(np.eye(8)[:3], list("abc"), bank), bank, style_of=4)
    rows, weights = (np.load(tmp_path / "p" / f"neighbor_{n}_topM.npy") for n in ("idx", "w"))
    assert (rows[:, 2:] == -1).all() and (weights[:, 2:] == 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)


def test_the_styles_of_prompts_in_the_original(golden: Any) -> None:
    case = golden("retrieval_softmax")
    bank, queries = case.tensors["bank_raw"].numpy(), case.tensors["query_text"]
    for count, temperature in ((4, "0.07"), (1, "0.07"), (20, "0.5")):
        style = nearest_styles(queries, bank, count, temperature=float(temperature))
        key = f"topk{count}/temp{temperature}"
        assert torch.equal(style.rows, case.tensors[f"indices/{key}"])
        for own, name in ((style.weights, "weights"), (style.vectors, "style")):
            torch.testing.assert_close(own, case.tensors[f"{name}/{key}"], atol=case.tolerance, rtol=0)


def test_styles_of_equal_rows_and_of_allowed_rows() -> None:
    bank = np.eye(4, dtype=np.float32)[[0, 1, 0, 2]] * 5
    style = nearest_styles(torch.eye(4)[:1], bank, 2)
    assert style.rows.tolist() == [[0, 2]] and style.weights.tolist() == [[0.5, 0.5]]
    mean = nearest_styles(
        torch.eye(4)[:1], bank, 2, allowed=np.array([False, True, True, True]), weighting="mean"
    )
    assert mean.rows.tolist() == [[2, 1]] and mean.weights.tolist() == [[0.5, 0.5]]
    with pytest.raises(UsageError, match="no row of the bank is allowed"):
        nearest_styles(torch.eye(4)[:1], bank, allowed=np.zeros(4, bool))
    with pytest.raises(UsageError, match="allowed: softmax, mean"):
        nearest_styles(torch.eye(4)[:1], bank, weighting="median")  # type: ignore[arg-type]


def test_queries_are_asked_together_as_they_are_alone() -> None:
    bank, queries = random_bank(50), np.random.default_rng(1).standard_normal((6, 8))
    together = find_neighbours(queries, list("abcdef"), bank, random_bank(9, 2), top_k=5, fallback_below=0.5)
    alone = [
        find_neighbours(
            queries[i : i + 1], ["abcdef"[i]], bank, random_bank(9, 2), top_k=5, fallback_below=0.5
        )[0]
        for i in range(6)
    ]
    assert together == alone and {each.bank for each in together} == {"primary", "aux"}


def test_centring_finds_what_two_clusters_hide() -> None:
    """Texts lie around one point and clips around another; a clip near the middle would be next to every text."""
    rng = np.random.default_rng(0)
    meaning = rng.standard_normal((20, 8)) * 0.3
    texts, clips = meaning + 3 * np.eye(8)[0], meaning + 3 * np.eye(8)[1]
    clips = np.concatenate([clips, 4 * (np.eye(8)[:1] + np.eye(8)[1:2])])
    bank, texts = bank_of(clips), texts / np.linalg.norm(texts, axis=1, keepdims=True)
    names = [str(i) for i in range(20)]
    plain = find_neighbours(texts, names, bank, top_k=1)
    centred = find_neighbours(texts, names, bank, top_k=1, centring=Centring(bank.mean(), texts.mean(0)))
    hits = [sum(each.neighbours[0].row == i for i, each in enumerate(found)) for found in (plain, centred)]
    assert hits[0] <= 2 and hits[1] >= 15


def test_neighbours_are_read_back_and_paddings_of_the_original_dropped(tmp_path: Path) -> None:
    found = find_neighbours(np.eye(8)[:2], ["a", 'b "c"'], random_bank(), top_k=3)
    write_neighbours(tmp_path / "n.jsonl", found)
    assert read_neighbours(tmp_path / "n.jsonl") == found
    line = {**found[0].to_json(0)}
    line["neighbors"] = [*line["neighbors"], {"rank": 4, "idx": -1, "path": None, "sim": -3.4e38}]
    (tmp_path / "n.jsonl").write_text(json.dumps(line))
    assert read_neighbours(tmp_path / "n.jsonl")[0].neighbours == found[0].neighbours
    (tmp_path / "n.jsonl").write_text('{"neighbors": 1}')
    with pytest.raises(FormatError, match=r"n\.jsonl:1: is no line of neighbours"):
        read_neighbours(tmp_path / "n.jsonl")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: find_neighbours(np.ones((1, 5)), ["a"], b), InputError, "8 dimensions"),
        (lambda b: find_neighbours(np.ones((1, 8)), [], b), InputError, "0 names for 1 queries"),
        (lambda b: find_neighbours(np.zeros((1, 8)), ["a"], b), InputError, "query 0 has norm 0"),
        (lambda b: find_neighbours(np.ones((1, 8)), ["a"], b, top_k=0), UsageError, "top-k is 0"),
        (
            lambda b: find_neighbours(np.ones((1, 8)), ["a"], b, allowed=np.zeros(30, bool)),
            UsageError,
            "no row of the bank",
        ),
        (
            lambda b: styles_of(find_neighbours(np.ones((1, 8)), ["a"], b), b, style_of=0),
            UsageError,
            "a style of 0 neighbours",
        ),
    ],
)
def test_wrong_questions(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(random_bank())


def test_two_banks_must_be_of_one_kind() -> None:
    bank, other = (replace(random_bank(), header=replace(HEADER, dtype=dtype)) for dtype in ("fp32", "bf16"))
    with pytest.raises(IncompatibleVectors, match="dtype 'bf16' instead of 'fp32'"):
        find_neighbours(np.ones((1, 8)), ["a"], bank, other)


def test_rows_that_are_not_of_norm_one_are_made_so() -> None:
    bank = random_bank()
    longer = replace(bank, vectors=bank.vectors * np.linspace(0.1, 90, 30, dtype=np.float32)[:, None])
    np.testing.assert_allclose(np.linalg.norm(longer.rows([[3, 4]]), axis=-1), 1, atol=1e-6)
    query = np.ones((1, 8))
    assert [n.row for n in find_neighbours(query, ["a"], longer)[0].neighbours] == [
        n.row for n in find_neighbours(query, ["a"], bank)[0].neighbours
    ]
    for value in (0, np.nan):
        broken = bank.vectors.copy()
        broken[5] = value
        bad = replace(bank, vectors=broken)
        for call in (lambda: bad.rows([5]), lambda: list(bad.blocks()), lambda: bad.search(query, 2)):  # noqa: B023
            with pytest.raises(InputError, match=r"row 5|row 0 has the norm"):
                call()


def test_banks_of_the_original(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    np.save(tmp_path / "b.npy", rows)
    lines = [{"path": f"/data/{i}.flac", "idx": i, "tags": "bell, metal"} for i in range(3)]
    (tmp_path / "m.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    bank = read_original(tmp_path / "b.npy", tmp_path / "m.jsonl")
    assert len(bank) == 3 and bank.clips[1].tags == ("bell", "metal") and bank.clips[0].licence == "unknown"
    rows.tofile(tmp_path / "raw.npy")
    raw = read_original(tmp_path / "raw.npy", tmp_path / "m.jsonl", shape=(3, 512))
    np.testing.assert_array_equal(raw.vectors, rows)
    np.save(tmp_path / "b.npy", rows[:, :100])
    with pytest.raises(FormatError, match="100 dimensions; needed: 512"):
        read_original(tmp_path / "b.npy", tmp_path / "m.jsonl")
    np.save(tmp_path / "b.npy", rows[:0])
    with pytest.raises(FormatError, match="the bank is empty"):
        read_original(tmp_path / "b.npy", tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../x", "a\0b", "C:\\x", "\\\\host\\x", "link/x"]
)
def test_paths_of_a_mapping_that_lead_out_of_its_root(tmp_path: Path, path: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("/etc")
    bank = StyleBank(np.ones((1, 8), np.float32), [BankClip(path)])
    with pytest.raises(ConfigError, match="path of row 0"):
        bank.audio_path(0, tmp_path / "root")
    with pytest.raises(UsageError, match="give a root"):
        bank.audio_path(0)


def test_an_audit_keeps_what_is_musical_with_its_mapping(tmp_path: Path) -> None:
    music, speech = np.eye(8)[:2]
    margins = np.array([0.5, 0.0, 0.09, 0.08, 0.7])
    vectors = np.stack([m * music + np.sqrt(1 - m**2) * np.eye(8)[2] for m in margins])
    clips = [BankClip(f"{i}.wav", duplicate_of=2 if i == 4 else None) for i in range(5)]
    bank = StyleBank(vectors.astype(np.float32), clips, HEADER, tmp_path)
    audit = audit_bank(bank, music, speech)
    np.testing.assert_allclose(audit.margins, margins, atol=1e-6)
    assert audit.kept in ([0, 2, 4], [0, 2, 3, 4])  # .08 itself is a matter of rounding
    assert audit_bank(bank, music, speech, margin=0.085).kept == [0, 2, 4]
    ranked = audit_bank(bank, music, speech, margin=0.085, most=2)
    assert ranked.kept == [4, 0]
    kept = write_audit(bank, audit_bank(bank, music, speech, margin=0.085), tmp_path / "out")
    assert [clip.path for clip in kept.clips] == ["0.wav", "2.wav", "4.wav"]
    assert [clip.duplicate_of for clip in kept.clips] == [None, None, 1]
    np.testing.assert_allclose(kept.vectors, vectors[[0, 2, 4]], atol=1e-6)
    assert json.loads((tmp_path / "out" / "kept_indices.json").read_text()) == {"kept_indices": [0, 2, 4]}
    write_margins(tmp_path / "m.jsonl", bank, ranked)
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [line["kept"] for line in lines] == [True, False, False, False, True]
    with pytest.raises(InputError, match="no clip is nearer to music"):
        write_audit(bank, audit_bank(bank, music, speech, margin=1), tmp_path / "none")
    with pytest.raises(InputError, match="needed: \\(8,\\)"):
        audit_bank(bank, np.ones(3), speech)


def test_the_choice_of_an_index(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    bank = write_bank(tmp_path / "bank", vectors, [BankClip(f"{i}") for i in range(500)], HEADER, root=None)
    assert read_choice(tmp_path / "bank", bank).kind == "exact"
    flat = choose_index(bank, "faiss-flat")
    assert flat.recall_at_10 > 0.999
    coded = choose_index(bank, "faiss-ivfpq", seed=3)
    assert 0.5 < coded.recall_at_10 <= 1 and coded.seed == 3
    write_choice(tmp_path / "bank", coded)
    assert read_choice(tmp_path / "bank", bank) == coded
    assert read_choice(tmp_path / "bank", random_bank()).kind == "exact"  # another bank by now
    index = build_index(bank, "faiss-flat")
    exact, by_index = (
        find_neighbours(vectors[:9], list("abcdefghi"), bank, top_k=4, index=each) for each in (None, index)
    )
    assert [[n.row for n in x.neighbours] for x in exact] == [[n.row for n in x.neighbours] for x in by_index]
    with pytest.raises(UsageError, match="use the exact search"):
        find_neighbours(vectors[:1], ["a"], bank, index=index, allowed=np.ones(500, bool))
    with pytest.raises(UsageError, match="allowed: exact, faiss-flat, faiss-ivfpq"):
        build_index(bank, "tree")  # type: ignore[arg-type]
    (tmp_path / "bank.index.json").write_text('{"kind": "tree", "rows": 500}')
    with pytest.raises(FormatError, match="kind is 'tree'"):
        read_choice(tmp_path / "bank", bank)


def test_without_faiss_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtra, match="faiss-cpu"):
        build_index(random_bank(), "faiss-flat")


def test_statistics_of_neighbours() -> None:
    found = find_neighbours(np.eye(8)[:4], list("abcd"), random_bank(), top_k=3)
    rows = query_statistics(found, temperature=1e9)
    assert rows[0]["weight_entropy"] == pytest.approx(np.log(3))
    assert query_statistics(found, temperature=0)[0]["weight_entropy"] == pytest.approx(0)
    result = summary(rows, ["x", "y", "x", "x"])
    assert {name: part["n"] for name, part in result.items()} == {"overall": 4, "x": 3, "y": 1}
    means = [row["mean_similarity"] for row in rows]
    assert result["overall"]["mean"] == pytest.approx(np.mean(means))
    assert result["overall"]["p50"] == pytest.approx(np.median(means))
    assert summary([]) == {"overall": {"n": 0}}
    with pytest.raises(InputError, match="1 groups for 4"):
        summary(rows, ["x"])
    styles = np.array([[1.0, 0], [0, 2], [0, 0]])
    compared = query_to_style(np.array([[2.0, 0], [1, 1], [1, 0]]), styles)
    assert compared["n"] == 2 and compared["left_out"] == 1
    assert compared["mean"] == pytest.approx((1 + np.sqrt(0.5)) / 2)
    with pytest.raises(InputError, match="they must agree"):
        query_to_style(np.ones((1, 2)), styles)


def test_scores_of_rankings() -> None:
    scores = score_rankings([[3, 1, 2, 0], [0, 1, 2, 3], [5, 6]], [{1, 2}, {0}, set()], cutoffs=(1, 2, 3))
    assert (scores.queries, scores.left_out) == (2, 1)
    assert scores.recall == {1: 0.5, 2: 0.75, 3: 1.0}
    assert scores.hit == {1: 0.5, 2: 1.0, 3: 1.0}
    assert scores.mrr == pytest.approx((1 / 2 + 1) / 2)
    assert scores.map == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    ideal, own = 1 + 1 / np.log2(3), 1 / np.log2(3) + 1 / np.log2(4)
    assert scores.ndcg[3] == pytest.approx((own / ideal + 1) / 2)
    assert scores.ndcg[1] == pytest.approx(0.5)
    assert score_rankings([[4]], [{9}]).mrr == 0
    for rankings, relevant, message in (
        ([[1, 1]], [{1}], "has a row twice"),
        ([[1]], [set()], "nothing is relevant"),
        ([[1]], [], "1 rankings and 0 sets"),
    ):
        with pytest.raises(InputError, match=message):
            score_rankings(rankings, relevant)
    with pytest.raises(UsageError, match="from 1"):
        score_rankings([[1]], [{1}], cutoffs=(0,))


@pytest.mark.parametrize(
    ("text", "name", "terms"),
    [
        ("http://creativecommons.org/licenses/by/3.0/", "CC BY 3.0", "attribution"),
        ("https://creativecommons.org/licenses/by-nc/4.0/legalcode", "CC BY-NC 4.0", "restricted"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0", "free"),
        ("http://creativecommons.org/licenses/sampling+/1.0/", "CC Sampling+ 1.0", "restricted"),
        ("CC-BY-SA 4.0", "CC BY-SA 4.0", "share-alike"),
        ("Creative Commons 0", "CC0 1.0", "free"),
        ("cc by-nd", "CC BY-ND", "restricted"),
        ("Attribution Noncommercial", "CC BY-NC", "restricted"),
        ("GPL-2+", "GPL-2+", "share-alike"),
        ("MIT", "MIT", "attribution"),
        ("Our own\nlicence", "Our own licence", "unknown"),
        ("", "unknown", "unknown"),
        ("  N/A ", "unknown", "unknown"),
        (None, "unknown", "unknown"),
        (5, "unknown", "unknown"),
    ],
)
def test_names_of_licences(text: Any, name: str, terms: str) -> None:
    assert licence_name(text) == name
    assert licence_name(name) == name
    assert terms_of(name) == terms


def test_the_strictest_licence_counts() -> None:
    assert strictest(["CC0", "CC BY 4.0"]) == "attribution"
    assert strictest(["CC BY-NC 4.0", "CC BY-SA 4.0"]) == "restricted"
    assert strictest(["CC0", "unknown"]) == "unknown"
    assert strictest([]) == "free"
