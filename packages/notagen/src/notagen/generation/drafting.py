"""When the characters of a patch are guessed with 8-bit weights and then checked with the model's own.

A single piece reads all weights of the character decoder for each character, and memory limits its speed. A pass over
the 16 characters of a patch reads them once, so guesses that are mostly right save time: this is speculative decoding
(Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318). As each place of a patch has its own random number,
a guess is right or wrong, and the text is the one that is written without guesses. Where the sums of many rows are
rounded in another order than those of one, a random number within rounding of the border between two characters can
choose the other, as in batches of another size.
"""

from __future__ import annotations

import torch

from notagen.model import CharDecoder, NotaGen
from notagen.quantize import eight_bit_copy, fits_eight_bits, has_integer_products

_FEWEST_WEIGHTS = 8_000_000
"""Smaller character decoders stay in the caches of a processor, and are as fast without guesses."""
_MOST_PIECES = 2
"""With eight pieces arithmetic is the limit, and most patches have a wrong guess in one of them: no time is saved."""


def drafter_for(model: NotaGen, pieces: int) -> CharDecoder | None:
    """Return the decoder that guesses characters for so many pieces at a time; None where guesses save no time.

    It is a copy of the character decoder with 8-bit weights, a quarter of its size. Making it takes about as long as
    writing a patch.
    """
    decoder = model.char_decoder
    weight = decoder.embed.weight
    suitable = (
        has_integer_products()
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and fits_eight_bits(model)
        and pieces <= _MOST_PIECES
        and sum(parameter.numel() for parameter in decoder.parameters()) >= _FEWEST_WEIGHTS
    )
    return eight_bit_copy(decoder) if suitable else None
