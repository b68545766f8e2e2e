"""``python -m cm3p`` is the command line ``cm3p``."""

from cm3p.cli import main

if __name__ == "__main__":
    main()
