"""The networks of NotaGen as its original computes them, written from their behaviour."""
