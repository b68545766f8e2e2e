"""``python -m rc_audioldm`` is the command line ``rc-audioldm``."""

from rc_audioldm.cli import main

if __name__ == "__main__":
    main()
