"""Hydra configurations of training; experiments and models are in the folders beside this file."""
