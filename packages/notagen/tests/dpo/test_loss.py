"""Loss and gradients of DPO-positive against recorded numbers, and the gradient of a policy."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file as load_golden

from notagen.dpo.gradient import block_gradient, pair_gradient
from notagen.dpo.log_probability import add_gradient, log_probability, reference_log_probabilities
from notagen.dpo.loss import pair_losses
from notagen.model import NotaGen, NotaGenConfig
from notagen.training.objective import NotaGenTraining
from notagen.weights import config_from_tensors, from_upstream
from pentatonic.errors import UsageError

GOLDENS = Path(__file__).parents[1] / "goldens/clamp2"
LOSSES = json.loads((GOLDENS / "dpo_loss.json").read_text())
LN_2 = math.log(2)


@pytest.fixture(scope="module")
def io():
    return load_golden(GOLDENS / "notagen_rl_tiny/io.safetensors")


def _model(prefix="", kind=NotaGen, **options):
    """Return the recorded model, or the perturbed one."""
    tensors = load_golden(GOLDENS / "notagen_rl_tiny/weights.safetensors")
    tensors = {
        k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith("policy") == bool(prefix)
    }
    config = config_from_tensors(tensors, heads=2)
    model = kind(NotaGenConfig(**{**config.to_dict(), "dropout": 0.0}), **options)
    model.load_state_dict(from_upstream(tensors))
    return model


@pytest.fixture
def reference():
    return _model()


def _double(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@pytest.mark.parametrize("case", LOSSES["cases"], ids=[str(i) for i in range(len(LOSSES["cases"]))])
def test_losses_as_recorded(case):
    values = _double(*(case[key] for key in ("policy_pos", "policy_neg", "ref_pos", "ref_neg")))
    losses = pair_losses(*values, beta=case["beta"], lam=case["lam"])
    assert float(losses.loss) == pytest.approx(case["loss"], rel=1e-9)
    assert float(losses.chosen_gradient) == pytest.approx(case["grad_policy_pos"], rel=1e-9)
    assert float(losses.rejected_gradient) == pytest.approx(case["grad_policy_neg"], rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(*[st.floats(-3000, -10)] * 4, st.floats(0.01, 1), st.floats(0, 20))
def test_gradients_in_closed_form_are_those_of_autograd(w, r, ref_w, ref_r, beta, lam):
    chosen, rejected = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (w, r))
    of_chosen, of_rejected = _double(ref_w, ref_r)
    z = beta * ((chosen - rejected) - (of_chosen - of_rejected) - lam * torch.relu(of_chosen - chosen))
    loss = torch.logaddexp(torch.zeros_like(z), -z)
    loss.backward()
    losses = pair_losses(chosen, rejected, of_chosen, of_rejected, beta=beta, lam=lam)
    torch.testing.assert_close(losses.loss, loss.detach(), rtol=1e-9, atol=1e-300)
    torch.testing.assert_close(losses.chosen_gradient, chosen.grad, rtol=1e-9, atol=1e-300)
    torch.testing.assert_close(losses.rejected_gradient, rejected.grad, rtol=1e-9, atol=1e-300)


def test_settings_out_of_range():
    with pytest.raises(UsageError, match="beta must be above 0"):
        pair_losses(*_double(0.0, 0.0, 0.0, 0.0), beta=0)


@pytest.mark.parametrize(("prefix", "name"), [("", "ref"), ("policy_perturbed.", "policy")])
@pytest.mark.parametrize("chunk", [3, 256])
def test_log_probabilities_as_recorded(io, prefix, name, chunk):
    model = _model(prefix)
    for pair in ("pair0", "pair1"):
        for part in ("chosen", "rejected"):
            value = log_probability(model, io[f"{pair}.{part}_patches"], chunk=chunk)
            torch.testing.assert_close(
                value.detach()[None].float(), io[f"{pair}.{name}_{part}_logp"], rtol=2e-4, atol=0
            )


def test_loss_of_another_policy_as_recorded(io):
    policy = _model("policy_perturbed.")
    for pair in ("pair0", "pair1"):
        values = [io[f"{pair}.ref_{part}_logp"].double()[0] for part in ("chosen", "rejected")]
        patches = [io[f"{pair}.{part}_patches"] for part in ("chosen", "rejected")]
        losses = pair_gradient(policy, *patches, (float(values[0]), float(values[1])))
        assert float(losses.loss) == pytest.approx(float(io[f"{pair}.loss_perturbed_policy"]), abs=1e-3)


@pytest.mark.parametrize("kind", [NotaGen, NotaGenTraining])
def test_six_steps_as_recorded(io, kind):
    options = {"checkpoint_blocks": True} if kind is NotaGenTraining else {}
    policy = _model(kind=kind, **options)
    pieces = [[io[f"pair{i}.{part}_patches"] for part in ("chosen", "rejected")] for i in range(2)]
    references = [reference_log_probabilities(policy, pair).tolist() for pair in pieces]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3, weight_decay=0.01)
    for step in range(6):
        losses = pair_gradient(policy, *pieces[step % 2], tuple(references[step % 2]), chunk=10)
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        assert float(losses.loss) == pytest.approx(float(io["train.losses"][step]), abs=1e-3)
        assert float(norm) == pytest.approx(float(io["train.grad_norms_before_clip"][step]), rel=1e-3)
        if step == 0:
            assert float(losses.loss) == pytest.approx(LN_2, abs=1e-6)
    for i, pair in enumerate(pieces):
        for part, piece in zip(("chosen", "rejected"), pair, strict=True):
            value = log_probability(policy, piece).detach()[None].float()
            torch.testing.assert_close(value, io[f"pair{i}.after_{part}_logp"], rtol=2e-4, atol=0)
    torch.testing.assert_close(
        policy.patch_decoder.embed_bias.detach(), io["after.patch_embedding.bias"], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(policy.char_decoder.embed.weight.detach(), io["after.wte"], atol=1e-5, rtol=0)


def _gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def _assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        scale = max(float(other[name].abs().max()), 1e-6)
        torch.testing.assert_close(one[name] / scale, other[name] / scale, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_gradient_of_a_pair_is_that_of_both_pieces_together(io, shift):
    policy = _model("policy_perturbed.")
    chosen, rejected = io["pair1.chosen_patches"], io["pair1.rejected_patches"]
    chosen_value, rejected_value = reference_log_probabilities(policy, [chosen, rejected]).tolist()
    references = chosen_value + shift, rejected_value + 1
    values = [log_probability(policy, piece) for piece in (chosen, rejected)]
    difference = values[0] - values[1] - (references[0] - references[1])
    penalty = torch.relu(references[0] - values[0])
    loss = -torch.nn.functional.logsigmoid(0.1 * (difference - 10 * penalty))
    loss.backward()
    together = _gradients(policy)
    losses = pair_gradient(policy, chosen, rejected, references, chunk=7)
    assert float(losses.loss) == pytest.approx(float(loss.detach()), abs=1e-4)
    _assert_same(_gradients(policy), together)


@pytest.mark.parametrize(
    "paired", [None, [[True, True, True], [False, False, True]]], ids=["all pairs", "some pairs"]
)
def test_gradient_of_a_block_is_the_mean_of_its_pairs(io, paired):
    policy = _model("policy_perturbed.")
    chosen = [io["pair0.chosen_patches"], io["pair1.chosen_patches"]]
    rejected = [io["pair0.rejected_patches"], io["pair1.rejected_patches"], io["pair0.chosen_patches"]]
    reference = _model()
    of_chosen = reference_log_probabilities(reference, chosen)
    of_rejected = reference_log_probabilities(reference, rejected)
    mask = torch.ones(2, 3, dtype=torch.bool) if paired is None else torch.tensor(paired)
    sums = {}
    for i, one in enumerate(chosen):
        for j, other in enumerate(rejected):
            if not mask[i, j]:
                continue
            pair_gradient(policy, one, other, (float(of_chosen[i]), float(of_rejected[j])))
            for name, gradient in _gradients(policy).items():
                sums[name] = sums.get(name, 0) + gradient / mask.sum()
    policy.zero_grad()
    given = None if paired is None else mask
    losses = block_gradient(policy, chosen, rejected, of_chosen, of_rejected, paired=given)
    assert losses.loss.shape == (2, 3)
    _assert_same(_gradients(policy), sums)


def test_chunks_add_up_to_the_whole_gradient(io, reference):
    patches = io["pair1.rejected_patches"]
    (0.5 * log_probability(reference, patches)).backward()
    whole = _gradients(reference)
    for chunk in (1, 5, 256):
        reference.zero_grad()
        value = add_gradient(reference, patches, 0.5, chunk=chunk)
        torch.testing.assert_close(value, log_probability(reference, patches).detach())
        _assert_same(_gradients(reference), whole)


def test_equal_to_the_log_probabilities_of_the_model(io, reference):
    patches = io["pair0.chosen_patches"]
    mask = torch.ones(1, len(patches), dtype=torch.bool)
    expected = reference.log_probabilities(patches[None], mask)[0]
    torch.testing.assert_close(log_probability(reference, patches).float(), expected)


def test_reference_and_loss_without_dropout(io):
    policy = _model()
    config = NotaGenConfig(**{**policy.config.to_dict(), "dropout": 0.3})
    noisy = NotaGen(config)
    noisy.load_state_dict(policy.state_dict())
    noisy.train()
    chosen, rejected = io["pair0.chosen_patches"], io["pair0.rejected_patches"]
    values = reference_log_probabilities(noisy, [chosen, rejected])
    assert noisy.training
    torch.testing.assert_close(values[0], log_probability(policy, chosen).detach())
    losses = pair_gradient(noisy, chosen, rejected, (float(values[0]), float(values[1])))
    assert float(losses.loss.mean()) == pytest.approx(LN_2, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_first_loss_is_ln_2_in_every_precision(io, dtype):
    policy = _model().to(dtype)
    pieces = io["pair1.chosen_patches"], io["pair1.rejected_patches"]
    values = reference_log_probabilities(policy, pieces)
    losses = pair_gradient(policy, *pieces, (float(values[0]), float(values[1])))
    assert float(losses.loss) == pytest.approx(LN_2, abs=1e-6)


def test_bad_input(reference):
    with pytest.raises(UsageError, match=r"patches must be \(N, 16\)"):
        log_probability(reference, torch.ones(1, 16, dtype=torch.long))
    with pytest.raises(UsageError, match="chunk must be at least 1"):
        log_probability(reference, torch.ones(2, 16, dtype=torch.long), chunk=0)
    with pytest.raises(UsageError, match="cannot be trained"):
        add_gradient(reference.requires_grad_(False), torch.ones(2, 16, dtype=torch.long), 1.0)
