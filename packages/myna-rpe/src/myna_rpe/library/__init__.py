"""The music library: an index of vectors and tags of a folder of music, its duplicates, its hubs, and what is alike."""
