"""Configurations of ``omar-rq probe``: a file for each task, and experiments over them."""
