"""Training of encoders: M3 by hidden patches, CLaMP 2 by pairs of music and text, scorers by parts of pieces."""
