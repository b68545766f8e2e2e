"""How good a model and its pieces are: loss, validity, novelty, beside a bigram and human-written music."""
