#!/usr/bin/env bash
# Install the built wheels into an empty environment and use them as a stranger would.
set -euo pipefail
dist=$(realpath "${1:-dist}")
uv=${UV:-uv}
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"$uv" venv --quiet "$room/venv"
wheels=("$(ls -t "$dist"/pentatonic-*.whl | head -n 1)" "$(ls -t "$dist"/notagen-*.whl | head -n 1)")
"$uv" pip install --quiet --python "$room/venv/bin/python" "${wheels[@]}"
cd "$room" # nothing of the checkout is importable from here
"$room/venv/bin/python" - <<'PY'
import importlib.util

from notagen.abc import parse_tune, print_tune
from notagen.generate import Limits, Request, generate
from notagen.model import NotaGen, NotaGenConfig
from notagen.prompts import prompts

for name in ("diffusers", "faiss", "gradio", "librosa", "music21", "hydra", "accelerate", "transformers"):
    assert importlib.util.find_spec(name) is None, f"the wheel of notagen pulled in {name}"
tune = parse_tune("X:1\nL:1/8\nM:4/4\nK:C\nCDEF GABc |]\n")
assert parse_tune(print_tune(tune)) == tune
assert len(prompts()) == 112
model = NotaGen(NotaGenConfig(patch_layers=1, char_layers=1, width=64, heads=1, patch_length=32)).eval()
(piece,) = generate(model, [Request(prompts()[0].text)], limits=Limits(patches=4))
print("notagen works from its wheel:", piece.status)
PY
