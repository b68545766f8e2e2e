"""Choose the clips of FSD50K that are music."""
