"""Search for maps in a file of embeddings."""
