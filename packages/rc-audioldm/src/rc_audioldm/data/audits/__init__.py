"""Audits of clips: which ones are silent, noise, or cannot be read; and manifests without them."""
