"""Kernels earn trust: a variant is used on a GPU after it has agreed with the reference there."""
