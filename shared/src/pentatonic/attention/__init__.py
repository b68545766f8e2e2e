"""Exact softmax attention with distance biases, windows, causal bounds and rotary embeddings, in O(N) memory.

One call says *what* is computed; the back end is picked by :func:`explain`'s rules: PyTorch's fused attention
where it can express the problem, elsewhere Triton kernels on CUDA devices (``triton``), and on others blocks for
narrow windows (``banded``) and tiles (``chunked``); and a naive ``reference`` on request. Biases that fall with
distance need not look at keys of which they leave nothing: see ``tolerance`` of :func:`attention`.
"""

from pentatonic.attention.cache import KVCache
from pentatonic.attention.descriptors import (
    Alibi1D,
    Alibi2D,
    Bias,
    Causal,
    Directional,
    DistanceTable,
    KeyBias,
    KeyLengths,
    Mask,
    Raw,
    Rope,
    SlidingWindow,
)
from pentatonic.attention.dispatch import Backend, Choice
from pentatonic.attention.functional import attention, decode_attention, explain, live_fraction
from pentatonic.attention.ordering import sort_by_time
from pentatonic.attention.packing import pack, pad_packed, unpack
from pentatonic.attention.prepared import PreparedBias, prepare_bias
from pentatonic.attention.slopes import alibi_slopes
from pentatonic.attention.varlen import varlen_attention

__all__ = [
    "Alibi1D",
    "Alibi2D",
    "Backend",
    "Bias",
    "Causal",
    "Choice",
    "Directional",
    "DistanceTable",
    "KVCache",
    "KeyBias",
    "KeyLengths",
    "Mask",
    "PreparedBias",
    "Raw",
    "Rope",
    "SlidingWindow",
    "alibi_slopes",
    "attention",
    "decode_attention",
    "explain",
    "live_fraction",
    "pack",
    "pad_packed",
    "prepare_bias",
    "sort_by_time",
    "unpack",
    "varlen_attention",
]
