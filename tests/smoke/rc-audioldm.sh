#!/usr/bin/env bash
package=rc-audioldm
unwanted="faiss gradio librosa hydra accelerate torchaudio miditok openpyxl"
source "$(dirname "$0")/begin.sh"

python - <<'PY'
import torch
from rc_audioldm.style.blending import blend

text, style = torch.eye(4)[:1], torch.eye(4)[1:2]
print("halfway:", blend(text, style, 0.5))
PY
echo "rc-audioldm works from its wheel"
