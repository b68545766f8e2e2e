"""The packed loss against the plain one, and what saves memory."""

import pytest
import torch

from notagen.model import NotaGen, NotaGenConfig
from notagen.training.data import collate
from notagen.training.objective import NotaGenTraining
from pentatonic.training import StepContext

TINY = NotaGenConfig(patch_layers=2, char_layers=2, width=32, heads=4, patch_length=24, dropout=0.0)


def pieces(*lengths, seed=0):
    """Random pieces whose patches have 1 to 16 characters."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        patches = torch.randint(3, 128, (length, 16), generator=generator)
        ends = torch.randint(1, 17, (length, 1), generator=generator)
        made.append(patches * (torch.arange(16) < ends))
    return made


def model(**options):
    torch.manual_seed(0)
    return NotaGenTraining(TINY, **options).train()


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_loss_and_gradients_are_those_of_the_padded_computation():
    module, items = model(), pieces(24, 3, 9, 2, 1, 20)
    patches = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    mask = torch.arange(24) < torch.tensor([len(item) for item in items])[:, None]
    expected = module.loss(patches, mask)
    expected.backward()
    plain = gradients(module)
    module.zero_grad()
    outputs = module(collate(items))
    torch.testing.assert_close(outputs["loss"], expected, rtol=1e-6, atol=1e-6)
    assert outputs["characters"] == sum(int((item[1:] != 0).sum()) for item in items)
    outputs["loss"].backward()
    packed = gradients(module)
    assert plain.keys() == packed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(packed[name], gradient, rtol=1e-4, atol=1e-6)


def test_tensors_are_those_of_the_model():
    module = model(checkpoint_blocks=True)
    plain = NotaGen(TINY)
    plain.load_state_dict(module.state_dict())
    assert [*plain.state_dict()] == [*module.state_dict()]


def test_recomputed_blocks_give_the_same_gradients():
    batch = collate(pieces(20, 7, 12))
    results = []
    for options in ({}, {"checkpoint_blocks": True}):
        module = model(**options)
        module(batch)["loss"].backward()
        results.append(gradients(module))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_recomputed_blocks_keep_less(monkeypatch):
    batch, saved = collate(pieces(24, 24, 24)), []
    for options in ({}, {"checkpoint_blocks": True}):
        total = 0

        def keep(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(**options)(batch)
        saved.append(total)
    assert saved[1] < saved[0] / 2


def test_a_sample_of_patches_bounds_what_is_counted():
    module, batch = model(sampled_patches=10), collate(pieces(24, 12, 12))
    draws = [module(batch, StepContext(0, 0, step, 0)) for step in (0, 0, 1)]
    assert torch.equal(draws[0]["loss"], draws[1]["loss"])
    assert not torch.equal(draws[0]["loss"], draws[2]["loss"])
    assert all(10 <= draw["characters"] <= 160 for draw in draws)
    module.sampled_patches = 1000
    assert torch.equal(module(batch)["loss"], model()(batch)["loss"])


def test_the_mean_over_samples_is_the_loss():
    module, batch = model(sampled_patches=20), collate(pieces(24, 24))
    with torch.no_grad():
        sums = [module(batch, StepContext(0, 0, step, 0)) for step in range(30)]
        mean = sum(s["loss"] * s["characters"] for s in sums) / sum(s["characters"] for s in sums)
        whole = model()(batch)["loss"]
    assert abs(mean - whole) < 0.05 * whole


def test_processes_are_weighted_by_their_characters(monkeypatch):
    """Two processes with unequal batches: the mean of their gradients is that of one batch of all pieces."""
    module, items = model(), pieces(24, 2)
    module(collate(items))["loss"].backward()
    expected = gradients(module)
    counts = [int((item[1:] != 0).sum()) for item in items]
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: tensor.fill_(float(sum(counts))))
    parts = []
    for item in items:
        module.zero_grad()
        module(collate([item]))["loss"].backward()
        parts.append(gradients(module))
    for name, gradient in expected.items():
        mean = (parts[0].get(name, 0) + parts[1].get(name, 0)) / 2
        torch.testing.assert_close(mean, gradient, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_close():
    module, batch = model(), collate(pieces(24, 12))
    with torch.autocast("cpu", torch.bfloat16):
        half = module(batch)["loss"]
    assert half.dtype == torch.float32
    assert float(half.detach()) == pytest.approx(float(module(batch)["loss"].detach()), rel=5e-3)
