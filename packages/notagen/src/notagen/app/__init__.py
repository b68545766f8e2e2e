"""The browser demo: its page, and the sound and picture beside a piece that is being written."""
