"""A map as the reader, the tokenizer and the model see it."""
