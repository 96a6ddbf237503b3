"""The merge of a tile by linear, task arithmetic, TIES or DARE: every source is read once, the result written once."""

from jaxmerge.kernels.merge_tile.api import merge_tile
from jaxmerge.kernels.merge_tile.form import Form, Values

__all__ = ["Form", "Values", "merge_tile"]
