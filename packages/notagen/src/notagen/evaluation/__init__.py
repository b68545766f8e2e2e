"""Evaluation of a model and its pieces: loss, validity and novelty, with baselines."""
