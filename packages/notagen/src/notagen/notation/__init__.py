"""What ABC text means: voices, bars, layouts, rests, keys, validation and repair."""
