"""Metrics of evaluation, against the original's."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cm3p.metrics.evaluation import EvaluationMetrics, Outputs, batch_counts, own_logits

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((GOLDENS / "metrics" / "cases.json").read_text(encoding="utf-8"))


def _outputs(case: dict) -> Outputs:
    logits, labels = torch.tensor(case["logits"]), torch.tensor(case["labels"])
    if "classes" not in case:
        return Outputs(class_logits=logits, class_labels=labels)
    return Outputs(
        token_logits=logits,
        token_labels=labels,
        own_logits=own_logits(torch.tensor(case["logits_per_beatmap"])),
        variation_classes=torch.tensor(case["classes"]),
    )


@pytest.mark.parametrize("kind", ["contrastive_and_mlm", "classification"])
def test_metrics_equal_the_original(golden: dict, kind: str) -> None:
    metrics = EvaluationMetrics()
    for _ in range(2):  # the second time shows that nothing is left of the first
        for case in golden[kind]:
            last = case["returned"] is not None
            prediction = SimpleNamespace(predictions=batch_counts(_outputs(case))[None].numpy())
            result = metrics(prediction, compute_result=last)
            if last:
                assert result == pytest.approx(case["returned"], abs=1e-12)


def test_counts_of_several_processes_are_summed(golden: dict) -> None:
    cases = golden["contrastive_and_mlm"]
    one, other = EvaluationMetrics(), EvaluationMetrics()
    counts = [batch_counts(_outputs(case)) for case in cases]
    for each in counts:
        one.add(each)
    other.add(torch.stack(counts))
    assert one.result() == other.result() == pytest.approx(cases[-1]["returned"])


def test_no_questions_no_metrics() -> None:
    metrics = EvaluationMetrics()
    only_padding = torch.tensor([[0, -1, -1]])
    metrics.add(batch_counts(Outputs(own_logits=torch.zeros(1, 3), variation_classes=only_padding)))
    assert metrics.result() == {}
