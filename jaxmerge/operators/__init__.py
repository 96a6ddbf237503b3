"""How tensors are merged: pure functions, one operator a file, and their registry."""

from jaxmerge.operators.markdown import table
from jaxmerge.operators.registry import OPERATORS, operator
from jaxmerge.operators.whole_tensor import merge_tensor

__all__ = ["OPERATORS", "merge_tensor", "operator", "table"]
