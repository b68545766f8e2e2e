"""Training: data sets, masking, the Hugging Face Trainer with its options, and the run folder."""
