"""The package is not in the workspace yet: its tests find it here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
