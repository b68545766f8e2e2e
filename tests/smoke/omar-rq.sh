#!/usr/bin/env bash
package=omar-rq
unwanted="diffusers faiss gradio librosa hydra accelerate torchaudio transformers"
source "$(dirname "$0")/begin.sh"

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
