"""Hyper-parameter search: a Hydra sweep of ``rc-audioldm train-adapter``.

Each trial is a run in ``<run_dir>/trials/trial_0000`` and so on; at the end ``<run_dir>/best`` is a copy of the best
trial's best checkpoint, and ``sweep.json`` lists all trials. Any sweeper of Hydra works; Optuna's needs the extra
``sweep``.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from pentatonic.checkpoint import atomic_directory, atomic_file
from pentatonic.cli import make_output_folder
from pentatonic.errors import ConfigError, MissingExtra, PentatonicError
from pentatonic.untrusted.files import read_json
from rc_audioldm.adapters.adapter_files import ADAPTER_FILE, BEST
from rc_audioldm.adapters.training.search_space import ALWAYS_SAMPLED, parse_space, sweep_overrides
from rc_audioldm.adapters.training.train import REPORT, AdapterTrainConfig, read_report, train

TRIALS = "trials"
SWEEP_FILE = "sweep.json"
_CONF = "rc_audioldm.adapters.conf"
# Hydra's own files go into the run folder, and its logging leaves ours alone.
_HYDRA = (
    "hydra.sweep.dir=${run_dir}/hydra",
    "hydra.sweep.subdir=${hydra.job.num}",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Args:
        run_dir: Its folder.
        best: Name of the best trial.
        score: Its score; less is better.
        trials: Name -> score of each trial.
        interrupted: A signal stopped it.
    """

    run_dir: Path
    best: str
    score: float
    trials: dict[str, float]
    interrupted: bool = False


def optuna_overrides(trials: int, space: str, seed: int) -> list[str]:
    """Return the overrides of a search by Optuna's tree-structured Parzen estimator.

    Args:
        trials: Their number.
        space: Search space in the original's grammar; it replaces and extends what is always sampled.
        seed: Of the estimator.

    Raises:
        MissingExtra: Optuna's sweeper is not installed.
        UsageError: The search space is malformed.
    """
    try:
        import_module("hydra_plugins.hydra_optuna_sweeper.optuna_sweeper")
    except ImportError as error:
        raise MissingExtra("A search with Optuna", "rc-audioldm[sweep]") from error
    return [
        "hydra/sweeper=optuna",
        "hydra.sweeper.direction=minimize",
        "hydra.sweeper.study_name=train-adapter",
        f"hydra.sweeper.n_trials={trials}",
        "hydra.sweeper.n_jobs=1",
        f"hydra.sweeper.sampler.seed={seed}",
        *sweep_overrides(parse_space(ALWAYS_SAMPLED) | parse_space(space)),
    ]


def sweep(overrides: Sequence[str]) -> SweepResult:
    """Run a sweep.

    Args:
        overrides: Of Hydra, such as ``optim.lr=1e-3,1e-4``; those of the sweeper too.

    Raises:
        ConfigError: The overrides cannot be parsed, or every trial failed.
        PentatonicError: A trial failed.
    """
    trials = _Trials(list(overrides))
    try:
        _run_hydra(trials, overrides)
    except KeyboardInterrupt:
        if not trials.interrupted:
            raise
    except SystemExit as error:  # Hydra prints errors itself, and ends the program
        if trials.failure is not None:
            raise trials.failure from None
        if error.code:
            raise ConfigError("the sweep was not started; Hydra says why above") from None
    if trials.run_dir is None or not trials.scores:
        raise ConfigError("no trial was finished")
    best = min(trials.scores, key=lambda name: trials.scores[name])
    trials.keep_best(best)
    return SweepResult(trials.run_dir, best, trials.scores[best], trials.scores, trials.interrupted)


class _Trials:
    """The runs of a sweep, one at each call.

    Args:
        overrides: Of the sweep.
    """

    def __init__(self, overrides: list[str]) -> None:
        self.overrides = overrides
        self.run_dir: Path | None = None
        self.scores: dict[str, float] = {}
        self.failure: PentatonicError | None = None
        self.interrupted = False

    def __call__(self, values: Any) -> float:
        try:
            return self._train(values)
        except PentatonicError as error:
            self.failure = error
            raise

    def keep_best(self, name: str) -> None:
        assert self.run_dir is not None
        found = self.run_dir / TRIALS / name / BEST
        if found.is_dir():
            with atomic_directory(self.run_dir / BEST) as temporary:
                for file in (ADAPTER_FILE, REPORT):
                    shutil.copyfile(found / file, temporary / file)
        self._write(name)

    def _train(self, values: Any) -> float:
        from omegaconf import OmegaConf

        typed = OmegaConf.merge(OmegaConf.structured(AdapterTrainConfig), OmegaConf.to_container(values))
        config = cast(AdapterTrainConfig, OmegaConf.to_object(typed))
        if self.run_dir is None:
            self._begin(Path(config.run_dir))
        assert self.run_dir is not None
        name = f"trial_{len(self.scores):04d}"
        config.run_dir = str(self.run_dir / TRIALS / name)
        result = train(config)
        if result.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        report = read_report(Path(config.run_dir))
        self.scores[name] = math.inf if report is None else float(report["score"])
        self._write(None)
        return self.scores[name]

    def _begin(self, run_dir: Path) -> None:
        """Take the run folder, unless another sweep has its trials there, which would be taken for ours."""
        make_output_folder(run_dir, "run_dir=")
        if (run_dir / SWEEP_FILE).exists():
            earlier = read_json(run_dir / SWEEP_FILE)
            if not isinstance(earlier, dict) or earlier.get("overrides") != self.overrides:
                raise ConfigError(f"{run_dir} has the trials of another sweep; give another run_dir=")
        self.run_dir = run_dir
        self._write(None)

    def _write(self, best: str | None) -> None:
        assert self.run_dir is not None
        table = {"overrides": self.overrides, "best": best, "trials": self.scores}
        with atomic_file(self.run_dir / SWEEP_FILE) as file:
            file.write(f"{json.dumps(table, indent=2)}\n".encode())


def main(overrides: Sequence[str]) -> SweepResult:
    """Run a sweep and print what it found."""
    result = sweep(overrides)
    print(f"the best of {len(result.trials)} trials is {result.best}, score {result.score:.4g}")
    return result


def _run_hydra(task: Callable[[Any], float], overrides: Sequence[str]) -> None:
    """Run Hydra's own entry point, which reads the command line."""
    import hydra
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="adapter_schema", node=AdapterTrainConfig)
    store.store(
        name="adapter_sweep", node={"defaults": ["adapter_schema", "train", "_self_"]}, package="_global_"
    )
    entry = hydra.main(config_path=f"pkg://{_CONF}", config_name="adapter_sweep", version_base="1.3")(task)
    with _command_line(["rc-audioldm", "--multirun", *_HYDRA, *overrides]):
        entry()


@contextmanager
def _command_line(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before
