"""What a style does to a prompt: vectors of neighbours, and blends with the vector of the text."""
