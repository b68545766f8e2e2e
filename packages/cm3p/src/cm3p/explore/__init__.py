"""The map of maps: embeddings in a Parquet file, shown as one self-contained page.

:mod:`.table` reads the file, :mod:`.layout` places the maps on a plane, :mod:`.clusters` groups them, :mod:`.rounding`
shrinks the vectors for the neighbour search in the page, and :mod:`.page` writes it. The page itself, in ``assets/``,
is plain HTML, CSS and JavaScript without a library; it loads nothing from a network.
"""
