"""Probes: small heads on frozen embeddings, how they are fitted and tested, and how they are saved and used."""
