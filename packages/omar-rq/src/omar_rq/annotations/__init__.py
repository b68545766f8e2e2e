"""Annotations of recordings, and the files they are written to: JSON, JAMS, .lab, .beats and pictures."""
