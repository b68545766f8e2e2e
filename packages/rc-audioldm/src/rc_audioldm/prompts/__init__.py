"""Prompts: files of them, words added to them, and what the models hear of them."""
