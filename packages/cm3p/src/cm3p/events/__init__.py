"""Beatmaps as lists of events."""
