"""The matrix: what is computed, at the shapes of the models that use it, in order of importance.

Shapes: B batch, H heads, N tokens, D head dimension. Tracks are grids of 8 frequency rows after one CLS token:
30,001 tokens are ten minutes at 100 frames a second in 16 x 16 patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

OURS = "pentatonic"
FLASH = ("sdpa flash", "sdpa cudnn", "flash-attn 2", "flash-attn 3")
PLAIN = ("sdpa flash", "sdpa cudnn", "sdpa efficient", "sdpa math", "flash-attn 2", "flash-attn 3")
BIASED = ("sdpa bias efficient", "sdpa bias cudnn", "sdpa bias math")
ALIBI_2D = (OURS, "flex", "flex flash", *PLAIN, *BIASED)
ALIBI_1D = (OURS, "flex", "flex flash", "flash-attn 2 alibi", *PLAIN, *BIASED)
SKIPPING = (OURS, "pentatonic dense", "flex", "flex flash", "flex live blocks", *FLASH, "key_intervals")
PACKED = (
    OURS, "flex", "flex flash", "varlen_attn", "varlen_attn, rotated before", "varlen_attn, no rope",
    "flash-attn 2", "flash-attn 3",
)  # fmt: skip
SINGLE_QUERY = (OURS, "pentatonic triton", "sdpa", *PLAIN)
DENSE = (OURS, "pentatonic triton", "sdpa", *PLAIN)
CPU_BIAS = (OURS, "sdpa bias written", "sdpa bias built", "sdpa bias", "sdpa")


@dataclass(frozen=True)
class Case:
    """One problem and who solves it.

    Attributes:
        name: Unique; goals name cases by patterns of it.
        batch: B.
        heads: H.
        tokens: N; of packed cases the total of all sequences.
        opponents: Names from ``opponents.OPPONENTS``, ours included, in the order of measuring.
        dim: D.
        bias: ``alibi2d`` has a CLS token, ``alibi1d`` has none.
        slopes: Rule of :func:`pentatonic.attention.alibi_slopes`.
        learned: Slopes take part in the backward pass.
        grid: Tokens before patchout, CLS included; ``None`` if all are kept.
        score_std: Standard deviation of the scaled scores.
        tolerance: Probability per row that ours may neglect; ``None`` is exact.
        causal: Queries see no later key.
        window: Keys seen on either side, the bounds included; ``None`` is all.
        longest: Sequences of log-uniform lengths from 32 to this share a packed batch; ``None`` is one padded batch.
        rope: Base and style of the rotation, or ``None``.
        decode: One query per sample, over a cache of N tokens.
        backward: Also train.
        dispatch: Only the time that the host spends on a call is of interest.
        in_child: Opponents whose peak memory a process of their own reports (CPU only).
        only_in_child: They are timed there too, in a single call, and nowhere else.
    """

    name: str
    batch: int
    heads: int
    tokens: int
    opponents: tuple[str, ...]
    dim: int = 64
    bias: Literal["alibi2d", "alibi1d"] | None = None
    slopes: Literal["press", "halving"] = "press"
    learned: bool = False
    grid: int | None = None
    score_std: float = 1.0
    tolerance: float | None = None
    causal: bool = False
    window: int | None = None
    longest: int | None = None
    rope: tuple[float, Literal["half", "interleaved"]] | None = None
    decode: bool = False
    backward: bool = True
    dispatch: bool = False
    in_child: tuple[str, ...] = ()
    only_in_child: bool = False


def gpu_cases() -> Iterator[Case]:
    """The matrix in bfloat16."""
    track = Case("alibi2d-30001", 1, 6, 30001, ALIBI_2D, bias="alibi2d")
    skipping = replace(track, opponents=SKIPPING, tolerance=1e-4)
    training = replace(track, batch=32, tokens=7501, grid=30001)
    # CM3P's local layers, and its global ones below.
    packed = Case("varlen-window", 1, 12, 65536, PACKED, window=64, longest=4096, rope=(10000.0, "half"))
    yield track
    yield replace(track, name="alibi2d-9369", batch=8, tokens=9369)
    yield replace(track, name="alibi2d-1025", batch=64, tokens=1025)
    yield replace(track, name="alibi2d-206", batch=1024, tokens=206, grid=1025)
    yield replace(skipping, name="skip-press-std2", score_std=2.0)
    yield replace(skipping, name="skip-halving-std2", slopes="halving", score_std=2.0)
    yield packed
    yield replace(packed, name="varlen-global", window=None, rope=(160000.0, "half"))
    for batch, heads, cache in ((64, 12, 4096), (1, 12, 8192), (8, 12, 4096), (64, 16, 8192), (64, 12, 256)):
        name = f"decode-b{batch}-h{heads}-{cache}"
        # Compiling FlexAttention for each shape would cost more time than everything else here together.
        opponents = (*SINGLE_QUERY, "flex") if (batch, heads, cache) == (64, 12, 4096) else SINGLE_QUERY
        yield Case(name, batch, heads, cache, opponents, decode=True, backward=False)
    yield replace(track, name="learned-1025", batch=32, tokens=1025, learned=True, opponents=(OURS, "flex"))
    yield replace(training, name="patchout-7501", opponents=(OURS, "flex", *FLASH))
    yield replace(training, name="patchout-skip-7501", opponents=SKIPPING, tolerance=1e-4)
    for tokens in (4096, 16384):
        yield Case(f"alibi1d-{tokens}", 4, 12, tokens, ALIBI_1D, bias="alibi1d")
    yield Case("dispatch-128", 1, 6, 128, (OURS, "sdpa"), backward=False, dispatch=True)
    # A full track through the large conformer.
    rope = (10000.0, "interleaved")
    yield Case("omar-rq-9375", 1, 8, 9375, (*DENSE, "flex"), dim=128, causal=True, rope=rope)
    yield Case("notagen-2048", 4, 12, 2048, (*DENSE, "flex"), causal=True)
    for dim in (64, 128):
        for tokens in (512, 4096, 16384):
            batch = 16384 // tokens
            yield Case(f"full-d{dim}-{tokens}", batch, 12, tokens, DENSE, dim=dim, backward=tokens > 512)
    for std in (1, 4):
        yield replace(skipping, name=f"skip-press-std{std}", score_std=float(std))
        yield replace(skipping, name=f"skip-halving-std{std}", slopes="halving", score_std=float(std))


def cpu_cases() -> Iterator[Case]:
    """The same questions in float32, at lengths that one core answers within minutes."""
    track = Case("alibi2d-2048", 1, 6, 2048, CPU_BIAS, bias="alibi2d")
    forward = replace(track, backward=False)
    skipping = replace(
        forward,
        tokens=12000,
        opponents=(OURS, "pentatonic dense", "key_intervals"),
        tolerance=1e-4,
        score_std=2.0,
    )
    whole = replace(forward, tokens=30001, opponents=(OURS,), only_in_child=True)
    yield track
    yield replace(
        forward,
        name="alibi2d-8192",
        tokens=8192,
        in_child=(OURS, "sdpa bias written", "sdpa bias built", "sdpa"),
    )
    yield replace(skipping, name="skip-press-12000")
    yield replace(skipping, name="skip-halving-12000", slopes="halving")
    yield replace(whole, name="track-skip-30001", tolerance=1e-4)
    yield replace(whole, name="track-30001")
    for batch, cache in ((1, 1024), (1, 4096), (8, 1024)):
        name = f"decode-b{batch}-{cache}"
        yield Case(name, batch, 12, cache, (OURS, "sdpa"), decode=True, backward=False)
    for tokens in (16, 128):
        yield Case(f"dispatch-{tokens}", 1, 6, tokens, (OURS, "sdpa"), backward=False, dispatch=True)
    yield Case(
        "varlen-window",
        1,
        12,
        4096,
        (OURS, "sdpa per sequence", "varlen_attn"),
        window=64,
        longest=1024,
        rope=(10000.0, "half"),
    )
    yield replace(forward, name="flex-2048", opponents=(OURS, "flex"))


def quick_cases() -> Iterator[Case]:
    """Every opponent and every kind of case, in seconds on any machine: for trying the program itself."""
    track = Case("alibi2d-65", 2, 2, 65, (*ALIBI_2D, *CPU_BIAS[1:]), dim=16, bias="alibi2d")
    forward = replace(track, backward=False)
    packed = Case("varlen-window", 1, 2, 256, PACKED, dim=16, longest=64, rope=(10000.0, "half"))
    yield track
    yield replace(forward, name="alibi2d-129", tokens=129, in_child=("sdpa bias built",))
    yield replace(forward, name="skip-press-513", tokens=513, opponents=SKIPPING, tolerance=1e-4)
    yield replace(packed, window=8, opponents=(*PACKED, "sdpa per sequence"))
    yield replace(packed, name="varlen-global", backward=False)
    yield Case("decode-b2-64", 2, 2, 64, (*SINGLE_QUERY, "flex"), dim=16, decode=True, backward=False)
    yield replace(track, name="learned-65", learned=True, opponents=(OURS, "flex"))
    yield replace(forward, name="patchout-33", tokens=33, grid=65, opponents=(OURS, "flex"))
    yield Case("alibi1d-64", 2, 2, 64, ALIBI_1D, dim=16, bias="alibi1d", backward=False)
    rope = (10000.0, "interleaved")
    yield Case("omar-rq-64", 1, 2, 64, (*DENSE, "flex"), dim=16, causal=True, rope=rope, backward=False)
    yield Case("dispatch-16", 1, 2, 16, (OURS, "sdpa"), dim=16, backward=False, dispatch=True)
