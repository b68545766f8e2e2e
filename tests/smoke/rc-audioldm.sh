#!/usr/bin/env bash
package=rc-audioldm
unwanted="faiss gradio librosa hydra accelerate torchaudio miditok openpyxl"
source "$(dirname "$0")/begin.sh"

# The bundled model: a bank, a clip with its style, and the ledger that the clip carries.
mkdir clips
cp "$here"/packages/rc-audioldm/demo/{cello,flute,drums}-*.flac "$here"/packages/rc-audioldm/demo/licences.csv clips
rc-audioldm bank build clips --out bank
rc-audioldm generate "a low cello phrase" --bank bank --steps 5 --out run --no-report
rc-audioldm ledger run/wav/*.wav
echo "rc-audioldm works from its wheel"
