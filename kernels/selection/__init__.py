"""Exact order statistics of magnitudes, and the places of words among boundaries."""

from jaxmerge.kernels.selection.api import Places, smallest_kept

__all__ = ["Places", "smallest_kept"]
