"""Making a piece valid: what a model wrote, or was stopped in the middle of, with as few changes as it takes."""

from notagen.notation.repair.piece import Repair, repair

__all__ = ["Repair", "repair"]
