"""Objectives of contrastive pre-training."""

from myna_rpe.losses.global_contrastive import GlobalContrastive
from myna_rpe.losses.info_nce import info_nce, nt_xent

__all__ = ["GlobalContrastive", "info_nce", "nt_xent"]
