"""Tokens times a merged matrix, for many candidates: the sources are read once for a block of candidates."""

from jaxmerge.kernels.merged_matmul.api import merged_matmul

__all__ = ["merged_matmul"]
