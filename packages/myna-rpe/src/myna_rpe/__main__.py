"""``python -m myna_rpe`` is the command line ``myna-rpe``."""

from myna_rpe.cli import main

if __name__ == "__main__":
    main()
