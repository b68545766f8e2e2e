"""Hydra configurations of ``rc-audioldm train-adapter``."""
