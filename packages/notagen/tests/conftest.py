"""One thread for this process and its children: sums of floats depend on the number of threads."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
