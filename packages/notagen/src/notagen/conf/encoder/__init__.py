"""Configurations of `notagen train-encoder`."""
