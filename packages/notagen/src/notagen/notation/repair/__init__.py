"""Repair: makes a generated piece, finished or not, valid with few changes."""

from notagen.notation.repair.piece import Repair, repair

__all__ = ["Repair", "repair"]
