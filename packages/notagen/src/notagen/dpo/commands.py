"""The verbs of preference training. Nothing slow until one runs."""

from __future__ import annotations

import typer

from pentatonic.cli import add_building_command, experiments


def add_dpo_commands(app: typer.Typer) -> None:
    """Add the verbs to a command line."""
    add_building_command(
        app,
        "dpo",
        "notagen.dpo.iterations:main",
        feature="Training",
        help=(
            "Write pieces, judge them, choose, and train the model on its choices, several times (CLaMP-DPO); the same "
            "command continues a stopped run.\n\n"
            "The judge is tested first. The run stops where diversity, length or validity leaves its floor.\n\n"
            "Takes Hydra overrides: notagen dpo scorer=runs/notagen/scorer/best data.references=scores "
            "data.other_style=other-scores iterations=3\n\n" + experiments("notagen", "conf.dpo")
        ),
    )
