"""Options of the original's embed mode: its recorded conditions, what each of them changes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pentatonic.errors import UsageError
from rc_audioldm.denoising.loop import Denoising
from rc_audioldm.denoising.sampling import Sampling
from rc_audioldm.generation.checks import ALL_MODES
from rc_audioldm.generation.generate import generate
from rc_audioldm.generation.legacy_modes import LEGACY_MODES, check_legacy_options, legacy_run
from rc_audioldm.generation.modes import Context
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.settings import LegacyOptions, Settings
from rc_audioldm.generation.styles import RequestStyle, StyleFinder
from rc_audioldm.legacy.inputs import MUSIC_ANCHOR, SPEECH

ALL = LegacyOptions(
    alpha=0.2,
    prior="a prior",
    prior_weight=0.35,
    anchor_weight=0.2,
    gate_margin=0.01,
    speech_push=0.1,
    centre=True,
    normalise=True,
)
"""Those of the original's recorded run with all options."""


class Rows:
    """Stands for a bank whose rows are not of norm 1, as the original's may be."""

    def __init__(self, vectors: torch.Tensor) -> None:
        self.vectors = vectors.numpy()

    def __len__(self) -> int:
        return len(self.vectors)


def styles_of(vectors: torch.Tensor, has_projector: bool = False) -> Any:
    """Stands for what finds styles."""
    return SimpleNamespace(
        bank=Rows(vectors),
        has_projector=has_projector,
        of_rows=lambda rows: RequestStyle(torch.nn.functional.normalize(vectors[rows[0]], dim=0), (), (), ()),
    )


def settings(options: LegacyOptions, mode: str = "legacy-embed") -> Settings:
    return Settings(
        mode=mode,
        sampling=Sampling(seconds=0.01675, seed=1000, denoising=Denoising("ddim", 2)),
        legacy=options,
    )


def test_all_options_give_the_conditions_of_the_original(golden: Any, builders: Any) -> None:
    case = golden("aldm1_embed_mode")
    t = case.tensors
    names = [f"prompt{i}" for i in range(3)]
    vectors = {name: torch.nn.functional.normalize(t[f"clap_text_raw/{name}"], dim=0) for name in names}
    for text, name in ((MUSIC_ANCHOR, "prior"), ("a prior", "prior"), (SPEECH, "speech_push")):
        vectors[text] = torch.nn.functional.normalize(t[f"clap_text_raw/{name}"], dim=0)
    finder = styles_of(t["style_bank"])
    requests = [Request(name, i, "speech") for i, name in enumerate(names)]
    how = settings(ALL)
    run = legacy_run(LEGACY_MODES["legacy-embed"], requests, how, finder)
    finder.encoder = texts = builders.StoredTexts(vectors)
    told: Any = Context(None, texts, how, finder, legacy=run)  # type: ignore[arg-type]
    for i, request in enumerate(requests):
        heard = LEGACY_MODES["legacy-embed"].hear(told, request, run.style(request))
        expected = t["all/prompt_embeds"][i]
        torch.testing.assert_close(heard.conditions.prompt.vector, expected, atol=case.tolerance, rtol=0)
        assert heard.conditions.negative == ("speech", names[i])


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": 0.3},
        {"blend": "plain"},
        {"prior": "a harp", "prior_weight": 0.5},
        {"anchor_weight": 0.5},
        {"gate_margin": 1.0},
        {"speech_push": 0.5},
        {"centre": True},
        {"normalise": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_option_is_heard(models: Any, finder: StyleFinder, changes: dict[str, Any]) -> None:
    def audio(**own: Any) -> torch.Tensor:
        (result,) = generate(models["audioldm"], ["drum"], settings(LegacyOptions(**own)), finder=finder)
        return result.audio

    assert torch.equal(audio(), audio()) and not torch.equal(audio(), audio(**changes))


@pytest.mark.parametrize(
    ("mode", "changes", "named"),
    [
        (
            "clap-in",
            {"alpha": 0.3},
            "mode clap-in has no legacy-alpha; allowed with it: legacy-cond-residual",
        ),
        ("prompt", {"centre": True}, "mode prompt has no legacy-centre; allowed with it: legacy-embed$"),
        ("legacy-lm-pad", {"beta": 0.3}, "has no legacy-beta; allowed with it: legacy-cond-residual"),
        (
            "legacy-cond-orth",
            {"speech_push": 0.1},
            "has no legacy-speech-push; allowed with it: legacy-embed$",
        ),
        ("legacy-embed", {"selection": "random"}, "mode legacy-embed has no legacy-select; allowed"),
        ("legacy-embed", {"blend": "residual"}, "legacy-blend is 'residual'; .* allows: plain, orth"),
        (
            "legacy-cond-orth",
            {"blend": "plain"},
            "legacy-blend is 'plain'; .* allows: residual, orth, concat",
        ),
    ],
)
def test_options_of_other_modes_are_refused(mode: str, changes: dict[str, Any], named: str) -> None:
    check_legacy_options(ALL_MODES[mode], LegacyOptions())
    with pytest.raises(UsageError, match=named):
        check_legacy_options(ALL_MODES[mode], LegacyOptions(**changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"alpha": float("nan")}, "legacy-alpha is nan; allowed: 0 and more"),
        ({"speech_push": -0.1}, "legacy-speech-push is -0.1; allowed: 0 and more"),
        ({"anchor_weight": 1.5}, "legacy-anchor-weight is 1.5; allowed: 0 to 1"),
        ({"gate_margin": float("nan")}, "legacy-gate-margin is nan; allowed: 0 to 1"),
        ({"prior": "a harp"}, "legacy-prior-weight 0.0; allowed: a text with a weight above 0"),
        ({"prior_weight": 0.2}, "legacy-prior is '' and"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        LegacyOptions(**changes)


def test_centring_and_a_projector_exclude_each_other() -> None:
    finder = styles_of(torch.eye(3), has_projector=True)
    with pytest.raises(UsageError, match="legacy-centre and a projector exclude each other"):
        legacy_run(LEGACY_MODES["legacy-embed"], [Request("a")], settings(ALL), finder)


def test_the_command_hands_on_every_option(
    options: Any, command: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    given: list[object] = ["--legacy-alpha", 0.2, "--legacy-prior", "a prior", "--legacy-prior-weight", 0.35]
    given += ["--legacy-anchor-weight", 0.2, "--legacy-gate-margin", 0.01, "--legacy-speech-push", 0.1]
    given += ["--legacy-centre", "--legacy-normalise"]
    out = tmp_path / "run"
    assert command(*options, "--out", out, "--mode", "legacy-embed", *given, "drum") == 0
    stored = json.loads((out / "run_config.json").read_text())["settings"]["legacy"]
    assert stored == vars(ALL)
    capsys.readouterr()
    assert command(*options, "--out", tmp_path / "other", *given, "drum") == 2
    assert "the mode clap-in has no legacy-alpha" in capsys.readouterr().err
