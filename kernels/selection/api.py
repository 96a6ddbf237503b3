"""The implementation of selection in use."""

from jaxmerge.kernels.selection.reference import smallest_kept

__all__ = ["smallest_kept"]
