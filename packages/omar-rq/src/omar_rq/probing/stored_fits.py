"""Finished fits on disk, so that a run that was stopped does not fit them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from omar_rq.probing.fitting import Fitted
from omar_rq.probing.heads import HeadConfig, ProbeHead
from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import CheckpointError
from pentatonic.hub import load_state

_STEP, _SCORE = "fit.step", "fit.score"


class StoredFits:
    """Heads by what decides them.

    Args:
        folder: Where they are.
        settings: JSON values of the whole run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self._settings = folder, dict(settings)

    def _place(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps({"settings": self._settings, **key}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def read(self, key: Mapping[str, Any], config: HeadConfig) -> Fitted | None:
        """Return a fit that is there; None if it is not, or is damaged."""
        place = self._place(key)
        if not place.is_file():
            return None
        try:
            tensors = load_tensors(place)
            step, score = int(tensors.pop(_STEP)), float(tensors.pop(_SCORE))
            head = ProbeHead(config)
            load_state(head, tensors, what=str(place))
        except (CheckpointError, KeyError):
            return None
        return Fitted(head.eval(), step, score)

    def write(self, key: Mapping[str, Any], fitted: Fitted) -> None:
        """Store a fit.

        Raises:
            CheckpointError: It cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {_STEP: torch.tensor(fitted.step), _SCORE: torch.tensor(fitted.score, dtype=torch.float64)}
        save_tensors(self._place(key), {**fitted.head.state_dict(), **about})
