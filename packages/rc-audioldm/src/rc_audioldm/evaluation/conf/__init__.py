"""Configurations of ``rc-audioldm evaluate``, one for each of its commands."""
