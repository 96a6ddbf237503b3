"""Sums of magnitudes that do not depend on the order of the summands."""

from jaxmerge.kernels.exact_sum.api import nested_sums, total

__all__ = ["nested_sums", "total"]
