"""How a score sounds: order of repeats, performance, instruments, MIDI and audio."""
