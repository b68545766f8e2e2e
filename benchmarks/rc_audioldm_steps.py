"""Steps of generation that the original does with more work, on networks of the published sizes with random weights.

    python benchmarks/rc_audioldm_steps.py

- retrieval with AudioLDM 1 (S): the original hands its two rows over as two prompts, so that the UNet computes four
  rows and half of the clips are thrown away; here the two rows are all there are
- the states of AudioLDM 2's language model (GPT-2, 8 states after 40 positions, two rows): with and without its cache
- a step of AudioLDM 2's UNet: T5 states padded to the limit of the tokenizer, as the original's retrieval does, or
  trimmed to the prompt

Clips last 10 s. Results are compared before anything is timed. One thread, processor time, both ways in turn in many
short rounds. What counts is the ratio of the shortest times of all rounds, since other programs on the machine only
add time; the median of the rounds' ratios stands beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from machine import markdown_table, write_results
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from rc_audioldm.denoising.guidance import Guidance
from rc_audioldm.denoising.loop import Batch, Denoising, denoise
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.conditions import Condition
from rc_audioldm.prompts.language_states import language_states

WIDTHS = (128, 256, 384, 640)
PARAMETERS = {"audioldm": 185_036_552, "audioldm2": 346_943_496}
SHAPE = (8, 250, 16)  # latents of 10 s
TOLERANCE = 1e-5
POSITIONS, STATES, TOKENS, TOKEN_LIMIT = 40, 8, 24, 512


def unet(family: str) -> Any:
    """A UNet of the published size."""
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "in_channels": 8,
        "out_channels": 8,
        "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
        "up_block_types": (*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
        "block_out_channels": WIDTHS,
        "attention_head_dim": 32,
    }
    if family == "audioldm":
        made: Any = UNet2DConditionModel(
            cross_attention_dim=WIDTHS,
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=512,
            class_embeddings_concat=True,
            **common,
        )
    else:
        common["cross_attention_dim"] = tuple((None, 768, 1024) for _ in WIDTHS)
        made = AudioLDM2UNet2DConditionModel(**common)
    assert sum(each.numel() for each in made.parameters()) == PARAMETERS[family]
    return made.eval().requires_grad_(False)


def model(family: str) -> AudioLDM:
    """A model that has no more than a loop needs."""
    scheduler = DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    nothing: Any = SimpleNamespace()
    return AudioLDM(
        unet=unet(family),
        vae=nothing,
        scheduler=scheduler,
        vocoder=nothing,
        text_encoder=nothing,
        tokenizer=nothing,
        language_model=None if family == "audioldm" else nothing,
    )


def compared(
    name: str, ours: Callable[[], Tensor], other: Callable[[], Tensor], rounds: int
) -> dict[str, Any]:
    """Compare results, then time both in turn."""
    first, second = ours(), other()
    gap = float((first - second).abs().max() / second.abs().max())
    if gap > TOLERANCE:
        raise SystemExit(f"{name}: the results differ by {gap:.2g} of the largest value")
    ours_s, other_s = [], []
    for _ in range(rounds):
        for times, call in ((ours_s, ours), (other_s, other)):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
    ratios = [slow / fast for slow, fast in zip(other_s, ours_s, strict=True)]
    return {
        "step": name,
        "ours, s": min(ours_s),
        "the other way, s": min(other_s),
        "ratio of the shortest": min(other_s) / min(ours_s),
        "median ratio": statistics.median(ratios),
        "smallest ratio": min(ratios),
        "largest ratio": max(ratios),
        "greatest relative difference": gap,
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rows, rounds = [], arguments.rounds
    how = Denoising("ddim", 1, Guidance(3.0))
    noise = torch.randn(2, *SHAPE)
    one = model("audioldm")
    prompt, negative = (
        Condition(vector=torch.nn.functional.normalize(torch.randn(512), dim=0)) for _ in "ab"
    )

    def doubled() -> Tensor:
        # Two prompts, of which the first is the negative one, each with the negative of an empty prompt.
        return denoise(one, noise, Batch([negative, prompt], [negative, negative]), how)[1:]

    def single() -> Tensor:
        return denoise(one, noise[1:], Batch([prompt], [negative]), how)

    rows.append(compared("retrieval with AudioLDM 1, a step of the UNet", single, doubled, rounds))
    language: Any = GPT2Model(GPT2Config(vocab_size=1, bos_token_id=None, eos_token_id=None)).eval()
    sequence, mask = torch.randn(2, POSITIONS, 768), torch.ones(2, POSITIONS, dtype=torch.int64)
    rows.append(
        compared(
            "8 states of AudioLDM 2's language model",
            lambda: language_states(language, sequence, mask, STATES),
            lambda: language_states(language, sequence, mask, STATES, cached=False),
            4 * rounds,
        )
    )
    two = model("audioldm2")
    states, text = torch.randn(2, STATES, 768), torch.randn(2, TOKENS, 1024)
    heard = [Condition(states=state, text=words) for state, words in zip(states, text, strict=True)]
    batch = Batch(heard[1:], heard[:1])
    rows.append(
        compared(
            f"T5 trimmed from {TOKEN_LIMIT} to {TOKENS} rows, a step of AudioLDM 2's UNet",
            lambda: denoise(two, noise[1:], batch, how),
            lambda: denoise(two, noise[1:], batch, how, text_length=TOKEN_LIMIT),
            rounds,
        )
    )
    print(markdown_table(rows))
    command = f"python benchmarks/rc_audioldm_steps.py --rounds {rounds}"
    print(f"\nwritten: {write_results('rc_audioldm_steps', rows, command=command)}")


if __name__ == "__main__":
    main()
