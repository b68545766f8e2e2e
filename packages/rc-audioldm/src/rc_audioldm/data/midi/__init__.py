"""MIDI files as tokens, and tokens as sound. Needs the extra ``rc-audioldm[midi]``; FluidSynth is optional."""
