"""``rc-audioldm demo``: one page with prompts, the clips retrieved for each, and what they do to the sound."""
