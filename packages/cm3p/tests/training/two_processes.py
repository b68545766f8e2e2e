"""Trains four steps on fixed batches, of which each process takes its share.

Arguments: the run folder; ``all``, or ``unfrozen later``: the beatmap tower is frozen for two steps.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from cm3p.configuration import CM3PBeatmapConfig, CM3PConfig, CM3PMetadataConfig
from cm3p.losses import LossOptions
from cm3p.model import CM3PModel
from cm3p.training.trainer import BeatmapTrainer, Freezing, Log
from pentatonic.training.metrics import MetricsLog

WINDOWS, LENGTH, VARIATIONS, VOCABULARY = 8, 20, 4, 50


class Batches:
    """The windows of this process, of batches that are the same in all of them."""

    dataset = None

    def __init__(self, rank: int, processes: int) -> None:
        self.share = slice(rank * WINDOWS // processes, (rank + 1) * WINDOWS // processes)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(8):
            ids = torch.randint(5, VOCABULARY, (WINDOWS, LENGTH), generator=generator)
            chosen = torch.rand(ids.shape, generator=generator) < 0.3
            chosen[WINDOWS // 2 :, 10:] = False  # the processes have different numbers of labels
            classes = torch.tensor([0, 1, 2, -1]).expand(WINDOWS, -1)
            batch = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "labels": ids.masked_fill(~chosen, -100),
                "metadata_ids": torch.randint(5, 30, (WINDOWS, VARIATIONS, 6), generator=generator),
                "metadata_attention_mask": torch.ones(WINDOWS, VARIATIONS, 6, dtype=torch.int64),
                "metadata_variation_classes": classes,
            }
            yield {name: value[self.share].contiguous() for name, value in batch.items()}


class TowerChange(TrainerCallback):
    """Logs how far the parameters of the beatmap tower are from where they began, after each step."""

    def __init__(self, tower: Any, log: MetricsLog | None) -> None:
        self.tower, self.log = tower, log
        self.before = [each.detach().clone() for each in tower.parameters()]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        pairs = zip(self.tower.parameters(), self.before, strict=True)
        change = sum(float((now - before).abs().sum()) for now, before in pairs)
        if self.log is not None:
            self.log.write({"step": state.global_step, "tower_change": change})


def main(run_dir: str, mode: str) -> None:
    """Train; the first process writes the model and ``metrics.jsonl``."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    audio = {**sizes, "projector_dim": 16}
    arguments = TrainingArguments(
        run_dir,
        use_cpu=True,
        max_steps=4,
        per_device_train_batch_size=WINDOWS,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        logging_steps=1,
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=4,
        batch_eval_metrics=True,
        report_to=[],
        ddp_find_unused_parameters=True,  # there is no audio
    )
    torch.manual_seed(0)
    tower = CM3PBeatmapConfig(**sizes, vocab_size=VOCABULARY, audio_token_id=4, audio_config=audio)
    metadata = CM3PMetadataConfig(**sizes, vocab_size=30)
    model = CM3PModel(
        CM3PConfig(beatmap_config=tower, metadata_config=metadata, projection_dim=8, has_decoder_head=True)
    )
    rank = int(os.environ.get("RANK", "0"))
    loader: Any = Batches(rank, int(os.environ.get("WORLD_SIZE", "1")))
    Path(run_dir).mkdir(exist_ok=True)
    log = MetricsLog(Path(run_dir) / "metrics.jsonl", 0) if rank == 0 else None
    frozen = [] if mode == "all" else [Freezing(model.beatmap_model, 2)]
    trainer = BeatmapTrainer(
        model,
        arguments,
        train_loader=loader,
        eval_loader=loader,
        losses=(LossOptions(0.5, 0.5, gather=True), LossOptions(gather=True)),
        save_total_limit=None,
        callbacks=[Log(log), TowerChange(model.beatmap_model, log), *frozen],
    )
    trainer.train()
    trainer.save_model()


main(sys.argv[1], sys.argv[2])
