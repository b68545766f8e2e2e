"""Labelled recordings for probes: what is known of a recording, and the data sets that it is read from."""
