"""A field of random numbers addressed by key, row and column: the Bernoulli draws of DARE and DELLA."""

from jaxmerge.kernels.mask_field.api import BITS, draw, field, keep, keep_below, mask_key

__all__ = ["BITS", "draw", "field", "keep", "keep_below", "mask_key"]
