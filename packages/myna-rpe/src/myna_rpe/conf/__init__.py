"""Hydra configurations of the training verbs; experiments and models are in the folders beside this file."""
