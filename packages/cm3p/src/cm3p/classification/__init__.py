"""Labels of maps: those of a classifier, and values of metadata fields without training (zero-shot)."""
