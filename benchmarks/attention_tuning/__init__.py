"""Launch parameters of the attention kernels: compiled without a GPU, timed with one, written to ``table.json``."""
