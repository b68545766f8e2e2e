"""The page in the browser: make a clip from a prompt and a style, hear it, and see what shaped it."""
