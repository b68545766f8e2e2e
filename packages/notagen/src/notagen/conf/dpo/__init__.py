"""Configurations of `notagen dpo`."""
