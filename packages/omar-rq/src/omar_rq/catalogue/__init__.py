"""Embeddings of a whole catalogue as one Parquet data set, on one machine or on a Ray cluster, and search in it."""
