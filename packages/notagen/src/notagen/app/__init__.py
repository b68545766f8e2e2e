"""The browser demo: its page, its login, and the sound and picture beside a piece that is being written."""
