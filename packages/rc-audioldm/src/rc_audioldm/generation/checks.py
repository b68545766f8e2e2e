"""What is checked before any work: the mode of each request, the settings, and the CLAP models of bank and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pentatonic.errors import IncompatibleVectors, UsageError
from rc_audioldm.clap.encoder import CAPTIONS, ClapEncoder
from rc_audioldm.denoising.schedulers import make_scheduler
from rc_audioldm.denoising.windows import windows_of
from rc_audioldm.generation.legacy_modes import LEGACY_MODES, check_legacy_options
from rc_audioldm.generation.modes import MODES, Mode
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.settings import Settings
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.encoder import PromptEncoder

ALL_MODES: Mapping[str, Mode] = {**MODES, **LEGACY_MODES}
LEAST_AGREEMENT = 0.9
"""Mean cosine of the texts of two CLAP models, below which their vectors do not mean the same."""


def mode_of(settings: Settings, request: Request, finder: StyleFinder | None) -> Mode:
    """Return the mode of a request.

    Raises:
        UsageError: There is no such mode.
    """
    name = settings.mode
    if name is None:
        has_style = finder is not None and (finder.bank is not None or request.reference is not None)
        name = "clap-in" if has_style else "prompt"
    if name not in ALL_MODES:
        raise UsageError(f"mode is {name!r}; allowed: {', '.join(ALL_MODES)}")
    return ALL_MODES[name]


def check_settings(
    model: AudioLDM,
    settings: Settings,
    requests: Sequence[Request],
    finder: StyleFinder | None,
    clap: ClapEncoder | None,
    adapter: torch.nn.Module | None,
) -> None:
    """Refuse what cannot work for any request, before any work; arguments and errors as :func:`generate`."""
    sampling = settings.sampling
    make_scheduler(model.scheduler, sampling.denoising.scheduler, sampling.denoising.steps)
    windows = windows_of(
        model,
        sampling.seconds,
        window_seconds=sampling.window_seconds,
        overlap_seconds=sampling.overlap_seconds,
    )
    if settings.mode == "audio-init" and len(windows) > 1:
        raise UsageError(f"a clip that starts from audio can last {sampling.window_seconds:g} s at most")
    if sampling.batch_size < 1:
        raise UsageError(f"the batch size is {sampling.batch_size}; allowed: 1 and more")
    if settings.causal and clap is None:
        raise UsageError("the effect of clips is measured by a CLAP model; give a bank")
    if settings.ranks and clap is None:
        raise UsageError("candidates are ranked by a CLAP model; give one")
    if settings.ranks and settings.rank_by != "text" and finder is None:
        raise UsageError(
            f"candidates are ranked by {settings.rank_by}, and there is no style; give a bank or a reference"
        )
    for mode in {mode_of(settings, request, finder) for request in requests}:
        _check_mode(mode, model, settings, finder, adapter)


def _check_mode(
    mode: Mode,
    model: AudioLDM,
    settings: Settings,
    finder: StyleFinder | None,
    adapter: torch.nn.Module | None,
) -> None:
    if model.family not in mode.families:
        allowed = ", ".join(name for name, each in ALL_MODES.items() if model.family in each.families)
        raise UsageError(f"mode is {mode.name}, which {model.family} cannot do; allowed: {allowed}")
    if mode.needs != "nothing" and finder is None:
        raise UsageError(f"the mode {mode.name} needs a bank or a reference")
    if mode.needs in ("labels", "bank") and (finder is None or finder.bank is None):
        raise UsageError(f"the mode {mode.name} needs a bank")
    check_legacy_options(mode, settings.legacy)
    if mode.name == "adapter" and adapter is None:
        raise UsageError("the mode adapter needs an adapter, as train-adapter makes it")
    if settings.second_guidance and not mode.second_guidance:
        raise UsageError(f"the mode {mode.name} has no second guidance")
    if mode.needs != "nothing" and settings.blend != "slerp" and settings.blend not in mode.blends:
        raise UsageError(
            f"blend is {settings.blend!r}; the mode {mode.name} allows: {', '.join(mode.blends)}"
        )
    if mode.name == "lm-concat" and model.unet.dtype != torch.float32:
        raise UsageError("the mode lm-concat needs a UNet in float32, as half precision cannot hold its bias")
    if mode.in_model_space and finder is not None and finder.dimension != model.clap_width:
        raise IncompatibleVectors(
            f"style vectors have {finder.dimension} dimensions, and the CLAP of the model {model.clap_width}; use "
            "a bank that was made by the CLAP of the model"
        )


def agreement(model: AudioLDM, clap: ClapEncoder) -> float | None:
    """Return how alike the texts of two CLAP models are: the mean cosine of their vectors of eight fixed captions.

    Below ``LEAST_AGREEMENT`` a style vector of the one may mean something else to the other. None where widths differ.
    """
    if clap.dimension != model.clap_width:
        return None
    encoder = PromptEncoder(model)
    own = torch.stack([encoder.clap(caption) for caption in CAPTIONS])
    return float((own * clap.embed_text(CAPTIONS)).sum(1).mean())


def disagreement(alike: float | None, model: str) -> str:
    """Return a warning where two CLAP models differ too much; an empty text otherwise.

    Args:
        alike: As :func:`agreement` gave it.
        model: Name of the model.
    """
    if alike is None or alike >= LEAST_AGREEMENT:
        return ""
    return (
        f"the CLAP models of the bank and of {model} give the same texts vectors with a mean cosine of {alike:.2f} "
        "only, so a style may mean something else to the model"
    )
