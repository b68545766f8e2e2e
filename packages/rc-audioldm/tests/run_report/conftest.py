"""A run folder as a generation writes it, with ledgers, a knob and copies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pentatonic import audio
from rc_audioldm.knob.copies import Searchable, find_copies
from rc_audioldm.knob.dose_response import Dose, DoseResponse
from rc_audioldm.ledger.files import write_ledger
from rc_audioldm.ledger.ledger import Influence, Ledger

RATE = 16_000
HOSTILE = '<script>document.title = "taken"</script> $\\frac{1}$ & "quotes"'

MakeRun = Callable[..., Path]


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run(prompts, sounds)`` writes a run folder; the sounds are (n,) at 16 kHz."""

    def make(
        prompts: Sequence[str] = ("a slow cello", HOSTILE), sounds: Sequence[np.ndarray] | None = None
    ) -> Path:
        run = tmp_path / "run"
        (run / "wav").mkdir(parents=True)
        (run / "knob").mkdir()
        rng = np.random.default_rng(0)
        lines, rows, knob, copies = [], [], {}, {}
        for index, prompt in enumerate(prompts):
            identity = f"{index:03d}_v0"
            if sounds is None:
                tone = np.sin(np.cumsum(rng.uniform(0.05, 0.5, 30).repeat(RATE // 10))) / 3
            else:
                tone = sounds[index]
            file = f"wav/{index:03d}__clip.wav"
            audio.save(run / file, tone.astype(np.float32), RATE)
            clips = (
                Influence("cello/a.wav", "CC BY 4.0", 0.7, 0.6, source="Ann", effect=0.8, effect_rank=1),
                Influence(HOSTILE, "CC0 1.0", 0.3, 0.4, effect=0.2, effect_rank=2),
            )
            ledger = Ledger(
                prompt, f"{prompt}, warm", "clap-in", 0.5, 7, "cvssp/audioldm2", "", "CC BY-NC-SA 4.0", clips
            )
            write_ledger(run / file, ledger)
            lines.append(
                {
                    **{"id": identity, "index": index, "variant": 0, "file": file, "prompt": prompt},
                    **{
                        "prompt_used": f"{prompt}, warm",
                        "negative": "noise",
                        "mode": "clap-in",
                        "strength": 0.5,
                    },
                    **{"seed": 7, "cos_text": 0.8, "cos_style": 0.7, "seconds_taken": 1.5},
                    **{"clap_text": 0.3 + 0.05 * index, "clap_style": 0.5 - 0.02 * index},
                    "influences": [each.as_dict() for each in clips],
                }
            )
            rows.append({"id": identity, "loudness_lufs": -20.0 - index, "rms_dbfs": -18.0})
            values = ((0.2, 0.4, 0.3), (0.3, 0.5, 0.35), (0.4, 0.5, 0.48))
            doses = [
                Dose(s, timbre=t + 0.01 * index, melody=m, clap_reference=c, clap_prompt=0.4 - 0.1 * s)
                for s, t, m, c in zip((0.0, 0.5, 1.0), *values, strict=True)
            ]
            knob[identity] = DoseResponse(identity, tuple(doses)).as_dict()
            for dose in doses:
                audio.save(
                    run / f"knob/{identity}__{dose.strength:.2f}.wav", tone.astype(np.float32) / 2, RATE
                )
            output = Searchable("output", tone, RATE)
            source = Searchable("cello/a.wav", tone if index == 0 else tone[::-1], RATE)
            copies[identity] = [each.as_dict() for each in find_copies(output, [source])]
        (run / "items.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        write(run / "metrics/per_item.json", rows)
        means = {"loudness_lufs": {"mean": -20.5, "std": 0.5, "clips": len(rows)}}
        write(run / "metrics/summary.json", {"model": "cvssp/audioldm2", "steps": 50, "metrics": means})
        write(
            run / "run_config.json",
            {"command": "rc-audioldm generate --seed 7", "versions": {"torch": "2.9"}},
        )
        write(run / "hardware.json", {"device": "cpu"})
        write(run / "knob.json", knob)
        write(run / "copies.json", copies)
        return run

    return make
