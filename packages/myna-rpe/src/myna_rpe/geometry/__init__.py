"""The geometry of playlists: convex hulls of embeddings, distances to them with a certificate, ways between them."""

from myna_rpe.geometry.between import distances_between
from myna_rpe.geometry.choosing import choose_at_the_edge, choose_inside, choose_like
from myna_rpe.geometry.hull import HullDistances, distances_to_hull
from myna_rpe.geometry.ordering import cosine_distances, order
from myna_rpe.geometry.place import HullScale, Place, hull_scale, places
from myna_rpe.geometry.transition import Transition, transition

__all__ = [
    "HullDistances",
    "HullScale",
    "Place",
    "Transition",
    "choose_at_the_edge",
    "choose_inside",
    "choose_like",
    "cosine_distances",
    "distances_between",
    "distances_to_hull",
    "hull_scale",
    "order",
    "places",
    "transition",
]
