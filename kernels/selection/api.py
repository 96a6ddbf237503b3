"""The implementation of selection in use."""

from jaxmerge.kernels.selection.reference import Places, smallest_kept

__all__ = ["Places", "smallest_kept"]
