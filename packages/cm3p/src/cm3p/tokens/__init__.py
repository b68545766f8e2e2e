"""Tokenizers of beatmaps and of metadata."""
