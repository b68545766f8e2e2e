"""Every mode: off at strength 0, more of the style with more strength, the same in any batch and order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pentatonic.errors import IncompatibleVectors, InputError, UsageError
from rc_audioldm.clap import ClapEncoder
from rc_audioldm.denoising.guidance import Guidance
from rc_audioldm.denoising.loop import Denoising, denoise
from rc_audioldm.denoising.sampling import Sampling
from rc_audioldm.generation.audio_start import latents_of, mel_config
from rc_audioldm.generation.checks import ALL_MODES, agreement
from rc_audioldm.generation.generate import generate
from rc_audioldm.generation.legacy_modes import LEGACY_MODES
from rc_audioldm.generation.modes import MODES, Context
from rc_audioldm.generation.requests import Request
from rc_audioldm.generation.result import Result
from rc_audioldm.generation.settings import LegacyOptions, Settings
from rc_audioldm.generation.styles import StyleFinder
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.encoder import PromptEncoder

TEXTS = ["a solo piano melody in a small room", "drum", "flute and cello", "a harp", "bass"]
STEERED = [name for name in MODES if name != "prompt"]
PAIRS = [(name, family) for name in STEERED for family in MODES[name].families]


def how(mode: str | None, **changes: Any) -> Settings:
    sampling = Sampling(
        seconds=0.01675,
        denoising=Denoising("ddim", changes.pop("steps", 3), changes.pop("guidance", Guidance(3.0))),
        batch_size=changes.pop("batch_size", 4),
    )
    return Settings(mode=mode, sampling=sampling, **changes)


def requests(strength: float, texts: list[str] = TEXTS) -> list[Request]:
    return [Request(text, index, "drum" if index % 2 else "", strength) for index, text in enumerate(texts)]


@pytest.fixture
def make(models: Any, finder: StyleFinder, state_adapter: Any) -> Any:
    """Make clips: (family, settings, requests) -> id -> result."""

    def run(family: str, settings: Settings, asked: list[Request], **options: Any) -> dict[str, Result]:
        given = {"finder": finder, "adapter": state_adapter, **options}
        return {each.id: each for each in generate(models[family], asked, settings, **given)}

    return run


@pytest.mark.parametrize(("mode", "family"), PAIRS)
def test_no_strength_is_the_prompt_alone_to_the_bit(make: Any, mode: str, family: str) -> None:
    asked = requests(0.0, TEXTS[3:])
    plain, off = make(family, how("prompt", steps=2), asked), make(family, how(mode, steps=2), asked)
    on = make(family, how(mode, steps=2), requests(0.6, TEXTS[3:]))
    for name, result in plain.items():
        assert torch.equal(result.audio, off[name].audio) and off[name].influences == ()
        assert not torch.equal(result.audio, on[name].audio) and on[name].influences
        assert sum(each.weight for each in on[name].influences) == pytest.approx(1)


@pytest.mark.parametrize(
    ("mode", "family", "blend"),
    [
        *[("clap-in", "audioldm", blend) for blend in ("slerp", "linear", "add", "orth")],
        ("clap-in", "audioldm2", "slerp"),
        *[(mode, "audioldm2", blend) for mode in ("lm-mix", "adapter") for blend in ("slerp", "linear")],
        ("lm-concat", "audioldm2", "slerp"),
    ],
)  # fmt: skip
def test_more_strength_brings_more_of_the_style(make: Any, mode: str, family: str, blend: str) -> None:
    near, away = [], []
    for strength in (0.1, 0.5, 0.9):
        (result,) = make(family, how(mode, blend=blend, steps=1), requests(strength, TEXTS[:1])).values()
        near.append(result.cos_style)
        away.append(-result.cos_text)
    assert near == sorted(near) and near[0] < near[2]
    assert away == sorted(away) and away[0] < away[2]


@pytest.mark.parametrize("mode", ["clap-in", "lm-mix", "lm-concat", "adapter"])
def test_full_strength_is_the_style_alone(make: Any, mode: str) -> None:
    (result,) = make("audioldm2", how(mode, steps=1), requests(1.0, TEXTS[:1])).values()
    assert result.cos_style == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("mode", "family"), [("prompt", "audioldm"), ("prompt", "audioldm2"), *PAIRS])
def test_a_clip_is_the_same_in_any_batch_and_order(make: Any, mode: str, family: str) -> None:
    asked = [replace(each, strength=(0.3, 0.6)[each.index % 2]) for each in requests(0.3)]
    alone = make(family, how(mode, batch_size=1, steps=2), asked)
    for size, order in ((4, asked[::-1]), (8, asked)):
        made = make(family, how(mode, batch_size=size, steps=2), order)
        assert made.keys() == alone.keys()
        for name, result in made.items():
            torch.testing.assert_close(result.audio, alone[name].audio, atol=1e-5, rtol=0)
            assert result.seed == alone[name].seed


@pytest.mark.parametrize("mode", ["clap-in", "lm-mix", "lm-concat", "adapter", "augment"])
def test_a_second_guidance(make: Any, mode: str) -> None:
    def audio(style: float, strength: float = 0.6, second: bool = True) -> torch.Tensor:
        settings = how(mode, guidance=Guidance(3.0, style), second_guidance=second)
        return make("audioldm2", settings, requests(strength, TEXTS[1:2]))["000_v0"].audio

    plain = make("audioldm2", how("prompt"), requests(0.0, TEXTS[1:2]))["000_v0"].audio
    assert torch.equal(audio(2.0, strength=0.0), plain)
    torch.testing.assert_close(audio(0.0), plain, atol=1e-5, rtol=0)
    distances = [float((audio(style) - plain).norm()) for style in (1.0, 4.0)]
    assert 0 < distances[0] < distances[1]
    assert not torch.equal(audio(1.0), audio(1.0, second=False))


def test_labels_are_added_as_many_as_the_strength_says(make: Any, finder: StyleFinder) -> None:
    asked = [Request("drum", 0, strength=strength) for strength in (0.1, 1.0)]
    few, many = (make("audioldm", how("augment", steps=1), [each])["000_v0"] for each in asked)
    assert len(few.words) == 1 < len(many.words)
    assert few.prompt_used == f"drum, {few.words[0]}"
    assert {each.role for each in many.influences} == {"words"}
    # Only clips that carry an added word have shaped the prompt.
    assert len(few.influences) == 1 and few.influences[0].weight == pytest.approx(1)


def test_labels_keep_to_the_budget_of_tokens(make: Any, models: Any) -> None:
    long = "a solo piano melody in a small room, " * 6
    (result,) = make(
        "audioldm", how("augment", steps=1), [Request(long.strip(" ,"), 0, strength=1.0)]
    ).values()
    assert result.words == () and result.influences == ()
    encoder = PromptEncoder(models["audioldm"])
    (result,) = make("audioldm", how("augment", steps=1), [Request("a", 0, strength=1.0)]).values()
    assert result.words and encoder.fits(result.prompt_used)


def test_a_clip_starts_from_the_nearest_clip(make: Any, models: Any, clap: ClapEncoder, clips: Path) -> None:
    model, reference = models["audioldm"], clips / "violin.wav"
    import soundfile

    samples = torch.from_numpy(soundfile.read(reference, dtype="float32")[0])
    given = latents_of(model, samples, 0.01675)
    assert given.shape == model.latent_shape(34)
    # The start is scaled to one level, so loudness does not count.
    torch.testing.assert_close(latents_of(model, 0.1 * samples, 0.01675), given, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="is silent"):
        latents_of(model, torch.zeros(100), 0.01675)
    alone = StyleFinder(clap)
    strong, weak = (
        make(
            "audioldm",
            how("audio-init", steps=10),
            [Request("drum", 0, strength=strength, reference=reference)],
            finder=alone,
        )["000_v0"]
        for strength in (0.9, 0.1)
    )
    assert strong.influences[0].role == "start" and strong.influences[0].clip == "violin.wav"
    from rc_audioldm.denoising.decoding import decode

    sound = decode(model, given[None], 0.01675)[0]
    assert (strong.audio - sound).norm() < (weak.audio - sound).norm()


def test_the_spectrogram_of_the_released_models() -> None:
    vocoder = SimpleNamespace(
        config=SimpleNamespace(sampling_rate=16000, upsample_rates=[5, 4, 2, 2, 2], model_in_dim=64)
    )
    released: Any = SimpleNamespace(sample_rate=16000, hop=160, vocoder=vocoder)
    config = mel_config(released)
    assert (config.n_fft, config.hop_length, config.n_mels, config.f_max) == (1024, 160, 64, 8000.0)
    assert (config.power, config.log, config.pad_mode) == (1.0, "ln", "reflect")
    small: Any = SimpleNamespace(
        sample_rate=8000, hop=80, vocoder=SimpleNamespace(config=SimpleNamespace(model_in_dim=8))
    )
    config = mel_config(small)
    assert (config.sample_rate, config.n_fft, config.hop_length, config.n_mels, config.f_max) == (
        8000,
        512,
        80,
        8,
        4000.0,
    )


def test_the_default_mode_follows_from_the_style(make: Any, clap: ClapEncoder, clips: Path) -> None:
    asked = requests(0.5, TEXTS[:1])
    assert make("audioldm", how(None, steps=1), asked)["000_v0"].mode == "clap-in"
    assert make("audioldm", how(None, steps=1), asked, finder=None)["000_v0"].mode == "prompt"
    some = [asked[0], Request("drum", 1, reference=clips / "piano.wav")]
    made = make("audioldm", how(None, steps=1), some, finder=StyleFinder(clap))
    assert [each.mode for each in made.values()] == ["prompt", "clap-in"]
    assert made["001_v0"].influences[0].role == "reference"


def test_candidates_are_ranked_among_their_own(make: Any) -> None:
    asked = requests(0.5, TEXTS[:2])
    everything = make("audioldm", how("clap-in", variants=3), asked)
    best = make("audioldm", how("clap-in", variants=1, candidates=3), asked)
    for index in range(2):
        scores = [everything[f"{index:03d}_v{draw}"].clap_text for draw in range(3)]
        result = best[f"{index:03d}_v0"]
        assert result.draw == max(range(3), key=scores.__getitem__)
        assert list(result.scores) == pytest.approx(scores, abs=1e-5)
        torch.testing.assert_close(
            result.audio, everything[f"{index:03d}_v{result.draw}"].audio, atol=1e-5, rtol=0
        )
    by_style = make("audioldm", how("clap-in", variants=2, candidates=3, rank_by="style"), asked)
    assert list(by_style) == ["000_v0", "000_v1", "001_v0", "001_v1"]
    assert by_style["000_v0"].clap_style >= by_style["000_v1"].clap_style


def test_the_knob_uses_the_same_noise(make: Any) -> None:
    settings = how("clap-in", knob=True, candidates=2, variants=1)
    asked = [replace(each, strength=0.5) for each in requests(0.5, TEXTS[:2])]
    for result in make("audioldm", settings, asked).values():
        assert list(result.knob) == [0.0, 0.5, 1.0]
        torch.testing.assert_close(result.knob[0.5], result.audio, atol=1e-5, rtol=0)
        assert not torch.allclose(result.knob[0.0], result.knob[1.0], atol=1e-5)
    assert make("audioldm", how("prompt", knob=True), asked[:1])["000_v0"].knob == {}


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        (
            "audioldm",
            {"mode": "lm-mix"},
            "which audioldm cannot do; allowed: prompt, clap-in, augment, audio-init",
        ),
        ("audioldm", {"mode": "adapter"}, "cannot do"),
        ("audioldm2", {"mode": "legacy-embed"}, "which audioldm2 cannot do"),
        ("audioldm", {"mode": "clapin"}, "mode is 'clapin'; allowed: prompt, clap-in"),
        ("audioldm2", {"mode": "lm-mix", "blend": "orth"}, "allows: slerp, linear"),
        ("audioldm2", {"mode": "audio-init", "second_guidance": True}, "no second guidance"),
        ("audioldm", {"mode": "legacy-embed", "variants": 2}, "one clip of each prompt"),
    ],
)
def test_what_a_model_cannot_do_is_named(make: Any, family: str, changes: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make(family, how(**changes), requests(0.5, TEXTS[:1]))


def test_missing_parts_are_named(make: Any, clap: ClapEncoder, models: Any) -> None:
    asked = requests(0.5, TEXTS[:1])
    with pytest.raises(UsageError, match="needs a bank or a reference"):
        make("audioldm", how("clap-in"), asked, finder=None)
    with pytest.raises(UsageError, match="needs a bank"):
        make("audioldm", how("augment"), asked, finder=StyleFinder(clap))
    with pytest.raises(UsageError, match="needs an adapter"):
        make("audioldm2", how("adapter"), asked, adapter=None)
    with pytest.raises(UsageError, match="ranked by a CLAP model"):
        make("audioldm", how("prompt", candidates=2), asked, finder=None)
    with pytest.raises(UsageError, match="scheduler is 'plms'"):
        settings = how("prompt")
        wrong = replace(settings.sampling, denoising=Denoising("plms", 3))
        make("audioldm", replace(settings, sampling=wrong), asked)
    unet = models["audioldm2"].unet
    try:
        unet.to(torch.bfloat16)
        with pytest.raises(UsageError, match="needs a UNet in float32"):
            make("audioldm2", how("lm-concat"), asked)
    finally:
        unet.to(torch.float32)


def test_an_adapter_of_other_sizes_is_refused(make: Any) -> None:
    from rc_audioldm.adapters import StateAdapterConfig, StyleToStates

    other = StyleToStates(StateAdapterConfig(in_width=16, hidden_width=4, states=3, state_width=12)).eval()
    with pytest.raises(UsageError, match=r"\(3, 12\); this model hears \(8, 12\)"):
        make("audioldm2", how("adapter"), requests(0.5, TEXTS[:1]), adapter=other)


def test_two_clap_models_are_compared(models: Any, clap: ClapEncoder) -> None:
    alike = agreement(models["audioldm"], clap)
    assert alike is not None and -1 <= alike < 0.9  # both are random


# The original's modes


def test_no_legacy_mode_is_a_default() -> None:
    assert all(name.startswith("legacy-") for name in LEGACY_MODES)
    assert not any(name.startswith("legacy-") for name in MODES)
    assert set(ALL_MODES) == set(MODES) | set(LEGACY_MODES)


def context(own: Any, clap: Any, options: LegacyOptions, model: Any = None) -> Context:
    """What a mode is told; ``own`` and ``clap`` stand for the encoders of the model and of the bank."""
    settings = Settings(
        mode="prompt", sampling=Sampling(seed=1000, denoising=Denoising("ddim", 3)), legacy=options
    )
    finder: Any = SimpleNamespace(encoder=clap)
    return Context(model, own, settings, finder)


def style(vector: torch.Tensor) -> Any:
    return SimpleNamespace(vector=vector, influences=())


@pytest.mark.parametrize(
    ("mixing", "blend"), [("residual", "orth"), ("orth", "residual"), ("replace", "orth")]
)
def test_the_conditions_of_the_original_with_audioldm(
    golden: Any, builders: Any, mixing: str, blend: Any
) -> None:
    case = golden("aldm1_cond_mix")
    t = case.tensors
    pieces = [t[f"{mixing}/encode_prompt_batch{batch}"].chunk(2)[1] for batch in (0, 1)]
    wanted = [t[f"{mixing}/prompt_embeds_batch{batch}"].chunk(2)[1] for batch in (0, 1)]
    names = [f"p{i}" for i in range(3)]
    own = builders.StoredTexts(dict(zip(names, torch.cat(pieces), strict=True)))
    clap = builders.StoredTexts(dict(zip(names, t["clap_text_unit"], strict=True)))
    told = context(own, clap, LegacyOptions(alpha=0.09, beta=case.meta["beta"], blend=blend))
    for name, expected, vector in zip(names, torch.cat(wanted), t["projected_style"], strict=True):
        request = Request(name, negative="speech")
        heard = LEGACY_MODES[f"legacy-cond-{mixing}"].hear(told, request, style(vector))
        torch.testing.assert_close(heard.conditions.prompt.vector, expected, atol=case.tolerance, rtol=0)
        assert heard.conditions.negative == ("", name)  # the negative prompt is lost


def test_the_conditions_of_the_original_in_embed_mode(golden: Any, builders: Any) -> None:
    case = golden("aldm1_embed_mode")
    t = case.tensors
    names = [f"prompt{i}" for i in range(3)]
    raw = builders.StoredTexts(
        {name: torch.nn.functional.normalize(t[f"clap_text_raw/{name}"], dim=0) for name in names}
    )
    for golden_name, blend in (("default", "orth"), ("plain_noop", "plain")):
        told = context(raw, raw, LegacyOptions(blend=blend))
        for i, name in enumerate(names):
            heard = LEGACY_MODES["legacy-embed"].hear(told, Request(name), style(t["style_bank"][i]))
            expected = t[f"{golden_name}/prompt_embeds"][i]
            torch.testing.assert_close(heard.conditions.prompt.vector, expected, atol=case.tolerance, rtol=0)


@pytest.mark.parametrize("way", ["pad", "linear"])
def test_the_conditions_of_the_original_with_audioldm2(golden: Any, builders: Any, way: str) -> None:
    case = golden("aldm2_retrieval_inputs")
    t, model = case.tensors, builders.make_model("audioldm2")
    names = ["a", "b", "c"]
    model.tokenizer_2 = builders.StoredTokens(
        {"a": [5, 6, 1], "b": [7, 8, 9, 1], "c": [4, 1], "noise": [3, 1]}, 0
    )
    clap = dict(zip(names, t["clap_text_unit"], strict=True)) | {"": t["clap_empty_unit"][0]}
    texts = builders.StoredTexts(clap)
    told = context(texts, texts, LegacyOptions(alpha=0.08), model)
    expected = torch.cat([t[f"{way}/batch{batch}/generated_prompt_embeds"] for batch in (0, 1)])
    negative = t[f"{way}/batch0/negative_generated_prompt_embeds"][0]
    for name, states, vector, length in zip(names, expected, t["projected_style"], (3, 4, 2), strict=True):
        heard = LEGACY_MODES[f"legacy-lm-{way}"].hear(told, Request(name, negative="noise"), style(vector))
        torch.testing.assert_close(heard.conditions.prompt.states, states, atol=case.tolerance, rtol=0)
        assert heard.conditions.negative is not None
        torch.testing.assert_close(heard.conditions.negative.states, negative, atol=case.tolerance, rtol=0)
        assert heard.conditions.prompt.text is not None and len(heard.conditions.prompt.text) == length


def test_the_noise_of_the_original_depends_on_the_run(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One generator for the whole run, which goes on in each batch and draws for twice as many clips."""
    seen: list[torch.Tensor] = []

    def spy(model: Any, noise: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        seen.append(noise)
        return denoise(model, noise, *rest, **more)

    monkeypatch.setattr("rc_audioldm.denoising.sampling.denoise", spy)
    settings = how("legacy-cond-residual", batch_size=2)
    asked = requests(0.5, TEXTS[:3])
    make("audioldm", replace(settings, sampling=replace(settings.sampling, seed=1000)), asked)
    generator = torch.Generator().manual_seed(1000)
    expected = [torch.randn(2 * count, 4, 34, 4, generator=generator)[count:] for count in (2, 1)]
    assert torch.equal(torch.cat(seen), torch.cat(expected))
    # What is finished is not made again, and the rest gets the noise that it would have had.
    seen.clear()
    again = replace(settings, sampling=replace(settings.sampling, seed=1000))
    make("audioldm", again, asked, is_done=lambda request: request.index < 2)
    assert len(seen) == 1 and torch.equal(seen[0], expected[1])


def test_rows_of_the_original_are_no_neighbours(make: Any, finder: StyleFinder) -> None:
    made = make("audioldm", how("legacy-cond-residual", steps=1), requests(0.5))
    assert finder.bank is not None
    assert [each.influences[0].row for each in made.values()] == [0, 1, 2, 3, 0]
    assert len({row.influences[0].clip for row in made.values()}) == 4


def test_style_vectors_of_another_width_are_refused(models: dict[str, AudioLDM]) -> None:
    with pytest.raises(
        IncompatibleVectors, match="style vectors have 24 dimensions, and the CLAP of the model 16"
    ):
        encoder: Any = SimpleNamespace(dimension=24)
        next(
            generate(
                models["audioldm"], requests(0.5, TEXTS[:1]), how("clap-in"), finder=StyleFinder(encoder)
            )
        )


def test_strings_are_requests(models: dict[str, AudioLDM]) -> None:
    made = list(generate(models["audioldm"], ["drum", "a harp"], how(None, steps=1)))
    assert [(each.id, each.prompt_used, each.mode) for each in made] == [
        ("000_v0", "drum", "prompt"),
        ("001_v0", "a harp", "prompt"),
    ]


def test_the_effect_of_each_clip_is_measured(make: Any) -> None:
    for family, mode in (("audioldm", "clap-in"), ("audioldm2", "lm-mix")):
        (result,) = make(family, how(mode, causal=True, steps=2), requests(0.8, TEXTS[3:4])).values()
        assert result.causal is not None and len(result.causal.effects) == len(result.influences) == 4
        assert [each.effect for each in result.influences] == result.causal.shares
        # The CLAP of the tests hears hardly any difference, so that the spectra decide.
        effects = sorted(result.causal.effects, key=lambda each: each.mel_rank)
        assert effects[0].weight > 0.4 and effects[0].mel_db > effects[-1].mel_db > 0
        assert all(1 <= (each.effect_rank or 0) <= 4 for each in result.influences)
        assert result.causal.repeat_clap == result.causal.repeat_mel_db == 0
    (result,) = make("audioldm", how("augment", causal=True, steps=1), requests(0.5, TEXTS[3:4])).values()
    assert result.causal is None
    (result,) = make("audioldm", how("clap-in", causal=True, steps=1), requests(0.0, TEXTS[3:4])).values()
    assert result.causal is None
