"""Objectives of contrastive pre-training."""

from myna_rpe.losses.collapse import effective_rank, mean_cosine
from myna_rpe.losses.global_contrastive import GlobalContrastive
from myna_rpe.losses.hull import attention_weights, convex_combination, hull_distance, mean_width
from myna_rpe.losses.info_nce import info_nce, nt_xent
from myna_rpe.losses.k_means import KMeans
from myna_rpe.losses.temperature import LearnedTemperature

__all__ = [
    "GlobalContrastive",
    "KMeans",
    "LearnedTemperature",
    "attention_weights",
    "convex_combination",
    "effective_rank",
    "hull_distance",
    "info_nce",
    "mean_cosine",
    "mean_width",
    "nt_xent",
]
