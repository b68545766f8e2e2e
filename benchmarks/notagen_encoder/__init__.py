"""What embedding pieces with CLaMP 2's music encoder costs, beside the original's way."""
