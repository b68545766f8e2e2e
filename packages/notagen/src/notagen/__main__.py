"""``python -m notagen`` is the command line ``notagen``."""

from notagen.cli import main

if __name__ == "__main__":
    main()
