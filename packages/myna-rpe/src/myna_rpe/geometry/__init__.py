"""The geometry of playlists: convex hulls of embeddings, distances to them with a certificate, ways between them."""

from myna_rpe.geometry.hull import HullDistances, distances_to_hull
from myna_rpe.geometry.place import HullScale, Place, hull_scale, places

__all__ = ["HullDistances", "HullScale", "Place", "distances_to_hull", "hull_scale", "places"]
