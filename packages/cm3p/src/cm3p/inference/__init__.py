"""Models over windows of maps: loading, encoding, batches. Shared by the commands that use a model."""
