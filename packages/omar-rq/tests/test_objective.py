"""The pre-training task: recorded numbers of the original, and the loss where it could go wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from omar_rq import gin
from omar_rq.config import (
    ConformerConfig,
    CQTConfig,
    EncodecConfig,
    MelFrontendConfig,
    ModelConfig,
    QuantizerConfig,
)
from omar_rq.training import objective as pretraining
from omar_rq.training.masking import mask_patches, mask_window_tokens
from omar_rq.training.objective import MaskedPrediction
from omar_rq.weights import from_upstream
from pentatonic.errors import ConfigError
from pentatonic.training import StepContext

GOLDENS = Path(__file__).parent / "goldens"
MEL = MelFrontendConfig()
CQT = CQTConfig(sample_rate=16000, hop_length=256, n_bins=144, patch_size=(144, 4))


def small(**changes) -> ModelConfig:
    config = ModelConfig(
        input=MEL,
        targets=(MEL, CQT),
        net=ConformerConfig(embed_dim=16, depth=1, num_heads=2, dropout=0.0),
        quantizer=QuantizerConfig(num_codebooks=2, codebook_size=32),
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    "case", ["model_mel_tiny", "model_multifeature_rpq_tiny", "model_multifeature_fsq_tiny"]
)
def test_training_forward_equals_the_original(case, golden, golden_weights, signal, encodec):
    recorded, meta = golden(case)
    weights = golden_weights(case)
    text = (GOLDENS / case / "config.gin").read_text()
    if meta["encodec_weights"]:
        text += f'\nnets.encodec.EnCodec.weights_path = "{encodec}"\n'
    config = gin.model_config(gin.parse(text))
    module = MaskedPrediction(config)
    module.encoder.load_state_dict(from_upstream(weights, config), strict=False)
    module.head.load_state_dict({"weight": weights["linear.weight"], "bias": weights["linear.bias"]})
    module.eval()
    rate = "16k" if config.sample_rate == 16000 else "24k"
    audio = torch.stack([signal(f"{row}_{rate}", 2 * config.sample_rate) for row in "ab"])

    torch.manual_seed(meta["train_seed"])
    with torch.no_grad():
        metrics = module(audio)
    assert metrics["loss"].item() == pytest.approx(recorded["train.loss"].item(), abs=5e-6)
    assert metrics["accuracy"].item() == pytest.approx(recorded["train.acc"].item(), abs=1e-6)

    patches, tokens = module.patches_and_tokens(audio)
    torch.testing.assert_close(tokens, recorded["train.tokens"], rtol=0, atol=0)
    torch.manual_seed(meta["train_seed"])
    masked, mask = mask_patches(
        patches, config.masking, window=mask_window_tokens(config.masking, config.input)
    )
    torch.testing.assert_close(mask, recorded["train.mask"], rtol=0, atol=0)
    torch.testing.assert_close(masked[:, :12, :16], recorded["train.masked_patches_first12_dims16"])
    with torch.no_grad():
        logits = module.logits(module.encoder.trunk(module.encoder.embed(masked))[0][:, :12])
    torch.testing.assert_close(logits, recorded["train.logits_first12"], rtol=0, atol=5e-6)


def test_loss_and_accuracy_equal_a_plain_computation():
    torch.manual_seed(0)
    module = MaskedPrediction(small())
    hidden, tokens = torch.randn(9, 16), torch.randint(32, (9, 4))
    metrics = module.prediction_loss(hidden, tokens)
    weight, bias = module.head.weight, module.head.bias
    losses, hits = [], []
    for stream in range(4):  # column class * K + stream
        logits = hidden @ weight[stream::4].T + bias[stream::4]
        losses.append(F.cross_entropy(logits, tokens[:, stream]))
        hits.append((logits.argmax(1) == tokens[:, stream]).float().mean())
    torch.testing.assert_close(metrics["loss"], torch.stack(losses).mean())
    torch.testing.assert_close(metrics["accuracy"], torch.stack(hits).mean())
    torch.testing.assert_close(metrics["loss/cqt0"], losses[2].detach())


def test_slices_of_rows_change_neither_loss_nor_gradients(monkeypatch):
    torch.manual_seed(0)
    module = MaskedPrediction(small())
    hidden, tokens = torch.randn(50, 16), torch.randint(32, (50, 4))
    results = []
    for rows in (7, 1000):
        monkeypatch.setattr(pretraining, "HEAD_ROWS", rows)
        module.zero_grad()
        loss = module.prediction_loss(hidden, tokens)["loss"]
        loss.backward()
        results.append((loss.detach(), module.head.weight.grad.clone()))
    torch.testing.assert_close(results[0], results[1])


def test_a_batch_without_masked_tokens_gives_zero_loss_with_a_gradient():
    config = small()
    module = MaskedPrediction(
        dataclasses.replace(config, masking=dataclasses.replace(config.masking, prob=0.0))
    )
    metrics = module(torch.randn(2, 16000), StepContext(0, 0, 0, 0))
    metrics["loss"].backward()
    assert metrics["loss"].item() == 0.0
    gradients = [p.grad for p in module.parameters() if p.requires_grad]
    assert all(gradient is not None and torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_every_trained_parameter_gets_a_gradient():
    module = MaskedPrediction(small())
    module(torch.randn(2, 32000), StepContext(0, 0, 0, 0))["loss"].backward()
    without = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_masks_differ_between_ranks_and_steps_and_repeat_for_the_same():
    config = small()
    module = MaskedPrediction(config).eval()
    audio = torch.randn(2, 64000, generator=torch.Generator().manual_seed(1))

    def loss(rank: int, step: int) -> float:
        with torch.no_grad():
            return module(audio, StepContext(0, rank, step, 0))["loss"].item()

    assert loss(0, 3) == loss(0, 3)
    assert len({loss(0, 3), loss(1, 3), loss(0, 4)}) == 3


def test_token_usage_counts_in_training_only():
    module = MaskedPrediction(small())
    audio = torch.randn(2, 32000)
    module.eval()
    module(audio, StepContext(0, 0, 0, 0))
    assert module.token_counts.sum() == 0
    module.train()
    metrics = module(audio, StepContext(0, 0, 0, 0))
    tokens = module.tokenizer(audio)
    assert module.token_counts[0].sum() == tokens[..., 0].numel()
    assert metrics["used/mel0"].item() == pytest.approx(len(tokens[..., 0].unique()) / 32)
    share = torch.bincount(tokens[..., 0].flatten()) / tokens[..., 0].numel()
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    assert metrics["perplexity/mel0"].item() == pytest.approx(entropy.exp().item(), rel=1e-4)


def test_an_encoder_without_targets_cannot_be_trained():
    with pytest.raises(ConfigError, match="targets"):
        MaskedPrediction(small(targets=()))
    with pytest.raises(ConfigError, match="quantizer"):
        MaskedPrediction(small(quantizer=None))


def test_encodec_target_needs_weights():
    with pytest.raises(ConfigError, match="weights_path"):
        MaskedPrediction(small(targets=(EncodecConfig(weights_path=None, sample_rate=16000),)))
