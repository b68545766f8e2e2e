"""Pictures of maps: what is played, over time, by ruleset."""

from cm3p.inspection.pictures.page import draw_map

__all__ = ["draw_map"]
