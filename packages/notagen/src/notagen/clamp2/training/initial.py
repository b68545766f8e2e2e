"""Fresh weights with which a small encoder compares each bar with its neighbours from the first step on.

Whether bars are in order shows where one meets the next, and in bars that return after four or eight. Weights drawn at
random attend evenly, and a small encoder on few pieces takes thousands of steps to find the places to look at. So some
dimensions hold the position alone, as waves, and the first heads turn them: each attends to the patch at a fixed
distance. All of these are starting values, which are trained as any others.

Shapes: C width, D width of a head, P waves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from notagen.clamp2.model import EncoderLayer, M3Encoder

DISTANCES = (-1, 1, -4, 4, -2, 2, -8, 8, -16, 16)
"""How far from a patch the heads look, those of the first layer first; in four voices a bar is four patches."""

_FREQUENCIES = (2.8, 0.1)
_AMPLITUDE = 0.2  # about that of the rows of a patch
_SHARPNESS = 2.0


def initialise_for_form(encoder: M3Encoder) -> None:
    """Replace the weights of an encoder by fresh ones."""
    trunk = encoder.trunk
    length, width = trunk.positions.weight.shape
    layers = [layer for layer in trunk.layers if isinstance(layer, EncoderLayer)]
    head_width = width // layers[0].heads
    waves = min(head_width, width // 4)
    frequencies = torch.logspace(0, 1, waves, base=_FREQUENCIES[1] / _FREQUENCIES[0]) * _FREQUENCIES[0]
    angles = torch.arange(length)[:, None] * frequencies
    position = slice(width - 2 * waves, width)
    distances = iter(DISTANCES)
    with torch.no_grad():
        trunk.positions.weight.zero_()
        trunk.positions.weight[:, position] = _AMPLITUDE * torch.cat((angles.sin(), angles.cos()), dim=1)
        encoder.embed.weight[:, position] = 0
        encoder.embed_bias[position] = 0
        for layer in layers:
            for part in layer.modules():
                if isinstance(part, nn.Linear):
                    # The deviation of the originals is right for their width only.
                    nn.init.normal_(part.weight, std=part.in_features**-0.5)
            for part in (layer.out, layer.down):
                part.weight[position] = 0
            for head in range(layer.heads):
                rows = slice(head * head_width, (head + 1) * head_width)
                distance = next(distances, None)
                if distance is None:  # to patches that are alike
                    layer.key.weight[rows] = layer.query.weight[rows]
                    continue
                for part, turn in ((layer.query, distance), (layer.key, 0)):
                    part.weight[rows] = 0
                    turned = _turned(frequencies[head % 2 :: 2], turn)
                    chosen = torch.arange(waves)[head % 2 :: 2] + position.start
                    columns = torch.cat((chosen, chosen + waves))
                    part.weight[rows.start : rows.start + len(columns), columns] = _SHARPNESS * turned


def _turned(frequencies: Tensor, distance: int) -> Tensor:
    """Matrix that moves sines and cosines of a position, ``(2P,)``, by a distance: ``(2P, 2P)``."""
    sines, cosines = (torch.diag(of(frequencies * distance)) for of in (torch.sin, torch.cos))
    return torch.cat((torch.cat((cosines, sines), dim=1), torch.cat((-sines, cosines), dim=1)))
