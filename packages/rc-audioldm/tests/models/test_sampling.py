"""Clips: the same in any batch and order, with a style or without, long ones, on a device or by turns."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from pentatonic.errors import UsageError
from rc_audioldm.denoising.decoding import decode_mel, encode_mel
from rc_audioldm.denoising.guidance import Guidance
from rc_audioldm.denoising.loop import Batch, Denoising, Start, denoise
from rc_audioldm.denoising.noise import clip_seed, draw_noise
from rc_audioldm.denoising.sampling import Clip, Item, ItemConditions, Sampling, sample
from rc_audioldm.denoising.schedulers import SCHEDULERS, make_scheduler
from rc_audioldm.denoising.windows import Window, plan_windows, windows_of
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.conditions import Condition
from rc_audioldm.prompts.encoder import PromptEncoder
from rc_audioldm.style.blending import blend
from rc_audioldm.weights import load_directory

TEXTS = [
    "a solo piano melody in a small room",
    "drum",
    "flute and cello",
    "a harp",
    "slow warm strings",
    "bass",
    "cello",
]
ITEMS = [Item(text, negative="drum" if index % 2 else "", index=index) for index, text in enumerate(TEXTS)]
SHORT = Denoising("ddim", 3, Guidance(3.0))


@pytest.fixture(scope="module")
def models(directories: Any) -> dict[str, AudioLDM]:
    return {family: load_directory(directories(family)) for family in ("audioldm", "audioldm2")}


@pytest.fixture
def model(models: Any, family: str) -> AudioLDM:
    return models[family]


def settings(**changes: Any) -> Sampling:
    values: dict[str, Any] = {"seconds": 0.01675, "denoising": SHORT}
    return Sampling(**(values | changes))


def by_key(clips: Any) -> dict[tuple[int, int], Clip]:
    return {(clip.item.index, clip.variant): clip for clip in clips}


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_a_clip_is_the_same_in_any_batch_and_order(model: AudioLDM, scheduler: str) -> None:
    how = {"denoising": Denoising(scheduler, 4, Guidance(3.0))}
    alone = by_key(sample(model, ITEMS, settings(batch_size=1, **how)))
    shuffled = random.Random(0).sample(ITEMS, len(ITEMS))
    for items, size in ((ITEMS, 4), (ITEMS, 8), (shuffled, 4)):
        clips = by_key(sample(model, items, settings(batch_size=size, **how)))
        assert clips.keys() == alone.keys()
        for key, clip in clips.items():
            torch.testing.assert_close(clip.audio, alone[key].audio, atol=1e-5, rtol=0)
    assert not torch.allclose(alone[1, 0].audio, alone[2, 0].audio, atol=1e-4)


def test_variants_and_seeds(model: AudioLDM) -> None:
    items = [Item("drum", index=3, variants=3)]
    clips = by_key(sample(model, items, settings()))
    assert list(clips) == [(3, 0), (3, 1), (3, 2)]
    assert not torch.equal(clips[3, 0].audio, clips[3, 1].audio)
    again = next(sample(model, [Item("drum", index=3)], settings(batch_size=1)))
    torch.testing.assert_close(again.audio, clips[3, 0].audio, atol=1e-5, rtol=0)
    assert clips[3, 1].seed == clip_seed(42, 3, 1) != clip_seed(42, 3, 1, 1)
    other = next(sample(model, [Item("drum", index=3)], settings(seed=43)))
    assert not torch.allclose(other.audio, again.audio, atol=1e-4)


def test_seeds_are_the_same_everywhere() -> None:
    assert clip_seed(42, 0) == 7718384621018237755
    seeds = {clip_seed(s, i, v, w) for s in (1, 11) for i in range(12) for v in range(12) for w in range(3)}
    assert len(seeds) == 2 * 12 * 12 * 3 and max(seeds) < 2**63
    assert torch.equal(draw_noise(5, (2, 3)), draw_noise(5, (2, 3)))
    with pytest.raises(UsageError, match="item -1"):
        clip_seed(0, -1)


def test_a_style_that_changes_nothing_gives_the_same_bits(model: AudioLDM) -> None:
    style = torch.nn.functional.normalize(torch.linspace(-1, 1, 16), dim=0)

    def restyle(strength: float) -> Any:
        def change(item: Item, heard: ItemConditions, encoder: PromptEncoder) -> ItemConditions:
            vector = blend(encoder.clap(item.text)[None], style[None], strength)[0]
            return ItemConditions(encoder.encode(item.text, clap=vector), heard.negative)

        return change

    plain, off, on = (
        next(sample(model, ITEMS[:1], settings(), restyle=change)).audio
        for change in (None, restyle(0), restyle(0.7))
    )
    assert torch.equal(plain, off)
    assert not torch.allclose(plain, on, atol=1e-5)


def test_a_second_guidance(model: AudioLDM) -> None:
    style = torch.nn.functional.normalize(torch.linspace(-1, 1, 16), dim=0)

    def change(item: Item, heard: ItemConditions, encoder: PromptEncoder) -> ItemConditions:
        styled = encoder.encode(item.text, clap=style) if item.index == 0 else None
        return ItemConditions(heard.prompt, heard.negative, styled)

    def clips(guidance: Guidance, restyle: Any = change) -> dict[tuple[int, int], Clip]:
        how = settings(denoising=Denoising("ddim", 3, guidance))
        return by_key(sample(model, ITEMS[:2], how, restyle=restyle))

    plain, off, on = clips(Guidance(3.0), None), clips(Guidance(3.0, 0.0)), clips(Guidance(3.0, 2.0))
    torch.testing.assert_close(plain[0, 0].audio, off[0, 0].audio, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain[1, 0].audio, on[1, 0].audio, atol=1e-5, rtol=0)
    assert not torch.allclose(plain[0, 0].audio, on[0, 0].audio, atol=1e-5)
    # Without a push of the text, a style guidance of 1 gives the styled prompt alone.
    only = clips(Guidance(1.0, 1.0))[0, 0].audio

    def styled_alone(item: Item, heard: ItemConditions, encoder: PromptEncoder) -> ItemConditions:
        return ItemConditions(encoder.encode(item.text, clap=style), heard.negative)

    alone = clips(Guidance(1.0), styled_alone)[0, 0].audio
    torch.testing.assert_close(only, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_makes_finite_clips_that_repeat(models: Any, name: str) -> None:
    how = settings(denoising=Denoising(name, 5))
    one, other = (next(sample(models["audioldm"], ITEMS[:1], how)) for _ in range(2))
    assert one.audio.isfinite().all() and torch.equal(one.audio, other.audio)


def test_the_steps_of_schedulers(models: Any) -> None:
    trained = models["audioldm"].scheduler
    assert make_scheduler(trained, "checkpoint", 4).timesteps.tolist() == [751, 501, 251, 1]
    assert make_scheduler(trained, "ddim", 4).timesteps.tolist() == [751, 501, 251, 1]
    assert make_scheduler(trained, "dpm++", 4).timesteps.tolist() == [999, 749, 500, 250]


@pytest.mark.parametrize(
    ("name", "steps", "named"),
    [
        ("plms", 5, "scheduler is 'plms'; allowed: checkpoint, ddim, dpm"),
        ("ddim", 0, "steps is 0"),
        ("ddim", 1001, "1000"),
    ],
)
def test_wrong_schedulers_are_named(models: Any, name: str, steps: int, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        next(sample(models["audioldm"], ITEMS[:1], settings(denoising=Denoising(name, steps))))


def test_windows_cover_a_clip() -> None:
    assert plan_windows(5, 10, 3) == [Window(0, 5, 0)]
    assert plan_windows(10, 10, 3) == [Window(0, 10, 0)]
    assert plan_windows(24, 10, 3) == [Window(0, 10, 0), Window(7, 10, 3), Window(14, 10, 3)]
    assert plan_windows(25, 10, 3) == [
        Window(0, 10, 0),
        Window(7, 10, 3),
        Window(14, 10, 3),
        Window(15, 10, 9),
    ]
    for total in range(11, 60):
        covered = 10
        for window in plan_windows(total, 10, 4)[1:]:
            assert window.start + window.overlap == covered and window.overlap >= 4
            covered = window.start + window.length
        assert covered == total
    with pytest.raises(UsageError, match="allowed: 1 to 9"):
        plan_windows(20, 10, 10)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "euler", "unipc", "deis", "heun"])
def test_a_long_clip_continues_its_windows(model: AudioLDM, scheduler: str) -> None:
    how = {"denoising": Denoising(scheduler, 4, Guidance(3.0))}
    window = {"window_seconds": 0.008, "overlap_seconds": 0.002}
    long = next(sample(model, ITEMS[:1], settings(seconds=0.02, **window, **how)))
    first = next(sample(model, ITEMS[:1], settings(seconds=0.008, **how)))
    frames = first.latents.shape[1]
    assert (frames, long.latents.shape[1]) == (16, 40)
    torch.testing.assert_close(long.latents[:, :frames], first.latents, atol=1e-5, rtol=0)
    assert long.audio.isfinite().all() and len(long.audio) == 320
    together = by_key(sample(model, ITEMS[:3], settings(seconds=0.02, **window, **how)))
    torch.testing.assert_close(together[0, 0].audio, long.audio, atol=1e-5, rtol=0)


def test_a_tail_is_kept_and_changes_what_follows(model: AudioLDM) -> None:
    encoder = PromptEncoder(model)
    batch = Batch([encoder.encode("drum")], [encoder.encode_negative("", "drum")])
    noise = draw_noise(0, (1, *model.latent_shape(12)))
    tail = draw_noise(1, (1, *model.latent_shape(4)))
    free, bound = denoise(model, noise, batch, SHORT), denoise(model, noise, batch, SHORT, tail=tail)
    assert torch.equal(bound[:, :, :4], tail)
    assert not torch.allclose(free[:, :, 4:], bound[:, :, 4:], atol=1e-4)


def test_windows_of_ten_seconds(models: Any) -> None:
    model = models["audioldm"]
    windows = windows_of(model, 25.0)
    assert [window.length for window in windows] == [20_000] * 4
    assert windows[1].overlap == round(2.56 / model.latent_frame_seconds)


def test_a_start_keeps_more_of_itself_at_less_strength(models: Any) -> None:
    model = models["audioldm"]
    encoder = PromptEncoder(model)
    batch = Batch([encoder.encode("drum")], [encoder.encode_negative("", "drum")])
    noise, given = (draw_noise(seed, (1, *model.latent_shape(12))) for seed in (0, 1))
    for scheduler in ("ddim", "dpm++", "euler"):
        how = Denoising(scheduler, 10)
        distances = [
            float((denoise(model, noise, batch, how, start=Start(given, strength)) - given).norm())
            for strength in (0.1, 0.5, 1.0)
        ]
        assert distances == sorted(distances)
    with pytest.raises(UsageError, match="strength of the start is 0"):
        Start(given, 0)
    with pytest.raises(UsageError, match="one strength"):
        Start.joined([Start(given, 0.1), Start(given, 0.2)])


def test_a_clip_can_start_from_a_spectrogram(model: AudioLDM) -> None:
    mel = torch.randn(1, 1, 68, 8, generator=torch.Generator().manual_seed(0))
    latents = encode_mel(model, mel)
    assert latents.shape == (1, *model.latent_shape(34))
    assert decode_mel(model, latents).shape == mel.shape
    clip = next(sample(model, ITEMS[:1], settings(), starts=lambda _: Start(latents[0], 0.3)))
    plain = next(sample(model, ITEMS[:1], settings()))
    assert not torch.allclose(clip.audio, plain.audio, atol=1e-5)
    with pytest.raises(UsageError, match="starts from audio"):
        next(
            sample(
                model, ITEMS[:1], settings(window_seconds=0.008, overlap_seconds=0.002),
                starts=lambda _: Start(latents[0], 0.3),
            )
        )  # fmt: skip


def test_components_are_moved_only_while_they_compute(
    model: AudioLDM, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = next(sample(model, ITEMS[:1], settings()))
    moves: list[tuple[str, str]] = []
    for name, module in model.modules().items():
        move = module.to
        monkeypatch.setattr(
            module,
            "to",
            lambda device, name=name, move=move: (moves.append((name, str(device))), move("cpu"))[1],
        )
    model.device, model.offload = torch.device("cpu", 0), True
    try:
        clip = next(sample(model, ITEMS[:1], settings()))
    finally:
        model.device, model.offload = torch.device("cpu"), False
    assert torch.equal(clip.audio, expected.audio)
    order = [name for name, device in moves if device == "cpu:0"]
    assert order[-3:] == ["unet", "vae", "vocoder"] and order[0].startswith("text_encoder")
    for name in order:
        assert moves.count((name, "cpu:0")) == moves.count((name, "cpu"))
    assert model.to("cpu") is model


def test_no_rows_of_the_negative_without_guidance(models: Any) -> None:
    model, rows = models["audioldm"], []
    handle = model.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    next(sample(model, ITEMS[:2], settings(denoising=Denoising("ddim", 2, Guidance(1.0)))))
    next(sample(model, ITEMS[:2], settings(denoising=Denoising("ddim", 2, Guidance(1.5)))))
    handle.remove()
    assert rows == [2, 2, 4, 4]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m: next(sample(m, ITEMS[:1], settings(batch_size=0))), "batch size is 0"),
        (lambda m: next(sample(m, ITEMS[:1], settings(seconds=0.0001))), "the length is 0.0001 s"),
        (lambda m: next(sample(m, ITEMS[:1], settings(seconds=1e9))), "3600 s"),
        (lambda m: next(sample(m, ITEMS[:1], settings(seconds=float("nan")))), "the length is nan"),
        (lambda m: Guidance(-1.0), "guidance of the text is -1"),
        (lambda m: Guidance(3.0, float("inf")), "guidance of the style is inf"),
        (
            lambda m: denoise(m, torch.zeros(1, 4, 2, 4), Batch([Condition()]), SHORT),
            "needs negative prompts",
        ),
        (
            lambda m: denoise(m, torch.zeros(2, 4, 2, 4), Batch([Condition()], [Condition()]), SHORT),
            "2 clips and 1",
        ),
        (
            lambda m: denoise(m, torch.zeros(1, 4, 2, 4), Batch([Condition()], [Condition()] * 2), SHORT),
            "one number",
        ),
    ],
)
def test_wrong_settings_are_named(models: Any, call: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        call(models["audioldm"])


def test_what_can_steer_a_model(models: Any) -> None:
    assert models["audioldm"].capabilities == {"text", "clap_vector", "audio_init"}
    assert models["audioldm2"].capabilities - models["audioldm"].capabilities == {"language_states"}


@pytest.mark.parametrize("scheduler", ["dpm++", "heun"])
@pytest.mark.parametrize("share", [None, 0.5])
def test_each_step_is_told(models: Any, scheduler: str, share: float | None) -> None:
    model, told = models["audioldm"], []
    how = settings(denoising=Denoising(scheduler, 4, Guidance(3.0)), batch_size=1)
    latents = torch.zeros(model.latent_shape(model.geometry(how.seconds).latent_frames))
    starts = None if share is None else lambda _: Start(latents, share)
    asked = []
    hook = model.unet.register_forward_pre_hook(lambda *_: asked.append(1))
    clips = list(sample(model, ITEMS[:2], how, starts=starts, on_step=lambda *each: told.append(each)))
    hook.remove()
    total = len(asked) // len(clips)
    assert total >= (4 if share is None else 2)
    assert told == [(step, total) for step in range(1, total + 1)] * 2


def test_steps_of_windows_are_counted_together(models: Any) -> None:
    told: list[tuple[int, int]] = []
    how = settings(window_seconds=0.01, overlap_seconds=0.003)
    windows = len(windows_of(models["audioldm"], how.seconds, window_seconds=0.01, overlap_seconds=0.003))
    next(sample(models["audioldm"], ITEMS[:1], how, on_step=lambda *each: told.append(each)))
    assert windows > 1 and told == [(step, 3 * windows) for step in range(1, 3 * windows + 1)]


def test_what_is_raised_at_a_step_ends_the_work(models: Any) -> None:
    def stop(step: int, _steps: int) -> None:
        if step == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        next(sample(models["audioldm"], ITEMS[:1], settings(), on_step=stop))
