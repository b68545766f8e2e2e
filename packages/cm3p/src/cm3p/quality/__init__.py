"""How good embeddings of maps are: retrieval, clusters, zero-shot labels, distances between sets of maps."""
