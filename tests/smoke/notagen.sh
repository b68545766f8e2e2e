#!/usr/bin/env bash
package=notagen
unwanted="diffusers faiss gradio librosa music21 hydra accelerate transformers verovio"
source "$(dirname "$0")/begin.sh"

notagen generate --number 2 --bars 4 --out pieces --formats abc,musicxml,midi,wav
notagen validate pieces/0.abc pieces/1.musicxml
notagen convert pieces/1.musicxml --to abc --out converted
lacks engrave notagen generate --out pages --formats svg
lacks app notagen demo
echo "notagen works from its wheel"
