"""The implementation of exact sums in use."""

from jaxmerge.kernels.exact_sum.reference import nested_sums

__all__ = ["nested_sums"]
