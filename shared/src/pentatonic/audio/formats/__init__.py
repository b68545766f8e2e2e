"""What the bytes of an audio file say: which format it is, which lengths it states, where it is damaged."""
