#!/usr/bin/env bash
package=cm3p
unwanted="diffusers faiss gradio librosa hydra accelerate torchaudio umap"
source "$(dirname "$0")/begin.sh"

python - <<'PY'
from cm3p.beatmap import read_beatmap, write_beatmap
from cm3p.parsing_cm3p import CM3PBeatmapParser

text = "osu file format v14\n\n[TimingPoints]\n0,500\n\n[HitObjects]\n256,192,1000,1,0\n128,192,1500,1,0\n"
beatmap = read_beatmap(text)
assert read_beatmap(write_beatmap(beatmap)).hit_objects == beatmap.hit_objects
print(len(CM3PBeatmapParser().parse_beatmap(beatmap)), "events")
PY
# The bundled model, without and with a song.
cp "$here"/packages/cm3p/demo/data/14000211*/*.osu "$here"/packages/cm3p/demo/data/14000211*/audio.ogg .
cm3p classify . --no-audio --zero-shot mode=osu,taiko,fruits,mania
cm3p classify . --zero-shot difficulty=1,3,5
echo "cm3p works from its wheel"
