"""Runs over a folder of recordings: how each is read, and one ``.npz`` as what is made of it."""
