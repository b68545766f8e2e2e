"""``python -m omar_rq`` is the command line ``omar-rq``."""

from omar_rq.cli import main

if __name__ == "__main__":
    main()
