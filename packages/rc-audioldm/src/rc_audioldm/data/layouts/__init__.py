"""Layouts of published data sets: which files belong to which row of their tables, and what they sound like."""
