"""The numbers of the original's pipelines: encodings, predictions, latents, spectrograms, audio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rc_audioldm.denoising.candidates import rank_candidates
from rc_audioldm.denoising.decoding import decode, decode_mel, vocode
from rc_audioldm.denoising.guidance import Guidance
from rc_audioldm.denoising.loop import Batch, Denoising, denoise
from rc_audioldm.legacy.inputs import retrieval_noise
from rc_audioldm.legacy.ranking import pipeline_ranking
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.conditions import Condition, unet_inputs
from rc_audioldm.prompts.encoder import PromptEncoder, clap_vectors, joined_sequence, text_states
from rc_audioldm.prompts.language_states import language_states
from rc_audioldm.prompts.tokens import Tokens

GOLDENS = Path(__file__).parent.parent / "goldens"


def near(result: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(result, expected, atol=tolerance, rtol=0)


def vectors(rows: Tensor) -> list[Condition]:
    return [Condition(vector=row) for row in rows]


def heard(states: Tensor, text: Tensor, mask: Tensor) -> list[Condition]:
    """Conditions of AudioLDM 2 of padded rows."""
    rows = zip(states, text, mask, strict=True)
    return [Condition(states=state, text=words[own.bool()]) for state, words, own in rows]


def settings(scheduler: str, steps: int, guidance: float) -> Denoising:
    return Denoising(scheduler, steps, Guidance(guidance))


@pytest.fixture
def one(tiny: Any) -> AudioLDM:
    return tiny("audioldm")


@pytest.fixture
def two(tiny: Any) -> AudioLDM:
    return tiny("audioldm2")


def test_the_clap_vectors_of_audioldm(golden: Any, one: AudioLDM) -> None:
    case = golden("aldm1_tiny_pipeline")
    t = case.tensors
    encoded = torch.cat(
        [
            clap_vectors(one, Tokens(t["empty_input_ids"], t["empty_attention_mask"])),
            clap_vectors(one, Tokens(t["input_ids"], t["attention_mask"])),
        ]
    )
    near(encoded, t["encoded_uncond_then_cond"], 1e-6)


@pytest.mark.parametrize("case_name", ["aldm1_tiny_pipeline", "aldm2_tiny_pipeline"])
def test_every_step_of_ddim(golden: Any, tiny: Any, case_name: str) -> None:
    """The UNet in float64, whose results no processor changes, against the recorded numbers; float32 against that.

    Latents are as large as 43, where the recorded float32 numbers themselves are 2e-5 off the exact ones.
    """
    case = golden(case_name)
    t, tolerance, seconds = case.tensors, case.tolerance, case.meta["duration_s"]
    if case_name.startswith("aldm1"):
        model, guidance = tiny("audioldm"), case.meta["guidance"]
        negatives, prompts = vectors(t["negative_prompt_embeds"]), vectors(t["prompt_embeds"])
    else:
        model, guidance = tiny("audioldm2"), case.meta["guidance"]["ddim"]
        rows = heard(t["generated_cat"], t["prompt_embeds_cat"], t["attention_mask_cat"])
        negatives, prompts = rows[:2], rows[2:]
    first = model.unet(
        torch.cat([t["init_latents"]] * 2), t["ddim/timesteps"][0], **unet_inputs([*negatives, *prompts])
    ).sample
    near(first, t["unet/noise_pred_step0"], tolerance["latents"])

    def run() -> list[Tensor]:
        seen: list[Tensor] = []
        denoise(
            model,
            t["init_latents"],
            Batch(prompts, negatives),
            settings("ddim", 4, guidance),
            on_step=lambda _, x: seen.append(x),
        )
        return seen

    single = run()
    model.unet.double()
    exact = run()
    model.unet.float()
    assert len(single) == len(exact) == 4
    for index, (mine, truth) in enumerate(zip(single, exact, strict=True)):
        expected = t[f"ddim/latents_after_step{index}"]
        largest = float(expected.abs().max())
        near(truth, expected, max(tolerance["latents"], 6 * torch.finfo(torch.float32).eps * largest))
        near(mine, truth, max(tolerance["latents"], 1e-6 * largest))
    mel = decode_mel(model, single[-1])
    near(mel, t["ddim/mel"], tolerance["mel"])
    near(vocode(model, mel, model.geometry(seconds).samples), t["ddim/audio"], tolerance["audio"])


def test_other_calls_of_audioldm(golden: Any, one: AudioLDM) -> None:
    case = golden("aldm1_tiny_pipeline")
    t, tolerance, seconds = case.tensors, case.tolerance["audio"], case.meta["duration_s"]
    negatives, prompts = vectors(t["negative_prompt_embeds"]), vectors(t["prompt_embeds"])

    def audio(noise: Tensor, batch: Batch, how: Denoising) -> Tensor:
        return decode(one, denoise(one, noise, batch, how), seconds)

    for name in ("dpm++", "dpm"):
        near(
            audio(t["init_latents"], Batch(prompts, negatives), settings(name, 4, 3.0)),
            t["dpm/audio"],
            tolerance,
        )
    near(audio(t["init_latents"], Batch(prompts), settings("ddim", 3, 1.0)), t["noguidance/audio"], tolerance)
    seeded = torch.randn(t["init_latents"].shape, generator=torch.Generator().manual_seed(1000))
    near(audio(seeded, Batch(prompts, negatives), settings("ddim", 3, 3.0)), t["seeded/audio"], tolerance)
    # The doubled batch of retrieval, and the same clips at half the work.
    empty = vectors(clap_vectors(one, Tokens(t["empty_input_ids"], t["empty_attention_mask"])))
    both, noise = [*negatives, *prompts], t["upstream2B/init_latents"]
    doubled = audio(noise, Batch(both, [empty[0]] * 4), settings("ddim", 3, 3.0))
    near(doubled, t["upstream2B/audio_all4"], tolerance)
    alone = audio(noise[2:], Batch(prompts, [empty[0]] * 2), settings("ddim", 3, 3.0))
    near(alone, t["upstream2B/audio_all4"][2:], tolerance)


def test_the_encoding_of_audioldm2(golden: Any, two: AudioLDM) -> None:
    case = golden("aldm2_tiny_pipeline")
    t, tolerance = case.tensors, case.tolerance["embeds"]
    clap = clap_vectors(two, Tokens(t["cond/clap_input_ids"], t["cond/clap_mask"]))
    near(clap[:, None], t["cond/clap_text_features_unit"], tolerance)
    generated = []
    for side in ("uncond", "cond"):
        text = text_states(two, Tokens(t[f"{side}/t5_input_ids"], t[f"{side}/t5_mask"]))
        near(text, t[f"{side}/t5_hidden"], tolerance)
        sequence, mask = joined_sequence(
            two, t[f"{side}/clap_text_features_unit"][:, 0], text, t[f"{side}/t5_mask"]
        )
        near(sequence, t[f"{side}/projected"], tolerance)
        assert torch.equal(mask, t[f"{side}/projected_mask"])
        generated.append(language_states(two.language_model, sequence, mask, two.state_count))
    near(torch.cat(generated), t["generated_cat"], tolerance)
    five = language_states(two.language_model, t["cond/projected"], t["cond/projected_mask"], 5, cached=False)
    near(five, t["lm/generated_from_projected_5_tokens"], tolerance)


def test_other_calls_of_audioldm2(golden: Any, two: AudioLDM) -> None:
    case = golden("aldm2_tiny_pipeline")
    t, tolerance, seconds = case.tensors, case.tolerance["audio"], case.meta["duration_s"]
    text, mask = t["prompt_embeds_cat"], t["attention_mask_cat"]
    single = heard(torch.cat([t["retrieval/negative_generated"], t["retrieval/generated"]]), text, mask)
    eight = heard(t["generated_cat"], text, mask)
    for rows, name in ((single, "retrieval"), (eight, "text_call")):
        how = settings("ddim", case.meta["steps"][name], case.meta["guidance"][name])
        latents = denoise(two, t["init_latents"], Batch(rows[2:], rows[:2]), how)
        near(decode(two, latents, seconds), t[f"{name}/audio"], tolerance)


def test_prompts_of_unequal_length(golden: Any, two: AudioLDM) -> None:
    """The encoder on the original's padded batch, and each prompt encoded by itself by the class that generates."""
    case = golden("aldm2_padding")
    t, tolerance = case.tensors, case.tolerance
    how = settings("ddim", case.meta["steps"], case.meta["guidance"])
    for name in ("batch3", "alone0", "alone1", "alone2", "long_negative"):
        tokens = Tokens(t[f"{name}/t5_input_ids"], t[f"{name}/t5_mask"])
        clap = clap_vectors(two, Tokens(t[f"{name}/clap_input_ids"], t[f"{name}/clap_mask"]))
        text = text_states(two, tokens)
        near(text, t[f"{name}/t5_states"], tolerance["embeds"])
        sequence, mask = joined_sequence(two, clap, text, tokens.mask)
        for cached in (True, False):
            states = language_states(two.language_model, sequence, mask, 8, cached=cached)
            near(states, t[f"{name}/generated"], tolerance["embeds"])
        rows = heard(states, text, tokens.mask)
        half = len(rows) // 2
        first = int(name[-1]) if name.startswith("alone") else 0
        latents = denoise(two, t["init_latents"][first : first + half], Batch(rows[half:], rows[:half]), how)
        near(decode(two, latents, case.meta["duration_s"]), t[f"{name}/audio"], tolerance["audio"])


def test_each_prompt_by_itself_as_the_pipeline_alone(golden: Any, two: AudioLDM) -> None:
    case = golden("aldm2_padding")
    t, tolerance = case.tensors, case.tolerance["embeds"]
    two.tokenizer.ids, two.tokenizer_2.ids = _stored(t, "clap", 1), _stored(t, "t5", 0)  # type: ignore[union-attr]
    encoder = PromptEncoder(two)
    for index in range(3):
        prompt, name = f"prompt{index}", f"alone{index}"
        near(encoder.encode(prompt).states, t[f"{name}/generated"][1], tolerance)
        near(encoder.encode_negative("", prompt).states, t[f"{name}/generated"][0], tolerance)
        own = t[f"{name}/t5_mask"][1].bool()
        near(encoder.encode(prompt).text, t[f"{name}/t5_states"][1][own], tolerance)


def _stored(t: dict[str, Tensor], kind: str, pad: int) -> dict[str, list[int]]:
    key = "clap_input_ids" if kind == "clap" else "t5_input_ids"
    mask = "clap_mask" if kind == "clap" else "t5_mask"
    found = {}
    for index in range(3):
        rows, real = t[f"alone{index}/{key}"], t[f"alone{index}/{mask}"].bool()
        found[""], found[f"prompt{index}"] = rows[0][real[0]].tolist(), rows[1][real[1]].tolist()
    return found


def test_a_long_negative_is_cut_only_on_request(golden: Any, two: AudioLDM) -> None:
    """The stored ids are already cut, so a longer text stands for the one that they were cut from."""
    case = golden("aldm2_padding")
    t, tolerance = case.tensors, case.tolerance["embeds"]
    stored = t["long_negative/t5_input_ids"][0].tolist()
    two.tokenizer_2.ids = _stored(t, "t5", 0) | {"long": [*stored[:-1], 7, 9, 11, stored[-1]]}  # type: ignore[union-attr]
    clap = t["long_negative/clap_input_ids"][0][t["long_negative/clap_mask"][0].bool()].tolist()
    two.tokenizer.ids = _stored(t, "clap", 1) | {"long": clap}  # type: ignore[attr-defined]
    cut = PromptEncoder(two, cut_negative=True).encode_negative("long", "prompt0")
    near(cut.states, t["long_negative/generated"][0], tolerance)
    whole = PromptEncoder(two).encode_negative("long", "prompt0")
    assert whole.text is not None and cut.text is not None
    assert (len(cut.text), len(whole.text)) == (4, 7)
    near(PromptEncoder(two).encode_negative("long", "prompt1").text, whole.text, 1e-6)


@pytest.mark.parametrize("guidance", [0.5, 1.0, 1.01])
def test_guidance_acts_above_one_alone(golden: Any, one: AudioLDM, guidance: float) -> None:
    case = golden("generation_edges")
    t = case.tensors
    noise = torch.randn(2, 4, 34, 4, generator=torch.Generator().manual_seed(1000))
    batch = Batch(vectors(t["prompt_embeds"]), vectors(t["negative_prompt_embeds"]))
    audio = decode(one, denoise(one, noise, batch, settings("ddim", 3, guidance)), case.meta["duration_s"])
    near(audio, t[f"guidance{guidance}/audio"], case.tolerance)


def test_several_clips_of_a_prompt_and_a_generator_for_each_clip(golden: Any, one: AudioLDM) -> None:
    case = golden("generation_edges")
    t, seconds = case.tensors, case.meta["duration_s"]
    prompts, negatives = t["prompt_embeds"], t["negative_prompt_embeds"]
    how = settings("ddim", 3, 3.0)
    noise = torch.randn(4, 4, 34, 4, generator=torch.Generator().manual_seed(1000))
    twice = Batch(vectors(prompts.repeat_interleave(2, 0)), vectors(negatives.repeat_interleave(2, 0)))
    near(decode(one, denoise(one, noise, twice, how), seconds), t["variants2/audio"], case.tolerance)
    seeds = case.meta["generator_seeds"]["generator_list"]
    own = [torch.randn(4, 34, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    batch = Batch(vectors(prompts), vectors(negatives))
    near(
        decode(one, denoise(one, torch.stack(own), batch, how), seconds),
        t["generator_list/audio"],
        case.tolerance,
    )
    second = Batch(vectors(prompts[1:]), vectors(negatives[1:]))
    audio = decode(one, denoise(one, own[1][None], second, how), seconds)
    near(audio, t["generator_list/audio_item1_alone"], case.tolerance)


@pytest.mark.parametrize(
    ("name", "guidance"), [("legacy_retrieval", 3.0), ("legacy_retrieval_noguidance", 1.0)]
)
def test_the_noise_of_the_doubled_batch(golden: Any, name: str, guidance: float) -> None:
    case = golden("generation_edges")
    generator = torch.Generator().manual_seed(1000)
    noise = [retrieval_noise(generator, count, (4, 34, 4), guidance) for count in (2, 1)]
    assert torch.equal(torch.cat(noise), case.tensors[f"{name}/item_latents"])


def test_lengths(one: AudioLDM) -> None:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    content = json.loads((GOLDENS / "generation_edges/io.json").read_text(encoding="utf-8"))
    one.vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            **content["length_vocoder"], model_in_dim=8, upsample_initial_channel=32, resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
        )
    )  # fmt: skip
    for case in content["lengths"]:
        blocks = {2: 2, 4: 3}[case["vae_factor"]]
        one.vae.register_to_config(block_out_channels=[8] * blocks)
        if "error" in case:
            with pytest.raises(ValueError, match="the length is"):
                one.geometry(case["seconds"])
            continue
        geometry = one.geometry(case["seconds"])
        assert [1, *one.latent_shape(geometry.latent_frames)] == case["latents"]
        if case["seconds"] < 2:
            mel = torch.zeros(1, 1, geometry.frames, 8)
            assert vocode(one, mel, 10**9).shape[1] == case["vocoder_samples"]
            assert vocode(one, mel, geometry.samples).shape[1] == case["samples"]
        else:
            assert min(geometry.samples, case["vocoder_samples"]) == case["samples"]
    assert len(content["lengths"]) == 20


def test_candidates_are_ranked_among_their_own() -> None:
    content = json.loads((GOLDENS / "candidate_ranking/io.json").read_text(encoding="utf-8"))
    for case in content["cases"]:
        count, scores = case["per_prompt"], torch.tensor(case["logits_per_text"])
        assert pipeline_ranking(scores, count).tolist() == case["pipeline_order"]
        own = torch.stack([row[i * count : (i + 1) * count] for i, row in enumerate(scores)])
        order = rank_candidates(own) + torch.arange(len(own))[:, None] * count
        assert order.flatten().tolist() == case["own_candidates_order"]
    assert rank_candidates(torch.tensor([[0.5, 0.7, 0.5, 0.7]])).tolist() == [[1, 3, 0, 2]]
