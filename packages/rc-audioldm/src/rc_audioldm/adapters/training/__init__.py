"""Training adapters from cached vectors, and the search of its settings."""
