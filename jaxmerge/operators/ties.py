"""TIES: trim by magnitude, elect signs, merge what agrees."""

from jaxmerge.kernels.merge_tile.consensus import elected_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import MAGNITUDE

OPERATOR = task_vector_operator(
    "ties",
    "Task vectors trimmed to their largest elements; what disagrees with the elected sign is left out.",
    "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
    trim=MAGNITUDE,
    combine=elected_sum,
    normalize=True,
    rescale=False,
)
