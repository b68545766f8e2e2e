"""The network in plain PyTorch: ModernBERT encoder, audio, beatmap and metadata towers, heads."""
