"""The tasks of probes: labels, targets, metrics and trivial answers. No model is known here."""
