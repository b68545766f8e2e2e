"""Embeddings of many maps, in a Parquet file with the columns of the original."""
