"""Music read from what probes say: beats, chords, keys, segments, tags and lead sheets."""
