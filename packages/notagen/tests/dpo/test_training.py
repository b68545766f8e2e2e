"""Training on preferences with the shared loop: recorded steps, the first loss, resuming, and metrics."""

import json
import math
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file as load_golden

from notagen.codec import PATCH_SIZE
from notagen.dpo import training
from notagen.dpo.log_probability import reference_log_probabilities
from notagen.dpo.preferences import Preferences
from notagen.dpo.training import (
    Block,
    Pair,
    PairDataset,
    PolicyTraining,
    PolicyTrainingConfig,
    characters,
    check_first_loss,
    train_policy,
)
from notagen.model import NotaGen, NotaGenConfig
from notagen.weights import config_from_tensors, from_pretrained, from_upstream
from pentatonic.checkpoint import save_tensors
from pentatonic.errors import ConfigError, FormatError, InputError, PentatonicError
from pentatonic.training import ItemKey, OptimConfig, TrainerConfig

pytest.importorskip("accelerate")
GOLDENS = Path(__file__).parents[1] / "goldens/clamp2"
LN_2 = math.log(2)
HEADER = "%%score 1\nL:1/8\nM:4/4\nK:G\nV:1 treble\n"


def _piece(bar, bars=4):
    return HEADER + "".join(f"[r:{i}/{bars - 1 - i}][V:1]{bar}|\n" for i in range(bars))


TEXTS = {
    "good1": _piece("GABc d2e2"),
    "good2": _piece("d2B2 G2A2", 12),
    "bad1": _piece("C8"),
    "bad2": _piece("z8", 3),
}
PREFERENCES = Preferences(("good1", "good2"), ("bad1", "bad2"))


@pytest.fixture
def start():
    torch.manual_seed(0)
    config = NotaGenConfig(patch_layers=1, char_layers=1, width=16, heads=2, patch_length=16, dropout=0.1)
    return NotaGen(config).eval()


def _config(steps=6, **options):
    trainer = {"max_grad_norm": 1.0, "log_every": 1, "save_every": 2, "cpu": True} | options.pop(
        "trainer", {}
    )
    return PolicyTrainingConfig(
        optim=OptimConfig(lr=1e-3), trainer=TrainerConfig(max_steps=steps, **trainer), **options
    )


def _lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_six_steps_as_recorded():
    io = load_golden(GOLDENS / "notagen_rl_tiny/io.safetensors")
    tensors = load_golden(GOLDENS / "notagen_rl_tiny/weights.safetensors")
    tensors = {name: value for name, value in tensors.items() if not name.startswith("policy")}
    config = NotaGenConfig(**{**config_from_tensors(tensors, heads=2).to_dict(), "dropout": 0.0})
    policy = PolicyTraining(config, checkpoint_blocks=True)
    policy.load_state_dict(from_upstream(tensors))
    policy.train()
    pairs = []
    for i in range(2):
        pieces = [io[f"pair{i}.{part}_patches"] for part in ("chosen", "rejected")]
        values = reference_log_probabilities(policy, pieces).tolist()
        pairs.append(Pair(*pieces, tuple(values)))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3, weight_decay=0.01)
    for step in range(6):
        optimizer.zero_grad()
        found = policy(pairs[step % 2])
        found["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        assert float(found["loss"].detach()) == pytest.approx(float(io["train.losses"][step]), abs=1e-3)
        assert float(norm) == pytest.approx(float(io["train.grad_norms_before_clip"][step]), rel=1e-3)
    torch.testing.assert_close(policy.char_decoder.embed.weight.detach(), io["after.wte"], atol=1e-5, rtol=0)


def test_gradients_of_accumulated_pairs_add_up(start):
    policy = PolicyTraining(NotaGenConfig(**{**start.config.to_dict(), "dropout": 0.0}))
    policy.load_state_dict(start.state_dict())
    pieces = [torch.randint(3, 128, (5, PATCH_SIZE)) for _ in range(4)]
    values = (reference_log_probabilities(policy, pieces) + torch.tensor([3.0, 0, -3, 0])).tolist()
    pairs = [Pair(pieces[i], pieces[i + 1], (values[i], values[i + 1])) for i in (0, 2)]
    sums = {}
    for pair in pairs:
        policy.zero_grad()
        (policy(pair)["loss"] / 2).backward()
        for name, parameter in policy.named_parameters():
            sums[name] = sums.get(name, 0) + parameter.grad
    policy.zero_grad()
    for pair in pairs:
        (policy(pair)["loss"] / 2).backward()
    assert sum(float(each.abs().sum()) for each in sums.values()) > 0
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, sums[name])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_prefers_the_chosen_pieces(start, tmp_path, precision):
    before = {name: value.clone() for name, value in start.state_dict().items()}
    result = train_policy(start, PREFERENCES, TEXTS, _config(12, trainer={"precision": precision}), tmp_path)
    lines = _lines(tmp_path)
    assert result.step == len(lines) == 12
    assert lines[0]["loss"] == pytest.approx(LN_2, abs=1e-6 if precision == "fp32" else 1e-3)
    assert lines[0]["margin"] == pytest.approx(0, abs=1e-3)
    assert lines[-1]["loss"] < LN_2 and lines[-1]["accuracy"] == 1
    assert lines[-1]["rejected_change"] < lines[-1]["chosen_change"]
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    policy = from_pretrained(tmp_path / "policy")
    assert policy.config == start.config
    checkpoint = from_pretrained(tmp_path / "checkpoints" / "step-00000012")
    for name, value in policy.state_dict().items():
        torch.testing.assert_close(value, checkpoint.state_dict()[name])
    assert not torch.equal(policy.char_decoder.embed.weight, start.char_decoder.embed.weight)


def test_metrics_of_a_step(start):
    policy = PolicyTraining(NotaGenConfig(**{**start.config.to_dict(), "dropout": 0.0}))
    pieces = [torch.randint(3, 128, (n, PATCH_SIZE)) for n in (5, 3)]
    values = reference_log_probabilities(policy, pieces).tolist()
    found = {
        name: float(value.detach())
        for name, value in policy(Pair(*pieces, (values[0] + 8, values[1] + 6))).items()
    }
    assert found["penalty"] == pytest.approx(8) and found["penalized"] == 1
    assert found["margin"] == pytest.approx(0.1 * (6 - 8)) and found["accuracy"] == 0
    assert found["chosen_change"] == pytest.approx(-8 / (4 * PATCH_SIZE))
    assert found["rejected_change"] == pytest.approx(-6 / (2 * PATCH_SIZE))
    assert found["loss"] == pytest.approx(math.log1p(math.exp(0.1 * (2 + 80))), rel=1e-5)
    assert characters(pieces[0]) == 4 * PATCH_SIZE


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_stopped_and_resumed_is_the_same(start, tmp_path, dropout):
    config = _config(policy_dropout=dropout)
    train_policy(start, PREFERENCES, TEXTS, config, tmp_path / "whole")
    train_policy(start, PREFERENCES, TEXTS, _config(3, policy_dropout=dropout), tmp_path / "parts")
    assert (tmp_path / "parts/checkpoints/step-00000003").is_dir()
    train_policy(start, PREFERENCES, TEXTS, config, tmp_path / "parts")
    for name in ("metrics.jsonl", "ref_logps.safetensors", "policy/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_signal_leaves_no_policy(start, tmp_path):
    def interrupt():
        while not (tmp_path / "checkpoints").is_dir():
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.main_thread().ident
    threading.Thread(target=interrupt, daemon=True).start()
    result = train_policy(start, PREFERENCES, TEXTS, _config(100_000, trainer={"save_every": 1}), tmp_path)
    assert result.interrupted and result.step < 100_000
    assert not (tmp_path / "policy").exists()


def test_values_of_the_reference_are_computed_once(start, tmp_path, monkeypatch):
    calls = []
    compute = training.reference_log_probabilities

    def counted(policy, pieces, **options):
        calls.append(len(pieces))
        return compute(policy, pieces, **options)

    monkeypatch.setattr(training, "reference_log_probabilities", counted)
    train_policy(start, PREFERENCES, TEXTS, _config(2), tmp_path)
    crops = calls[0]
    assert crops > 4 and calls[1:] == [
        2
    ]  # a piece that is longer than the context has several; then the check
    train_policy(start, PREFERENCES, TEXTS, _config(3), tmp_path)
    assert calls[2:] == [2]
    changed = TEXTS | {"bad1": _piece("D8")}
    train_policy(start, PREFERENCES, changed, _config(4), tmp_path)
    assert calls[3:] == [crops, 2]


def test_another_reference_is_noticed_at_every_start(start, tmp_path):
    train_policy(start, PREFERENCES, TEXTS, _config(2), tmp_path)
    file = tmp_path / "ref_logps.safetensors"
    stored = load_golden(file)
    stored["log_probabilities"][0] += 1
    save_tensors(file, {name: value.clone() for name, value in stored.items()})
    with pytest.raises(PentatonicError, match=r"must be ln 2 \(0.69314718\) to 1e-06"):
        train_policy(start, PREFERENCES, TEXTS, _config(4), tmp_path)


def test_first_loss_by_precision(start):
    policy = PolicyTraining(start.config)
    pieces = [torch.randint(3, 128, (4, PATCH_SIZE)) for _ in range(2)]
    chosen, rejected = reference_log_probabilities(policy, pieces).tolist()
    pair = Pair(*pieces, (chosen - 1e-3, rejected))
    check_first_loss(policy, pair, "bf16")
    with pytest.raises(PentatonicError, match="policy and reference differ"):
        check_first_loss(policy, pair, "fp32")


def test_pairs_and_crops():
    crops = [[torch.full((2, 16), 10 * i + j) for j in range(3)] for i in range(4)]
    data = PairDataset(PREFERENCES, crops[:2], crops[2:], seed=1)
    assert len(data) == 4 and len(data.crops()) == 12
    data.references = {key: float(patches[0, 0]) for key, patches in data.crops().items()}
    seen = set()
    for epoch in range(20):
        pair = data[ItemKey(epoch, 1)]
        assert pair.reference == (float(pair.chosen[0, 0]), float(pair.rejected[0, 0]))
        assert 0 <= pair.reference[0] <= 2 and 30 <= pair.reference[1] <= 32
        again = data[ItemKey(epoch, 1)]
        assert pair.reference == again.reference
        seen.add(pair.reference)
    assert len(seen) > 4


def test_blocks_around_pairs():
    crops = [[torch.full((2, 16), 10 * i + j) for j in range(2)] for i in range(7)]
    pairs = ((0, 0), (0, 1), (1, 0), (2, 3))
    preferences = Preferences(("a", "b", "c"), ("d", "e", "f", "g"), pairs)
    data = PairDataset(preferences, crops[:3], crops[3:], block=2)
    data.references = {key: float(patches[0, 0]) for key, patches in data.crops().items()}
    for number, (first, second) in enumerate(pairs):
        block = data[ItemKey(0, number)]
        chosen = [int(piece[0, 0]) // 10 for piece in block.chosen]
        rejected = [int(piece[0, 0]) // 10 - 3 for piece in block.rejected]
        assert (chosen[0], rejected[0]) == (first, second) and block.paired[0, 0]
        assert block.paired.tolist() == [[(i, j) in pairs for j in rejected] for i in chosen]
        assert [float(piece[0, 0]) for piece in block.chosen] == block.reference_chosen.tolist()
        assert [float(piece[0, 0]) for piece in block.rejected] == block.reference_rejected.tolist()
        sizes = {(0, 0): (2, 2), (0, 1): (1, 2), (1, 0): (2, 1), (2, 3): (1, 1)}
        assert (len(set(chosen)), len(set(rejected))) == sizes[first, second]
    everything = PairDataset(Preferences(("a", "b"), ("c", "d", "e")), crops[:2], crops[2:5], block=9)
    everything.references = {key: 0.0 for key in everything.crops()}
    assert everything[ItemKey(0, 3)].paired.shape == (2, 3) and everything[ItemKey(0, 3)].paired.all()


def test_metrics_and_gradient_of_a_block_are_means_of_pairs(start):
    policy = PolicyTraining(NotaGenConfig(**{**start.config.to_dict(), "dropout": 0.0}))
    pieces = [torch.randint(3, 128, (n, PATCH_SIZE)) for n in (5, 3, 4, 6)]
    values = reference_log_probabilities(policy, pieces) + torch.tensor([3.0, -2, 1, -4])
    paired = torch.tensor([[True, True], [False, True]])
    means, gradients = {}, {}
    for i, j in paired.nonzero().tolist():
        policy.zero_grad()
        found = policy(Pair(pieces[i], pieces[2 + j], (float(values[i]), float(values[2 + j]))))
        found["loss"].backward()
        for name, value in found.items():
            means[name] = means.get(name, 0) + value.detach() / 3
        for name, parameter in policy.named_parameters():
            gradients[name] = gradients.get(name, 0) + parameter.grad / 3
    policy.zero_grad()
    found = policy(Block(tuple(pieces[:2]), tuple(pieces[2:]), values[:2], values[2:], paired))
    found["loss"].backward()
    for name, value in found.items():
        torch.testing.assert_close(value.detach(), means[name], msg=name)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-4, rtol=1e-4)


def test_training_in_blocks(start, tmp_path):
    train_policy(start, PREFERENCES, TEXTS, _config(block=2), tmp_path / "whole")
    losses = [line["loss"] for line in _lines(tmp_path / "whole")]
    assert losses[0] == pytest.approx(LN_2, abs=1e-6) and losses[-1] < LN_2
    train_policy(start, PREFERENCES, TEXTS, _config(3, block=2), tmp_path / "parts")
    train_policy(start, PREFERENCES, TEXTS, _config(block=2), tmp_path / "parts")
    for name in ("metrics.jsonl", "policy/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    with pytest.raises(ConfigError, match="block is 0, but must be at least 1"):
        train_policy(start, PREFERENCES, TEXTS, _config(block=0), tmp_path / "none")


def test_bad_input(start, tmp_path):
    with pytest.raises(InputError, match="no pairs"):
        train_policy(start, Preferences(("good1",), ()), TEXTS, _config(), tmp_path)
    with pytest.raises(InputError, match="the text of bad1 is missing"):
        train_policy(start, PREFERENCES, {"good1": "", "good2": ""}, _config(), tmp_path)
    with pytest.raises(FormatError, match=r"good2:1:1: the character 'é' has no id"):
        train_policy(start, PREFERENCES, TEXTS | {"good2": "é"}, _config(), tmp_path)
    with pytest.raises(ConfigError, match="beta must be above 0"):
        train_policy(start, PREFERENCES, TEXTS, _config(beta=0), tmp_path)
    assert not any(tmp_path.iterdir())
