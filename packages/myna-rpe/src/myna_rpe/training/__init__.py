"""Pre-training of Myna and Myna-RPE: preparing spectrograms, the objective, and the ``train`` verb."""
