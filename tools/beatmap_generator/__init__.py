"""Beatmaps with known style, for training and testing models of beatmaps; started by ``make_beatmaps.py``.

From a seed: themes (scores of the music21 corpus, or composed) -> pieces with sections and exact onsets -> audio, and
for every piece maps whose style is known: :mod:`beatmap_generator.style` documents difficulty, personas, drift over
the years and status.
"""
