"""The loss of masked tokens without the logits of all the others."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from cm3p.configuration import CM3PConfig
from cm3p.model import CM3PModel

GOLDENS = Path(__file__).parents[1] / "goldens" / "full_decoder_mlm"


def test_loss_and_gradients_are_those_of_all_logits() -> None:
    config = json.loads((GOLDENS / "meta.json").read_text())["config"]
    model = CM3PModel(CM3PConfig(**config))
    model.load_state_dict(load_file(GOLDENS / "weights.safetensors"), strict=False)
    torch.manual_seed(0)
    ids = torch.randint(5, 30, (3, 12))
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.6, -100)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    results = []
    for only in (False, True):
        model.loss_options = replace(model.loss_options, labelled_logits_only=only)
        model.zero_grad()
        output = model(input_ids=ids, attention_mask=mask, labels=labels.masked_fill(mask == 0, -100))
        output.loss.backward()
        assert (output.logits is None) == only
        results.append((output.loss.detach(), model.decoder.weight.grad.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-7)
