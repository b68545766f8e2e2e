"""The parts of ``benchmarks/attention.py``: what is computed, by whom, how it is timed, what it should reach."""
