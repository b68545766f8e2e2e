"""Load and save models in the layout of the original's hub repositories. No code of a directory is executed.

A directory holds ``model_index.json`` and a folder for each component, with a configuration of its own.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pentatonic.checkpoint import atomic_directory
from pentatonic.errors import ConfigError, WeightsError
from pentatonic.hub import Released, licence_of, resolve
from pentatonic.untrusted.files import read_json, shortened
from rc_audioldm.component_configs import bounded
from rc_audioldm.components import (
    COMPONENTS,
    TOKENIZERS,
    chosen,
    load_component,
    save_component,
    weight_file,
)
from rc_audioldm.denoising.schedulers import SCHEDULER_CLASSES, states
from rc_audioldm.library_versions import check_library_versions
from rc_audioldm.licences import UNKNOWN, licence_name
from rc_audioldm.model import CLIP_SECONDS, MAX_SECONDS, AudioLDM, Family
from rc_audioldm.tokenizers import load_tokenizer

LICENCE = "CC BY-NC-SA 4.0"
"""Of the released weights: not for commercial use."""

_INDEX, _SCHEDULER, _PREPROCESSOR = "model_index.json", "scheduler_config.json", "preprocessor_config.json"
_PIPELINES: Mapping[str, Family] = {"AudioLDMPipeline": "audioldm", "AudioLDM2Pipeline": "audioldm2"}
_NAMES = (
    *("audioldm", "audioldm-s-full", "audioldm-s-full-v2", "audioldm-m-full", "audioldm-l-full"),
    *("audioldm2", "audioldm2-large", "audioldm2-music"),
)
# The commit hashes on the hub are not known, so these follow the main branch.
RELEASED: Mapping[str, Released] = {
    f"cvssp/{name}": Released(repo_id=f"cvssp/{name}", revision="main", licence=LICENCE, files={_INDEX: None})
    for name in _NAMES
}
# Small trained models that come with the package.
BUNDLED: Mapping[str, Path] = {"rc-audioldm-tiny": Path(__file__).parent / "checkpoints" / "rc-audioldm-tiny"}

_PATTERNS = (_INDEX, "README.md", "*/*.json", "*/*.safetensors", "*/merges.txt", "*/spiece.model")
_CLIP_SECONDS = "_clip_seconds"
_MAX_INDEX_BYTES = 2**16
_MAX_CARD_BYTES = 2**16
_MAX_RATE = 2**18


def find_directory(name_or_path: str | Path, revision: str | None = None) -> Path:
    """Find the directory of a model, and fetch it from the hub if need be.

    Of the hub, weights are fetched as safetensors; a component that has none is fetched as the pickle that it has.

    Args:
        name_or_path: A directory, a released model such as ``cvssp/audioldm2``, or the hub id of another one.
        revision: Branch, tag or commit of the hub; needed for models that are not released ones.

    Raises:
        HubError: There is no model of this name, or it cannot be fetched.
    """
    directory = _resolve(name_or_path, revision, _PATTERNS)
    index = directory / _INDEX
    if not index.is_file() or Path(name_or_path).expanduser().is_dir() or str(name_or_path) in BUNDLED:
        return directory
    components = COMPONENTS[family_of(read_json(index, max_bytes=_MAX_INDEX_BYTES), index)]
    missing = [name for name, part in components.items() if weight_file(part, directory / name) is None]
    return _resolve(name_or_path, revision, [f"{name}/*.bin" for name in missing]) if missing else directory


def from_pretrained(
    name_or_path: str | Path,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    offload: bool = False,
) -> AudioLDM:
    """Load a model by name or path.

    Args:
        name_or_path: As for :func:`find_directory`.
        revision: As for :func:`find_directory`.
        device: Where to compute.
        dtype: Of the UNet, which is nearly all of the work; ``None``: float32. All else stays in float32.
        offload: Keep components in main memory while they do not compute.

    Raises:
        HubError: There is no model of this name.
        BackendUnavailable: The libraries have untested versions.
        ConfigError: A configuration is missing or wrong, or a tokenizer does not work.
        CheckpointError: Weights are missing or damaged, or do not fit.
    """
    directory = find_directory(name_or_path, revision)
    return load_directory(directory, dtype=dtype).to(device, offload=offload)


def licence_of_weights(name_or_path: str | Path, revision: str | None = None) -> str:
    """Return the licence of a model's weights; ``unknown`` where nobody says it.

    Of a directory, the licence is what the front matter of its ``README.md`` says.

    Args:
        name_or_path: As for :func:`find_directory`.
        revision: As for :func:`find_directory`.
    """
    if str(name_or_path) in BUNDLED or str(name_or_path) in RELEASED:
        return licence_of(str(name_or_path), bundled=BUNDLED, released=RELEASED)
    card = find_directory(name_or_path, revision) / "README.md"
    if not card.is_file():
        return UNKNOWN
    with card.open("rb") as file:
        text = file.read(_MAX_CARD_BYTES).decode("utf-8", errors="replace")
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^licen[sc]e:(.*)$", front[1] if front else "", re.MULTILINE)
    return licence_name(found[1].strip() if found else "")


def load_directory(directory: str | Path, *, dtype: torch.dtype | None = None) -> AudioLDM:
    """Load a model from a directory; arguments and errors as :func:`from_pretrained`."""
    check_library_versions()
    folder = Path(directory)
    index_path = folder / _INDEX
    index = read_json(index_path, max_bytes=_MAX_INDEX_BYTES)
    family = family_of(index, index_path)
    parts: dict[str, Any] = {}
    for name, component in COMPONENTS[family].items():
        found = chosen(component, index.get(name), f"{index_path}: {name}")
        kind = dtype or torch.float32 if name == "unet" else torch.float32
        parts[name] = load_component(found, folder / name, kind)
    for name in TOKENIZERS[family]:
        parts[name] = load_tokenizer(folder / name)
    parts["scheduler"] = _load_scheduler(index.get("scheduler"), folder / "scheduler" / _SCHEDULER)
    if (preprocessor := folder / "feature_extractor" / _PREPROCESSOR).is_file():
        parts["feature_extractor"] = _load_feature_extractor(preprocessor)
    model = AudioLDM(**parts, clip_seconds=_clip_seconds(index, index_path))
    _check_joints(model, folder)
    return model


def save_pretrained(model: AudioLDM, directory: str | Path, *, card: str | None = None) -> None:
    """Write a model in the original's layout; on an error nothing is written.

    Args:
        model: The model.
        directory: Replaced as a whole.
        card: Text of a model card, ``README.md``.

    Raises:
        CheckpointError: The directory cannot be written.
    """
    pipeline = next(name for name, family in _PIPELINES.items() if family == model.family)
    index: dict[str, Any] = {"_class_name": pipeline}
    if model.clip_seconds != CLIP_SECONDS:
        index[_CLIP_SECONDS] = model.clip_seconds
    with atomic_directory(directory) as partial:
        for name, place in COMPONENTS[model.family].items():
            module = getattr(model, name)
            component = place.named(type(module).__name__)
            save_component(component, module, partial / name)
            index[name] = [component.library, component.class_name]
        for name in TOKENIZERS[model.family]:
            tokenizer: Any = getattr(model, name)
            tokenizer.save_pretrained(partial / name)
            index[name] = ["transformers", type(tokenizer).__name__]
        if model.feature_extractor is not None:
            model.feature_extractor.save_pretrained(partial / "feature_extractor")
            index["feature_extractor"] = ["transformers", type(model.feature_extractor).__name__]
        index["scheduler"] = ["diffusers", type(model.scheduler).__name__]
        (partial / "scheduler").mkdir()
        _write_json(partial / "scheduler" / _SCHEDULER, _stated(model.scheduler))
        _write_json(partial / _INDEX, index)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")


def _clip_seconds(index: Any, where: Path) -> float:
    """Length of the clips of training, which models of ours state; libraries pass over keys that begin with ``_``."""
    stated = index.get(_CLIP_SECONDS, CLIP_SECONDS)
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not 0 < stated <= MAX_SECONDS:
        allowed = f"allowed: a number above 0 and up to {MAX_SECONDS:g}"
        raise ConfigError(f"{where}: {_CLIP_SECONDS} is {shortened(stated)}; {allowed}")
    return float(stated)


def family_of(index: Any, where: str | Path = _INDEX) -> Family:
    """Return the family of a model.

    Args:
        index: Content of ``model_index.json``.
        where: The file, for the message.

    Raises:
        ConfigError: It is the index of another model.
    """
    named = index.get("_class_name") if isinstance(index, dict) else None
    family = _PIPELINES.get(named) if isinstance(named, str) else None
    if family is None:
        raise ConfigError(f"{where}: _class_name is {shortened(named)}; allowed: {', '.join(_PIPELINES)}")
    return family


def _resolve(name_or_path: str | Path, revision: str | None, patterns: Any) -> Path:
    return resolve(
        name_or_path, bundled=BUNDLED, released=RELEASED, allow_patterns=patterns, revision=revision
    )


def _load_scheduler(entry: Any, path: Path) -> Any:
    import diffusers

    named = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if named not in SCHEDULER_CLASSES:
        raise ConfigError(f"{path}: is of a {shortened(named)}; allowed: {', '.join(SCHEDULER_CLASSES)}")
    kind = getattr(diffusers, named)
    known = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    return kind.from_config(bounded(read_json(path), known, path))


def _load_feature_extractor(path: Path) -> Any:
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(**bounded(read_json(path), ClapFeatureExtractor().to_dict(), path))


def _check_joints(model: AudioLDM, folder: Path) -> None:
    """Check what no table of weights shows: rates, and widths at the joints of components."""
    rate, rates = model.vocoder.config.sampling_rate, model.vocoder.config.upsample_rates
    if not isinstance(rate, int) or not 1 <= rate <= _MAX_RATE or not all(each >= 1 for each in rates):
        raise ConfigError(
            f"{folder / 'vocoder'}: sampling_rate is {rate} and upsample_rates are {shortened(rates)}; allowed: "
            f"1 to {_MAX_RATE} Hz, and rates from 1"
        )
    if not (scale := model.vae.config["scaling_factor"]) > 0:
        raise ConfigError(f"{folder / 'vae'}: scaling_factor is {scale}; allowed: numbers above 0")
    joints = [
        ("unet", "in_channels", model.unet.config["in_channels"], model.vae.config["latent_channels"]),
        ("vocoder", "model_in_dim", model.vocoder.config.model_in_dim % model.vae_factor, 0),
    ]
    if model.family == "audioldm":
        width = model.unet.config["projection_class_embeddings_input_dim"]
        joints.append(("unet", "projection_class_embeddings_input_dim", width, model.clap_width))
    else:
        projection = model.projection_model.config
        language, text = model.language_model.config.n_embd, model.text_encoder_2.config.d_model
        joints += [
            ("projection_model", "text_encoder_dim", projection["text_encoder_dim"], model.clap_width),
            ("projection_model", "text_encoder_1_dim", projection["text_encoder_1_dim"], text),
            ("projection_model", "langauge_model_dim", projection["langauge_model_dim"], language),
        ]
    for component, key, found, wanted in joints:
        if found != wanted:
            raise WeightsError(f"{folder / component}: {key} is {found}; the other components need {wanted}")


def _stated(scheduler: Any) -> dict[str, Any]:
    """Only what the scheduler's own file states: a dump of all values would bind other schedulers to them."""
    own = {key: value for key, value in scheduler.config.items() if states(scheduler, key)}
    return {"_class_name": type(scheduler).__name__} | {
        key: value for key, value in own.items() if not key.startswith("_")
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
