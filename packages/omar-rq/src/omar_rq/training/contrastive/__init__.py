"""Contrastive training of an encoder: two views of a recording (SimCLR), or a recording and a text about it."""
