#!/usr/bin/env bash
package=myna-rpe
unwanted="diffusers faiss gradio librosa hydra accelerate torchaudio transformers spotipy starlette"
source "$(dirname "$0")/begin.sh"

myna-rpe embed "$here"/packages/omar-rq/demo --out "$room/embeddings"
python - <<'PY'
import pathlib
import numpy as np
files = sorted(pathlib.Path("embeddings").rglob("*.npz"))
assert files, "no embeddings were written"
for file in files:
    with np.load(file, allow_pickle=False) as data:
        assert np.isfinite(data["embedding"]).all(), file
        print(file.name, data["embedding"].shape)
PY
echo "myna-rpe works from its wheel"
