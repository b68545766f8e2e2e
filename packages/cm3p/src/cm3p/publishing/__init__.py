"""Model directories: what is in them, their conversion, and their upload."""
