"""Components in the layout of diffusers: which classes they may have, and their weights, from a folder to a module.

No class is looked up by a name from a file, and nothing in a file is executed.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pentatonic.checkpoint import load_tensors, read_legacy, save_tensors
from pentatonic.errors import CheckpointError, ConfigError
from pentatonic.hub import load_state
from pentatonic.untrusted.config import read_fields
from pentatonic.untrusted.files import read_json, shortened
from rc_audioldm.component_configs import bounded
from rc_audioldm.griffin_lim import GriffinLimConfig, GriffinLimVocoder
from rc_audioldm.library_versions import check_library_versions
from rc_audioldm.model import Family

CONFIG = "config.json"
_DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Component:
    """A component with weights.

    Args:
        names: Names of classes that ``model_index.json`` may give it; the first one is what is built.
        renamed: Names of tensors as earlier versions of the libraries wrote them, as patterns to replace.
        unread: Pattern of tensors that are not read: parts that nothing uses, and tables that the class computes.
        instead: A component of another class that may have the same place.
    """

    names: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()
    unread: str | None = None
    instead: Component | None = None

    @property
    def class_name(self) -> str:
        """Name of the class that is built."""
        return self.names[0]

    def reads(self, name: str) -> bool:
        """Whether a tensor of a file belongs to the model."""
        return not (self.unread and re.fullmatch(self.unread, name))

    @property
    def library(self) -> str:
        """Name of the library that the class is from."""
        if self.class_name in _OWN_CLASSES:
            return "rc_audioldm"
        return "diffusers" if self.is_diffusers else "transformers"

    @property
    def is_diffusers(self) -> bool:
        """Whether the class is one of diffusers."""
        return self.class_name in _DIFFUSERS_CLASSES

    @property
    def has_weights(self) -> bool:
        """Whether there is a file of weights; without one the configuration is all."""
        return self.class_name not in _OWN_CLASSES

    def named(self, class_name: Any) -> Component:
        """Return the component that ``model_index.json`` names for this place: this one, or the one instead of it."""
        return self.instead if self.instead and class_name in self.instead.names else self

    @property
    def weight_files(self) -> tuple[str, str]:
        """Names of the file of weights, the safe format first."""
        return _DIFFUSERS_WEIGHTS if self.is_diffusers else _TRANSFORMERS_WEIGHTS


_DIFFUSERS_CLASSES = frozenset(
    ("AutoencoderKL", "UNet2DConditionModel", "AudioLDM2UNet2DConditionModel", "AudioLDM2ProjectionModel")
)
_OWN_CLASSES = frozenset(("GriffinLimVocoder",))
# Attention of the VAE, as diffusers wrote it until 2023.
_OLD_ATTENTION = tuple(
    (rf"^(\w+\.mid_block\.attentions\.\d+)\.{old}\.", rf"\1.{new}.")
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
)
_POSITION_IDS = r"(.+\.)?embeddings\.position_ids"
_SHARED = {
    "vae": Component(("AutoencoderKL",), renamed=_OLD_ATTENTION),
    "vocoder": Component(("SpeechT5HifiGan",), instead=Component(("GriffinLimVocoder",))),
}
COMPONENTS: Mapping[Family, Mapping[str, Component]] = {
    "audioldm": {
        **_SHARED,
        "text_encoder": Component(("ClapTextModelWithProjection",), unread=_POSITION_IDS),
        "unet": Component(("UNet2DConditionModel",)),
    },
    "audioldm2": {
        **_SHARED,
        "text_encoder": Component(("ClapModel",), unread=_POSITION_IDS),
        "text_encoder_2": Component(("T5EncoderModel",), unread=r"decoder\..+|lm_head\..+"),
        "projection_model": Component(("AudioLDM2ProjectionModel",)),
        # Its head, tied to an embedding that nothing reads, and its masks as old versions stored them.
        "language_model": Component(
            ("GPT2Model", "GPT2LMHeadModel"),
            renamed=((r"^transformer\.", ""),),
            unread=r"lm_head\.weight|(transformer\.)?h\.\d+\.attn\.(masked_)?bias",
        ),
        "unet": Component(("AudioLDM2UNet2DConditionModel",)),
    },
}
TOKENIZERS: Mapping[Family, tuple[str, ...]] = {
    "audioldm": ("tokenizer",),
    "audioldm2": ("tokenizer", "tokenizer_2"),
}
"""Folders of tokenizers: that of CLAP, and that of T5."""


@cache
def component_class(name: str) -> type[nn.Module]:
    """Return a class of diffusers or transformers, one of those that components have.

    Raises:
        BackendUnavailable: The libraries have untested versions.
    """
    check_library_versions()
    if name in _DIFFUSERS_CLASSES:
        import diffusers

        return getattr(diffusers, name)
    import transformers

    return getattr(transformers, name)


def build_component(component: Component, values: Any, where: str | Path = CONFIG) -> nn.Module:
    """Build a component from its configuration, without memory or values for most of its weights.

    Args:
        component: Which.
        values: As JSON gives them.
        where: The file, for messages.

    Returns:
        The component, with its weights on the meta device.

    Raises:
        ConfigError: The configuration is out of bounds, or the class refuses it.
    """
    kind: Any = component_class(component.class_name)
    try:
        with _EmptyOnMeta():
            if component.is_diffusers:
                return kind.from_config(bounded(values, _parameters(kind), where))
            return kind(_transformers_config(kind.config_class, values, where))
    except ConfigError:
        raise
    except Exception as error:  # the classes raise errors of any kind for values that do not go together
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{where}: {component.class_name} cannot be built from it: {reason}") from error


def load_component(component: Component, folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load a component from its folder.

    Args:
        component: Which.
        folder: Holds ``config.json`` and a file of weights; a pickled one is read only where there is no other.
        dtype: Of its floating-point weights.

    Returns:
        The component on the CPU, in evaluation mode.

    Raises:
        ConfigError: The configuration is missing or out of bounds.
        CheckpointError: The weights are missing or damaged, or do not fit the configuration.
    """
    where = folder / CONFIG
    if not component.has_weights:
        return GriffinLimVocoder(read_fields(GriffinLimConfig, read_json(where), str(where)))
    module = nn.Module.to(
        build_component(component, read_json(where), where), dtype
    )  # theirs warns of each type
    tensors, file = _read_weights(component, folder)
    computed = {name: value for name, value in module.state_dict().items() if not component.reads(name)}
    load_state(module, computed | with_tied(module, own_names(component, tensors)), what=str(file))
    return module.eval().requires_grad_(False)


def save_component(component: Component, module: Any, folder: Path) -> None:
    """Write a component into a new folder, in the layout that it is read from.

    Raises:
        CheckpointError: It cannot be written.
    """
    folder.mkdir()
    if not component.has_weights:
        text = json.dumps(asdict(module.config), indent=2, sort_keys=True) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8")
        return
    if component.is_diffusers:
        module.save_config(folder)
    else:
        module.config.save_pretrained(folder)
    tensors = {name: value for name, value in module.state_dict().items() if component.reads(name)}
    for names in _tied(module):
        for name in names[1:]:
            tensors.pop(name, None)
    save_tensors(folder / component.weight_files[0], tensors, {"format": "pt"})


def weight_file(component: Component, folder: Path) -> Path | None:
    """Return the file of a component's weights, or None where there is none; the safe format is preferred."""
    return next((folder / name for name in component.weight_files if (folder / name).is_file()), None)


def own_names(component: Component, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names of the class, without those that are not part of the model."""
    return {
        _renamed(name, component.renamed): tensor for name, tensor in tensors.items() if component.reads(name)
    }


def _renamed(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def with_tied(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with all the names of those that a module uses in several places."""
    full = dict(tensors)
    for names in _tied(module):
        if stored := next((name for name in names if name in tensors), None):
            full |= {name: tensors[stored] for name in names if name not in tensors}
    return full


def _tied(module: nn.Module) -> list[list[str]]:
    by_parameter = defaultdict(list)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        by_parameter[parameter].append(name)
    return [names for names in by_parameter.values() if len(names) > 1]


def _read_weights(component: Component, folder: Path) -> tuple[dict[str, Tensor], Path]:
    file = weight_file(component, folder)
    if file is None:
        raise CheckpointError(f"{folder}: has no weights; allowed: {' or '.join(component.weight_files)}")
    return (load_tensors(file) if file.suffix == ".safetensors" else read_legacy(file)), file


def _transformers_config(kind: Any, values: Any, where: str | Path) -> Any:
    """Configuration of a class of transformers, with those of its parts."""
    parts = getattr(kind, "sub_configs", {})
    known = [key for key in kind().to_dict() if key not in parts]
    own: dict[str, Any] = bounded(values, [*known, "max_new_tokens"], where)
    for name, part in parts.items():
        if name in values:
            own[name] = bounded(values[name], part().to_dict(), f"{where}: {name}")
    return kind.from_dict(own)


def _parameters(kind: Any) -> list[str]:
    """Names of the entries of a configuration of a class of diffusers."""
    return [name for name in inspect.signature(kind.__init__).parameters if name != "self"]


class _EmptyOnMeta(TorchFunctionMode):
    """Tensors without values are made on the meta device; those with values, such as tables of positions, are not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def chosen(component: Component, entry: Any, where: str) -> Component:
    """Return the component of the class that ``model_index.json`` names for a place.

    Args:
        component: That of the place.
        entry: Library and class, as JSON gives them.
        where: The file and the place, for the message.

    Raises:
        ConfigError: It is none of those that the place may have.
    """
    named = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    found = component.named(named)
    if named not in found.names:
        allowed = [*component.names, *(component.instead.names if component.instead else ())]
        raise ConfigError(f"{where} is {shortened(entry)}; allowed: the class {' or '.join(allowed)}")
    return found
