"""Playback of scores: order of repeats, performance, instruments, MIDI and audio."""
