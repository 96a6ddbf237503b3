"""Sums of magnitudes that do not depend on the order of the summands."""

from jaxmerge.kernels.exact_sum.api import nested_sums

__all__ = ["nested_sums"]
