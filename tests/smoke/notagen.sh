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
export PATH="$room/venv/bin:$PATH" HF_HUB_OFFLINE=1
python - <<'PY'
import importlib.metadata, importlib.util

import notagen

for name in ("diffusers", "faiss", "gradio", "librosa", "music21", "hydra", "accelerate", "transformers", "verovio"):
    assert importlib.util.find_spec(name) is None, f"the wheel of notagen pulled in {name}"
print("notagen", notagen.__version__, "imports;", len(list(importlib.metadata.distributions())), "distributions installed")
PY
notagen --help > /dev/null # reads bytecode into the cache, as any second call finds it
python - <<'PY'
import subprocess, time
start = time.monotonic()
subprocess.run(["notagen", "--help"], check=True, stdout=subprocess.DEVNULL)
print(f"notagen --help: {time.monotonic() - start:.2f} s")
PY
notagen generate --number 2 --bars 4 --out pieces --formats abc,musicxml,midi,wav
notagen validate pieces/0.abc pieces/1.musicxml
notagen convert pieces/1.musicxml --to abc --out converted
# What is not installed is said in one sentence.
if notagen generate --out pages --formats svg 2> said; then exit 1; fi
grep -q 'notagen\[engrave\]' said
if notagen train experiment=debug 2> said; then exit 1; fi
grep -q 'notagen\[train\]' said
if notagen demo 2> said; then exit 1; fi
grep -q 'notagen\[app\]' said
echo "notagen works from its wheel"
