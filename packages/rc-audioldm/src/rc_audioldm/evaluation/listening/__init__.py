"""Listening tests: blinded pairs, a page and a sheet for the answers, and their analysis."""
