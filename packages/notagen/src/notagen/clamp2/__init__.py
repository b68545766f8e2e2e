"""CLaMP 2: music and text in one space of embeddings, to score, search and compare pieces (arXiv 2410.13267)."""
