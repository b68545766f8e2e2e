"""Does leaving clips out find the clip that mattered? Trials with rc-audioldm-tiny and a bank of distinct clips.

    python tools/phrases/planted_clips.py packages/rc-audioldm/demo --out planted.json

In each run four clips of the bank make a style, one of them with a given weight, the others with the rest; a prompt is
drawn, and noise of its own. Each clip is left out in turn, with the same noise, and the effects are ranked, as
`rc-audioldm generate --causal` does. The planted clip should rank first; by chance it does in one of four runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import progress, run_manifest
from rc_audioldm.bank.build import build_bank
from rc_audioldm.bank.sources import find_clips
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.clap import from_pretrained as load_clap
from rc_audioldm.denoising.loop import Denoising
from rc_audioldm.denoising.sampling import Item, ItemConditions, sample, sampling_for
from rc_audioldm.ledger.causal import Make
from rc_audioldm.ledger.planted import planted_clip_trials
from rc_audioldm.prompts.encoder import PromptEncoder
from rc_audioldm.style.blending import blend
from rc_audioldm.style.vectors import style_from
from rc_audioldm.weights import from_pretrained

MODEL = "rc-audioldm-tiny"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="folder of clips")
    parser.add_argument("--out", type=Path, help="write everything as .json")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--weight", type=float, default=0.5, help="of the planted clip")
    parser.add_argument("--most-alike", type=float, default=0.5, help="largest cosine of two clips of a run")
    parser.add_argument("--strength", type=float, default=1.0, help="of the style")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, clap = from_pretrained(MODEL), load_clap(MODEL)
    encoder = PromptEncoder(model)
    with tempfile.TemporaryDirectory() as folder:
        build_bank(clap, find_clips(options.clips), Path(folder, "bank"))
        bank = StyleBank.open(Path(folder, "bank"))
        vectors, tags = np.array(bank.vectors), [clip.tags for clip in bank.clips]

    with progress(options.runs, "trials") as bar:

        def make_for(run: int) -> Make:
            bar.advance(1)
            rng = np.random.default_rng([options.seed, run])
            prompt = f"a {rng.choice([each[0] for each in tags])} sound"
            settings = sampling_for(
                model, seed=int(rng.integers(2**31)), denoising=Denoising(steps=options.steps)
            )

            def make(rows: Sequence[int], weights: Sequence[float]) -> NDArray[np.floating]:
                def restyle(item: Item, plain: ItemConditions, encoder: PromptEncoder) -> ItemConditions:
                    if not len(rows):
                        return plain
                    text = encoder.clap(item.text)
                    style = style_from(
                        torch.from_numpy(vectors[list(rows)]), torch.tensor(weights, dtype=torch.float32)
                    )
                    mixed = blend(text[None], style[None], options.strength)[0]
                    return ItemConditions(encoder.encode(item.text, clap=mixed), plain.negative)

                (clip,) = sample(model, [Item(prompt)], settings, restyle=restyle, encoder=encoder)
                return clip.audio.numpy()

            return make

        def embed(samples: NDArray[np.floating]) -> NDArray[np.floating]:
            return clap.embed_audio(torch.from_numpy(samples), model.sample_rate)[0].numpy()

        found = planted_clip_trials(
            make_for,
            vectors,
            embed,
            model.sample_rate,
            runs=options.runs,
            planted_weight=options.weight,
            most_alike=options.most_alike,
            seed=options.seed,
        )
    print(found)
    if options.out is not None:
        report: dict[str, Any] = {**run_manifest(), "options": vars(options) | {"clips": str(options.clips)}}
        with atomic_file(options.out, "w") as file:
            json.dump(report | {"trials": found.as_dict()}, file, indent=2, default=str)


if __name__ == "__main__":
    main()
