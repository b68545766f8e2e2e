"""Metrics of models on data that training has not seen."""
