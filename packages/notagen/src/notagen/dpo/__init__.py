"""CLaMP-DPO: preferences between generated pieces, and the training of a model on them (NotaGen, arXiv 2502.18008)."""
