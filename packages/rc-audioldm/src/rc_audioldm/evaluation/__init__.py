"""Evaluation of generated audio: metrics of each file, of sets of files, comparisons, listening tests."""
