"""The models and the processor are known to the Auto classes of transformers, whichever is imported first.

Importing :mod:`cm3p` must not import torch and transformers, so that ``cm3p --help`` answers at once. Where the Auto
classes are loaded already, the models are registered at once; else as soon as somebody loads them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_CONFIGURATIONS = "transformers.models.auto.configuration_auto"
_MODELS = "transformers.models.auto.modeling_auto"
_PROCESSORS = "transformers.models.auto.processing_auto"
_MODEL_CLASSES = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification")


def register_configurations() -> None:
    """Register the configurations with ``AutoConfig``."""
    if _is_partial("cm3p.configuration", "CM3PConfig") or _is_partial(_CONFIGURATIONS, "AutoConfig"):
        return
    from transformers.models.auto.configuration_auto import AutoConfig

    from cm3p.configuration import CM3PAudioConfig, CM3PBeatmapConfig, CM3PConfig, CM3PMetadataConfig

    for config in (CM3PConfig, CM3PBeatmapConfig, CM3PMetadataConfig, CM3PAudioConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)


def register_models() -> None:
    """Register the models with ``AutoModel`` and with the Auto classes of their tasks."""
    if _is_partial("cm3p.model", "CM3PModel") or _is_partial(_MODELS, *_MODEL_CLASSES):
        return
    from transformers.models.auto.modeling_auto import (
        AutoModel,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
    )

    from cm3p import model

    for auto, kind in (
        (AutoModel, model.CM3PModel),
        (AutoModel, model.CM3PBeatmapModel),
        (AutoModel, model.CM3PMetadataModel),
        (AutoModelForMaskedLM, model.CM3PForMaskedLM),
        (AutoModelForSequenceClassification, model.CM3PForBeatmapClassification),
    ):
        auto.register(kind.config_class, kind, exist_ok=True)


def register_processor() -> None:
    """Register the processor with ``AutoProcessor``, for all models that take beatmaps."""
    if _is_partial("cm3p.configuration", "CM3PConfig") or _is_partial(_PROCESSORS, "AutoProcessor"):
        return
    from transformers.models.auto.processing_auto import AutoProcessor

    from cm3p.configuration import CM3PBeatmapConfig, CM3PConfig
    from cm3p.processor import CM3PProcessor

    for config in (CM3PConfig, CM3PBeatmapConfig):
        AutoProcessor.register(config, CM3PProcessor, exist_ok=True)


def _is_partial(module: str, *names: str) -> bool:
    """Whether a module is still being imported, and lacks names; at its end registration is tried again."""
    return module in sys.modules and not all(hasattr(sys.modules[module], name) for name in names)


_ACTIONS: dict[str, Callable[[], None]] = {
    _CONFIGURATIONS: register_configurations,
    _MODELS: register_models,
    _PROCESSORS: register_processor,
}
# Loading them may load the Auto classes, which then meet half a module.
_OWN = ("cm3p.configuration", "cm3p.model")


def install() -> None:
    """Register now what the Auto classes that are loaded can take, and the rest when they are loaded."""
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())
    _register_all()


def _register_all() -> None:
    for name, action in _ACTIONS.items():
        if name in sys.modules:
            action()


class _AfterImport(MetaPathFinder):
    """Finds the modules of the Auto classes and our own as Python does; registers what it can once they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the usual spec of one of these modules; ``None`` for all others, which other finders find."""
        action = _register_all if fullname in _OWN else _ACTIONS.get(fullname)
        spec = None if action is None else PathFinder.find_spec(fullname, path, target)
        if action is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            action()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
