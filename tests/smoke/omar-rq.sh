#!/usr/bin/env bash
# Install the built wheels into an empty environment and use them as a stranger would.
set -euo pipefail
dist=$(realpath "${1:-dist}")
uv=${UV:-uv}
here=$(cd "$(dirname "$0")/../.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"$uv" venv --quiet "$room/venv"
wheels=("$(ls -t "$dist"/pentatonic-*.whl | head -n 1)" "$(ls -t "$dist"/omar_rq-*.whl | head -n 1)")
"$uv" pip install --quiet --python "$room/venv/bin/python" "${wheels[@]}"
cd "$room" # nothing of the checkout is importable from here
export PATH="$room/venv/bin:$PATH" HF_HUB_OFFLINE=1
python - <<'PY'
import importlib.metadata, importlib.util
import omar_rq
for name in ("diffusers", "faiss", "gradio", "librosa", "hydra", "accelerate", "torchaudio", "transformers"):
    assert importlib.util.find_spec(name) is None, f"the wheel of omar-rq pulled in {name}"
print("omar-rq", omar_rq.__version__, "imports;", len(list(importlib.metadata.distributions())), "distributions installed")
PY
omar-rq --help > /dev/null # reads bytecode into the cache, as any second call finds it
python - <<'PY'
import subprocess, time
start = time.monotonic()
subprocess.run(["omar-rq", "--help"], check=True, stdout=subprocess.DEVNULL)
print(f"omar-rq --help: {time.monotonic() - start:.2f} s")
PY
omar-rq embed "$here"/packages/omar-rq/demo --out "$room/embeddings"
python - <<'PY'
import pathlib
import numpy as np
files = sorted(pathlib.Path("embeddings").rglob("*.npz"))
assert files, "no embeddings were written"
for file in files:
    with np.load(file, allow_pickle=False) as data:
        assert np.isfinite(data["embeddings"]).all(), file
        print(file.name, data["embeddings"].shape)
PY
echo "omar-rq works from its wheel"
