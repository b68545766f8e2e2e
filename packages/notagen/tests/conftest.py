"""One thread for this process and its children: sums of floats depend on the number of threads."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

from hypothesis import settings

# On a build server a test must not fail for an example that no change has to do with; elsewhere it goes on searching.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
