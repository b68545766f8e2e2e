"""A loopback server of the OpenSubsonic extension ``sonicSimilarity``: neighbours and paths in a music library."""
