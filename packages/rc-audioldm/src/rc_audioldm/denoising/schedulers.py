"""Schedulers by name, on the noise levels that a model was trained on."""

from __future__ import annotations

from typing import Any

from pentatonic.errors import UsageError
from rc_audioldm.library_versions import check_library_versions

# Only those that draw no noise while they run: a clip is then a function of its first noise.
_CLASSES = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
}
_ALIASES = {"dpm": "dpm++"}
_SPACING = "timestep_spacing"
_STATED_BY_CLASS = "_use_default_values"

SCHEDULERS = ("checkpoint", *_CLASSES)
"""Names of schedulers; ``checkpoint`` is the one that the model came with."""
SCHEDULER_CLASSES = tuple(_CLASSES.values())
"""Classes that the scheduler of a checkpoint may have."""


def make_scheduler(trained: Any, name: str, steps: int, device: Any = "cpu") -> Any:
    """Return a new scheduler, ready for a number of steps.

    Steps are spaced as the checkpoint states; where it states nothing, DDIM counts from the first step (``leading``)
    and the others go evenly from the last to the first (``linspace``), as the original's pipelines do.

    Args:
        trained: Scheduler of the model, with its noise levels.
        name: One of ``SCHEDULERS``.
        steps: Number of steps.
        device: Of its tensors.

    Raises:
        UsageError: The name is unknown, or the number of steps is not from 1 to the steps of training.
    """
    check_library_versions()
    import diffusers

    name = _ALIASES.get(name, name)
    if name not in SCHEDULERS:
        raise UsageError(f"scheduler is {name!r}; allowed: {', '.join(SCHEDULERS)}")
    config = dict(trained.config)
    most = int(config["num_train_timesteps"])
    if not 1 <= steps <= most:
        raise UsageError(f"steps is {steps}; allowed: 1 to {most}")
    kind = type(trained) if name == "checkpoint" else getattr(diffusers, _CLASSES[name])
    if kind is not type(trained) and not states(trained, _SPACING):
        config[_SPACING] = "leading" if name == "ddim" else "linspace"
        config[_STATED_BY_CLASS] = [key for key in config.get(_STATED_BY_CLASS, ()) if key != _SPACING]
    scheduler = kind.from_config(config)
    scheduler.set_timesteps(steps, device=device)
    return scheduler


def states(scheduler: Any, key: str) -> bool:
    """Whether the file of a scheduler states a value, instead of leaving it to the class."""
    return key in scheduler.config and key not in scheduler.config.get(_STATED_BY_CLASS, ())
