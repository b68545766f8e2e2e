"""Building a model: preprocessing, the index of pieces, batches, losses and the training run."""
