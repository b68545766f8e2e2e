"""Measures of the music itself, beside the same figures of human-written pieces: words, bars, and voices together."""

from notagen.evaluation.measures.piece import PieceMeasures, Share, measure, pooled

__all__ = ["PieceMeasures", "Share", "measure", "pooled"]
