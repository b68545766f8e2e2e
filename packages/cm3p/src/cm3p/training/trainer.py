"""The Trainer of transformers, with our loaders, losses, metrics and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from cm3p.losses import LossOptions
from cm3p.metrics.evaluation import EvaluationMetrics, Outputs, batch_counts, own_logits
from cm3p.model import CM3PModel, CM3PPreTrainedModel
from cm3p.training import run_folder
from cm3p.training.data import WindowLoader
from pentatonic.errors import PentatonicError
from pentatonic.training.interruption import StopRequest
from pentatonic.training.metrics import MetricsLog

_NOT_FOR_MODELS = ("beatmap_id",)
# What differs between a run and the same run that was stopped and continued.
_UNSTABLE = ("epoch", "total_flos", "train_loss")
_SCALE = "logit_scale"  # the one parameter that is a scalar
_TIMES = ("_runtime", "_per_second", "_preparation_time")


class EvaluationStopped(Exception):
    """A signal came while a model was evaluated."""


class BeatmapTrainer(Trainer):
    """Trainer over :class:`cm3p.training.data.WindowLoader`.

    Args:
        model: The model.
        args: Arguments of the Trainer.
        train_loader: Batches of training.
        eval_loader: Batches of evaluation.
        losses: Options of the full model's loss in training and in evaluation.
        save_total_limit: Checkpoints that are kept.
        stopping: Says whether a signal came; also a callback.
        build_optimizer: Makes the optimiser of a model, when training begins; None: the Trainer's own. Sharded training
            takes no optimiser that is made before.
        others: Further arguments of the Trainer.
    """

    def __init__(
        self,
        model: CM3PPreTrainedModel,
        args: TrainingArguments,
        *,
        train_loader: WindowLoader,
        eval_loader: WindowLoader | None,
        losses: tuple[LossOptions, LossOptions],
        save_total_limit: int | None,
        stopping: Stopping | None = None,
        build_optimizer: Callable[[nn.Module], Optimizer] | None = None,
        **others: Any,
    ) -> None:
        self._metrics, self._build_optimizer = EvaluationMetrics(), build_optimizer
        super().__init__(
            model, args, compute_metrics=self._metrics, eval_dataset=cast(Any, eval_loader), **others
        )
        self._loaders = train_loader, eval_loader
        self._losses, self._limit = losses, save_total_limit
        self.stopping = stopping
        self.evaluation_due = False
        self.metrics_log: MetricsLog | None = None
        if self.is_fsdp_enabled:  # which shards vectors, and no scalars
            for parameter in model.parameters():
                parameter.data = torch.atleast_1d(parameter.data)

    def get_train_dataloader(self) -> Any:
        """The batches of training, as they are."""
        return self._loaders[0]

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The batches of evaluation, as they are."""
        return self._loaders[1]

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Make the optimiser, unless there is one."""
        if self.optimizer is None and self._build_optimizer is not None:
            self.optimizer = self._build_optimizer(cast(nn.Module, self.model if model is None else model))
        return super().create_optimizer(model)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of this process.

        The mean over the processes, which data parallel training forms, is the loss of the whole batch: the
        masked-token loss is divided by the labels of all processes, and multiplied by the number of processes.
        """
        plain: Any = self.accelerator.unwrap_model(model)
        if isinstance(plain, CM3PModel):
            plain.loss_options = self._losses[0 if model.training else 1]
        inputs = {name: value for name, value in inputs.items() if name not in _NOT_FOR_MODELS}
        if num_items_in_batch is not None and self.model_accepts_loss_kwargs:
            processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            inputs["num_items_in_batch"] = num_items_in_batch / processes
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Evaluate a batch: its loss, whether or not there are labels, and counts for the metrics.

        Raises:
            EvaluationStopped: A signal came.
        """
        if self.stopping is not None and self.stopping.wanted(self.args.device):
            raise EvaluationStopped
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            items = self._get_num_items_in_batch([inputs], self.args.device)
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True, num_items_in_batch=items)
        labels, counted = inputs.get("labels"), Outputs()
        logits, similar = outputs.get("logits"), outputs.get("logits_per_beatmap")
        if labels is not None and labels.dim() == 1:
            counted = Outputs(class_logits=logits, class_labels=labels)
        elif labels is not None:
            if logits.dim() == 2:  # of the labelled positions alone
                labels = labels[labels != cast(Any, self.model).config.sparse_pred_ignore_index]
            counted = Outputs(token_logits=logits, token_labels=labels)
        if similar is not None and similar.dim() == 3:
            counted = Outputs(
                token_logits=counted.token_logits,
                token_labels=counted.token_labels,
                own_logits=own_logits(similar),
                variation_classes=inputs["metadata_variation_classes"],
            )
        counts = batch_counts(counted)[None].to(loss.device)
        return loss.detach(), counts, counts

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate all batches; raises :class:`PentatonicError` where there are none."""
        self._metrics.reset()
        if self.is_fsdp_enabled and not self.accelerator._models:
            # A model that was not trained before. It is sharded together with an optimiser, or not at all.
            self.create_optimizer()
            self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
            self.model_wrapped = self.model
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics: dict[str, float] = output.metrics or {}
        if f"{prefix}_loss" not in metrics:
            raise PentatonicError(
                "the maps of evaluation do not fill a batch in each process; allowed: more maps, smaller "
                "training.per_device_eval_batch_size, training.dataloader_drop_last=false, training.do_eval=false"
            )
        metrics |= {f"{prefix}_{name}": value for name, value in self._metrics.result().items()}
        return output._replace(metrics=metrics)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate within training. A signal ends both: the checkpoint says that the evaluation is due."""
        try:
            metrics = super()._evaluate(*args, **kwargs)
        except EvaluationStopped:
            self.evaluation_due = True
            assert self.stopping is not None
            self.stopping.stop(self.control)
            return {}
        self.evaluation_due = False
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return False if self.evaluation_due else super()._determine_best_metric(metrics, trial)

    def evaluate_if_due(self) -> None:
        """Evaluate, where a signal prevented it at the step of the checkpoint that training goes on from.

        Raises:
            EvaluationStopped: A signal came again; the checkpoint stays as it is.
        """
        if self.evaluation_due:
            metrics = super()._evaluate(None, None)
            self.evaluation_due = False
            self._determine_best_metric(metrics, None)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the generators, and where the loader is.

        The state of the Trainer, which is written after this, then says that the checkpoint is complete.
        """
        super()._save_rng_state(output_dir)
        state: dict[str, Any] = self._loaders[0].state.to_dict() | {"evaluation_due": self.evaluation_due}
        if self.metrics_log is not None:
            state["metrics_bytes"] = self.metrics_log.sync()
        run_folder.write_loader_state(Path(output_dir), self.args.process_index, state)
        if self.accelerator.num_processes > 1:
            dist.barrier()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            run_dir = Path(str(self.args.output_dir))
            run_folder.publish_model(run_dir, run_dir / f"checkpoint-{self.state.global_step}")
            run_folder.keep_newest(run_dir, self._limit, self.state.best_model_checkpoint)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; of one that is sharded the whole, in all checkpoints."""
        if self.is_fsdp_enabled:
            weights: dict[str, Any] = cast(Any, self.accelerator.get_state_dict(self.model))
            if _SCALE in weights:
                weights[_SCALE] = weights[_SCALE].reshape(())
            self._save(output_dir, weights)
        else:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save model and processor, without the pickled arguments: ``config.yaml`` has them."""
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            (Path(output_dir or str(self.args.output_dir)) / "training_args.bin").unlink(missing_ok=True)


class Freezing(TrainerCallback):
    """Holds a tower fixed until a step; its parameters are in the optimiser from the beginning.

    Args:
        tower: The tower.
        until: Optimiser steps after which it is trained.
    """

    def __init__(self, tower: nn.Module, until: int) -> None:
        self.tower, self.until = tower, until

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freeze, when data parallel training knows all parameters; or not, in a run that goes on after the step."""
        self.tower.requires_grad_(state.global_step >= self.until)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Unfreeze at the end of the step."""
        if state.global_step == self.until:
            self.tower.requires_grad_(True)


class Log(TrainerCallback):
    """Writes each log of the Trainer as a line of JSON, and stops where the loss is not finite.

    Args:
        log: The file; None in all processes but the first.
    """

    def __init__(self, log: MetricsLog | None) -> None:
        self.log = log

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the line; raises :class:`PentatonicError` for a loss that is not finite."""
        numbers = {
            name: value
            for name, value in (logs or {}).items()
            if isinstance(value, int | float) and name not in _UNSTABLE and not name.endswith(_TIMES)
        }
        if self.log is not None and numbers:
            self.log.write({"step": state.global_step, **numbers})
        if not math.isfinite(numbers.get("loss", 0.0)):
            raise PentatonicError(
                f"step {state.global_step}: the loss is {numbers['loss']}. The last checkpoint is good; a lower "
                "training.learning_rate or training.max_grad_norm may help"
            )


class DueEvaluation(TrainerCallback):
    """Makes up for an evaluation before training goes on.

    Args:
        trainer: The trainer.
    """

    def __init__(self, trainer: BeatmapTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate the model of the checkpoint."""
        self.trainer.evaluate_if_due()


class Stopping(TrainerCallback):
    """Ends training after the step in which a signal came to any process, with a checkpoint.

    Args:
        request: The signals of this process.
        processes: Number of processes.
    """

    def __init__(self, request: StopRequest, processes: int) -> None:
        self.request, self.processes = request, processes
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint and the end."""
        if self.wanted(args.device) and state.global_step < state.max_steps:
            self.stop(control)

    def wanted(self, device: torch.device) -> bool:
        """Return whether a signal came to any process; all of them must ask."""
        wanted = self.request.received
        if self.processes > 1:
            flag = torch.tensor(int(wanted), device=device)
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
            wanted = bool(flag)
        return wanted

    def stop(self, control: TrainerControl) -> None:
        """End training, with a checkpoint."""
        self.stopped = control.should_save = control.should_training_stop = True
