"""``rc-audioldm train``. No torch until it runs."""

from __future__ import annotations

import typer

from pentatonic.cli import EXIT_INTERRUPTED, Overrides, experiments, training_extra

HELP = f"""Train a small AudioLDM 1 from captioned clips: CLAP, then the VAE, then the UNet.

Takes Hydra overrides: rc-audioldm train experiment=tiny data.manifest=data/phrases/manifest.jsonl. A stopped run
continues with the same command.

{experiments("rc_audioldm")}
"""


def train_command(overrides: Overrides = None) -> None:
    """Train a small model."""
    with training_extra("Training", "rc-audioldm[train]"):
        from rc_audioldm.training.train import main

        result = main(overrides or [])
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
