"""Pre-training: preparation of audio, statistics, batches, masking, the loss and the training run."""
