"""CM3P as its original computes it, written from its behaviour: what the benchmarks of `cm3p` compare with.

Nothing here is fast on purpose or slow on purpose: timing points are found by scanning from the end, times are
``timedelta``, tokens are texts that are looked up one by one, and sequences are padded to the most that the
processor allows. It covers what the maps of the benchmarks have.
"""
