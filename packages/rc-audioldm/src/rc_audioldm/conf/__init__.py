"""Configurations of ``rc-audioldm train``."""
