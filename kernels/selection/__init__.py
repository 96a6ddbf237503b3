"""Exact order statistics of magnitudes."""

from jaxmerge.kernels.selection.api import smallest_kept

__all__ = ["smallest_kept"]
