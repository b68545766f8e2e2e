"""Writing music: sampling, constrained decoding, continuation, infilling, and folders of pieces."""
